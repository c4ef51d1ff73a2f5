"""How well the stated facts are recalled against epochs, one line a run."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.report.drawing import Drawing
from spillover.report.load import LoadedRun
from spillover.report.overlay import overlay


def draw(runs: Sequence[tuple[str, LoadedRun]], name: str = "recall") -> Drawing | None:
    """Mean rank of the stated facts against epochs, of labelled runs; None when no run kept it."""
    curves = [(label, curve) for label, run in runs if (curve := run.curve("recall_rank"))]
    return (
        overlay(curves, name, "Recall of the stated facts", "mean rank (0 is best)", "range over seeds")
        if curves
        else None
    )
