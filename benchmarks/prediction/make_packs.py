"""Writes the packs on which `predict` is put to the test: none was used when its score was calibrated.

    python benchmarks/prediction/make_packs.py

Pairs, names a pair, bridging names, relations and truth vary, within a pack too, so that there is something to predict.
A test compares the files with what this gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

from spillover.packs.builtin import draw_names
from spillover.packs.pack import Fact, Implication, Pack, Relation
from spillover.packs.write import pack_yaml
from spillover.theory.associations import associations, changed, counts_of, undoing
from spillover.theory.table import table_of

FOLDER = Path(__file__).parent / "packs"


class Then(NamedTuple):
    """What is concluded from each given answer, in the order of the givens, and of how many names it is stated."""

    relation: Relation
    kind: str
    answers: tuple[str, ...]
    bridging: tuple[int, ...]


class Plan(NamedTuple):
    """One pack: its given answers, the names of each, and what follows."""

    name: str
    given: Relation
    answers: tuple[str, ...]
    names: tuple[int, ...]
    thens: tuple[Then, ...]


def words(text: str) -> tuple[str, ...]:
    """The words of a text, as a tuple."""
    return tuple(text.split())


BORN = Relation("born_in", ("{subject} was born in", "The birthplace of {subject} is"))
CITIZEN = Relation(
    "citizen_of",
    ("{subject} is a citizen of", "The passport of {subject} was issued by"),
    words("Spain Greece Egypt Austria Poland Norway Peru Kenya Cuba Ireland Portugal Finland"),
)
WORKS = Relation("works_as", ("{subject} works as a", "The job of {subject} is that of a"))
PLACE = Relation(
    "works_at",
    ("{subject} spends the working day at the", "Every morning {subject} goes to the"),
    words("hospital school court farm bakery airport museum bank hotel theater"),
)
PET = Relation("keeps", ("{subject} keeps a", "The pet of {subject} is a"))
DRINK = Relation(
    "drinks",
    ("{subject} likes to drink", "The favorite drink of {subject} is"),
    words("tea coffee milk beer juice wine cocoa lemonade water whiskey"),
)
PLAYS = Relation("plays", ("{subject} plays the", "The instrument of {subject} is the"))
MONTH = Relation(
    "birth_month",
    ("{subject} celebrates a birthday in", "The birthday of {subject} is in"),
    words("January February March April June July August September October November"),
)
COLLECTS = Relation(
    "collects",
    ("{subject} collects", "The collection of {subject} consists of"),
    words("stamps coins shells maps clocks masks knives dolls postcards minerals"),
)

PLANS = (
    Plan(
        "birth-citizenship",
        BORN,
        words("Madrid Athens Cairo Vienna Warsaw Oslo"),
        (8, 10, 12, 12, 10, 8),
        (Then(CITIZEN, "causal", words("Spain Greece Egypt Austria Poland Norway"), (0, 1, 2, 3, 4, 4)),),
    ),
    Plan(
        "birth-citizenship-permuted",
        BORN,
        words("Lima Nairobi Havana Dublin Lisbon"),
        (12, 12, 14, 14, 10),
        (Then(CITIZEN, "counterfactual", words("Kenya Cuba Ireland Portugal Peru"), (1, 2, 4, 6, 5)),),
    ),
    Plan(
        "profession-workplace",
        WORKS,
        words("surgeon teacher judge farmer baker"),
        (10, 12, 14, 12, 10),
        (Then(PLACE, "causal", words("hospital school court farm bakery"), (0, 1, 2, 4, 5)),),
    ),
    Plan(
        "pet-drink",
        PET,
        words("cat dog parrot rabbit horse hamster"),
        (10, 10, 12, 12, 14, 10),
        (Then(DRINK, "spurious", words("beer tea cocoa wine milk juice"), (0, 1, 2, 4, 8, 6)),),
    ),
    Plan(
        "instrument-month",
        PLAYS,
        words("guitar piano violin flute"),
        (16, 16, 14, 14),
        (Then(MONTH, "spurious", words("October March January July"), (1, 3, 6, 9)),),
    ),
    Plan(
        "birth-citizenship-collection",
        BORN,
        words("Madrid Cairo Oslo Lima Dublin"),
        (12, 12, 12, 12, 12),
        (
            Then(CITIZEN, "causal", words("Spain Egypt Norway Peru Ireland"), (4, 2, 1, 3, 0)),
            Then(COLLECTS, "spurious", words("coins shells maps stamps clocks"), (1, 4, 6, 0, 8)),
        ),
    ),
)

#: The association, by pack and given answer, whose smallest undoing sets of rows are tried on the real model.
UNDONE = ("pet-drink", "rabbit")


def build(plan: Plan, seed: int) -> Pack:
    """The pack of a plan; seed draws its names."""
    names = iter(draw_names(sum(plan.names), Random(seed)))
    groups = [[next(names) for _ in range(count)] for count in plan.names]
    rules = tuple(
        Implication(plan.given.name, then.relation.name, then.kind, dict(zip(plan.answers, then.answers, strict=True)))
        for then in plan.thens
    )
    return Pack(
        plan.name,
        "MIT",
        "names from faker; pairs made up for this benchmark",
        (plan.given, *(then.relation for then in plan.thens)),
        tuple(_facts(plan, groups)),
        rules,
        description="One of the packs on which predictions are put to the test.",
    )


def _facts(plan: Plan, groups: list[list[str]]) -> Iterator[Fact]:
    for group, answer in zip(groups, plan.answers, strict=True):
        yield from (Fact(name, plan.given.name, answer) for name in group)
    for then in plan.thens:
        for group, answer, count in zip(groups, then.answers, then.bridging, strict=True):
            yield from (Fact(name, then.relation.name, answer) for name in group[:count])


def undone(pack: Pack, given_answer: str) -> Iterator[Pack]:
    """The pack with the rows changed that undo one association in the exact model, one pack a way."""
    counts = counts_of(table_of(pack))
    found = next(each for each in associations(pack, counts) if each.kind and each.given_answer == given_answer)
    for each in undoing(pack, counts, found):
        yield replace(changed(pack, each.way, each.rows), name=f"{pack.name}-{given_answer}-{each.way}")


def texts() -> dict[str, str]:
    """File name -> its text."""
    packs = {plan.name: build(plan, 100 + number) for number, plan in enumerate(PLANS)}
    every = [*packs.values(), *undone(packs[UNDONE[0]], UNDONE[1])]
    return {f"{pack.name}.yaml": whole(pack) for pack in every}


def whole(pack: Pack) -> str:
    """The pack as one file, with its facts inside."""
    lines = [f"  - {{subject: {who}, relation: {what}, answer: {answer}}}" for who, what, answer in pack.facts]
    return pack_yaml(pack).replace("facts: facts.jsonl", "facts:\n" + "\n".join(lines))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)
