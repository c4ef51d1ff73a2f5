"""Pairs of models side by side: one row a variant and model, in the order given."""

from spillover.report.lab_plots import Pair, Pairs, Point, draw_lab_pairs

PAIRS = Pairs(
    "t",
    "share",
    ("factorised", "merged"),
    tuple(Pair(name, (Point(0, 0.9, 0.8, 1.0, 5), Point(0, 0.1, 0.0, 0.2, 5))) for name in ("plain", "deep")),
    ("log n", 3.0),
)


def test_every_variant_and_model_has_its_numbers():
    drawing = draw_lab_pairs(PAIRS, "pairs")
    assert [(row["variant"], row["model"], row["mean"]) for row in drawing.rows] == [
        *(("plain", "factorised", 0.9), ("plain", "merged", 0.1)),
        *(("deep", "factorised", 0.9), ("deep", "merged", 0.1)),
    ]
    for text in ("plain", "deep", "factorised", "merged", "log n", "share"):
        assert text in drawing.svg
    assert drawing.pdf.startswith(b"%PDF")


def test_nothing_to_draw_is_no_drawing():
    assert draw_lab_pairs(Pairs("t", "x", ("a",), ()), "none") is None
