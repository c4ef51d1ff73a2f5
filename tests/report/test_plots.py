"""Every plot on offer can be found and has a test."""

from pathlib import Path

import pytest

from spillover import catalog


@pytest.mark.parametrize("name", catalog.PLOTS)
def test_a_plot_on_offer_can_be_drawn_and_is_tested(name):
    draw = catalog.pick(catalog.PLOTS, name, "plot")
    tests = (path.read_text(encoding="utf-8") for path in (Path(__file__).parent / "plots").glob("test_*.py"))
    assert any(draw.__name__ in text for text in tests), f"write a test of {draw.__name__}"
