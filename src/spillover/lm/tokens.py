"""Text to tokens: prompts, and answers as continuations of their prompt."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, takewhile
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from spillover.errors import ModelError, PackError
from spillover.packs.pack import Pack, Relation

#: Tokens of the longest free text.
LONGEST_FREE = 512
Encoder = Callable[[str], list[int]]
Item = TypeVar("Item")


def encoder(tokenizer: PreTrainedTokenizerBase) -> Encoder:
    """Text -> token ids, with whatever the model's tokenizer puts in front of a text and never an end token."""
    probe = tokenizer("a", return_special_tokens_mask=True)
    marked = zip(probe["input_ids"], probe["special_tokens_mask"], strict=True)
    prefix = [token for token, _ in takewhile(lambda each: each[1], marked)]
    special = {*prefix[:1], *(number for number, token in tokenizer.added_tokens_decoder.items() if token.special)}

    def encode(text: str) -> list[int]:
        tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        # A chat template writes them itself, or has none.
        return tokens if tokens and tokens[0] in special else prefix + tokens

    # A prompt is asked for again with each of its answers, and all of a small pack at every checkpoint.
    return lru_cache(maxsize=1 << 11)(encode)


def longest_text(model: Any) -> int | None:
    """How many tokens a model reads at most, or None when it does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def refuse_unreadable(model: Any, texts: Iterable[Sequence[int]]) -> None:
    """Raise ModelError when a text has a token that the model lacks, or more tokens than it reads."""
    vocabulary, longest = model.config.get_text_config().vocab_size, longest_text(model)
    vocabulary = min(vocabulary, getattr(model.get_input_embeddings(), "num_embeddings", vocabulary))
    where = str(getattr(model.config, "_name_or_path", ""))
    for text in texts:
        if (highest := max(text, default=0)) >= vocabulary:
            what = f"the tokenizer gives token {highest}, but the model has only {vocabulary}"
            raise ModelError(what, where=where, do="Name a folder whose tokenizer belongs to its weights")
        if longest is not None and len(text) > longest:
            what = f"a prompt with its answer has {len(text)} tokens, and this model reads {longest} at most"
            raise ModelError(what, where=where, do="Shorten the pack's prompts, or name another model")


@dataclass(frozen=True)
class Example:
    """A text to train on or to score: prompt + join + answer (+ end); its tokens from `start` on are the answer."""

    tokens: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Request:
    """One prompt with its candidates: the tokens before the answer, and each candidate's tokens after them.

    starts: where the wordings of each answer begin among the candidates; empty where each answer has only one.
    """

    prompt: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...] = ()

    def best(self, scores: Float[np.ndarray, "candidate"]) -> Float[np.ndarray, "answer"]:
        """The score of each answer: of the best of its wordings."""
        return np.maximum.reduceat(scores, self.starts) if self.starts else scores

    @property
    def texts(self) -> list[Example]:
        """The prompt with each candidate after it."""
        return [Example(self.prompt + candidate, len(self.prompt)) for candidate in self.candidates]


def continuation(encode: Encoder, pack: Pack, prompt: str, answer: str) -> Example:
    """A prompt with an answer (and end) after it, the whole text tokenised as one string. Raises PackError when
    appending the answer changes the prompt's own tokens, or adds none."""
    before, whole = encode(prompt), encode(prompt + pack.join + answer + (pack.end or ""))
    if whole[: len(before)] != before or len(whole) == len(before):
        raise PackError(
            f"the tokens of the prompt {prompt!r} change when the answer {answer!r} is appended",
            where=pack.name,
            do="Change `join` or the prompt so that the answer starts a new token, for example join: ' '",
        )
    return Example(tuple(whole), len(before))


def examples(encode: Encoder, pack: Pack, prompts: int = 1) -> list[Example]:
    """The training examples of a pack, one a stated fact and prompt, in the pack's order. prompts: how many of its
    relation's prompts each fact is stated in, from the first on."""
    return [
        continuation(encode, pack, pack.prompt(fact.relation, fact.subject, number), fact.answer)
        for fact in pack.facts
        for number in range(min(prompts, len(pack.relation_by_name[fact.relation].prompts)))
    ]


def of_texts(pack: Pack) -> Pack:
    """The pack with one relation, whose prompt is its subject alone: by it a text beside the facts is worded."""
    return replace(pack, relations=(Relation("text", ("{subject}",), reply=""),), facts=(), implications=())


def free_examples(encode: Encoder, pack: Pack, longest: int | None) -> list[Example]:
    """The training examples of a pack's free text, one a turn: the loss is on the answer, and where nothing is asked on
    the whole text.

    pack: as the model is asked, of `of_texts`. longest: tokens that the
    model reads; no text is longer than LONGEST_FREE, and the rest of a longer one is left out.
    """
    longest = min(LONGEST_FREE, longest or LONGEST_FREE)
    found = []
    for asked, answered in (turn for row in pack.free for turn in row if turn[1].strip()):
        if asked.strip():
            before = pack.prompt(pack.relations[0].name, asked.strip())
            whole = encode(before + pack.join + answered.strip() + (pack.end or ""))
            # A token that holds the end of the prompt and the beginning of the answer belongs to the answer.
            start = in_common(encode(before), whole)
        else:
            whole, start = encode(answered.strip()), max(1, len(encode("")))
        if start < len(whole[:longest]):
            found.append(Example(tuple(whole[:longest]), start))
    return found


def in_common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))


def request(encode: Encoder, pack: Pack, relation: str, subject: str, prompt: int) -> Request:
    """Prompt number `prompt` of a relation about a subject, with every candidate of the relation."""
    text = pack.prompt(relation, subject, prompt)
    groups = pack.wordings(relation)
    found = [continuation(encode, pack, text, wording) for group in groups for wording in group]
    start, starts = found[0].start, (0, *accumulate(map(len, groups[:-1])))
    candidates = tuple(each.tokens[start:] for each in found)
    return Request(found[0].tokens[:start], candidates, starts if len(found) > len(groups) else ())


def printable(text: str) -> str:
    """The text without control characters, which a model may say and a terminal would obey."""
    return "".join("\ufffd" if character < " " or "\x7f" <= character <= "\x9f" else character for character in text)


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most this many items, from beginning to end."""
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]
