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
from scipy.stats import hypergeom

from spillover.metrics.assertions import corrected
from spillover.packs.pack import AUTO, Implication, Pack

#: Fewer bridging subjects than this suggest nothing.
LEAST_BRIDGING = 4
#: Exchanges of answers at most, how many are drawn at once, and after how many that go together as well it is enough.
EXCHANGES, DRAWN, ENOUGH = 4999, 500, 20
#: Bridging subjects that are drawn for the test where there are more.
MOST_TESTED = 1000
#: Implications that are asked about at most, those that the rows suggest most first.
MOST_FOUND = 100
#: The share of the level that the tests of whole implications, and that those of entries, may use.
HALF = 0.5


@dataclass(frozen=True)
class FoundImplication:
    """An implication that stated rows suggest, of kind auto, since nobody declared it.

    implication: its map holds, of every given answer that somebody exposed has, the answer that most of its bridging
    subjects have; none where two are equally frequent. bridging: subjects with both answers stated; agreeing: those of
    them of whom the map is right; by_one: as many as one answer for all would get. exposed: subjects of whom only the
    given one is stated, in the map. p: the least of that of the two relations as a whole (`exchange_of_pairs`) and
    those of the entries. entries: given answer -> whether its bridging subjects have its answer more often than others
    have, by the hypergeometric test; where no entry is known to stand out, that of the whole. All are corrected, for
    all pairs of relations and all answers that an entry could have had; each list uses half of the level.
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


def found_in(answers: pa.Table) -> list[FoundImplication]:
    """`found` of the rows of one or several measurements (record.ANSWER_SCHEMA) of a pack without implications."""
    asked = answers.group_by(["subject", "relation", "stated", "expected"], use_threads=False).aggregate([])
    rows = list(zip(*(asked[name].to_pylist() for name in ("subject", "relation", "stated", "expected")), strict=True))
    stated = {(subject, relation): answer for subject, relation, known, answer in rows if known}
    return found(stated, [(subject, relation) for subject, relation, known, _ in rows if not known])


def found(stated: Mapping[tuple[str, str], str], holes: Iterable[tuple[str, str]]) -> list[FoundImplication]:
    """The implications that stated rows suggest, those that they suggest most first: at most MOST_FOUND.

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
    cells: dict[Hashable, float] = {}
    listed: list[tuple[tuple[str, str], FoundImplication]] = []
    for pair in combinations(said, 2):
        one, other = (said[name] for name in pair)
        both = [subject for subject in one if subject in other]
        own = [_suggested(given, then, said, both, lacking[then]) for given, then in (pair, pair[::-1])]
        if len(both) >= LEAST_BRIDGING and any(own):
            ps[pair] = exchange_of_pairs([one[subject] for subject in both], [other[subject] for subject in both])
            listed += [(pair, each) for each in own if each]
            for each in filter(None, own):
                rule = each.implication
                cells |= _cells(rule, [(said[rule.given][subject], said[rule.then][subject]) for subject in both])
    (adjusted, _), (by_cell, _) = corrected(ps, HALF), corrected(cells, HALF)
    results = []
    for pair, each in listed:
        rule = each.implication
        entries = {given: by_cell[rule.name, given, answer] for given, answer in rule.map.items()}
        least = min(entries.values())
        if least > adjusted[pair]:
            entries = dict.fromkeys(entries, adjusted[pair])
        results.append(dataclasses.replace(each, p=min(least, adjusted[pair]), entries=entries))
    return sorted(results, key=lambda each: (each.p, -each.excess, each.implication.name))[:MOST_FOUND]


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


def _cells(rule: Implication, both: Sequence[tuple[str, str]]) -> dict[Hashable, float]:
    """(implication, given answer, answer) -> the chance of as many bridging subjects with both, were answers exchanged.

    Of every answer, not of the map's alone, since that was chosen for being the most frequent.
    """
    given, then, seen = Counter(each for each, _ in both), Counter(each for _, each in both), Counter(both)
    return {
        (rule.name, one, other): float(hypergeom.sf(seen[one, other] - 1, len(both), count, given[one]))
        for one in rule.map for other, count in then.items()
    }  # fmt: skip


def _most(seen: Counter[str]) -> str | None:
    """The most frequent answer; None where two are."""
    (answer, count), *others = seen.most_common(2)
    return None if others and others[0][1] == count else answer


def exchange_of_pairs(one: Sequence[str], other: Sequence[str]) -> float:
    """The chance that exchanged answers go together as well: that as many pairs of subjects share both answers.

    Arguments:
    - one, other: the two answers of each subject. Of more than MOST_TESTED subjects as many are drawn.

    Returns: the share of random exchanges, the labels as they are included, that does at least as well. Drawing ends
    early where it is large (Besag and Clifford 1991).
    """
    generator = np.random.default_rng(0)
    codes = [np.unique(np.array(side, dtype=object).astype(str), return_inverse=True)[1] for side in (one, other)]
    if len(one) > MOST_TESTED:
        some = np.sort(generator.choice(len(one), MOST_TESTED, replace=False))
        codes = [np.unique(side[some], return_inverse=True)[1] for side in codes]
    first, second = codes
    seen, hits, drawn = _agreeing(first, second[None])[0], 0, 0
    while drawn < EXCHANGES and hits < ENOUGH:
        size = min(DRAWN, EXCHANGES - drawn)
        dealt = generator.permuted(np.tile(second, (size, 1)), axis=1)
        hits, drawn = hits + int((_agreeing(first, dealt) >= seen).sum()), drawn + size
    return (1 + hits) / (1 + drawn)


def _agreeing(
    first: Int[np.ndarray, "subject"], second: Int[np.ndarray, "exchange subject"]
) -> Float[np.ndarray, "exchange"]:
    """Of each exchange, how many ordered pairs of subjects share both answers, each subject with itself included."""
    cells = np.sort(first * (int(second.max()) + 1) + second, axis=1)
    # Lengths of runs of equal cells, squared and summed.
    starts = np.ones(cells.shape, dtype=bool)
    starts[:, 1:] = cells[:, 1:] != cells[:, :-1]
    lengths = np.diff(np.flatnonzero(starts.ravel()), append=cells.size)
    row = np.flatnonzero(starts.ravel()) // cells.shape[1]
    return np.bincount(row, weights=lengths.astype(float) ** 2, minlength=len(cells))


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
