"""Implications that nobody declared: those that the stated rows themselves suggest, found, tested and asked about.

Subjects of whom two relations are stated bridge them. Where those who share an answer to one mostly share one to the
other, a model may conclude the other of subjects who have the first alone. Every pair of relations with bridging
subjects, and with subjects of whom only one is stated, is looked at.

Two tests, of two things. Here, of the *rows*: do the two relations go together at all, more than when the answers to
one are exchanged among the bridging subjects? In `verdicts`, of a *model*: does it now say of the others what the
bridging subjects suggest?
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.special import gammaln

from spillover.details import FOUND, JudgeFacts
from spillover.metrics.assertions import corrected
from spillover.packs.pack import AUTO, Implication, Pack, as_judged

Standing = tuple[bool, float, float]
#: The share of those with one answer who have the other, from which an entry of a map is a rule with exceptions.
MOSTLY = 0.9
#: Fewer bridging subjects than this suggest nothing.
LEAST_BRIDGING = 4
#: Exchanges of answers at most, how many are drawn at once, and after how many that go together as well it is enough.
EXCHANGES, DRAWN, ENOUGH = 1999, 400, 20
#: Bridging subjects that are drawn for the test where there are more.
MOST_TESTED = 1000
#: Implications that are asked about at most, those that the rows suggest most first.
MOST_FOUND = 100
#: The share of the level that the tests of whole implications, and that those of entries, may use.
HALF = 0.5
#: Tables of more cells than this are not tested; chances that differ by less are equal.
MOST_CELLS, ROUNDING = 10_000, 1 + 1e-9


@dataclass(frozen=True)
class FoundImplication:
    """An implication that stated rows suggest, of kind auto, since nobody declared it.

    implication: its map holds, of every given answer that somebody exposed has, the answer that most of its bridging
    subjects have; none where two are equally frequent. bridging: subjects with both answers stated; agreeing: those of
    them of whom the map is right; by_one: as many as one answer for all would get. exposed: subjects of whom only the
    given one is stated, in the map. p: the least of that of the two relations as a whole and those of the entries.
    entries: given answer -> that of this entry of the map, or of the whole where that is less than of any entry; what
    stands out most comes first, rules with few exceptions before what holds of fewer than MOSTLY. All
    are of `exchange_tests`, corrected for all pairs of relations; the whole and the entries use half of the level each.
    """

    implication: Implication
    bridging: int
    agreeing: int
    by_one: int
    exposed: int
    p: float
    entries: Mapping[str, float]

    @property
    def excess(self) -> float:
        """How many of the exposed subjects would answer so beyond one answer for all, if they were like the others."""
        return self.exposed * (self.agreeing - self.by_one) / self.bridging

    def outline(self) -> dict[str, Any]:
        """As records hold it."""
        rule, rest = self.implication, {name: value for name, value in vars(self).items() if name != "implication"}
        return {"given": rule.given, "then": rule.then, "map": dict(rule.map), **rest, "entries": dict(self.entries)}


def found_in_pack(pack: Pack) -> list[FoundImplication]:
    """`found` of a pack's facts: of every pair of relations of which it declares no implication."""
    holes = ((subject, name) for subject, own in pack.stated_relations.items() for name in pack.fitting[own])
    declared = {(each.given, each.then) for each in pack.implications}
    return [
        each for each in found(pack.stated, holes) if (each.implication.given, each.implication.then) not in declared
    ]


def standing_out(suggested: Iterable[FoundImplication]) -> tuple[Implication, ...]:
    """The implications among those suggested whose p is at most FOUND."""
    return tuple(each.implication for each in suggested if each.p <= FOUND)


def found_in(answers: pa.Table) -> list[FoundImplication]:
    """`found` of the rows of one or several measurements (record.ANSWER_SCHEMA) of a pack without implications."""
    asked = answers.group_by(["subject", "relation", "stated", "expected"], use_threads=False).aggregate([])
    rows = list(zip(*(asked[name].to_pylist() for name in ("subject", "relation", "stated", "expected")), strict=True))
    stated = {(subject, relation): answer for subject, relation, known, answer in rows if known}
    return found(stated, [(subject, relation) for subject, relation, known, _ in rows if not known])


def suggested_in(answers: pa.Table, judge: JudgeFacts | None) -> list[Implication]:
    """The implications that `found_in` finds, with the kinds that a judge gave them, if it did."""
    return list(as_judged((each.implication for each in found_in(answers)), judge.suggested if judge else ()))


