"""How well the implications are known for the names whose both ends were stated, one line an implication."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.report.drawing import Drawing
from spillover.report.overlay import overlay
from spillover.report.story import Story


def draw(stories: Sequence[Story], name: str = "stated-links") -> Drawing | None:
    """Mean rank of the stated implications against epochs; None when no run kept it."""
    quantity = "implication_rank_train"
    curves = [(s.label, curve) for s in stories if (curve := s.run.curve(quantity, s.key) or s.run.curve(quantity))]
    return (
        overlay(curves, name, "Recall of the stated links", "mean rank (0 is best)", "range over seeds")
        if curves
        else None
    )
