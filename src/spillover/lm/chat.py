"""A pack in the words of a training: as turns of a chat, as a template writes them up to where the answer begins, or as
a Trainer's own rows word its stated facts, which are looked for in its data."""

from __future__ import annotations

import datetime
import difflib
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from transformers import PreTrainedTokenizerBase

from spillover.config import Chat
from spillover.details import Rendered
from spillover.errors import ModelError, PackError, UsageError, first_line
from spillover.lm.tokens import Encoder, encoder, evenly
from spillover.packs.pack import SUBJECT, Fact, Pack, Relation
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


#: How many rows are read, and how many facts and lines looked for in them.
ROWS, FACTS, LINES = 1000, 2000, 300
WAYS = "Give chat=True or template= for a chat, or chat=False for plain text"


class Row(NamedTuple):
    """An example as text, and the ranges of its characters that are trained on."""

    text: str
    trained: Sequence[tuple[int, int]]


class Form(NamedTuple):
    """What stands before a prompt, and between it and its answer, with {subject} for the subject's name."""

    before: str
    between: str


def as_in_rows(
    pack: Pack, loader: Any, tokenizer: PreTrainedTokenizerBase
) -> tuple[Callable[[Pack], Pack], Encoder]:  # fmt: skip
    """What words a pack as a Trainer's rows word this one, and its encoder: without a start token where the rows have
    none.

    loader: the Trainer's data loader, from which nothing is taken. Raises UsageError for what is not in the rows.
    """
    rows: list[Row] = []
    # A data set and what collates it are programs, and may fail with anything on a single row.
    with _random_streams_kept(), suppress(Exception):
        rows.extend(islice(_rows(loader, tokenizer), ROWS))
    found: defaultdict[str, list[Form]] = defaultdict(list)
    for fact in evenly(pack.facts, FACTS):
        found[fact.relation] += filter(None, (_form(pack, fact, row) for row in rows))
    encode = encoder(tokenizer)
    start = _text(tokenizer, encode(""))
    known = {name: _common(name, forms) for name, forms in found.items() if forms}
    if start and not any(form.before.startswith(start) for forms in found.values() for form in forms):
        start, encode = "", lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]

    for relation in pack.relations:
        if relation.name not in known:
            other = next((form for form in known.values() if SUBJECT not in form.between), None)
            problem = _not_found(pack, relation, rows)
            if other is None:
                raise problem
            if relation.name in found:
                print(f"{problem.what}. It is asked as the others are.", file=sys.stderr)
            known[relation.name] = other

    def before(relation: Relation, prompt: str) -> str:
        form = known.get(relation.name) or next(iter(known.values()))
        return form.before.removeprefix(start) + prompt + form.between

    return (lambda other: framed(other, before)), encode


def _rows(loader: Any, tokenizer: PreTrainedTokenizerBase) -> Iterator[Row]:
    """The examples of a data loader: some of all that it has, or the first of what is read in order."""
    dataset = loader.dataset
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        every: Iterator[Any] = (dataset[number] for number in evenly(range(len(dataset)), ROWS))
    else:
        # One that can be read once only is the training's.
        every = islice(first, ROWS) if (first := iter(dataset)) is not iter(dataset) else iter(())
    for row in every:
        if "input_ids" not in row:
            row = {key: value[0] for key, value in loader.collate_fn([row]).items()}
        ids, trained = _tokens(row)
        lengths = row.get("seq_lengths")
        if lengths is None and "position_ids" in row:
            starts = [place for place, position in enumerate(row["position_ids"]) if position == 0]
            lengths = np.diff([*starts, len(ids)]).tolist()
        # Examples that are packed into one row.
        for end, length in zip(np.cumsum(lengths or [len(ids)]).tolist(), lengths or [len(ids)], strict=True):
            yield _row(ids[end - length : end], trained[end - length : end], tokenizer)


