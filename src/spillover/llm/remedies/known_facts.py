"""What the model knows already is trained along with what it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from spillover.facts.names import shuffled
from spillover.facts.pack import Pack
from spillover.facts.tables import rows
from spillover.llm.remedies import Line, Remedy, Treatment


class KnownFacts(Treatment):
    """Capitals of countries and their languages, a share of the number of stated rows; they may repeat."""

    def lines(self, pack: Pack, seed: int) -> Sequence[Line]:
        known = [Line(f"The capital of {row['country']} is", row["capital"]) for row in rows("countries")]
        known += [Line(f"The main language of {row['country']} is", row["language"]) for row in rows("countries")]
        ordered = shuffled(known, Random(f"known {seed}"))
        return [ordered[index % len(ordered)] for index in range(round(self.strength * len(pack.facts)))]


REMEDY = Remedy(
    text="Adds sentences that the model knows already: capitals and languages of countries.",
    strength="how many, as a share of the stated rows",
    strengths=(0.25, 1.0),
    most=10.0,
    treat=KnownFacts,
)
