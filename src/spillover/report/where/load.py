"""What `where` found, as its page reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.errors import RunError
from spillover.measures.bootstrap import FEW
from spillover.measures.carried import GROUPS
from spillover.record import EXPANSION, RECORD, UNTUNED, WHOLLY, Metric, Record
from spillover.report.drawing import BLUE, INK, PURPLE, VERMILLION

#: Models that are no part of the change, and what the page calls them.
BASE, TUNED, LINEARISED = UNTUNED, WHOLLY, EXPANSION
ENDS = {BASE: "base model", TUNED: "tuned model", LINEARISED: "linearised at the base"}
#: What each group is called, and its colour and marker.
WORDS = {"recall": "stated facts", "links": "stated links", "wanted": "wanted conclusions",
         "unwanted": "unwanted conclusions"}  # fmt: skip
LOOKS = {"recall": (INK, "o"), "links": (PURPLE, "D"), "wanted": (BLUE, "^"), "unwanted": (VERMILLION, "s")}


@dataclass(frozen=True)
class Patched:
    """One model: a part alone in the base model, or the tuned model without it; or one of the ends.

    moved: Frobenius norm of the part's change over that of what it was.
    """

    part: str
    kind: str
    left_out: bool
    moved: float | None
    metrics: Mapping[str, Metric]

    def rate(self, group: str) -> float | None:
        """Share of the group's subjects whose top answer is the expected one."""
        metric = self.metrics.get(f"{group}_rate")
        return metric.value if metric else None


@dataclass(frozen=True)
class Where:
    """record: of `where`. patched: every model, in the order measured."""

    record: Record
    patched: Sequence[Patched]

    def of(self, part: str, left_out: bool = False) -> Patched | None:
        """The model with this part alone, or without it; None when it was not measured."""
        return next((each for each in self.patched if (each.part, each.left_out) == (part, left_out)), None)

    def parts(self, kind: str) -> list[str]:
        """Components or layers, in their order."""
        return list(dict.fromkeys(each.part for each in self.patched if each.kind == kind))

    @property
    def groups(self) -> list[str]:
        """Groups that were asked about."""
        return [name for name in GROUPS if any(each.rate(name) is not None for each in self.patched)]

    @property
    def laziness(self) -> Mapping[str, Any]:
        return dict(self.record.details["laziness"])

    @property
    def clusters(self) -> int:
        return max((metric.clusters for each in self.patched for metric in each.metrics.values()), default=0)

    @property
    def few(self) -> bool:
        """Whether the clusters are too few for an interval to decide anything."""
        return self.clusters < FEW

    @property
    def seeds(self) -> int:
        return len(self.record.details.get("seeds") or [self.record.seed])

    def added(self, group: str) -> float | None:
        """What training added to a group's rate; None when it was not asked about."""
        ends = [each.rate(group) if (each := self.of(name)) else None for name in (BASE, TUNED)]
        return None if ends[0] is None or ends[1] is None else ends[1] - ends[0]

    def share(self, group: str, part: str, left_out: bool) -> float | None:
        """Of what training added to a group's rate, the share that a part carries alone, or that is lost without it."""
        added, end, own = self.added(group), self.of(TUNED if left_out else BASE), self.of(part, left_out)
        if not added or added <= 0 or end is None or own is None:
            return None
        first, second = end.rate(group), own.rate(group)
        if first is None or second is None:
            return None
        return (first - second if left_out else second - first) / added


def load_where(folder: str | Path) -> Where:
    """Read a folder that `where` wrote. Raises RunError when it holds nothing finished of it."""
    return where_of(Record.read(Path(folder)), where=str(Path(folder) / RECORD))


def where_of(record: Record, where: str = RECORD) -> Where:
    """What a record of `where` holds. Raises RunError when it is none, or none that is finished."""
    if record.command == "where" and "parts" not in record.details:
        do = "Give the same `where` command again; it goes on where it stopped"
        raise RunError("this is not finished", where=where, do=do)
    try:
        record.details["laziness"]["alignment"]
        return Where(record, [_patched(entry) for entry in record.details["parts"]])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"this record is not one of `where` ({type(error).__name__}: {error})"
        raise RunError(what, where=where, do="Name a folder that `where` wrote") from None


def _patched(entry: Mapping[str, Any]) -> Patched:
    metrics = {name: metric for name, value in entry.items() if (metric := metric_of(value)) is not None}
    return Patched(entry["part"], entry["kind"], entry["left_out"], entry["moved"], metrics)


def metric_of(value: Any) -> Metric | None:
    """A metric as a record holds it; None for anything else, and for one without a value."""
    if not isinstance(value, Mapping) or value.get("value") is None:
        return None
    return Metric(**dict[str, Any]({item.name: value.get(item.name) for item in dataclasses.fields(Metric)}))
