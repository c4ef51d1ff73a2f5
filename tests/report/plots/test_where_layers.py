from spillover.report.where import draw_where_layers, where_of
from tests.report.where.synthetic import PARTS, record


def test_a_line_a_group():
    drawing = draw_where_layers(where_of(record()))
    assert len(drawing.rows) == 4 * 3 * 2, "two layers and what is outside of them, both ways"
    assert drawing.description.startswith(
        "2 layers. stated facts: most alone in layer 2 (0.60), least without layer 2 (0.40)"
    )


def test_nothing_to_show_without_layers():
    components = {key: sides for key, sides in PARTS.items() if key[1] == "component"}
    assert draw_where_layers(where_of(record(components))) is None
