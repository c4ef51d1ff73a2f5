import pytest

from spillover.report.study_data import load_study
from spillover.report.study_plots import draw_rank_by_adapter
from tests.report.conftest import Synthetic
from tests.report.synthetic_study import FALSE, SEEDS, write_study


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    runs = {
        "weights": Synthetic(seeds=SEEDS),
        "lora=4": Synthetic(seeds=SEEDS, lora=4, right=3),
        "false, lora=4": Synthetic(seeds=SEEDS, lora=4, **FALSE),
    }
    folder = write_study(tmp_path_factory.mktemp("adapters"), runs, [("By rank", "rank-by-adapter", [*runs, "later"])])
    return load_study(folder).cells


def test_adapters_come_by_rank_and_the_weights_last(cells):
    drawing = draw_rank_by_adapter(cells)
    assert [row["adapter_rank"] for row in drawing.rows] == [4, 4, None]
    assert drawing.rows[0]["mean_rank"] > drawing.rows[2]["mean_rank"] == pytest.approx(0.55)
    assert all(row["low"] <= row["mean_rank"] <= row["high"] for row in drawing.rows)
    assert "rank of the adapter, or the weights themselves" in drawing.svg and "weights" in drawing.svg
    assert "knows only which answers occur: 2.00" in drawing.svg
    assert drawing.description.startswith("Mean rank by the rank of the adapter. lives in → speaks: ")


def test_nothing_to_show_without_runs(cells):
    assert draw_rank_by_adapter([cell for cell in cells if cell.run is None]) is None
