"""From a comparison of remedies to one self-contained HTML page."""

from __future__ import annotations

from spillover.measures.ranking import rank_table
from spillover.measures.trajectory import TRAJECTORY_SCHEMA
from spillover.record import ANSWER_SCHEMA
from spillover.report.downloads import of_metrics
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun
from spillover.report.remedies import words
from spillover.report.remedies.exact import exactly
from spillover.report.remedies.load import Comparison, comparison_of, load_comparison
from spillover.report.remedies.steps import steps
from spillover.report.remedies.table import costs, download, effects
from spillover.report.tables.provenance import provenance
from spillover.report.template import figure, render

__all__ = ["Comparison", "build_remedies_page", "comparison_of", "load_comparison"]

_FRONTIER = (
    "Each mark is a remedy at one strength; its number is that of the table. Left is better (less of what nobody "
    "wanted), up is better (more of what is wanted), small is better (less forgotten). A remedy is safe in the shaded "
    "corner, if it learned what was stated (filled) and no other answer took the place. Faint lines are 95% intervals."
)
_LADDER = (
    "The same figures one under the other, with their 95% intervals. The grey line is the untreated run; dashed, the "
    "unwanted rate without any association; dotted, 5 points below the untreated wanted rate."
)


def build_remedies_page(found: Comparison) -> str:
    """One page: the advice and its reason, the frontier, every figure, and what to do next; same record, same bytes."""
    run = _as_run(found)
    tables = [("What each did", effects(found)), ("What each learned, and what it cost", costs(found))]
    if (exact := exactly(found)) is not None:
        tables.append(("Beside the exact model", exact))
    return render(
        "remedies/remedies.html",
        title=words.title(found),
        label=plain(run.pack_name),
        lede=words.lede(found),
        reason=words.reason(found),
        safe=found.advised is not None,
        notices=words.notices(found),
        cards=words.cards(found),
        frontier=figure("remedy-frontier", found, "remedy-frontier", _FRONTIER, wide=True),
        ladder=figure("remedy-ladder", found, "remedy-ladder", _LADDER, wide=True),
        terms=words.TERMS,
        tables=tables,
        steps=steps(found),
        runs=[(plain(run.pack_name), run, provenance(run))],
        downloads=[download(found), of_metrics([(plain(run.pack_name), run)])],
    )


def _as_run(found: Comparison) -> LoadedRun:
    """The record as the shared parts of a page take it; the runs of the comparison have tables of their own."""
    answers = ANSWER_SCHEMA.empty_table()
    record = found.record
    return LoadedRun(record, record.metrics, rank_table(answers), answers, TRAJECTORY_SCHEMA.empty_table())
