"""Evaluate a model: its answers to a pack, its beliefs once given a fact, and its losses on plain text."""

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch.nn.functional import cross_entropy

from spillover.errors import UsageError
from spillover.lm.distributed import SINGLE, Processes
from spillover.lm.score import MAXIMUM_LOGITS, CausalModel, Scorer, Scores
from spillover.lm.tokens import Encoder, Request, longest_text, refuse_unreadable, request
from spillover.packs.pack import Pack, Question
from spillover.record import ANSWER_SCHEMA, WARRANTED

#: Longest plain passage read, in tokens.
WINDOW = 128
#: Log shares of belief in the candidates of a relation; and no beliefs, by what they are about.
Beliefs = Float[np.ndarray, "candidate"]
EMPTY: Mapping[tuple[str, str], Beliefs] = {}
#: What a request is made of: relation, subject, number of the prompt.
PromptKey = tuple[str, str, int]


@dataclass(frozen=True)
class EvaluationItem:
    """A question or a stated row, in the words of prompt number `prompt`."""

    question: Question
    stated: bool
    prompt: int

    @property
    def key(self) -> PromptKey:
        """The prompt that it shares with other implications' items."""
        return self.question.relation, self.question.subject, self.prompt


class Evaluation:
    """Every stated row (with the trained prompt) and every question (with all prompts) of a pack.

    Before training and after it all are asked (`full`); in between, only those with the trained prompt. stated: whether
    the stated rows are asked at all. warranted: (subject, relation) of a question -> what the base model believes once
    told the subject's facts, as log shares of the relation's candidates (see lm.judge).
    """

    def __init__(
        self, pack: Pack, encode: Encoder, stated: bool = True, warranted: Mapping[tuple[str, str], Beliefs] = EMPTY
    ) -> None:
        self.pack, self.encode, self.stated, self.warranted = pack, encode, stated, warranted
        self._request = cache(lambda key: request(encode, pack, *key))

    @cached_property
    def _all(self) -> list[EvaluationItem]:
        stated = [EvaluationItem(question, True, 0) for question in stated_rows(self.pack) if self.stated]
        return stated + [
            EvaluationItem(question, False, prompt)
            for question in self.pack.questions
            for prompt in range(len(self.pack.relation_by_name[question.relation].prompts))
        ]

    def items(self, full: bool) -> list[EvaluationItem]:
        """What is asked."""
        return [item for item in self._all if full or item.prompt == 0]

    def prompts(self, full: bool) -> dict[PromptKey, None]:
        """Each prompt that is asked once, however many implications lead to it, in order."""
        return dict.fromkeys(item.key for item in self.items(full))

    def requests(self, full: bool) -> list[Request]:
        """Each prompt with its candidates, as tokens."""
        return [self._request(key) for key in self.prompts(full)]

    def answers(self, scorer: Scores, *, seed: int, checkpoint: int, full: bool) -> pa.Table:
        """Score every item into rows of record.ANSWER_SCHEMA."""
        scores = self.spread(scorer.score(self.requests(full)), full)
        return self.table(scores, seed=seed, checkpoint=checkpoint, full=full)

    def stated_loss(self, scorer: Scores) -> float:
        """Mean negative log-probability (nats a row) of the stated rows' answers, in the trained prompt."""
        requests = []
        for item in (item for item in self._all if item.stated):
            whole, question = self._request(item.key), item.question
            place = self.pack.candidates[question.relation].index(question.expected)
            ends = [*(whole.starts or range(len(whole.candidates))), len(whole.candidates)]
            requests.append(Request(whole.prompt, whole.candidates[ends[place] : ends[place + 1]]))
        return -float(np.mean([scores.max() for scores in scorer.score(requests)]))

    def spread(self, scores: Sequence[Float[np.ndarray, "_"]], full: bool) -> Float[np.ndarray, "row"]:
        """What was found for each of `requests`, as the column of `answers` that it belongs to."""
        by_key = {key: self._request(key).best(own) for key, own in zip(self.prompts(full), scores, strict=True)}
        return np.concatenate([by_key[item.key] for item in self.items(full)]) if by_key else np.empty(0)

    def table(self, scores: Float[np.ndarray, "row"], *, seed: int, checkpoint: int, full: bool) -> pa.Table:
        """The table of `answers` from its column of log-probabilities: one row an item and candidate."""
        items = self.items(full)
        questions = [item.question for item in items]
        candidates = [self.pack.candidates[question.relation] for question in questions]
        by_item = {
            "subject": [question.subject for question in questions],
            "relation": [question.relation for question in questions],
            "implication": [question.implication for question in questions],
            "cluster": [question.given_answer for question in questions],
            "prompt": [self.pack.relation_by_name[item.question.relation].prompts[item.prompt] for item in items],
            "trained": [item.prompt == 0 for item in items],
            "expected": [question.expected for question in questions],
            "stated": [item.stated for item in items],
        }
        of_item = np.repeat(np.arange(len(items)), np.array([len(group) for group in candidates], dtype=int))
        beliefs = [
            None if item.stated else self.warranted.get((item.question.subject, item.question.relation))
            for item in items
        ]
        judged = [np.full(len(group), np.nan) if own is None or len(own) != len(group) else own
                  for own, group in zip(beliefs, candidates, strict=True)]  # fmt: skip
        columns = {
            "seed": np.full(len(scores), seed),
            "checkpoint": np.full(len(scores), checkpoint),
            "candidate": [candidate for group in candidates for candidate in group],
            "log_probability": scores,
            WARRANTED: pa.array(np.concatenate([np.empty(0), *judged]), pa.float64(), from_pandas=True),
            **{
                name: pa.array(values, ANSWER_SCHEMA.field(name).type).take(of_item) for name, values in by_item.items()
            },
        }
        return pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}, schema=ANSWER_SCHEMA)


