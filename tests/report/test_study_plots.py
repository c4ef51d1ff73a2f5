"""The figures of a study show its numbers."""

import json

import pytest

from spillover.record import RECORD, Record
from spillover.report.study import build_study_page
from spillover.report.study_curves import (
    apart_from_theory,
    draw_margin_by_ratio,
    draw_rank_by_adapter,
    draw_rank_by_bridging,
    draw_rank_by_rate,
)
from spillover.report.study_data import load_study
from spillover.report.study_dial import draw_dial, show_dial
from spillover.report.study_sets import draw_newly_by_set, draw_paper_table, draw_study_sets
from tests.report.conftest import Synthetic
from tests.report.synthetic_study import FALSE, SEEDS, of_model, write_study


@pytest.mark.parametrize(
    "draw",
    [draw_study_sets, draw_rank_by_adapter, draw_rank_by_bridging, draw_rank_by_rate, draw_dial, draw_newly_by_set],
)
def test_nothing_to_show_without_runs(study, draw):
    assert draw([cell for cell in study.cells if cell.run is None]) is None


def test_ours_and_the_papers_are_beside_each_other(study):
    drawing = draw_study_sets(study.done[:5])
    ours = [row for row in drawing.rows if row["set"] == "city-language" and "paper" not in row["model"]]
    assert [(row["trained"], row["when"]) for row in ours] == [
        ("embeddings frozen", "before"),
        ("embeddings frozen", "after"),
        ("all weights trained", "before"),
        ("all weights trained", "after"),
    ]
    assert [row["mean_rank"] for row in ours] == pytest.approx([4.4, 0.55, 4.4, 0])
    assert [row["mean_rank"] for row in drawing.rows if row["model"] == "OLMo-7B (the paper)"] == [0.07, 1.33]
    assert "the paper's models 0.00 to 0.13" in drawing.description
    assert "paper: Llama-3-8B" in drawing.svg and drawing.pdf.startswith(b"%PDF")


def test_ours_beside_the_papers(study):
    drawing = draw_paper_table([cell for cell in study.done if cell.slug in ("city-language", "counterfactual")])
    # The synthetic runs are of gemma-3-270m, which the paper has not.
    ours = [row for row in drawing.rows if row["model"] == "gemma-3-270m"]
    assert {row["set"]: round(row["mean_rank"], 2) for row in ours}["city-language"] == 0.55
    assert all(row["paper"] is None and row["state"] == "done" and row["clusters"] == 15 for row in ours)
    papers = [row for row in drawing.rows if row["paper"] is not None]
    assert len(papers) == 25 and {row["state"] for row in papers} == {"the paper"}
    assert "OLMo-7B on country-code: 0.15 in the paper" in drawing.description
    assert "knows only which answers occur: 2.00" in drawing.svg and drawing.pdf.startswith(b"%PDF")


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


@pytest.fixture(scope="module")
def dial(tmp_path_factory):
    """Two models at three rates each, the same shares of true conclusions at ten times the rate; one never learned."""
    own = {f"{model} {lr:g}": Synthetic(seeds=SEEDS, lr=lr, right=right, learns=4)
           for model, rates in (("small", (1e-6, 1e-5, 1e-4)), ("large", (1e-5, 1e-4, 1e-3)))
           for lr, right in zip(rates, (2, 5, 8), strict=True)}  # fmt: skip
    own["large 0.01"] = Synthetic(seeds=SEEDS, lr=1e-2, right=8, learns=9)
    folder = write_study(tmp_path_factory.mktemp("dial"), own, [("By rate", "share-by-forgetting", [*own, "later"])])
    of_model(folder, {name: name.split()[0] for name in own})
    for name, run in own.items():
        for path in (folder / "cells" / name).rglob(RECORD):
            record = json.loads(path.read_text())
            record["metrics"]["forgetting_nats"]["value"] = run.right / 10
            record["command"] = "inject"
            record["details"]["moved"] = {"everything": run.right / 1000}
            path.write_text(json.dumps(record))
    return load_study(folder)


def test_what_turns_a_conclusion_up(dial):
    table, notes = show_dial(dial.cells_of("share-by-forgetting"))
    ((_, rows),) = table.groups
    assert len(rows) == 7
    within, third = notes
    assert within.startswith("Within a family, the share of the true conclusion goes with")
    assert "forgetting 1.00" in within and "learning rate 1.00" in within
    assert "forgetting 0.00" in third and "Best is distance moved" in third and "better than learning rate" in third
    drawing = draw_dial(dial.done)
    assert len(drawing.rows) == 21 and {row["model"] for row in drawing.rows} == {"small", "large"}
    assert [row["learned"] for row in drawing.rows].count(False) == 3
    assert "hollow" in drawing.svg and "forgotten (nats a token)" in drawing.svg
    assert build_study_page(dial).html().count("share-by-forgetting-title") >= 1


