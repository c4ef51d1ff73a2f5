"""What a prediction holds: every association with its grounds, as records and pages read it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from spillover.facts.pack import Pack
from spillover.jobs.redaction import Redaction
from spillover.theory.predicting.margins import Undoing
from spillover.theory.predicting.solved import Solved

#: Rows that are named of one association; the rest are counted.
MOST_ROWS = 20


@dataclass(frozen=True)
class Predicted:
    """What is to be expected of one association. rate: expected share of the exposed who will answer so; score: their
    expected number. prior: the base model's belief in the answer once it is told the given fact, or None unasked."""

    given: str
    given_answer: str
    then: str
    then_answer: str
    support: int
    exposed: int
    margin: float | None
    prior: float | None
    score: float
    kind: str | None
    because: str
    rate: float
    opposed: int
    margin_low: float | None
    margin_high: float | None
    rests_on: tuple[str, ...]
    undone_by: tuple[Undoing, ...] | None

    def as_json(self) -> dict[str, Any]:
        """The keys of CONTRACT's `predict`, and the evidence. undone_by: null where it was not looked for."""
        found = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        found["rests_on"] = list(self.rests_on)
        if self.undone_by is not None:
            found["undone_by"] = [
                {"way": each.way, "count": len(each.rows), "margin": each.margin,
                 "rows": [row._asdict() for row in each.rows[:MOST_ROWS]]}
                for each in self.undone_by
            ]  # fmt: skip
        return found


@dataclass(frozen=True, eq=False)
class Prediction:
    """Every association of a pack, highest score first, and how the exact model was solved. left_out: not looked at."""

    pack: Pack
    solved: Solved
    associations: tuple[Predicted, ...]
    left_out: int
    model_sha256: str | None


def redacted(found: Prediction, wanted: bool) -> Prediction:
    """The prediction with neutral names for its subjects, if they are wanted."""
    hide = Redaction.of(found.pack.subjects, wanted)

    def hidden(way: Undoing) -> Undoing:
        return dataclasses.replace(way, rows=tuple(row._replace(subject=hide.name(row.subject)) for row in way.rows))

    each_hidden = tuple(
        dataclasses.replace(
            each,
            rests_on=tuple(map(hide.name, each.rests_on)),
            undone_by=None if each.undone_by is None else tuple(map(hidden, each.undone_by)),
        )
        for each in found.associations
    )
    return dataclasses.replace(found, pack=hide.pack(found.pack), associations=each_hidden)
