"""Open probes: what two models say next in everyday sentences about a pack's subjects, and at every place of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from spillover.errors import ModelError, UsageError
from spillover.lm.score import NO_NUMBERS, CausalModel, Scorer
from spillover.lm.tokens import Encoder, Example, Request, printable
from spillover.packs.builtin import available, draw_names, shuffled
from spillover.packs.pack import SUBJECT, Pack

#: Probabilities below this count as 0; so at most 1,000 tokens a prompt are kept, whatever the vocabulary.
FLOOR = 1e-3
#: Token ids as text, as a tokenizer's `decode`.
Decode = Callable[..., str | list[str]]


def templates(path: str = "") -> tuple[str, ...]:
    """The built-in sentence beginnings, then those of a text file (one a line), each once.

    Raises UsageError for a file that cannot be read, is empty, or has a line that does not say where the subject goes.
    """
    found = resources.files("spillover.interp").joinpath("probe_templates.txt").read_text(encoding="utf-8").splitlines()
    if not path:
        return tuple(dict.fromkeys(found))
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"this file cannot be read: {reason}", where=path, do="Check --probes") from None
    own = {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}
    if not own:
        do = f"Write one sentence beginning a line, such as {SUBJECT} likes to drink"
        raise UsageError("this file holds no sentence", where=path, do=do)
    for number, line in own.items():
        if SUBJECT not in line:
            what, do = f"{line[:80]!r} does not say whom it asks about", f"Write {SUBJECT} where the name goes"
            raise UsageError(what, where=f"{path}, row {number}", do=do)
    return tuple(dict.fromkeys([*found, *own.values()]))


@dataclass(frozen=True)
class NextTokens:
    """Next tokens after one prompt that have at least FLOOR as their probability, in the order of their numbers."""

    tokens: Int[np.ndarray, "token"]
    probabilities: Float[np.ndarray, "token"]


def likely_next_tokens(scorer: Scorer, prompts: Sequence[tuple[int, ...]]) -> list[NextTokens]:
    """The likely next tokens after every prompt."""

    def keep(logs: Float[Tensor, "prompt vocabulary"]) -> list[NextTokens]:
        places = (logs >= float(np.log(FLOOR))).nonzero()
        found = logs[places[:, 0], places[:, 1]].exp().cpu().numpy()
        ends = np.searchsorted(places[:, 0].cpu().numpy(), np.arange(1, len(logs)))
        tokens = np.split(places[:, 1].cpu().numpy().astype(np.int32), ends)
        return [NextTokens(own, values) for own, values in zip(tokens, np.split(found, ends), strict=True)]

    return scorer.next_tokens(prompts, keep)


def side_by_side(
    base: Sequence[NextTokens], tuned: Sequence[NextTokens]
) -> tuple[Int[np.ndarray, "token"], Float[np.ndarray, "prompt token"], Float[np.ndarray, "prompt token"]]:
    """The tokens likely after any of these prompts under either model, and their probabilities under both."""
    tokens = np.unique(np.concatenate([each.tokens for each in (*base, *tuned)]))
    before, after = np.zeros((2, len(base), len(tokens)))
    for table, answers in ((before, base), (after, tuned)):
        for row, each in enumerate(answers):
            table[row, np.searchsorted(tokens, each.tokens)] = each.probabilities
    return tokens, before, after


def continuations(
    scorer: Scorer, prompts: Sequence[tuple[int, ...]], starts: Sequence[tuple[int, ...]], steps: int,
    stops: frozenset[int], decode: Decode,
) -> list[str]:  # fmt: skip
    """What the model says after each prompt, always taking the likeliest token: at most `steps` of them, up to a stop
    or the end of the line. starts: tokens that each continuation must begin with."""
    texts = [[*prompt, *start] for prompt, start in zip(prompts, starts, strict=True)]
    unfinished = texts
    for _ in range(steps):
        best = scorer.next_tokens([tuple(text) for text in unfinished], lambda logs: logs.argmax(dim=-1).tolist())
        for text, token in zip(unfinished, best, strict=True):
            text.append(token)
        unfinished = [text for text in unfinished if text[-1] not in stops]
    said = []
    for prompt, text in zip(prompts, texts, strict=True):
        before, whole = (str(decode(list(tokens), skip_special_tokens=True)) for tokens in (prompt, text))
        said.append(printable(whole[len(before) :].strip("\n").split("\n")[0].rstrip()))
    return said


def word(token: int, decode: Decode) -> str:
    """A token as text without the spaces around it; one that is nothing but spaces as a program would write it."""
    text = str(decode([token]))
    return printable(text.strip()) or repr(text)[1:-1]


def first_tokens(encode: Encoder, prompt: str, answers: Sequence[str], joins: Sequence[str]) -> frozenset[int]:
    """The tokens with which these answers begin after a prompt."""
    before = encode(prompt)
    size = len(before)
    wholes = [encode(prompt + join + answer) for answer in answers for join in joins]
    return frozenset(whole[size] for whole in wholes if whole[:size] == before and len(whole) > size)


#: Most groups in all, and most subjects a group; so the cost does not grow with the pack.
GROUPS, UNSTATED, STATED, NEVER_SEEN = 24, 12, 4, 12
#: A group of fewer shows nothing.
LEAST = 2


@dataclass(frozen=True)
class ProbeGroup:
    """Subjects of whom a pack states the same answer to a relation, as many as are asked about.

    stated: those of whom a relation is stated too that others of the relation lack, such as bridging subjects.
    unstated: the rest. tested: those that a difference between groups is measured on; the unstated, unless some group
    of the relation has fewer than two, then all.
    """

    relation: str
    answer: str
    unstated: tuple[str, ...]
    stated: tuple[str, ...]
    tested: tuple[str, ...]


@dataclass(frozen=True)
class ProbeSubjects:
    """Everybody who is asked about: subjects of the pack, each once, then names that the pack does not hold.

    relations: for each relation that is probed, its groups.
    """

    subjects: tuple[str, ...]
    never_seen: tuple[str, ...]
    relations: tuple[tuple[ProbeGroup, ...], ...]

    @property
    def everybody(self) -> tuple[str, ...]:
        return self.subjects + self.never_seen

    def rows(self, names: Iterable[str]) -> Int[np.ndarray, "name"]:
        """Where these names stand in `everybody`."""
        place = {name: index for index, name in enumerate(self.everybody)}
        return np.array([place[name] for name in names], dtype=np.int64)


def choose_subjects(pack: Pack, seed: int) -> ProbeSubjects:
    """Draw whom to ask about: at most GROUPS groups, and of each at most UNSTATED and STATED subjects. Raises
    UsageError when no fictitious name is left that the pack does not hold."""
    random = Random(f"open probes {seed}")
    by_relation = _answers_of(pack)
    share = max(LEAST, GROUPS // max(1, len(by_relation)))
    chosen: dict[str, None] = {}
    relations = []
    for relation, answers in list(by_relation.items())[: GROUPS // LEAST]:
        drawn = set(shuffled(list(answers), random)[:share])
        sampled = {answer: subjects for answer, subjects in answers.items() if answer in drawn}
        relations.append(_groups(pack, relation, sampled, set(chosen), random))
        chosen |= dict.fromkeys(name for group in relations[-1] for name in (*group.unstated, *group.stated))
    if not relations:
        chosen = dict.fromkeys(shuffled(list(pack.subjects), random)[:UNSTATED])
    # Names that share no word with a subject come first.
    words, known = {word for subject in pack.subjects for word in subject.split()}, set(pack.subjects)
    fresh = [name for name in draw_names(available(), random) if name not in known]
    never_seen = tuple(sorted(fresh, key=lambda name: not words.isdisjoint(name.split()))[:NEVER_SEEN])
    if not never_seen:
        raise UsageError("the pack holds every fictitious name that there is", do="Leave --open out")
    return ProbeSubjects(tuple(chosen), never_seen, tuple(relations))


def _answers_of(pack: Pack) -> dict[str, dict[str, list[str]]]:
    """Relation -> answer -> its subjects, beginning with the relation that groups the most; answers of one subject, and
    relations with fewer than two answers, left out."""
    found: dict[str, dict[str, list[str]]] = {}
    for (subject, relation), answer in pack.stated.items():
        found.setdefault(relation, {}).setdefault(answer, []).append(subject)
    for relation, answers in found.items():
        found[relation] = {answer: subjects for answer, subjects in answers.items() if len(subjects) >= LEAST}
    grouped = [item for item in found.items() if len(item[1]) >= LEAST]
    return dict(sorted(grouped, key=lambda item: -sum(map(len, item[1].values()))))


def _groups(
    pack: Pack, relation: str, answers: Mapping[str, list[str]], chosen: set[str], random: Random
) -> tuple[ProbeGroup, ...]:
    """The groups of one relation, sampled; subjects that are asked about already (`chosen`) come first."""
    members = {subject for subjects in answers.values() for subject in subjects}
    known = Counter(other for subject, other in pack.stated if subject in members)
    lacking = [other for other, count in known.items() if count < len(members)]
    split: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for answer, subjects in answers.items():
        drawn = sorted(shuffled(subjects, random), key=lambda subject: subject not in chosen)
        more = {subject for subject in drawn if any((subject, other) in pack.stated for other in lacking)}
        unstated, stated = ([name for name in drawn if (name in more) is wanted] for wanted in (False, True))
        split[answer] = tuple(unstated[:UNSTATED]), tuple(stated[:STATED])
    enough = all(len(unstated) >= LEAST for unstated, _ in split.values())
    return tuple(ProbeGroup(relation, answer, unstated, stated, unstated if enough else unstated + stated)
                 for answer, (unstated, stated) in split.items())  # fmt: skip


def declared(pack: Pack, group: ProbeGroup | None) -> Iterator[str]:
    """The answers that the pack itself gives a group: what is stated of it, and what an implication makes of that.

    An answer to another relation counts when it is stated of at least half of the tested subjects. For everybody
    (None): every answer that is stated or implied.
    """
    if group is None:
        yield from dict.fromkeys(fact.answer for fact in pack.facts)
        for implication in pack.implications:
            yield from implication.map.values()
        return
    yield group.answer
    for implication in pack.implications:
        if implication.given == group.relation and group.answer in implication.map:
            yield implication.map[group.answer]
        if implication.then == group.relation:
            yield from (given for given, implied in implication.map.items() if implied == group.answer)
    for relation in pack.relations:
        answers = [pack.stated.get((subject, relation.name)) for subject in group.tested]
        counts = Counter(answer for answer in answers if answer is not None)
        yield from (answer for answer, count in counts.items() if 2 * count >= len(answers))


#: Tokens of a text that are read before the part that is looked at, and places in that part.
BEFORE, LONGEST = 200, 48
#: Smaller changes of a token, in times a text, count as none.
LEAST_RISE = 0.01
#: The tokens that the count takes of every place: those whose logit rose most.
TOP = 100


@dataclass(frozen=True)
class TextShift:
    """One text: the tokens that the tuned model says more or less often in it than the base model.

    tokens: in the order of their numbers. rises: by how many times a text, the sum over its places of the change in
    probability; a place does not count for the token that stands there. places: where each rose most, as the number of
    tokens before. base, tuned: its probability there.
    """

    tokens: Int[np.ndarray, "token"]
    rises: Float[np.ndarray, "token"]
    places: Int[np.ndarray, "token"]
    base: Float[np.ndarray, "token"]
    tuned: Float[np.ndarray, "token"]


@dataclass(frozen=True)
class TextShifts:
    """All texts; and for every token at how many of the places it is among the TOP whose logit rose most.

    That count is the first half of Diff Mining (arXiv 2608.26462), a baseline: it asks for no probability, so it also
    counts what neither model ever says.
    """

    texts: tuple[TextShift, ...]
    counts: Int[np.ndarray, "token"]
    places: int

    def table(self, floor: float) -> tuple[Int[np.ndarray, "token"], Float[np.ndarray, "text token"]]:
        """The tokens whose change is at least `floor` in some text, and what each changed by in every text."""
        tokens = np.unique(np.concatenate([each.tokens[np.abs(each.rises) >= floor] for each in self.texts]))
        values = np.zeros((len(self.texts), len(tokens)))
        for row, each in enumerate(self.texts):
            kept = np.isin(each.tokens, tokens)
            values[row, np.searchsorted(tokens, each.tokens[kept])] = each.rises[kept]
        return tokens, values


def cut(text: Example) -> Example:
    """A text with no more before its part, and in it, than is read; its first token is never looked at."""
    first = max(0, text.start - BEFORE)
    return Example(text.tokens[first : text.start + LONGEST], max(text.start - first, 1))


def compare(base: Scorer, tuned: Scorer, texts: Sequence[Example]) -> tuple[TextShifts, TextShifts]:
    """Both models at every place of the texts, as `cut` leaves them; and the base model against itself as a control.

    In the control nothing was learned and every number changes a little: see `_rounded`.

    Arguments:
    - base, tuned: with the same tokens. With other processes, each takes its share of the texts.
    - texts: the tokens from `start` on are looked at, and the place after the last of them.

    Raises: ModelError for a text that a model cannot read, and for scores that are no numbers; Exhausted when there is
    no memory for a single text.
    """
    # What is asked after the last token is any: only what the model expects there is looked at.
    requests = [Request(each.tokens[: each.start], ((*each.tokens[each.start :], 0),)) for each in texts]
    methods = ("tree", None, "plain", "single")
    # Both are fed alike, as the one can be that takes less.
    feeder = max(base, tuned, key=lambda each: methods.index(each.settle(requests)))

    def attempt() -> dict[int, list[tuple[TextShift, np.ndarray, int]]]:
        found: dict[int, list[tuple[TextShift, np.ndarray, int]]] = {}
        with feeder.processes.inference():
            for trees, counts in feeder.processes.round_robin(feeder.passes(requests)):
                batch, before = base.logits(trees)
                after = tuned.logits(trees)[1].to(before.device)
                with _rounded(base.model):
                    same = base.logits(trees)[1]
                for number, (owner, _) in enumerate(owner for tree in trees for owner in tree.owners):
                    rows = batch.place[batch.text == number]
                    if counts:
                        found[owner] = [_shift(texts[owner], before[rows], each[rows]) for each in (after, same)]
        return feeder.processes.all_gather(found)

    found = feeder.in_smaller_passes(attempt)
    moves, control = (_together([found[number][which] for number in range(len(texts))]) for which in (0, 1))
    return moves, control


def _together(found: Sequence[tuple[TextShift, np.ndarray, int]]) -> TextShifts:
    """What changed in all texts."""
    counted = np.zeros(max((len(own) for _, own, _ in found), default=0), dtype=np.int64)
    for _, own, _ in found:
        counted[: len(own)] += own
    return TextShifts(tuple(each for each, _, _ in found), counted, sum(places for _, _, places in found))


@contextmanager
def _rounded(model: CausalModel) -> Iterator[None]:
    """Inside, what every linear layer gives is rounded to eight binary digits, or one fewer than the model computes in.

    So to bfloat16 in a model that computes in float32, on any processor, and further in one that computes in bfloat16.
    """

    def rounding(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        digits = min(8, int(-np.log2(torch.finfo(output.dtype).eps)))
        # The upper part of a number as Veltkamp splits it: float32 holds 24 digits.
        number = output.float()
        larger = number * (2 ** (24 - digits) + 1)
        return (larger - (larger - number)).to(output.dtype)

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, (nn.Linear, Conv1D)):
                stack.callback(module.register_forward_hook(rounding).remove)
        yield


def _shift(text: Example, before: Tensor, after: Tensor) -> tuple[TextShift, np.ndarray, int]:
    """What changed in one text, how often each token is among the TOP, and the number of places. Raises ModelError."""
    if before.isnan().any() or after.isnan().any():
        raise ModelError(**NO_NUMBERS)
    size = min(before.shape[-1], after.shape[-1])
    before, after = before[:, :size], after.to(before.device)[:, :size]
    best = (after - before).topk(min(TOP, size), dim=-1).indices
    counts = torch.bincount(best.flatten(), minlength=size).cpu().numpy()
    was, now = before.softmax(-1), after.softmax(-1)
    change = now - was
    said = torch.tensor(text.tokens[text.start :], device=before.device)
    rows = torch.arange(len(said), device=before.device)
    change[rows, said] = 0
    rises = change.sum(0)
    tokens = (rises.abs() >= LEAST_RISE).nonzero()[:, 0]
    places = change[:, tokens].argmax(0)
    parts = (tokens, rises[tokens], places + text.start, was[places, tokens], now[places, tokens])
    own = [part.cpu().numpy() for part in parts]
    shift = TextShift(own[0], own[1].astype(float), own[2], own[3].astype(float), own[4].astype(float))
    return shift, counts, len(change)
