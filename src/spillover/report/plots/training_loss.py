"""Loss on the training sentences against epochs, one line a run."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.report.drawing import Drawing
from spillover.report.load import LoadedRun
from spillover.report.overlay import overlay


def draw(runs: Sequence[tuple[str, LoadedRun]], name: str = "training-loss") -> Drawing | None:
    """Training loss in nats against epochs, of labelled runs; None when no run kept it."""
    curves = [(label, curve) for label, run in runs if (curve := run.curve("train_loss"))]
    return overlay(curves, name, "Training loss", "loss (nats)", "range over the steps of a pass") if curves else None
