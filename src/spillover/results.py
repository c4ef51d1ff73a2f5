"""Results that a Python caller holds: a run with its typed metrics, its answers, its figures and its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from spillover.details import AuditDetails, MitigateDetails, PredictDetails, WhereDetails
from spillover.errors import RunError, UsageError, nearest
from spillover.record import ANSWER_SCHEMA, ANSWERS, TRAJECTORY, Metric, Record, read_table, write_atomically

if TYPE_CHECKING:
    from spillover.details import Laziness, PatchedPart, PredictedAssociation, Recommendation, Verdict
    from spillover.report.drawing import Drawing

#: Rows of a table that a representation shows.
MOST_ROWS = 20


class Metrics(dict[str, Any]):
    """Metrics by name, as attributes or keys; an implication's own under `GIVEN->THEN`.

    A value is a `Metric` with `value`, `low` and `high`, or None where nothing could be measured.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        #: `GIVEN->THEN` -> the metrics of that implication alone.
        self.implications = {key: Metrics(value) for key, value in (found.get("implications") or {}).items()}
        #: Metric name -> metric, pooled over implications.
        self.pooled: dict[str, Metric | None] = {
            key: metric for key, value in found.items() if (metric := Metric.of(value)) or value is None
        }
        super().__init__({**self.pooled, **self.implications})

    def __missing__(self, name: str) -> Any:
        raise UsageError(f"there is no metric or implication {name!r} here", do=nearest(name, self))

    def __getattr__(self, name: str) -> Metric | None:
        if not name.startswith("_") and name in self.pooled:
            return self.pooled[name]
        raise AttributeError(f"there is no metric {name!r} here. {nearest(name, self)}")

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *self.pooled])

    def rows(self) -> list[tuple[str, str, Metric, Metric | None]]:
        """One row a measured metric: implication (empty for pooled ones), name, the metric, and what it was before."""
        own = [
            ("", name, metric, self.pooled.get(f"{name}_before"))
            for name, metric in self.pooled.items()
            if metric is not None and metric.value is not None and not name.endswith("_before")
        ]
        return own + [(key, *row[1:]) for key, each in self.implications.items() for row in each.rows()]

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """What both representations show: the head, and a row a metric."""
        head = ("implication", "metric", "before", "value", "95% interval", "unit")
        return head, [
            (key, name, "" if before is None else _number(before), _number(metric), _interval(metric), metric.unit)
            for key, name, metric, before in self.rows()
        ]

    def __repr__(self) -> str:
        head, rows = self._table()
        return "\n".join(text_table([head, *rows], left=(0, 1, 5))) if rows else ""

    def _repr_html_(self) -> str:
        return html_table(*self._table())


class Result:
    """What a command left in its folder: `record.json` with settings and metrics, tables, and the page made of them.

    Arguments:
        folder: of the run.
        held: a temporary folder around it, which is removed with the last reference to this result.
    """

    #: The command of the records that this class reads: `inject`, `audit` and so on.
    command: ClassVar[str] = ""

    def __init__(self, folder: str | Path, held: TemporaryDirectory[str] | None = None) -> None:
        self.folder = Path(folder)
        self._held = held

    @cached_property
    def record(self) -> Record:
        """Settings, provenance, metrics and details, as `record.json` holds them."""
        return Record.read(self.folder)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every option of the run, resolved."""
        return self.record.settings

    @cached_property
    def metrics(self) -> Metrics:
        """The run's metrics by name, and by implication."""
        return Metrics(self.record.metrics)

    @cached_property
    def answers(self) -> pa.Table:
        """The scored answers, one row a question, prompt, candidate and checkpoint (docs/run.md); `.to_pandas()`."""
        return self._table(ANSWERS)

    @cached_property
    def trajectory(self) -> pa.Table:
        """Training loss by step and metrics by checkpoint, one row each (docs/run.md)."""
        return self._table(TRAJECTORY)

    def plot(self, name: str) -> Drawing:
        """A figure of the run's page, which a notebook shows as SVG and `save(path)` writes.

        Arguments:
            name: of the figure, such as `rank-by-epoch`.

        Returns: the drawing, with the numbers in it as `rows`.

        Raises: UsageError for a name that is no figure, or a figure that this run has no numbers for.
        """
        from spillover.report.load import load_run as load
        from spillover.report.run_plots import draw

        drawing = draw(name, load(str(self.folder)))
        if drawing is None:
            raise UsageError(f"this run has no numbers for the figure {name!r}", where=str(self.folder))
        return drawing

    def page(self, path: str | Path = "spillover.html") -> Path:
        """Write the run's page, one self-contained HTML file.

        Arguments:
            path: of the page.

        Returns: the path.

        Raises: RunError when it cannot be written.
        """
        from spillover.report.pages import html_of

        write_atomically(Path(path), html_of([self.folder])[0].encode())
        return Path(path)

    def _table(self, name: str) -> pa.Table:
        if (self.folder / name).exists():
            return read_table(self.folder / name)
        raise RunError(f"this {self.record.command} run has no {name}", where=str(self.folder), do="See docs/run.md")

    def summary(self) -> Sequence[tuple[str, str]]:
        """What the representation says beside the metrics: terms and values."""
        names = ("pack", "model", "base", "tuned")
        return [(name, str(self.settings[name])) for name in names if self.settings.get(name)]

    def table(self) -> Sequence[Sequence[str]]:
        """Rows that the representation shows beside the metrics, the head first; none for most commands."""
        return []

    def __repr__(self) -> str:
        terms = ", ".join(f"{term} {text}" for term, text in self.summary())
        head = f"{type(self).__name__}: {terms or self.record.command} ({self.record.status}, in {self.folder})"
        return "\n".join(filter(None, (head, repr(self.metrics), *text_table(self.table()[: MOST_ROWS + 1]))))

    def _repr_html_(self) -> str:
        terms = "; ".join(f"{escape(term)} <b>{escape(text)}</b>" for term, text in self.summary())
        head = f"<p><b>{type(self).__name__}</b>: {terms} ({escape(self.record.status)})</p>"
        top, *rows = self.table()[: MOST_ROWS + 1] or [()]
        return head + self.metrics._repr_html_() + (html_table(top, rows) if rows else "")


