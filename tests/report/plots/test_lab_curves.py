"""Curves of the lab: numbers, references, gaps and styles."""

import pytest

from spillover.report.lab_plots import Chart, Line, Point, draw_lab_curves

POINTS = (Point(0.0, 1.0, 0.5, 1.5, 3), Point(10.0, 2.0, 1.5, 2.5, 3))


def test_a_chart_carries_its_numbers_and_its_references():
    lines = (Line("a", POINTS, 0), Line("empty", (), 1))
    drawing = draw_lab_curves(Chart("t", "x", "y", lines, (("log n", 3.0),), log_x=True), "chart")
    assert drawing.pdf.startswith(b"%PDF")
    assert [row["mean"] for row in drawing.rows] == [1.0, 2.0, 3.0]
    assert "log n: 3" in drawing.description
    assert "empty" not in drawing.svg


def test_nothing_to_draw_is_no_drawing():
    assert draw_lab_curves(Chart("t", "x", "y", (Line("empty", (), 1),)), "none") is None


@pytest.mark.parametrize("log_x", [True, False])
@pytest.mark.parametrize("log_y", [True, False])
def test_every_scale_is_labelled_with_plain_numbers(log_x, log_y):
    drawing = draw_lab_curves(Chart("t", "x", "y", (Line("a", POINTS, 0),), log_x=log_x, log_y=log_y), "chart")
    assert "mathdefault" not in drawing.svg
    assert "10" in drawing.svg


def test_known_values_have_no_band():
    banded, bare = (
        draw_lab_curves(Chart("t", "x", "y", (Line("a", POINTS, 0, known),)), "c").svg for known in (False, True)
    )
    assert banded.count("opacity: 0.18") == 1
    assert "opacity: 0.18" not in bare


def test_the_same_chart_gives_the_same_bytes():
    chart = Chart("t", "x", "y", (Line("a", POINTS, 0),), ticks=(0, 10), limits=(0, 3))
    one, other = draw_lab_curves(chart, "c"), draw_lab_curves(chart, "c")
    assert (one.svg, one.file, one.pdf) == (other.svg, other.file, other.pdf)