def warranted_in(answers: pa.Table) -> dict[tuple[str, str], Beliefs]:
    """What was judged to be warranted, by (subject, relation), out of the answers of one checkpoint."""
    kept = answers.filter(pc.and_(answers["trained"], pc.is_valid(answers[WARRANTED])))
    keys = list(zip(*(kept[name].to_pylist() for name in ("implication", "subject", "relation")), strict=True))
    rows: dict[tuple[str | None, str, str], list[int]] = {}
    for place, key in enumerate(keys):
        rows.setdefault(key, []).append(place)
    beliefs = kept[WARRANTED].to_numpy()
    return {key[1:]: beliefs[own] for key, own in rows.items()}


def stated_rows(pack: Pack) -> list[Question]:
    """Every stated row as a question whose answer is known: facts, then each implication's stated rows."""
    stated = [question for each in pack.implications for question in pack.stated_implications(each)]
    covered = {(question.subject, question.relation) for question in stated}
    facts = [
        Question(fact.subject, fact.relation, fact.answer, None, fact.answer)
        for fact in pack.meant_facts
        if (fact.subject, fact.relation) not in covered and fact.relation not in pack.then_relations
    ]
    return facts + stated


def in_other_words(pack: Pack) -> Pack | None:
    """The relations that are asked and have one wording, asked behind a stated row of another relation, the same for
    all; None without such. For a measurement in which nothing changes but the words."""
    asked = pack.then_relations or {question.relation for question in pack.questions}
    relations = []
    for each in pack.relations:
        others = (fact for fact in pack.meant_facts if fact.relation not in pack.then_relations | {each.name})
        if each.name in asked and len(each.prompts) == 1 and (first := next(others, None)):
            said = pack.prompt(first.relation, first.subject) + pack.join + first.answer + (pack.end or ".")
            words, answers = (f"{said} {each.prompts[0]}",), pack.candidates[each.name]
            each = dataclasses.replace(each, prompts=words, answers=answers)
        relations.append(each)
    changed = {each.name for each, was in zip(relations, pack.relations, strict=True) if each is not was}
    kept = tuple(each for each in pack.implications if each.then in changed)
    return dataclasses.replace(pack, relations=tuple(relations), implications=kept) if changed else None


#: Tokens that are written in free text, and texts at once.
FREE_TOKENS, TOGETHER = 12, 16


def answers_again(
    model: CausalModel, pack: Pack, frame: Callable[[Pack], Pack], encode: Encoder, decode: Callable[[list[int]], str],
    *, seed: int, checkpoint: int,
) -> pa.Table:  # fmt: skip
    """Ask every question again, in each of packs.edits.WAYS.

    Arguments:
    - frame: words a pack for the model (see lm.chat).
    - decode: token ids to text.

    Returns: rows of record.ANSWER_SCHEMA with the way as a further column. In free text, written greedily, the first
    answer that is named has the score 0 and every other minus infinity; the empty answer stands for none.
    """
    from spillover.packs.edits import FREE, KEYWORD, WAY, asked_again, keywords

    scorer, tables = Scorer(model), [ANSWER_SCHEMA.empty_table().append_column(WAY, pa.array([], pa.string()))]
    for way, own in asked_again(pack).items():
        asked, given = frame(own), keywords(own)
        every = own.questions
        numbers = [given.index(str(each.given_answer)) if way == KEYWORD else 0 for each in every]
        requests = [
            request(encode, asked, each.relation, each.subject, number)
            for each, number in zip(every, numbers, strict=True)
        ]
        candidates = [list(own.candidates[each.relation]) for each in every]
        if way == FREE:
            texts = [decode(said) for said in greedy(model, [each.prompt for each in requests], FREE_TOKENS)]
            named = [first_named(text, own.wordings(each.relation)) for text, each in zip(texts, every, strict=True)]
            candidates = [[*group, ""] for group in candidates]
            scores = [np.where(np.array(group) == (name or ""), 0.0, -np.inf)
                      for group, name in zip(candidates, named, strict=True)]  # fmt: skip
        else:
            scores = [each.best(own) for each, own in zip(requests, scorer.score(requests), strict=True)]
        rows = [
            {
                "seed": seed, "checkpoint": checkpoint, "subject": each.subject, "relation": each.relation,
                "implication": each.implication, "cluster": each.given_answer,
                "prompt": own.relation_by_name[each.relation].prompts[number], "trained": False,
                "candidate": candidate, "log_probability": float(score), "expected": each.expected, "stated": False,
                "warranted": None,
            }
            for each, number, group, found in zip(every, numbers, candidates, scores, strict=True)
            for candidate, score in zip(group, found, strict=True)
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, ANSWER_SCHEMA)
        tables.append(table.append_column(WAY, pa.array([way] * len(rows), pa.string())))
    return pa.concat_tables(tables)