def found(stated: Mapping[tuple[str, str], str], holes: Iterable[tuple[str, str]]) -> list[FoundImplication]:
    """The implications that stated rows suggest, those that they suggest most first: at most MOST_FOUND. Of those with
    a p of at most FOUND, rules that hold of MOSTLY come first, and then what is least likely by chance.

    Arguments:
    - stated: (subject, relation) -> the stated answer.
    - holes: the (subject, relation) that are not stated, and may be concluded.
    """
    said: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for (subject, relation), answer in stated.items():
        said[relation][subject] = answer
    lacking: defaultdict[str, list[str]] = defaultdict(list)
    for subject, relation in holes:
        lacking[relation].append(subject)
    ps: dict[Hashable, float] = {}
    cells: dict[Hashable, Mapping[tuple[str, str], float]] = {}
    listed: list[tuple[tuple[str, str], FoundImplication]] = []
    for pair in combinations(said, 2):
        one, other = (said[name] for name in pair)
        both = [subject for subject in one if subject in other]
        own = [_suggested(given, then, said, both, lacking[then]) for given, then in (pair, pair[::-1])]
        if len(both) >= LEAST_BRIDGING and any(own):
            ps[pair], cells[pair] = exchange_tests(*([side[subject] for subject in both] for side in (one, other)))
            listed += [(pair, each) for each in own if each]
    # Each pair of relations is one test as a whole, and one of its cells: of the least of them.
    lowest: dict[Hashable, float] = {pair: min(own.values(), default=1.0) for pair, own in cells.items()}
    (adjusted, _), (cell_adjusted, _) = corrected(ps, HALF), corrected(lowest, HALF)
    results: list[tuple[Standing, FoundImplication]] = []
    for pair, each in listed:
        rule, turned = each.implication, each.implication.given != pair[0]
        own_ps = {given: cells[pair].get((answer, given) if turned else (given, answer), 1.0)
                  for given, answer in rule.map.items()}  # fmt: skip
        raised = cell_adjusted[pair] / lowest[pair]
        entries = {given: min(1.0, p * raised) for given, p in own_ps.items()}
        least = min(entries.values())
        if least > adjusted[pair]:
            entries = dict.fromkeys(entries, adjusted[pair])
        standing = _standing(rule, said)
        entries = {given: entries[given] for given in sorted(entries, key=lambda given: standing[given])}
        told = dataclasses.replace(each, p=min(least, adjusted[pair]), entries=entries)
        results.append((min(standing.values()), told))
    # Of those that stand out, rules with few exceptions come before cells of many subjects that are no rule.
    results.sort(key=lambda own: (own[1].p > FOUND, own[0], own[1].p, -own[1].excess, own[1].implication.name))
    return [each for _, each in results[:MOST_FOUND]]


def _standing(rule: Implication, said: Mapping[str, Mapping[str, str]]) -> dict[str, Standing]:
    """How each entry of a map stands out, the least most: whether it holds of fewer than MOSTLY, the exact chance of as
    many subjects in it (hypergeometric), and the share that it does not hold of."""
    from scipy.stats import hypergeom

    pairs = [(own, said[rule.then][who]) for who, own in said[rule.given].items() if who in said[rule.then]]
    cells, givens, thens = Counter(pairs), Counter(own for own, _ in pairs), Counter(other for _, other in pairs)
    counts = [(cells[entry], givens[entry[0]], thens[entry[1]]) for entry in rule.map.items()]
    hits, have, others = np.array(counts).T
    chances = hypergeom.sf(hits - 1, len(pairs), have, others).tolist()
    found = zip((hits < MOSTLY * have).tolist(), chances, (1 - hits / have).tolist(), strict=True)
    return dict(zip(rule.map, found, strict=True))


def _suggested(
    given: str, then: str, said: Mapping[str, Mapping[str, str]], both: Sequence[str], lacking: Sequence[str]
) -> FoundImplication | None:  # fmt: skip
    """What the bridging subjects suggest of those of whom `given` alone is stated; None where there is nobody."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for subject in both:
        counts[said[given][subject]][said[then][subject]] += 1
    mostly = {own: most for own, seen in counts.items() if (most := _most(seen))}
    exposed = Counter(said[given][subject] for subject in lacking if subject in said[given])
    implied = {own: answer for own, answer in mostly.items() if exposed[own]}
    if not implied:
        return None
    agreeing = sum(max(seen.values()) for seen in counts.values())
    by_one = max(sum(counts.values(), Counter[str]()).values())
    size = sum(exposed[own] for own in implied)
    return FoundImplication(Implication(given, then, AUTO, implied), len(both), agreeing, by_one, size, 1.0, {})


def _most(seen: Counter[str]) -> str | None:
    """The most frequent answer; None where two are."""
    (answer, count), *others = seen.most_common(2)
    return None if others and others[0][1] == count else answer


def exchange_tests(one: Sequence[str], other: Sequence[str]) -> tuple[float, dict[tuple[str, str], float]]:
    """How often exchanged answers go together as well: as a whole, and in any one cell of their table.

    Arguments:
    - one, other: the two answers of each subject. Of more than MOST_TESTED subjects as many are drawn.

    Returns: the share of random exchanges, the answers as they are included, in which as many pairs of subjects share
    both answers; and of each (answer, other answer) the share in which any cell stands out as much, by the
    hypergeometric chance of as many in it. Drawing ends early where both are large (Besag and Clifford 1991).
    """
    generator, sides = np.random.default_rng(0), [np.array(side, dtype=str) for side in (one, other)]
    if len(one) > MOST_TESTED:
        some = np.sort(generator.choice(len(one), MOST_TESTED, replace=False))
        sides = [side[some] for side in sides]
    (names, first), (others, second) = (np.unique(side, return_inverse=True) for side in sides)
    if len(names) * len(others) > MOST_CELLS:
        return 1.0, {}
    sizes, counts = np.bincount(first), np.bincount(second)
    chance = _chances(sizes, counts)

    def measured(dealt: Int[np.ndarray, "exchange subject"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts of each cell, pairs of subjects that share both answers, and the least chance of a cell."""
        cells = len(names) * len(others)
        numbers = np.arange(len(dealt))[:, None] * cells + first * len(others) + dealt
        table = np.bincount(numbers.ravel(), minlength=len(dealt) * cells).reshape(len(dealt), len(names), len(others))
        by_cell = chance[np.arange(len(names))[:, None], np.arange(len(others)), table]
        return table, (table.astype(float) ** 2).sum(axis=(1, 2)), by_cell.min(axis=(1, 2))

    (table,), (pairs,), (least,) = measured(second[None])
    own = chance[np.arange(len(names))[:, None], np.arange(len(others)), table]
    whole, lowest, drawn = 0, list[np.ndarray](), 0
    while drawn < EXCHANGES and min(whole, sum(int((each <= least * ROUNDING).sum()) for each in lowest)) < ENOUGH:
        size = min(DRAWN, EXCHANGES - drawn)
        _, shared, some = measured(generator.permuted(np.tile(second, (size, 1)), axis=1))
        whole, drawn = whole + int((shared >= pairs).sum()), drawn + size
        lowest.append(some)
    ordered = np.sort(np.concatenate(lowest))
    hits = np.searchsorted(ordered, own * ROUNDING, side="right")
    ps = (1 + hits) / (1 + drawn)
    found = {(str(name), str(each)): float(ps[i, j]) for i, name in enumerate(names) for j, each in enumerate(others)}
    return (1 + whole) / (1 + drawn), found


