from spillover.report.inside import draw_inside_shared
from spillover.report.story import stories
from tests.report.inside_tables import looked


def test_a_mark_a_head(make):
    drawing = draw_inside_shared(stories(looked(make()), "a run"))
    assert [(row["layer"], row["overlap"]) for row in drawing.rows] == [(0, 0.9), (0, 0.9), (1, 0.5), (1, 0.5)]
    assert drawing.description == "Mean over 4 heads: unstated 0.70, never seen 0.30, chance 0.25."


def test_nothing_to_show_of_another_implication(make):
    assert draw_inside_shared(stories(looked(make(), name="a->b"), "a run")) is None
    assert draw_inside_shared(stories(make(), "a run")) is None
