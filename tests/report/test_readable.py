"""Pages can be read: contrast in light and dark, by keyboard, aloud, and on paper."""

import re
from importlib.resources import files

import pytest

from spillover.report import drawing
from spillover.report.run_plots import HEAT
from tests.report.test_page import Reader

CSS = files("spillover.report").joinpath("templates", "page.css").read_text(encoding="utf-8")
ROOTS = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
LIGHT, DARK, *_ = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", each)) for each in ROOTS)
THEMES = pytest.mark.parametrize("theme", [LIGHT, {**LIGHT, **DARK}], ids=["light", "dark"])
FIGURES = (drawing.BLUE, drawing.VERMILLION, drawing.GREEN, drawing.PURPLE, drawing.ORANGE, drawing.SKY)


def channels(colour):
    return [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]


def contrast(one, other):
    """The ratio of WCAG 2.2: of relative luminances, each with 0.05 added."""

    def luminance(colour):
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def over(colour, share, below):
    """The colour that is seen where `colour` covers this share of what lies below."""
    mixed = (share * top + (1 - share) * under for top, under in zip(channels(colour), channels(below), strict=True))
    return "#" + "".join(f"{round(255 * part):02x}" for part in mixed)


def test_contrast_by_hand():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert over("#000000", 0.5, "#ffffff") == "#808080"


@THEMES
def test_all_text_can_be_read(theme):
    grounds = {name: theme[name] for name in ("paper", "sheet")}
    grounds["heading of a group"] = over(theme["ink"], 0.04, theme["sheet"])
    for text in ("ink", "soft", "accent", "warn"):
        for name, ground in grounds.items():
            assert contrast(theme[text], ground) >= 4.5, (text, name)
    assert contrast(theme["ink"], over(theme["heat"], 0.55, theme["sheet"])) >= 4.5, "the fullest shade of a list"
    # A cell of a map is INK at 5%, and HEAT at 8% to 72%, with its number in INK.
    cell = over(HEAT, 0.72, over(theme["ink"], 0.05, theme["paper"]))
    assert contrast(theme["ink"], cell) >= 4.5


@THEMES
def test_marks_of_figures_can_be_seen(theme):
    shown = {each: theme.get(f"c-{each[1:]}", each) for each in FIGURES}
    assert len(set(shown.values())) == len(FIGURES)
    for name, colour in shown.items():
        assert contrast(colour, theme["paper"]) >= 3, name


def test_the_keyboard_reaches_all_in_the_order_of_the_page(page):
    reader = Reader(page)
    assert {attributes["tabindex"] for _, attributes in reader.tags if "tabindex" in attributes} == {"0"}
    assert ":focus-visible { outline: 2px solid" in CSS and "outline: none" not in CSS
    assert reader.all("a")[0] == {"class": "skip", "href": "#found"}
    assert len(reader.all("summary")) == len(reader.all("details"))
    assert all(table.get("aria-label") or "class" in table for table in reader.all("table"))


def test_paper_is_light_and_nothing_is_folded_or_cut_there():
    (rules,) = re.findall(r"@media print \{\n(.*?)\n\}", CSS, re.S)
    assert "details::details-content { content-visibility: visible; block-size: auto; }" in rules
    assert "figure, tr" in rules and "break-inside: avoid" in rules and "max-height: none" in rules
    assert "@media screen and (prefers-color-scheme: dark)" in CSS and CSS.count("prefers-color-scheme") == 1
