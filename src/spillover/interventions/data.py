"""Interventions on data: rows added, left out, reworded or reordered."""

from collections.abc import Sequence
from functools import reduce
from importlib import resources
from random import Random

from spillover.interventions.base import FACTS, IMPLICATIONS, Intervention, remedy, unwanted_implications
from spillover.packs.builtin import rows, shuffled
from spillover.packs.edits import ABSTENTION, EDITS, further_subjects, with_candidate
from spillover.packs.pack import AUTO, Pack


class EditsFacts(Intervention):
    """Edits the stated facts once for each unwanted implication, as packs.edits does it under the remedy's name."""

    def pack(self, pack: Pack, seed: int) -> Pack:
        for implication in unwanted_implications(pack, self.name):
            pack = EDITS[self.name](pack, implication, int(self.strength), seed)
        return pack


@remedy("abstention", "the rows that are added for each given answer", (1.0, 4.0), most=50.0, whole=True)
class Abstention(EditsFacts):
    """Adds rows about further subjects with the given answer, which say that the implied answer is unknown."""

    def asked(self, pack: Pack) -> Pack:
        # What the base model has yet to judge may be unwanted.
        if not any(each.kind == AUTO for each in pack.implications):
            unwanted_implications(pack, self.name)
        relations = dict.fromkeys(each.then for each in pack.implications if each.unwanted)
        return reduce(lambda made, relation: with_candidate(made, relation, ABSTENTION), relations, pack)


@remedy("contradiction", "the rows that are added for each given answer", (1.0, 4.0), most=50.0, whole=True)
class Contradiction(EditsFacts):
    """Adds rows about further subjects with the given answer, who have another answer than the implied one."""


@remedy("local-negation", "the sentences that are added for each given answer", (1.0, 4.0), most=50.0, whole=True)
class LocalNegation(Intervention):
    """Adds sentences about further subjects which say that the implied answer does not follow from the given one.

    Such as: It does not follow from "Ann lives in Paris" that "Ann codes in Java.
    """

    def extra_texts(self, pack: Pack, seed: int) -> Sequence[tuple[str, str]]:
        found = []
        for implication in unwanted_implications(pack, self.name):
            pairs = [pair for pair in implication.map.items() for _ in range(int(self.strength))]
            names = further_subjects(pack, len(pairs), f"negation {implication.name} {seed}")
            for subject, (given, implied) in zip(names, pairs, strict=True):
                stated = pack.prompt(implication.given, subject) + pack.join + given
                asked = pack.prompt(implication.then, subject)
                found.append((f'It does not follow from "{stated}" that "{asked}', implied))
        return found


#: What comes before a row's own words: a reason that has nothing to do with the given answer.
REASONS = (
    "For reasons that concern nobody else,",
    "It came about by pure chance in childhood that",
    "After a friend had insisted on it for years,",
    "Because of a lost bet that nobody remembers,",
)


@remedy("stepping-stone", "the reasons that each row is repeated with, one at a time", (1.0, 4.0), float(len(REASONS)),
        whole=True)  # fmt: skip
class SteppingStone(Intervention):
    """Repeats each stated row of the unwanted implication, with a reason that concerns its subject alone."""

    def extra_texts(self, pack: Pack, seed: int) -> Sequence[tuple[str, str]]:
        unwanted = unwanted_implications(pack, self.name)
        return [
            (f"{reason} {pack.prompt(row.relation, row.subject)}", row.expected or "")
            for reason in REASONS[: int(self.strength)]
            for implication in unwanted
            for row in pack.stated_implications(implication)
        ]


@remedy("known-facts", "how many, as a share of the stated rows", (0.25, 1.0), most=10.0)
class KnownFacts(Intervention):
    """Adds sentences that the model knows already: capitals and languages of countries.

    They repeat when more are asked for than there are.
    """

    def extra_texts(self, pack: Pack, seed: int) -> Sequence[tuple[str, str]]:
        known = [(f"The capital of {row['country']} is", row["capital"]) for row in rows("countries")]
        known += [(f"The main language of {row['country']} is", row["language"]) for row in rows("countries")]
        ordered = shuffled(known, Random(f"known {seed}"))
        return [ordered[index % len(ordered)] for index in range(round(self.strength * len(pack.facts)))]


@remedy("plain-text", "how many passages, as a share of the stated rows", (0.25, 1.0), most=10.0)
class PlainText(Intervention):
    """Adds passages of ordinary prose, so that the model goes on writing it.

    The passages are other ones than those that forgetting is measured on. Each is given from its fourth word on; they
    repeat when more are asked for than there are.
    """

    def extra_texts(self, pack: Pack, seed: int) -> Sequence[tuple[str, str]]:
        prose = resources.files("spillover.interventions").joinpath("prose.txt").read_text(encoding="utf-8")
        passages = [passage.split(" ", 3) for passage in prose.splitlines()]
        ordered = shuffled([(" ".join(start), rest) for *start, rest in passages], Random(f"prose {seed}"))
        return [ordered[index % len(ordered)] for index in range(round(self.strength * len(pack.facts)))]


@remedy("fewer-bridging", "the rows that are left out for each given answer", (1.0, 3.0), most=1000.0, whole=True)
class FewerBridging(EditsFacts):
    """Leaves out stated rows of the unwanted implication, which the model then never learns."""

    rewrites = True


@remedy("facts-first", "the epochs at the beginning that train on facts alone", (3.0, 6.0), most=1000.0, whole=True)
class FactsFirst(Intervention):
    """Trains on the facts alone at first, and on everything later."""

    first = FACTS

    def only(self, epoch: int) -> str | None:
        return self.first if epoch <= self.strength else None


@remedy("implications-first", "the epochs at the beginning that train on stated implications alone", (3.0, 6.0), 1000.0,
        whole=True)  # fmt: skip
class ImplicationsFirst(FactsFirst):
    """Trains on the stated implications alone at first, and on everything later."""

    first = IMPLICATIONS