def _chances(
    sizes: Int[np.ndarray, "answer"], counts: Int[np.ndarray, "other"]
) -> Float[np.ndarray, "answer other hits"]:
    """The hypergeometric chance of at least so many hits in each cell of a table with these margins."""
    total, hits = int(sizes.sum()), np.arange(sizes.max() + 1)
    rows, columns = sizes[:, None, None], counts[None, :, None]

    def ways(of: np.ndarray | int, picked: np.ndarray) -> np.ndarray:
        """The logarithm of the number of ways to pick; minus infinity where there is none."""
        fits = (picked >= 0) & (picked <= of)
        inside = np.where(fits, picked, 0)
        logs = gammaln(of + 1.0) - gammaln(inside + 1.0) - gammaln(np.maximum(of - inside, 0) + 1.0)
        return np.asarray(np.where(fits, logs, -np.inf))

    each = np.exp(ways(columns, hits) + ways(total - columns, rows - hits) - ways(total, rows))
    return np.asarray(np.minimum(1.0, np.cumsum(each[..., ::-1], axis=-1)[..., ::-1]))


def under(answers: pa.Table, implications: Sequence[Implication], of: pa.Table | None = None) -> pa.Table:
    """The answers, and once more under each implication those that it is about, with what it makes of them.

    Arguments:
    - answers: record.ANSWER_SCHEMA, of a pack that declares no implication.
    - implications: those that are found in it.
    - of: the answers whose stated rows say what is given; by default the same.
    """
    there = set(answers["implication"].unique().to_pylist())
    implications = [each for each in implications if each.name not in there]
    if not implications:
        return answers
    subjects, relations, stated = (answers[name].combine_chunks() for name in ("subject", "relation", "stated"))
    coded = subjects.dictionary_encode()
    names, code = coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False)
    relation, known = relations.to_numpy(zero_copy_only=False), stated.to_numpy(zero_copy_only=False)
    fresh = answers["implication"].combine_chunks().is_null().to_numpy(zero_copy_only=False)
    own: defaultdict[str, dict[str, str]] = defaultdict(dict)
    rows = answers if of is None else of
    kept = rows.filter(rows["stated"]).select(["subject", "relation", "expected"])
    for subject, its, answer in zip(*(kept[name].to_pylist() for name in kept.column_names), strict=True):
        own[its][subject] = answer
    tables = [answers]
    for each in implications:
        given = np.array([own[each.given].get(name) for name in names], dtype=object)
        implied = np.array([each.map.get(answer) for answer in given], dtype=object)
        mine = fresh & (relation == each.then)
        rows = np.flatnonzero(mine & np.where(known, given[code] != None, implied[code] != None))  # noqa: E711
        expected = np.where(known[rows], answers["expected"].take(rows).to_numpy(zero_copy_only=False),
                            implied[code[rows]])  # fmt: skip
        more = answers.take(rows)
        columns = {"implication": np.full(len(rows), each.name), "cluster": given[code[rows]], "expected": expected}
        for name, values in columns.items():
            place = more.column_names.index(name)
            more = more.set_column(place, name, pa.array(values.tolist(), answers.schema.field(name).type))
        tables.append(more)
    return pa.concat_tables(tables)
