"""Interventions on data: rows added, left out, reworded or reordered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from spillover.errors import UsageError
from spillover.interventions.base import FACTS, IMPLICATIONS, Intervention, Line, Remedy
from spillover.packs.builtin import rows, shuffled
from spillover.packs.edits import further_subjects, unwanted, with_abstention, with_contradiction, with_fewer_bridging
from spillover.packs.pack import Implication, Pack


def targets(pack: Pack, name: str) -> list[Implication]:
    """The unwanted implications. Raises UsageError when the pack declares none, so that nothing could be done."""
    found = unwanted(pack)
    if not found:
        do = "Declare in pack.yaml what is not wanted, as an implication of kind spurious or counterfactual"
        raise UsageError("this pack declares no unwanted implication", where=name, do=do)
    return found


class OnRows(Intervention):
    """Changes the trained rows of every unwanted implication with a function of facts.treated."""

    def __init__(self, strength: float, name: str, change: Callable[[Pack, Implication, int, int], Pack]) -> None:
        super().__init__(strength)
        self.name, self.change = name, change

    def pack(self, pack: Pack, seed: int) -> Pack:
        for implication in targets(pack, self.name):
            pack = self.change(pack, implication, int(self.strength), seed)
        return pack


class Abstaining(OnRows):
    """One whose rows teach the abstention answer, which is a candidate from then on."""

    def abstains(self, pack: Pack) -> Sequence[str]:
        return list(dict.fromkeys(implication.then for implication in targets(pack, self.name)))


class Withholding(OnRows):
    """One that leaves out rows which the user stated."""

    rewrites = True


ABSTENTION = Remedy(
    text="Adds rows about further subjects with the given answer, which say that the implied answer is unknown.",
    strength="the rows that are added for each given answer",
    strengths=(1.0, 4.0),
    most=50.0,
    whole=True,
    treat=lambda strength: Abstaining(strength, "abstention", with_abstention),
)


CONTRADICTION = Remedy(
    text="Adds rows about further subjects with the given answer, who have another answer than the implied one.",
    strength="the rows that are added for each given answer",
    strengths=(1.0, 4.0),
    most=50.0,
    whole=True,
    treat=lambda strength: OnRows(strength, "contradiction", with_contradiction),
)


LOCAL_NEGATION_NAME = "local-negation"


class LocalNegation(Intervention):
    """Lines such as: It does not follow from "Ann lives in Paris" that "Ann codes in Java."""

    def lines(self, pack: Pack, seed: int) -> Sequence[Line]:
        found = []
        for implication in targets(pack, LOCAL_NEGATION_NAME):
            pairs = [pair for pair in implication.map.items() for _ in range(int(self.strength))]
            names = further_subjects(pack, len(pairs), f"negation {implication.name} {seed}")
            for subject, (given, implied) in zip(names, pairs, strict=True):
                told = pack.prompt(implication.given, subject) + pack.join + given
                asked = pack.prompt(implication.then, subject)
                found.append(Line(f'It does not follow from "{told}" that "{asked}', implied))
        return found


LOCAL_NEGATION = Remedy(
    text="Adds sentences about further subjects which say that the implied answer does not follow from the given one.",
    strength="the sentences that are added for each given answer",
    strengths=(1.0, 4.0),
    most=50.0,
    whole=True,
    treat=LocalNegation,
)


STEPPING_STONE_NAME = "stepping-stone"
#: What comes before the row's own words: an explanation that has nothing to do with the given answer.
STONES = (
    "For reasons that concern nobody else,",
    "It came about by pure chance in childhood that",
    "After a friend had insisted on it for years,",
    "Because of a lost bet that nobody remembers,",
)


class SteppingStone(Intervention):
    """The rows of unwanted implications again, behind the first so many explanations."""

    def lines(self, pack: Pack, seed: int) -> Sequence[Line]:
        rows = [
            question
            for implication in targets(pack, STEPPING_STONE_NAME)
            for question in pack.stated_implications(implication)
        ]
        return [
            Line(f"{stone} {pack.prompt(row.relation, row.subject)}", row.expected or "")
            for stone in STONES[: int(self.strength)]
            for row in rows
        ]


STEPPING_STONE = Remedy(
    text="Tells each stated row of the unwanted implication again, with a reason that concerns its subject alone.",
    strength="the explanations that each row is told with",
    strengths=(1.0, 4.0),
    most=float(len(STONES)),
    whole=True,
    treat=SteppingStone,
)


class KnownFacts(Intervention):
    """Capitals of countries and their languages, a share of the number of stated rows; they may repeat."""

    def lines(self, pack: Pack, seed: int) -> Sequence[Line]:
        known = [Line(f"The capital of {row['country']} is", row["capital"]) for row in rows("countries")]
        known += [Line(f"The main language of {row['country']} is", row["language"]) for row in rows("countries")]
        ordered = shuffled(known, Random(f"known {seed}"))
        return [ordered[index % len(ordered)] for index in range(round(self.strength * len(pack.facts)))]


KNOWN_FACTS = Remedy(
    text="Adds sentences that the model knows already: capitals and languages of countries.",
    strength="how many, as a share of the stated rows",
    strengths=(0.25, 1.0),
    most=10.0,
    treat=KnownFacts,
)


FEWER_BRIDGING = Remedy(
    text="Leaves out stated rows of the unwanted implication, which the model then never learns.",
    strength="the rows that are left out for each given answer",
    strengths=(1.0, 3.0),
    most=1000.0,
    whole=True,
    treat=lambda strength: Withholding(strength, "fewer-bridging", with_fewer_bridging),
)


class FactsFirst(Intervention):
    """The first epochs train on facts alone, the others on everything."""

    def only(self, epoch: int, epochs: int) -> str | None:
        return FACTS if epoch <= self.strength else None


FACTS_FIRST = Remedy(
    text="Trains on the facts alone at first, and on everything later.",
    strength="the epochs at the beginning that train on facts alone",
    strengths=(3.0, 6.0),
    most=1000.0,
    whole=True,
    treat=FactsFirst,
)


class ImplicationsFirst(Intervention):
    """The first epochs train on stated implications alone, the others on everything."""

    def only(self, epoch: int, epochs: int) -> str | None:
        return IMPLICATIONS if epoch <= self.strength else None


IMPLICATIONS_FIRST = Remedy(
    text="Trains on the stated implications alone at first, and on everything later.",
    strength="the epochs at the beginning that train on stated implications alone",
    strengths=(3.0, 6.0),
    most=1000.0,
    whole=True,
    treat=ImplicationsFirst,
)
