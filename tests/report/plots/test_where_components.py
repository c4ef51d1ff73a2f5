from spillover.report.where import draw_where_components, where_of
from tests.report.where.synthetic import record


def test_bars_of_the_ends_and_components_both_ways():
    drawing = draw_where_components(where_of(record()))
    rows = {(row["part"], row["left_out"], row["group"]): row for row in drawing.rows}
    assert rows["mlp", False, "stated facts"]["rate"] == 0.82 and rows["mlp", True, "stated facts"]["rate"] == 0.28
    assert rows["output-value", True, "unwanted conclusions"]["by_chance"] == 0.2
    assert len(rows) == 4 * (3 + 2 * 2), "three whole models, and two components both ways; no layer"
    assert "output-value alone: stated facts 0.30; output-value alone: stated links 0.40" in drawing.description
    assert drawing.svg.count("alone in the base model") == 1


def test_nothing_to_show_without_components():
    assert draw_where_components(where_of(record({}))) is None
