"""A pack in the words of a chat: whole turns, as a template writes them in training, up to where the answer begins."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from spillover.config import Chat
from spillover.details import Rendered
from spillover.errors import ModelError, PackError, UsageError, first_line
from spillover.packs.pack import SUBJECT, Pack, Relation
from spillover.record import sha256_of_texts

#: Stands for the answer while a turn is written: no template knows it, and one that changes letters changes it.
ANSWER = "TheAnswerComesHere"
ELSE = "lend another model's template with --chat-template, or leave --chat out"
ROLES = ("system", "user", "assistant")
#: The function from which a template takes the time, and a macro that replaces it and knows a fixed day.
CLOCK = "strftime_now"
STOPPED = (
    "{% macro strftime_now(form) %}{{ formats[form] if form in formats else raise_exception('it asks for the time') }}"
    "{% endmacro %}\n"
)


def framed(pack: Pack, before: Callable[[Relation, str], str]) -> Pack:
    """The pack with each prompt as the whole text before its answer; spaces that end it are the pack's `join`, so that
    they stay in the answer's first token. Raises PackError when some relations have such spaces and others none."""
    texts = {relation: [before(relation, prompt) for prompt in relation.prompts] for relation in pack.relations}
    joins = {text[len(text.rstrip(" ")) :]: relation.name for relation, group in texts.items() for text in group}
    if len(joins) > 1:
        what = f"replies about {' and '.join(joins.values())} have different spaces before the answer"
        raise PackError(what, where=pack.name, do="Give each relation a `reply`, or none")
    relations = (replace(each, prompts=tuple(text.rstrip(" ") for text in group)) for each, group in texts.items())
    return replace(pack, relations=tuple(relations), join=next(iter(joins), pack.join))


def rendered(asked: Pack, model: str, after: str = "") -> Rendered:
    """For records, the first prompt as a model reads it, and a hash of all. asked: the pack in the model's words."""
    prompts = [prompt for relation in asked.relations for prompt in relation.prompts]
    sha256 = sha256_of_texts([asked.join, *prompts])
    return Rendered(model=model, before=prompts[0] + asked.join, after=after, sha256=sha256)


class Words:
    """How a model is asked: a pack as it is, or with each prompt as a turn of the user in a chat.

    Arguments:
    - tokenizer: the model's.
    - settings: whether it is a chat, and how its turns are written.
    - name: of the model, for the sentences that say what is wrong with its template.
    - lender: another model's name, which may lend its template.

    Raises: ModelError when there is no template, and when called for one that cannot be followed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: Chat, name: str = "", lender: str = "") -> None:
        self.tokenizer, self.settings, self.name = tokenizer, settings, name
        self.after, self._parts = "", False
        template = _template(settings.chat_template or tokenizer) if settings.chat else ""
        if template is None:
            lend = lender if lender and not settings.chat_template and _template(lender) else "MODEL"
            do = f"Lend it one with --chat-template {lend}, or leave --chat out"
            raise ModelError("this model has no chat template", where=settings.chat_template or name, do=do)
        self.template, self.shows_date = template, CLOCK in template
        self._day = datetime.datetime.fromisoformat(settings.date or datetime.date.today().isoformat())

    def __call__(self, pack: Pack) -> Pack:
        if not self.settings.chat:
            return pack
        return framed(pack, lambda relation, prompt: self._before(pack, relation, prompt))

    def rendered(self, pack: Pack) -> Rendered:
        """How a pack's questions are asked."""
        return rendered(self(pack), self.name, self.after)

    def opening(self, prompt: str) -> str:
        """A chat up to where a model begins to write, which whole turns may not have, such as an open thought."""
        return self._turns((self.settings.system, prompt, ""), self._parts)

    def _before(self, pack: Pack, relation: Relation, prompt: str) -> str:
        """What stands before the answer in a whole turn."""
        reply = self.settings.prefix if relation.reply is None else relation.reply
        reply += pack.join if reply and not reply[-1].isspace() else ""
        said = (self.settings.system, prompt, reply)
        try:
            before, self.after = self._cut(pack, relation, *said)
        except ModelError as error:
            # Models that also see have templates that take what is said in parts.
            with suppress(ModelError):
                before, self.after = self._cut(pack, relation, *said, parts=True)
                self._parts = True
                return before
            raise error from None
        return before

    def _cut(self, pack: Pack, relation: Relation, *said: str, parts: bool = False) -> tuple[str, str]:
        """What stands before and after the answer. said: by the system, the user, and before the answer."""
        system, prompt, reply = said
        before, _, after = (text := self._turns((system, prompt, reply + ANSWER), parts)).partition(ANSWER)
        for words, who in ((prompt, "the user"), (system, "the system"), (reply, "the reply")):
            if words.strip() not in before:
                raise self._refused(f"leaves out or changes what {who} says")
        if parts and ("'text'" in text or '"text"' in text):
            raise self._refused("does not read turns in parts")
        if text.count(ANSWER) != 1:
            raise self._refused("leaves out, repeats or changes the answer")
        # It may treat real names and answers otherwise than what stands for them.
        names, answers = " / ".join(pack.subjects) or "Ada", " / ".join(pack.candidates[relation.name]) or "Paris"
        real = tuple(each.replace(SUBJECT, names) for each in (system, prompt, reply + answers))
        whole = self._turns(real, parts)
        if whole != before.replace(SUBJECT, names) + answers + after:
            raise self._refused("changes names or answers")
        return before, after

    def _turns(self, said: tuple[str, ...], parts: bool) -> str:
        turns: Any = [{"role": role, "content": [{"type": "text", "text": text}] if parts else text}
                      for role, text in zip(ROLES, said, strict=True) if text]  # fmt: skip
        try:
            return str(self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=not said[-1], formats=self._formats,
                chat_template=STOPPED * self.shows_date + self.template,
            ))  # fmt: skip
        except Exception as error:  # A template is a program, and may fail with anything.
            do = "Leave --system out" if said[0] else "Give a system turn with --system"
            raise self._refused(f"does not take these turns ({first_line(error)})", f"{do}, ") from None

    @cached_property
    def _formats(self) -> dict[str, str]:
        """What the clock says in each form that the template may ask for."""
        tokens = jinja2.Environment().lex(self.template) if self.shows_date else ()
        forms = (token[1:-1] for _, kind, token in tokens if kind == "string" and "%" in token)
        return {form: self._day.strftime(form) for form in forms}

    def _refused(self, what: str, do: str = "") -> ModelError:
        do += ELSE if do else ELSE[0].upper() + ELSE[1:]
        return ModelError(f"the chat template {what}", where=self.settings.chat_template or self.name, do=do)


def _template(source: str | PreTrainedTokenizerBase) -> str | None:
    """The template in a file, or that of a model or tokenizer, if it has one."""
    from spillover.lm.load import load_tokenizer

    if isinstance(source, str) and (path := Path(source).expanduser()).is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot be read: {first_line(error)}", where=source, do="Check --chat-template") from None
    found = (load_tokenizer(source) if isinstance(source, str) else source).chat_template
    return found.get("default") if isinstance(found, dict) else found
