"""The tables of a comparison's page: what each remedy did, what it learned, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from spillover.record import Metric
from spillover.report.downloads import Download, csv_text, table_link
from spillover.report.drawing import plain
from spillover.report.remedies.load import COSTS, GROUPS, IMPOSSIBLE, Comparison, Tried
from spillover.report.remedies.words import HEADINGS, outcome, percent
from spillover.report.words import number

#: What stands in a field, and the small print under it.
Field = tuple[str, str]
Column = tuple[str, Callable[[Tried], Field]]
_NOTHING: Field = ("–", "")
#: Figures with an interval, in the order of the download.
METRICS = ("removed", "unwanted_rate", "wanted_rate", "wanted_change", "forgetting_nats", "paraphrase_unwanted_rate",
           "abstained_rate", "unwanted_rank", "wanted_rank", "recall_rank", "implication_rank_train")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One entry. texts: what it does and what its strength means, a line each part."""

    number: str
    label: str
    texts: Sequence[str]
    outcome: str
    fields: Sequence[Field]


@dataclass(frozen=True)
class Table:
    """groups: (heading, what that means, rows), the untreated run in one of its own without a heading."""

    caption: str
    columns: Sequence[str]
    groups: Sequence[tuple[str, str, Sequence[Row]]]


def effects(found: Comparison) -> Table:
    """What every remedy removed, kept and lost."""
    columns: list[Column] = [
        ("removed", lambda each: share(each, "removed") if each.number else _NOTHING),
        ("unwanted rate", lambda each: share(each, "unwanted_rate")),
        ("wanted rate", lambda each: share(each, "wanted_rate")),
        ("wanted, change in points", lambda each: _points(each) if each.number else _NOTHING),
        ("forgetting, nats a token", lambda each: _plain(each, "forgetting_nats")),
        ("another answer instead", _instead),
        ("unwanted in other words", lambda each: share(each, "paraphrase_unwanted_rate")),
        ("abstains", lambda each: share(each, "abstained_rate")),
    ]
    caption = (
        "Within each group the one that removes most stands first. Under a number its 95% interval over clusters of a "
        "pair and a seed. “Another answer instead”: how often the best other rule foretells the answer, and what "
        "chance gives. “In other words”: prompts that were never trained on. “Abstains”: says that it is not known."
    )
    return table_of(found, caption, columns, found.tried)


def costs(found: Comparison) -> Table:
    """Whether each learned what was stated, and its compute as multiples of the untreated run's."""
    base = found.untreated
    columns: list[Column] = [
        ("facts, mean rank", lambda each: _plain(each, "recall_rank")),
        ("stated implications, mean rank", lambda each: _plain(each, "implication_rank_train")),
        ("stated rows, nats a row", lambda each: (number(each.stated_nats, 3), _behind(each, base))),
        ("unwanted answer, mean rank", lambda each: _plain(each, "unwanted_rank")),
        ("wanted answer, mean rank", lambda each: _plain(each, "wanted_rank")),
        *((name.replace("_", " "), _cost(name, base)) for name in COSTS),
    ]
    caption = (
        "Stated rows are learned at a mean rank of 0.1 or less and at most 0.05 nats a row behind the untreated run. "
        "Compute of all seeds together (epochs: the mean), as a multiple of the untreated run’s below it. A remedy for "
        "finished weights takes up the untreated run’s training, which is not counted again in its seconds."
    )
    return table_of(found, caption, columns, found.measured)


def table_of(
    found: Comparison, caption: str, columns: Sequence[Column], tried: Sequence[Tried], untreated: bool = True
) -> Table:
    """A table of these entries in their groups; untreated: with that run's row before them."""
    groups: list[tuple[str, str, Sequence[Row]]] = []
    if untreated:
        groups.append(("", "", [_row(found, found.untreated, columns)]))
    for name in GROUPS:
        rows = [_row(found, each, columns) for each in tried if each.group == name]
        if rows:
            groups.append((*HEADINGS[name], rows))
    return Table(caption, [name for name, _ in columns], groups)


def _row(found: Comparison, each: Tried, columns: Sequence[Column]) -> Row:
    return Row(
        number=str(each.number or ""),
        label=plain(each.label),
        texts=[_does(*text) for text in each.texts],
        outcome=outcome(found, each) if each.number else "",
        fields=[_NOTHING if each.group == IMPOSSIBLE else field(each) for _, field in columns],
    )


def _does(text: str, strength: str) -> str:
    """A remedy's sentence, and what its number means unless it is a mere switch."""
    switch = strength.startswith("which turns it on")
    return plain(text if switch else f"{text} Its number: {strength}.")


def share(each: Tried, name: str) -> Field:
    metric = each.metrics.get(name)
    return _NOTHING if metric is None else (percent(metric.value), _ends(metric, 100, 0, "%"))


def _points(each: Tried) -> Field:
    metric = each.metrics.get("wanted_change")
    if metric is None or metric.value is None:
        return _NOTHING
    return f"{'+' if metric.value > 0 else ''}{number(100 * metric.value, 0)}", _ends(metric, 100, 0, "")


def _plain(each: Tried, name: str) -> Field:
    metric = each.metrics.get(name)
    return _NOTHING if metric is None else (number(metric.value), _ends(metric, 1, 2, ""))


def _ends(metric: Metric, times: float, digits: int, unit: str) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{number(times * metric.low, digits)} to {number(times * metric.high, digits)}{unit}"


def _instead(each: Tried) -> Field:
    found = each.replaced
    if not found:
        return _NOTHING
    chance = f"chance {number(100 * found['low'], 0)} to {number(100 * found['high'], 0)}%"
    return f"{percent(found['rate'])}{', taken' if each.taken else ''}", chance


def _behind(each: Tried, base: Tried) -> str:
    if not each.number or each.stated_nats is None or base.stated_nats is None:
        return ""
    behind = each.stated_nats - base.stated_nats
    return f"{'+' if behind > 0 else ''}{number(behind, 3)}"


def _cost(name: str, base: Tried) -> Callable[[Tried], Field]:
    def field(each: Tried) -> Field:
        own, first = each.costs.get(name), base.costs.get(name)
        if own is None:
            return _NOTHING
        digits = 1 if name == "epochs" and own != int(own) else 0
        return f"{own:,.{digits}f}", f"× {own / first:.2g}" if first and each.number else ""

    return field


def download(found: Comparison) -> Download:
    """Every figure of every entry as CSV, a row each, with the ends of its interval as columns of their own."""
    columns = ["number", "remedy", "group", "status", "outcome", *_metric_columns(), "free_rate", "taken",
               "taken_rate", "taken_low", "taken_high", "stated_nats", *COSTS, "what_it_does"]  # fmt: skip
    rows = [_flat(found, each) for each in [found.untreated, *found.tried]]
    return table_link("spillover-frontier", "Every figure", csv_text(columns, rows))


def _metric_columns() -> Iterator[str]:
    for name in METRICS:
        yield from (name, f"{name}_low", f"{name}_high", f"{name}_clusters")


def _flat(found: Comparison, each: Tried) -> list[Any]:
    row: list[Any] = [each.number or None, each.label, each.group if each.number else "untreated", each.status]
    row.append(outcome(found, each) if each.number else "")
    for name in METRICS:
        metric = each.metrics.get(name)
        row += [None] * 4 if metric is None else [metric.value, metric.low, metric.high, metric.clusters]
    instead = each.replaced or {}
    row += [each.free_rate, each.taken, *(instead.get(part) for part in ("rate", "low", "high")), each.stated_nats]
    return [*row, *(each.costs.get(name) for name in COSTS), " ".join(text for text, _ in each.texts)]
