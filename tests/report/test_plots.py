"""Adding a plot costs one decorated function and one test."""

from pathlib import Path

import pytest

from spillover.errors import UsageError
from spillover.report.drawing import PLOTS, find_plot
from spillover.report.run_plots import draw


def test_every_plot_has_a_test():
    find_plot("where-layers")
    with pytest.raises(UsageError, match="no plot called 'rank-by-epochs'"):
        find_plot("rank-by-epochs")
    tests = Path(__file__).parent
    tested = "\n".join(path.read_text(encoding="utf-8") for path in tests.rglob("test_*.py"))
    assert len(PLOTS) >= 20
    named = {name: {f'"{name}"', getattr(plot.draw, "__name__", name)} for name, plot in PLOTS.items()}
    assert [name for name, words in named.items() if not any(word in tested for word in words)] == []


def test_a_run_is_drawn_by_the_name_of_a_plot_and_saved(make, tmp_path):
    run = make()
    drawing = draw("rank-by-epoch", run, implication="lives_in->speaks")
    assert drawing.rows[-1]["epoch"] == 4 and drawing.svg.startswith("<svg")
    for ending, begin in ((".svg", b"<svg"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
        drawing.save(tmp_path / f"ranks{ending}")
        assert (tmp_path / f"ranks{ending}").read_bytes().startswith(begin)
    with pytest.raises(UsageError, match="SVG, PDF or PNG"):
        drawing.save(tmp_path / "ranks.doc")
    assert draw("recall", run).rows and draw("inside-change", run) is None
    assert draw("rank-change", run, implication="none->such") is None
