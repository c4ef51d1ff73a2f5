"""The inference is denied inside the sentence that would draw it."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.facts.pack import Pack
from spillover.facts.treated import further_subjects
from spillover.llm.remedies import Line, Remedy, Treatment
from spillover.llm.remedies.rows_of import targets

NAME = "local-negation"


class LocalNegation(Treatment):
    """Lines such as: It does not follow from "Ann lives in Paris" that "Ann codes in Java."""

    def lines(self, pack: Pack, seed: int) -> Sequence[Line]:
        found = []
        for implication in targets(pack, NAME):
            pairs = [pair for pair in implication.map.items() for _ in range(int(self.strength))]
            names = further_subjects(pack, len(pairs), f"negation {implication.name} {seed}")
            for subject, (given, implied) in zip(names, pairs, strict=True):
                told = pack.prompt(implication.given, subject) + pack.join + given
                asked = pack.prompt(implication.then, subject)
                found.append(Line(f'It does not follow from "{told}" that "{asked}', implied))
        return found


REMEDY = Remedy(
    text="Adds sentences about further subjects which say that the implied answer does not follow from the given one.",
    strength="the sentences that are added for each given answer",
    strengths=(1.0, 4.0),
    most=50.0,
    whole=True,
    treat=LocalNegation,
)
