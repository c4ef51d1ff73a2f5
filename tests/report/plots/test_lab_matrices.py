"""Heat maps of output-value matrices: order of columns, one scale, and the numbers of their blocks."""

import numpy as np

from spillover.report.lab_plots import Map, Maps, by_split, draw_lab_matrices


def solution(ratio):
    """The exact matrix for two classes, one train and two test subjects each; test subjects hold `ratio` of c."""
    centred = np.eye(2) - 0.5
    facts = np.repeat(centred, 3, axis=1)
    half = np.full((2, 1), 0.5)
    return np.block([[facts, half, -half], [facts * np.tile([1, ratio, ratio], 2), -half, half]])


def maps(*ratios):
    return Maps("m", tuple(Map(f"ratio {ratio}", solution(ratio)) for ratio in ratios), classes=2, train=1, test=2)


def test_columns_are_drawn_by_split():
    assert by_split(maps(0.0), np.arange(8)[None]).tolist() == [[0, 3, 1, 2, 4, 5, 6, 7]]


def test_the_numbers_are_the_means_of_the_blocks():
    rows = draw_lab_matrices(maps(0.6, 0.0), "m").rows
    assert [row["own implication, told the fact only"] for row in rows] == [0.3, 0.0]
    for row in rows:
        assert (row["own fact, told both"], row["own fact, told the fact only"], row["r1 on facts"]) == (0.5, 0.5, 0.5)
        assert (row["own implication, told both"], row["r2 on implied answers"]) == (0.5, 0.5)


def test_each_map_is_an_image_inside_the_drawing():
    drawing = draw_lab_matrices(maps(0.6, 0.0, 0.3, 1.0), "m")
    # Four maps and the scale.
    assert drawing.svg.count("<image") == 5
    assert drawing.svg.count('href="data:image/png;base64,') == 5
    assert drawing.pdf.startswith(b"%PDF")


def test_nothing_to_draw_is_no_drawing():
    assert draw_lab_matrices(maps(), "m") is None
