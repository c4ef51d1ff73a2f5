"""A comparison of remedies as its page reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spillover.errors import RunError
from spillover.metrics.intervals import FEW
from spillover.metrics.remedies import FAILED, LEARNED, REWRITES, UNLEARNED, is_safe, keeps_wanted
from spillover.record import RECORD, Metric, Record

#: Groups of the table and of the figures, best first: what an entry's status and figures put it into.
SAFE, UNSAFE, NOT_LEARNED, APART, IMPOSSIBLE = "safe", "not safe", "not learned", "apart", "impossible"
GROUPS = (SAFE, UNSAFE, NOT_LEARNED, APART, IMPOSSIBLE)
#: What a run costs, each as the frontier names it.
COSTS = ("epochs", "steps", "forward_passes", "seconds")


@dataclass(frozen=True)
class Tried:
    """One remedy (or combination) at one strength, or the untreated run.

    number: its place in the page, from 1; 0 is the untreated run. metrics: by name, those that were measured.
    texts: (what it does, what its strength means) of each of its parts. after: it needs a finished model only. exact:
    leads in the exact model of the same remedy, where it has one, by name.
    """

    number: int
    label: str
    status: str
    metrics: Mapping[str, Metric]
    texts: Sequence[tuple[str, str]]
    after: bool
    free_rate: float | None
    replaced: Mapping[str, Any] | None
    stated_nats: float | None
    costs: Mapping[str, float | None]
    exact: Mapping[str, float | None] | None = None

    def value(self, name: str) -> float | None:
        """The figure itself, or None when it was not measured."""
        metric = self.metrics.get(name)
        return metric.value if metric else None

    @property
    def taken(self) -> bool:
        """Whether another answer has taken the unwanted one's place."""
        return bool(self.replaced and self.replaced.get("taken"))

    @property
    def group(self) -> str:
        if self.status == REWRITES:
            return APART
        if self.status == UNLEARNED:
            return NOT_LEARNED
        if self.status != LEARNED:
            return IMPOSSIBLE
        safe = is_safe(self.status, self.value("removed"), self.value("wanted_change"), self.taken)
        return SAFE if safe else UNSAFE

    @property
    def why_failed(self) -> str:
        """Of one that could not be done: the sentence that says why."""
        return self.status.removeprefix(f"{FAILED}:").strip()


@dataclass(frozen=True)
class Comparison:
    """tried: every remedy and strength, group by group, in each the one that removes most first."""

    record: Record
    untreated: Tried
    tried: Sequence[Tried]

    @property
    def names(self) -> list[str]:
        """Every remedy that was tried, alone or with others."""
        return list(dict.fromkeys(name for each in self.tried for name in _parts(each.label)))

    @property
    def measured(self) -> list[Tried]:
        return [each for each in self.tried if each.group != IMPOSSIBLE]

    def of(self, *groups: str) -> list[Tried]:
        return [each for each in self.tried if each.group in groups]

    @cached_property
    def advised(self) -> Tried | None:
        """The one that the record recommends."""
        advice = self.record.details["recommendation"]
        name, strength = advice.get("remedy"), advice.get("strength")
        label = _label(name, strength)
        return next((each for each in self.tried if advice.get("safe") and each.label == label), None)

    @cached_property
    def nearest(self) -> Tried | None:
        """Of those that learned and keep what is wanted, the one that removes most."""
        kept = [each for each in self.of(SAFE, UNSAFE) if keeps_wanted(each.value("wanted_change"))]
        return max(kept, key=lambda each: _removed(each), default=None)

    @property
    def seeds(self) -> int:
        return len(self.record.details.get("seeds") or [self.record.seed])

    @property
    def clusters(self) -> int:
        """Clusters of a pair and a seed behind every interval."""
        metric = self.untreated.metrics.get("unwanted_rate")
        return metric.clusters if metric else 0

    @property
    def few(self) -> bool:
        """Whether the clusters are too few for an interval to decide anything."""
        return self.clusters < FEW

    @property
    def seeds_needed(self) -> int:
        """Seeds that give enough clusters, three at least and more than there were."""
        pairs = max(1, self.clusters // self.seeds)
        return max(3, -(-FEW // pairs), self.seeds + (not self.few))


Told = Mapping[str, Mapping[str, Any]]


def load_comparison(folder: str | Path, told: Told | None = None) -> Comparison:
    """Read a folder that `mitigate` wrote. Raises RunError when it holds no finished comparison.

    told: what each remedy does, where the record does not say so: name -> {"text", "strength", "after"}.
    """
    return comparison_of(Record.read(Path(folder)), where=str(Path(folder) / RECORD), told=told)


def comparison_of(record: Record, where: str = RECORD, told: Told | None = None) -> Comparison:
    """The comparison that a record holds. Raises RunError when it holds none, or none that is finished."""
    if record.command == "mitigate" and "frontier" not in record.details:
        do = "Give the same `mitigate` command again; it goes on where it stopped"
        raise RunError("this comparison is not finished", where=where, do=do)
    try:
        told = record.details.get("remedies") or told or {}
        untreated, *others = [_tried(entry, told) for entry in record.details["frontier"]]
        ordered = sorted(others, key=lambda each: (GROUPS.index(each.group), -_removed(each)))
        numbered = [dataclasses.replace(each, number=place) for place, each in enumerate(ordered, start=1)]
        found = Comparison(record, untreated, numbered)
        record.details["recommendation"]["because"]
        return found
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"this record is not that of a comparison ({type(error).__name__}: {error})"
        raise RunError(what, where=where, do="Name a folder that `mitigate` wrote") from None


def _tried(entry: Mapping[str, Any], told: Told) -> Tried:
    fields = {item.name for item in dataclasses.fields(Metric)}
    metrics = {
        name: Metric(**dict[str, Any]({key: value.get(key) for key in fields}))
        for name, value in entry.items()
        if isinstance(value, Mapping) and fields - {"note"} <= set(value) and value["value"] is not None
    }
    label = _label(entry["remedy"], entry["strength"])
    known = [told[name] for name in _parts(label) if name in told]
    return Tried(
        number=0,
        label=label,
        status=str(entry["status"]),
        metrics=metrics,
        texts=[(str(each["text"]), str(each["strength"])) for each in known],
        after=bool(known) and all(each.get("after") for each in known),
        free_rate=entry.get("free_rate"),
        replaced=entry.get("replaced"),
        stated_nats=entry.get("stated_nats"),
        costs={name: entry.get(name) for name in COSTS},
        exact=entry.get("exact"),
    )


def _parts(label: str) -> list[str]:
    """Names of the remedies that a label joins."""
    return [part.partition("=")[0] for part in label.split("+")]


def _label(name: Any, strength: Any) -> str:
    """A remedy as `--remedy` takes it."""
    return str(name) if strength is None else f"{name}={float(strength):g}"


def _removed(each: Tried) -> float:
    """For the order: one of which nothing is known stands last."""
    removed = each.value("removed")
    return float("-inf") if removed is None else removed