def test_ranks_and_margins_beside_the_theory(study):
    cells = [cell for cell in study.done if cell.slug in ("bridge=0", "bridge=1", "city-language", "counterfactual")]
    drawing = draw_rank_by_bridging(cells)
    rows = {(row["set"], row["bridging_names"]): row for row in drawing.rows}
    assert [row["theory_margin"] for row in drawing.rows] == pytest.approx([0, 8**-0.5, 0.5, 0.5])
    assert rows["city-language", 2]["mean_rank"] == pytest.approx(0.55)
    assert rows["city-language", 0]["margin"] is None
    assert "city-language (true)" in drawing.svg and "city-language-counterfactual (not true)" in drawing.svg
    assert "knows only which answers occur: 2.00" in drawing.svg


def test_margins_stand_beside_both_roots_of_the_ratio(study):
    cells = [cell for cell in study.done if cell.slug in ("bridge=0", "bridge=1", "city-language", "counterfactual")]
    drawing = draw_margin_by_ratio(cells)
    # Without bridging names there is no stated margin to measure by; 1 bridges 8 others, 2 bridge 8.
    assert [(row["bridging_names"], row["other_names"]) for row in drawing.rows] == [(1, 8), (2, 8), (2, 8)]
    assert [row["attention (square root)"] for row in drawing.rows] == pytest.approx([8**-0.5, 0.5, 0.5])
    assert [row["embedding-MLP (fourth root)"] for row in drawing.rows] == pytest.approx([8**-0.25, 0.5**0.5, 0.5**0.5])
    true, false = apart_from_theory(cells)
    assert ", city-language: nearest to " in true and ", city-language-counterfactual: nearest to " in false
    assert draw_margin_by_ratio([]) is None


def test_one_row_a_rate_and_one_a_seed(study):
    drawing = draw_rank_by_rate([cell for cell in study.done if cell.slug in ("city-language", "slow", "never")])
    pooled = [row for row in drawing.rows if row["seed"] is None]
    assert [row["learning_rate"] for row in pooled] == ["1e-05", "5e-05", "0.0001"]
    assert [row["learned"] for row in pooled] == [True, True, False]
    slow = [row for row in drawing.rows if row["learning_rate"] == "1e-05" and row["seed"] is not None]
    assert [row["mean_rank"] for row in slow] == pytest.approx([0.55, 4.4, 4.4])
    assert "hollow: stated rows not learned by the end" in drawing.svg and "5e−5" in drawing.svg
    assert "(3 of 3 seeds never learned)" in drawing.description


def test_a_wrecked_model_is_hollow_beside_the_guess(tmp_path):
    lost = {"forgetting_nats": {"value": 3.4, "low": 3.0, "high": 3.9, "n": 700, "clusters": 12, "unit": "nats"}}
    runs = {"healthy": Synthetic(seeds=SEEDS), "wrecked": Synthetic(seeds=SEEDS, right=4, metrics=lost)}
    cells = load_study(write_study(tmp_path, runs, [("By set", "paper-table", list(runs))])).cells
    drawing = draw_newly_by_set(cells)
    assert [(round(row["newly"], 3), row["guess"], row["forgetting"]) for row in drawing.rows] == [
        (0.875, 0.2, 0.21), (0.5, 0.2, 3.4),
    ]  # fmt: skip
    assert ", wrecked on " in drawing.description and drawing.description.count("wrecked") == 1
    assert "a guess among the answers that occur" in drawing.svg and "lives in → speaks, true link" in drawing.svg
    assert all(row["low"] < row["newly"] < row["high"] for row in drawing.rows)


def test_a_way_of_training_at_several_rates_has_a_line_and_its_share_beside_the_others(tmp_path):
    """Factors conclude 8 and 6 of eight, a merged matrix 1 and 2, and a rate that wrecks it does not count."""
    shares = {"factors 1e-05": 8, "factors 0.0001": 6, "merged 1e-05": 1, "merged 0.0001": 2, "merged 0.001": 9}
    own = {name: Synthetic(seeds=SEEDS, lr=float(name.split()[1]), right=right, learns=4)
           for name, right in shares.items()}  # fmt: skip
    folder = write_study(tmp_path, own, [("By rate", "share-by-forgetting", list(own))])
    of_model(folder, dict.fromkeys(own, "small"))
    ways = {"factors": "output-value-only=1", "merged": "merged-output-value=1"}
    study = Record.read(folder)
    for cell in study.details.cells:
        cell.options["remedy"] = ways[cell.cell.split()[0]]
    study.write(folder)
    for path in (folder / "cells").rglob(RECORD):
        record = json.loads(path.read_text())
        wrecked = "merged 0.001" in str(path)
        record["metrics"]["forgetting_nats"]["value"], record["command"] = 0.8 if wrecked else 0.2, "inject"
        record["details"]["moved"] = {"everything": 0.01}
        path.write_text(json.dumps(record))
    cells = load_study(folder).cells
    _, (said, *_) = show_dial(cells)
    assert "merged-output-value 0.19 (0.19 to 0.19); output-value-only 0.88 (0.88 to 0.88). A guess gives 0.2" in said
    drawing = draw_dial(cells)
    assert "small, output-value-only" in drawing.svg and "small, merged-output-value" in drawing.svg
    assert "trained otherwise" not in drawing.svg