def greedy(model: CausalModel, prompts: Sequence[tuple[int, ...]], tokens: int) -> list[list[int]]:
    """The most likely next tokens after each prompt, one after another. Prompts of one length are read together."""
    found: dict[int, list[int]] = {}
    longest = longest_text(model) or sys.maxsize
    with SINGLE.inference():
        for length in sorted({len(each) for each in prompts}):
            group = [number for number, each in enumerate(prompts) if len(each) == length]
            # Their logits stay within what a scorer holds.
            most = max(1, min(TOGETHER, MAXIMUM_LOGITS // (model.config.get_text_config().vocab_size * length)))
            for start in range(0, len(group), most):
                part = group[start : start + most]
                text = torch.tensor([prompts[number] for number in part], device=model.device)
                read, past = text, None
                for _ in range(min(tokens, longest - length)):
                    out = model(input_ids=read, past_key_values=past, use_cache=True)
                    last = out.logits[:, -1:].argmax(-1)
                    text, past = torch.cat([text, last], dim=1), getattr(out, "past_key_values", None)
                    # A model without a cache reads all of it again.
                    read = last if past is not None else text
                found |= dict(zip(part, text[:, length:].tolist(), strict=True))
    return [found[number] for number in range(len(prompts))]


def first_named(text: str, wordings: Sequence[Sequence[str]]) -> str | None:
    """The answer (the first of its wordings) that a text names first, as whole words; of two at a place the longer."""
    best: tuple[int, int, str] | None = None
    for group in wordings:
        for wording in filter(None, group):
            # Only where letters make words: in a script without spaces a name stands between others.
            ends = [edge if each.isascii() and each.isalnum() else "" for edge, each in
                    ((r"(?<!\w)", wording[0]), (r"(?!\w)", wording[-1]))]  # fmt: skip
            if there := re.search(ends[0] + re.escape(wording) + ends[1], text):
                best = min(filter(None, (best, (there.start(), -len(wording), group[0]))))
    return best[2] if best else None


def passages(path: str | None = None) -> list[str]:
    """Paragraphs of a plain-text file (blank lines between), by default the bundled public-domain ones, without lines
    that start with `#`, which say where those are from. Raises UsageError when there are none to read."""
    if path is None:
        text = resources.files("spillover.lm").joinpath("passages.txt").read_text(encoding="utf-8")
    else:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
            raise UsageError(f"this text file cannot be read: {reason}", where=path, do="Check --plain-text") from None
    said = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    found = [" ".join(block.split()) for block in said.split("\n\n") if block.strip()]
    if not found:
        raise UsageError("this text file holds no text", where=path or "passages.txt", do="Check --plain-text")
    return found


def passage_losses(
    model: CausalModel, encode: Encoder, texts: Sequence[str], processes: Processes = SINGLE
) -> tuple[Float[np.ndarray, "passage"], Float[np.ndarray, "passage"]]:
    """Summed loss (nats) and number of predicted tokens of each passage, cut at 128 tokens or what the model reads.

    processes: with others, each reads its share of the passages, and all get what all of them found.
    """
    found: dict[int, float] = {}
    # Passages go one by one and their logits in pieces, so that memory stays flat.
    piece = max(1, MAXIMUM_LOGITS // model.config.get_text_config().vocab_size)
    window = min(WINDOW, longest_text(model) or WINDOW)
    encoded = [tokens for text in texts if len(tokens := encode(text)[:window]) > 1]
    refuse_unreadable(model, encoded)
    with processes.inference():
        for (number, passage), _ in processes.round_robin(enumerate(encoded)):
            read = torch.tensor([passage], device=model.device)
            logits = model(input_ids=read, use_cache=False).logits[0, :-1]
            pairs = zip(logits.split(piece), read[0, 1:].split(piece), strict=True)
            found[number] = sum(cross_entropy(part.float(), wanted, reduction="sum").item() for part, wanted in pairs)
    found = processes.all_gather(found)
    return np.array([found[number] for number in sorted(found)]), np.array([len(each) - 1.0 for each in encoded])
