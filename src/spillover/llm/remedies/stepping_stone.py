"""Each stated row that bridges is told once more with a reason that concerns its subject alone."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.facts.pack import Pack
from spillover.llm.remedies import Line, Remedy, Treatment
from spillover.llm.remedies.rows_of import targets

NAME = "stepping-stone"
#: What comes before the row's own words: an explanation that has nothing to do with the given answer.
STONES = (
    "For reasons that concern nobody else,",
    "It came about by pure chance in childhood that",
    "After a friend had insisted on it for years,",
    "Because of a lost bet that nobody remembers,",
)


class SteppingStone(Treatment):
    """The rows of unwanted implications again, behind the first so many explanations."""

    def lines(self, pack: Pack, seed: int) -> Sequence[Line]:
        rows = [question for implication in targets(pack, NAME) for question in pack.stated_implications(implication)]
        return [
            Line(f"{stone} {pack.prompt(row.relation, row.subject)}", row.expected or "")
            for stone in STONES[: int(self.strength)]
            for row in rows
        ]


REMEDY = Remedy(
    text="Tells each stated row of the unwanted implication again, with a reason that concerns its subject alone.",
    strength="the explanations that each row is told with",
    strengths=(1.0, 4.0),
    most=float(len(STONES)),
    whole=True,
    treat=SteppingStone,
)
