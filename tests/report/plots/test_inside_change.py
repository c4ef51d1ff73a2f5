from spillover.report.inside import draw_inside_change
from tests.report.inside_tables import looked


def test_a_dot_a_head(make):
    drawing = draw_inside_change([("a run", looked(make()))])
    assert [(row["layer"], row["head"], row["relative"], row["effective_rank"]) for row in drawing.rows] == [
        (0, 0, 0.3, 2.5), (0, 1, 0.1, 2.5), (1, 0, 0.2, 3.5), (1, 1, 2**0.5 / 10, 3.5)
    ]  # fmt: skip
    said = "The largest change is in layer 1, head 1: 30.0% of W_OV, effective rank 2.5 of at most 8."
    assert drawing.description == f"4 heads. {said}"


def test_nothing_to_show_for_who_did_not_look(make):
    assert draw_inside_change([("a run", make())]) is None
