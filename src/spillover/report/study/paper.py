"""The paper's table: model by model and set by set, what was found here beside what the paper reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spillover.record import Metric
from spillover.report.story import unique
from spillover.report.study.load import Cell
from spillover.report.study.published import MODELS, RANKS, name_of
from spillover.report.study.rates import scientific
from spillover.report.study.table import NOTHING, Field, Table, metric_field, p_field
from spillover.report.words import number


@dataclass(frozen=True)
class PaperRow:
    """One model on one set. cell: ours, or None where the study has none; published: the paper's mean rank, if any."""

    model: str
    pack: str
    cell: Cell | None
    published: float | None

    @property
    def state(self) -> str:
        """Nothing where ours is there; otherwise why it is not."""
        if self.cell is None or self.cell.status not in ("done", "failed"):
            return "not run"
        return "failed" if self.cell.status == "failed" else "" if self.cell.story else "nothing was asked"

    @property
    def rank(self) -> Metric | None:
        """Ours: mean rank of the unstated implication after training."""
        return self.metric("implication_rank_test")

    def metric(self, name: str) -> Metric | None:
        """A metric of ours by name."""
        return self.cell.story.metric(name) if self.cell and self.cell.story else None

    @property
    def within(self) -> bool | None:
        """Whether the paper's number lies in our interval; None where one of them is missing."""
        rank = self.rank
        if rank is None or rank.low is None or rank.high is None or self.published is None:
            return None
        return rank.low <= self.published <= rank.high


def paper_rows(cells: Sequence[Cell]) -> list[PaperRow]:
    """Every model and set of the paper in its order, then those of the study that it has not; one row a cell."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((name_of(_option(cell, "model")), _option(cell, "pack")), []).append(cell)
    models = unique([*MODELS, *(model for model, _ in found)])
    packs = unique([*RANKS, *(pack for _, pack in found)])
    rows = []
    for model in models:
        for pack in packs:
            published = RANKS[pack][MODELS.index(model)] if model in MODELS and pack in RANKS else None
            own = found.get((model, pack), [])
            if own or published is not None:
                each: Sequence[Cell | None] = own or [None]
                rows += [PaperRow(model, pack, cell, published) for cell in each]
    return rows


def _option(cell: Cell, name: str) -> str:
    """What a cell's run was made with; before there is one, what the study says."""
    settings = cell.run.record.settings if cell.run else {}
    return str(cell.options.get(name) or settings.get(name) or "")


def paper_table(rows: Sequence[PaperRow]) -> Table:
    """One row a model and set: ours before and after, the paper's, and what ours rests on."""
    ours = ["before", "here, after", "the paper, after", "yardstick", "exact map test, p", "stated facts",
            "stated implications", "forgetting, nats a token", "clusters", "rate"]  # fmt: skip
    return Table(
        caption="Mean rank (0 is best) of the unstated implication among ten candidates, over three seeds where "
        "nothing else is said; under ours the 95% interval over clusters of a pair and a seed (with fewer than ten, "
        "nothing rests on it). The paper’s numbers come without errors.",
        corner="model and set",
        columns=ours,
        rows=[(f"{row.model}, {row.pack}", _small(row), _fields(row)) for row in rows],
    )


def _small(row: PaperRow) -> str:
    if row.cell is None or not row.cell.story:
        return ""
    seeds = len(row.cell.story.run.seeds)
    told = row.cell.story.kind_in_words
    return told if seeds == 3 else f"{told}, {seeds} {'seed' if seeds == 1 else 'seeds'}"


def _fields(row: PaperRow) -> list[Field]:
    published: Field = NOTHING if row.published is None else (number(row.published), "")
    story = row.cell.story if row.cell else None
    if story is None or row.cell is None or row.cell.run is None:
        return [NOTHING, (row.state, ""), published, *[NOTHING] * 7]
    rate = row.cell.run.record.settings.get("lr")
    rank = row.rank
    return [
        metric_field(row.metric("implication_rank_test_before")),
        metric_field(rank),
        published,
        (number(story.marginal), ""),
        p_field(story),
        metric_field(row.metric("recall_rank")),
        metric_field(row.metric("implication_rank_train")),
        metric_field(row.metric("forgetting_nats")),
        NOTHING if rank is None else (str(rank.clusters), "few" if rank.note else ""),
        NOTHING if rate is None else (scientific(float(rate)), ""),
    ]


def beside(rows: Sequence[PaperRow]) -> list[str]:
    """How far ours and the paper's agree, in sentences computed from both."""
    both = [row for row in rows if row.within is not None]
    missing = [row for row in rows if row.published is not None and row.rank is None]
    found = []
    if both:
        inside = [row for row in both if row.within]
        found.append(f"Of {len(both)} numbers that both have, {len(inside)} of the paper’s lie within our interval.")
        for side, words in ((True, "below"), (False, "above")):
            apart = [row for row in both if not row.within and _below(row) == side]
            if apart:
                told = ", ".join(f"{row.model} on {row.pack} ({number(row.rank.value)} here, "
                                 f"{number(row.published)} there)" for row in apart if row.rank)  # fmt: skip
                found.append(f"The paper’s lie {words} our interval for {told}.")
    if missing:
        found.append(f"{len(missing)} of the paper’s {sum(map(len, RANKS.values()))} numbers have none of ours beside "
                     "them.")  # fmt: skip
    return found


def _below(row: PaperRow) -> bool:
    assert row.rank is not None and row.rank.low is not None and row.published is not None
    return row.published < row.rank.low