class Run(Result):
    """A run of `inject`: a model fine-tuned on a pack, measured before, during and after.

    Arguments:
        folder, held: as of every result.
        pack, model: what the run was made from, as the caller gave them; `where` takes them from here.
    """

    command = "inject"

    def __init__(
        self, folder: str | Path, held: TemporaryDirectory[str] | None = None, *, pack: Any = "", model: Any = None
    ) -> None:
        super().__init__(folder, held)
        self.pack, self.model = pack, model

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One verdict an implication of the pack: does the model after training assert it, where before it did not?

        Empty when the run has no answers before and after training.
        """
        from spillover.metrics.verdicts import verdicts_of

        return verdicts_of(self.record, self.answers) if (self.folder / ANSWERS).exists() else []

    def summary(self) -> Sequence[tuple[str, str]]:
        """Pack and model, then each implication with its verdict."""
        return [*super().summary(), *((each.implication, each.verdict) for each in self.verdicts if each.n)]


class Audit(Result):
    """A comparison of two finished models on a pack."""

    command = "audit"

    @property
    def verdicts(self) -> list[Verdict]:
        """One verdict an implication of the pack."""
        return self.record.details_of(AuditDetails).verdicts

    def summary(self) -> Sequence[tuple[str, str]]:
        """The models, then each implication with its verdict."""
        return [*super().summary(), *((each.implication, each.verdict) for each in self.verdicts)]


class Prediction(Result):
    """What a model will conclude from a pack, before it is trained."""

    command = "predict"

    @property
    def associations(self) -> list[PredictedAssociation]:
        """What is expected of each association, highest score first."""
        return self.record.details_of(PredictDetails).associations

    def summary(self) -> Sequence[tuple[str, str]]:
        """Pack and model, then on what the expected numbers were calibrated."""
        known = self.record.details_of(PredictDetails).calibrated_on
        return [*super().summary(), *([("expected numbers", known.words)] if known else [])]

    def table(self) -> Sequence[Sequence[str]]:
        """The associations, highest score first."""
        rows = [("given", "then", "kind", "expected subjects", "of")]
        for each in self.associations:
            given, then = f"{each.given}={each.given_answer}", f"{each.then}={each.then_answer}"
            rows.append((given, then, each.kind or "undeclared", f"{each.score:.1f}", str(each.exposed)))
        return rows


class Comparison(Result):
    """Remedies against unwanted conclusions, at matched learning."""

    command = "mitigate"

    @cached_property
    def frontier(self) -> pa.Table:
        """One row a remedy and strength, the untreated run first: every figure, its interval and what became of it."""
        return self._table("frontier.parquet")

    @property
    def recommendation(self) -> Recommendation | None:
        """One remedy with its reason, or none; None while the comparison is not finished."""
        from spillover.metrics.remedies import leaves_nothing, nothing_said

        details = self.record.details_of(MitigateDetails)
        found = details.recommendation
        if found is None or not leaves_nothing(details.frontier[0]):
            return found
        because = nothing_said(details.frontier[0])
        return found.model_copy(update={"remedy": None, "strength": None, "safe": False, "because": because})

    def summary(self) -> Sequence[tuple[str, str]]:
        """Pack and model, then the advice."""
        return [*super().summary(), ("advice", self.recommendation.because if self.recommendation else "none yet")]

    def table(self) -> Sequence[Sequence[str]]:
        """The frontier: what each remedy did."""
        from spillover.metrics.remedies import NOTHING, leaves_nothing

        rows: list[tuple[str, ...]] = [("remedy", "unwanted", "wanted", "removed", "forgets", "epochs", "outcome")]
        frontier = self.record.details_of(MitigateDetails).frontier
        nothing = bool(frontier) and leaves_nothing(frontier[0])
        for entry in frontier:
            metrics = map(entry.metric, ("unwanted_rate", "wanted_rate", "removed", "forgetting_nats"))
            numbers = ["" if each is None or each.value is None else f"{each.value:.2f}" for each in metrics]
            numbers[2] = NOTHING if nothing and numbers[0] else numbers[2]
            epochs = "" if entry.epochs is None else f"{entry.epochs:.0f}"
            rows.append((entry.cell, *numbers, epochs, entry.status))
        return rows


class Location(Result):
    """Which part of a change carries what the model learned."""

    command = "where"

    @property
    def parts(self) -> list[PatchedPart]:
        """Rates and ranks of every patched model: a part alone in the base model, or left out of the tuned one."""
        return self.record.details_of(WhereDetails).parts

    @property
    def laziness(self) -> Laziness | None:
        """How far each part moved, and how well the first-order expansion at the base weights predicts the answers."""
        return self.record.details_of(WhereDetails).laziness

    def summary(self) -> Sequence[tuple[str, str]]:
        """Pack and model of the run that was looked into."""
        trained = self.record.details_of(WhereDetails).trained
        return [(name, str(trained[name])) for name in ("pack", "model") if name in trained]

    def table(self) -> Sequence[Sequence[str]]:
        """Each part with its rates, patched alone into the base model or reverted alone in the tuned one."""
        rates = ("unwanted_rate", "wanted_rate")
        rows = [
            (each.part, "reverted" if each.left_out else "alone", *(_number(each.metric(name)) for name in rates))
            for each in self.parts
        ]
        return [("part", "patched", *rates), *rows]


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers to a pack's questions and stated rows, without any training.

    table: one row a question, prompt and candidate, as in `answers.parquet` at checkpoint 0. sha256: of the weights.
    """

    table: pa.Table
    model: str
    sha256: str

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics of these answers by name, and by implication."""
        from spillover.metrics.implications import summarise

        return Metrics(summarise(self.table.cast(ANSWER_SCHEMA)))

    def to_pandas(self) -> Any:
        """The table as a pandas data frame."""
        return self.table.to_pandas()

    def __repr__(self) -> str:
        return f"Answers of {self.model}: {self.table.num_rows:,} scored candidates\n{self.metrics!r}"

    def _repr_html_(self) -> str:
        return f"<p><b>Answers</b> of {escape(self.model)}</p>" + self.metrics._repr_html_()


def load_run(path: str | Path) -> Result:
    """Open the folder of a finished or interrupted run of any command.

    Arguments:
        path: of the folder with `record.json`.

    Returns: a `Run`, `Audit`, `Prediction`, `Comparison` or `Location` after the record's command, or a plain `Result`.

    Raises: RunError when there is no readable record.
    """
    kinds = {kind.command: kind for kind in Result.__subclasses__()}
    return kinds.get(Record.read(Path(path)).command, Result)(path)


def text_table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    """Lines of a table for a terminal, the head among its rows. left: columns that are aligned so; the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    forms = [f"{'<' if column in left else '>'}{width}" for column, width in enumerate(widths)]
    for row in rows:
        yield "  ".join(map(format, row, forms)).rstrip()


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A small table for a notebook; every cell is escaped."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _number(metric: object) -> str:
    found = Metric.of(metric)
    return "–" if found is None or found.value is None else f"{found.value:.3g}"


def _interval(metric: Metric) -> str:
    return "–" if metric.low is None or metric.high is None else f"{metric.low:.3g} to {metric.high:.3g}"
