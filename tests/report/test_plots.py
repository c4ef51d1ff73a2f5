"""Adding a plot costs one file, one catalogue line and one test."""

from pathlib import Path

from spillover import catalog
from spillover.report import run_plots as plots

FILES = {path.stem for path in Path(plots.__file__).parent.glob("*.py") if path.stem != "__init__"}


def test_every_plot_is_in_the_catalogue():
    listed = {reference.partition(":")[0].rpartition(".")[2] for reference in catalog.PLOTS.values()}
    assert listed == FILES, "add the missing line to catalog.PLOTS"


def test_every_name_in_the_catalogue_can_be_found():
    assert all(callable(catalog.pick(catalog.PLOTS, name, "plot")) for name in catalog.PLOTS)


def test_every_plot_has_a_test():
    tested = {path.stem.removeprefix("test_") for path in (Path(__file__).parent / "plots").glob("test_*.py")}
    assert tested == FILES, "add tests/report/plots/test_<plot>.py"
