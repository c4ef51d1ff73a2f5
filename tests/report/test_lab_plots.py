"""The figures of the lab: curves, heat maps of output-value matrices, and pairs of models side by side."""

import numpy as np
import pytest

from spillover.record import Metric
from spillover.report.lab import (
    Chart,
    Maps,
    Pairs,
    by_split,
    draw_lab_curves,
    draw_lab_matrices,
    draw_lab_pairs,
)

CURVE = {0.0: Metric(1.0, 0.5, 1.5, 3, 3, ""), 10.0: Metric(2.0, 1.5, 2.5, 3, 3, "")}
EXACT = {x: Metric(x, x, x, 0, 0, "") for x in (0.0, 10.0)}


def test_a_chart_carries_its_numbers_and_its_references():
    drawing = draw_lab_curves(Chart("t", "y", {"a": CURVE, "empty": {}}, {"log n": 3.0}), "chart")
    assert drawing.pdf.startswith(b"%PDF")
    assert [row["mean"] for row in drawing.rows] == [1.0, 2.0, 3.0]
    assert "log n: 3" in drawing.description
    assert "empty" not in drawing.svg


def test_no_lines_are_no_drawing():
    assert draw_lab_curves(Chart("t", "y", {"empty": {}}), "none") is None


@pytest.mark.parametrize("log_x", [True, False])
@pytest.mark.parametrize("log_y", [True, False])
def test_every_scale_is_labelled_with_plain_numbers(log_x, log_y):
    drawing = draw_lab_curves(Chart("t", "y", {"a": CURVE}, log_x=log_x, log_y=log_y), "chart")
    assert "mathdefault" not in drawing.svg
    assert "10" in drawing.svg


def test_exact_values_have_no_band():
    banded, bare = (draw_lab_curves(Chart("t", "y", {"a": curve}), "c").svg for curve in (CURVE, EXACT))
    assert banded.count("opacity: 0.18") == 1
    assert "opacity: 0.18" not in bare


def test_the_same_chart_gives_the_same_bytes():
    chart = Chart("t", "y", {"a": CURVE}, ticks=(0, 10), limits=(0, 3))
    one, other = draw_lab_curves(chart, "c"), draw_lab_curves(chart, "c")
    assert (one.svg, one.file, one.pdf) == (other.svg, other.file, other.pdf)


def solution(ratio):
    """The exact matrix for two classes, one train and two test subjects each; test subjects hold `ratio` of c."""
    centred = np.eye(2) - 0.5
    facts = np.repeat(centred, 3, axis=1)
    half = np.full((2, 1), 0.5)
    return np.block([[facts, half, -half], [facts * np.tile([1, ratio, ratio], 2), -half, half]])


def maps(*ratios):
    return Maps("m", {f"ratio {ratio}": solution(ratio) for ratio in ratios}, classes=2, train=1, test=2)


def test_columns_are_drawn_by_split():
    assert by_split(maps(0.0), np.arange(8)[None]).tolist() == [[0, 3, 1, 2, 4, 5, 6, 7]]


def test_the_numbers_are_the_means_of_the_blocks():
    rows = draw_lab_matrices(maps(0.6, 0.0), "m").rows
    assert [row["own implication, the fact only"] for row in rows] == [0.3, 0.0]
    for row in rows:
        assert (row["own fact, both stated"], row["own fact, the fact only"], row["r1 on facts"]) == (0.5, 0.5, 0.5)
        assert (row["own implication, both stated"], row["r2 on implied answers"]) == (0.5, 0.5)


def test_each_map_is_an_image_inside_the_drawing():
    drawing = draw_lab_matrices(maps(0.6, 0.0, 0.3, 1.0), "m")
    # Four maps and the scale.
    assert drawing.svg.count("<image") == 5
    assert drawing.svg.count('href="data:image/png;base64,') == 5
    assert drawing.pdf.startswith(b"%PDF")


def test_no_maps_are_no_drawing():
    assert draw_lab_matrices(maps(), "m") is None


MODELS = {"factorised": Metric(0.9, 0.8, 1.0, 5, 5, ""), "merged": Metric(0.1, 0.0, 0.2, 5, 5, "")}
PAIRS = Pairs("t", "share", {"plain": MODELS, "deep": MODELS}, {"log n": 3.0})


def test_every_variant_and_model_has_its_numbers():
    drawing = draw_lab_pairs(PAIRS, "pairs")
    assert [(row["variant"], row["model"], row["mean"]) for row in drawing.rows] == [
        *(("plain", "factorised", 0.9), ("plain", "merged", 0.1)),
        *(("deep", "factorised", 0.9), ("deep", "merged", 0.1)),
    ]
    for text in ("plain", "deep", "factorised", "merged", "log n", "share"):
        assert text in drawing.svg
    assert drawing.pdf.startswith(b"%PDF")


def test_no_pairs_are_no_drawing():
    assert draw_lab_pairs(Pairs("t", "x", {}), "none") is None
