"""Figures: the same bytes each time, whatever text is in them, in the colours of the page around them."""

from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.report.drawing import canvas, finish, label, plain

HOSTILE = "</text><script>alert(1)</script> $\\frac{1}{$ & \" ' ]]> \x07\u202e"


def drawing(text, name="figure-1"):
    with canvas(2.0) as (figure, axes):
        axes.plot([0, 1], [0, 1], marker="o", color="#0072b2")
        axes.set_xticks([0, 1], [label(text), "b"])
        axes.set_xlabel(label(text))
        return finish(figure, name, text, text, [{"a": 1}, {"b": 2}])


def test_same_figure_same_bytes():
    assert drawing("Paris") == drawing("Paris")


def test_hostile_text_stays_text():
    made = drawing(HOSTILE)
    for svg in (made.svg, made.file):
        root = ElementTree.fromstring(svg)
        assert not [e.tag for e in root.iter() if e.tag.endswith(("script", "metadata", "style", "foreignObject"))]
        texts = [e.text for e in root.iter() if e.tag.endswith("text")]
        assert label(HOSTILE) in texts, "no mathtext, nothing dropped"


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40))
def test_any_text_gives_well_formed_figures(text):
    made = drawing(text)
    root = ElementTree.fromstring(made.svg)
    assert root[0].text == (made.title or None)


def test_ink_follows_the_page_but_not_in_a_file():
    made = drawing("Paris")
    assert "currentColor" in made.svg and "var(--c-0072b2, #0072b2)" in made.svg
    assert "currentColor" not in made.file and "var(" not in made.file
    assert "#0a0b0d" not in made.svg + made.file


def test_text_that_looks_like_style_is_left_alone():
    text = "fill: #0072b2 #0a0b0d href="
    assert drawing(text).svg.count(text) == 3 + 1, "title, description, tick and axis"
    assert drawing(text).file.count(text) == 3 + 1


def test_every_id_belongs_to_its_figure():
    root = ElementTree.fromstring(drawing("Paris", "figure-7").svg)
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert ids and all(name.startswith("figure-7-") for name in ids)
    assert {"figure-7-title", "figure-7-desc"} <= set(ids)
    assert root.get("aria-labelledby") == "figure-7-title figure-7-desc"


def test_columns_are_those_of_all_rows():
    assert drawing("Paris").columns == ["a", "b"]


def test_plain_text():
    assert plain("a\n b\x00", None) == "a b\ufffd"
    assert plain("abcdef", 4) == "abc…"
    assert label("_hidden").endswith("_hidden") and label("_hidden") != "_hidden"
