"""How a Trainer's own rows word a pack's stated facts, learned by looking for those facts in its data."""

from __future__ import annotations

import difflib
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from spillover.errors import UsageError
from spillover.lm.chat import framed
from spillover.lm.tokens import Encoder, encoder, evenly
from spillover.packs.pack import SUBJECT, Fact, Pack, Relation

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
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