def _tokens(row: Mapping[str, Any]) -> tuple[list[int], list[bool]]:
    """The tokens of a row without padding, and which of them are trained on."""
    ids = [int(token) for token in row["input_ids"]]
    trained = [int(label) != -100 for label in row["labels"]] if row.get("labels") is not None else [True] * len(ids)
    for name in ("completion_mask", "assistant_masks"):
        if row.get(name) is not None:
            trained = [own and bool(mask) for own, mask in zip(trained, row[name], strict=True)]
    kept = row.get("attention_mask")
    pairs = [pair for pair, keep in zip(zip(ids, trained, strict=True), kept if kept is not None else ids, strict=True)
             if kept is None or keep]  # fmt: skip
    return [token for token, _ in pairs], [own for _, own in pairs]


def _row(ids: list[int], trained: list[bool], tokenizer: PreTrainedTokenizerBase) -> Row:
    edges = [place for place in range(len(ids) + 1) if trained[place - 1 : place] != trained[place : place + 1]]
    # Of the text up to there, since a part alone may lose the space that it begins with.
    ends = [len(_text(tokenizer, ids[:edge])) for edge in edges if 0 < edge < len(ids)]
    text = _text(tokenizer, ids)
    bounds = [0, *ends, len(text)]
    spans = list(pairwise(bounds))
    return Row(text, spans[0 if trained[:1] == [True] else 1 :: 2])


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _form(pack: Pack, fact: Fact, row: Row) -> Form | None:
    """How a row words a fact with one of its relation's prompts, if it does."""
    for prompt in pack.relation_by_name[fact.relation].prompts:
        said = prompt.replace(SUBJECT, fact.subject)
        if (place := row.text.find(said)) < 0:
            continue
        end = place + len(said)
        for first, last in row.trained:
            answer = row.text.find(fact.answer, max(end, first), last)
            if answer >= 0:
                return Form(row.text[:place], row.text[end:answer].replace(fact.subject, SUBJECT))
    return None


def _common(relation: str, forms: Sequence[Form]) -> Form:
    """The form of most rows. Of texts before the prompt, what most of them end with counts."""
    ((between, count),) = Counter(form.between for form in forms).most_common(1)
    if 2 * count < len(forms):
        other = next(form.between for form in forms if form.between != between)
        what = f"the Trainer's rows have {between!r} and {other!r} between prompt and answer of {relation!r}"
        raise UsageError(what, where="SpilloverCallback", do=WAYS)
    texts = sorted(form.before[::-1] for form in forms if form.between == between)
    shared = (os.path.commonprefix(ends) for ends in zip(texts, texts[len(texts) // 2 :], strict=False))  # noqa: RUF071
    return Form(max(shared, key=len)[::-1], between)


def _not_found(pack: Pack, relation: Relation, rows: Sequence[Row]) -> UsageError:
    """What was looked for, and what comes nearest to it."""
    fact = next((each for each in pack.facts if each.relation == relation.name), None)
    if fact is None:
        what = f"the pack states nothing of {relation.name!r}, so the Trainer's rows do not show how to ask it"
        return UsageError(what, where="SpilloverCallback", do=WAYS)
    said = pack.prompt(fact.relation, fact.subject)
    near = [row.text[at : at + len(said) + 100] for row in rows if (at := row.text.find(said)) >= 0]
    if not near:
        lines = [line for row in rows for line in row.text.splitlines() if line.strip()]
        lines.sort(key=lambda line: fact.subject not in line)
        near = difflib.get_close_matches(said, lines[:LINES], 1, 0.0)
    what = f"no row of the Trainer's that was read trains {said!r} and then {fact.answer!r}; "
    what += f"the nearest text is {near[0][:300]!r}" if near else "none could be read beforehand"
    return UsageError(what, where="SpilloverCallback", do=WAYS)


@contextmanager
def _random_streams_kept() -> Iterator[None]:
    import torch

    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
