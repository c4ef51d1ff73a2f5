"""The page of results holds what the kept runs give."""

import dataclasses
import shutil
import statistics
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spillover.commands import verify
from spillover.commands.sweep import expand, read_study
from spillover.commands.verify import Verify
from spillover.details import FrontierEntry
from spillover.metrics import remedies as judging
from spillover.record import Metric, Record
from spillover.report.load import load_run
from spillover.report.study_data import load_study
from spillover.report.where import build_where_page, load_where
from spillover.runs import identity_of

sys.path.insert(0, str(Path(__file__).parents[2]))
from tools import make_results


def test_the_tables_are_fresh():
    made = make_results.pages()
    assert len(made) == 6
    for path in make_results.CITING:
        assert "<!-- end of remedies -->" in made[path]
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python tools/make_results.py"


def test_advice_is_what_the_kept_comparisons_give():
    assert make_results.ADVICE.read_text(encoding="utf-8") == make_results.advice_text(), (
        "run python tools/make_results.py"
    )


def test_the_table_holds_the_five_sets_and_the_papers_models():
    lines = make_results.block().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:7]] == list(make_results.ROWS.values())[:5]
    assert lines[2].count("|") == len(make_results.HEADS) + 1
    assert lines[2].endswith("| 0.00 | 0.07 | 0.13 | 0.00 | 0.00 |")
    for path in (path for plots in make_results.FIGURES.values() for path in plots.values()):
        assert path.read_text(encoding="utf-8").lstrip().startswith(("<?xml", "<svg"))


COMPARISONS = ["remedies-60", "remedies-60x3", "remedies-60-second", "remedies-60-strengths", "remedies-mixed-currency",
               "remedies-mixed-state", "remedies-60-rates", "lora-60", "remedies-alive",
               "remedies-alive-scaled"]  # fmt: skip
RUNS = sorted((make_results.ROOT / "results").glob("*/cells/*/seed-*"))


@pytest.mark.slow
def test_the_kept_runs_can_be_trusted(monkeypatch):
    monkeypatch.chdir(make_results.ROOT)
    assert len(RUNS) >= 82 + 27
    for folder in RUNS:
        outcome = verify.run(Verify(run=str(folder)))
        assert outcome["trusted"], outcome["text"]


def test_the_kept_runs_have_the_settings_of_their_study_which_finds_them(monkeypatch):
    studies = {
        "paper-270m": "paper-270m",
        "prediction-270m": "benchmarks/prediction/study.yaml",
        "adapters": "adapters",
        "families": "families",
        "dial": "dial",
        "prediction": "benchmarks/prediction/alive.yaml",
    }
    monkeypatch.chdir(make_results.ROOT)
    cells = {name: {cell.name: cell for cell in expand(read_study(study))[0]} for name, study in studies.items()}
    runs = [folder for folder in RUNS if folder.parents[2].name in studies]
    assert len(runs) >= 82
    for folder in runs:
        cell, record = cells[folder.parents[2].name][folder.parent.name], Record.read(folder)
        given = {
            item.name: getattr(cell.settings, item.name)
            for item in dataclasses.fields(cell.settings)
            if item.name not in ("out", "seeds", "json") and getattr(cell.settings, item.name) != item.default
        }
        assert {name: record.settings[name] for name in given} == given, folder
        own = dataclasses.replace(cell.settings, seed=record.seed, seeds="", device="cpu")
        assert record.identity == identity_of(own, "track"), f"{folder}: the study's command does not find this run"
        assert record.status == "done" and not Path(record.settings["pack"]).is_absolute()
        assert not Path(record.settings["out"]).is_absolute()


def test_the_table_of_families_is_of_the_kept_runs():
    """Of each row the seeds are kept, three where it says nothing else, all learned what is stated; the model lives."""
    shown = [line.split(" | ") for line in make_results.families().splitlines()[2:]]
    cells = {cell.name: cell.settings for cell in expand(read_study("families"))[0]}
    kept: dict[tuple[str, str], list[dict]] = {}
    for folder in (make_results.ROOT / "results" / "families" / "cells").glob("*/seed-*"):
        settings = cells[folder.parent.name]
        kept.setdefault((settings.model, settings.pack), []).append(Record.read(folder).metrics)
    few = sum(len(found) < 3 for found in kept.values())
    assert len(shown) == len(kept) >= 14 and sum("seed" in line[1] for line in shown) == few
    for found in kept.values():
        for metrics in found:
            assert metrics["recall_rank"]["value"] <= 0.1 and metrics["forgetting_nats"]["value"] <= 0.5
            assert (metrics.get("implication_rank_train") or {}).get("value", 0.0) <= 0.1


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_kept_runs_of_a_comparison_are_those_of_its_table(name):
    folder = make_results.ROOT / "results" / name
    cells = {entry.cell for entry in Record.read(folder).details.frontier}
    runs = sorted((folder / "cells").glob("*/seed-*"))
    assert {run.parent.name for run in runs} == cells and "untreated" in cells
    for run in runs:
        record, remedy = Record.read(run), run.parent.name.replace("untreated", "")
        assert record.status == "done" and record.settings["remedy"] == remedy, run


@pytest.mark.parametrize("name", ["untreated", "stay-near-base=1"])
def test_the_evidence_of_where_a_change_lives_makes_its_page(name):
    folder = make_results.ROOT / "results" / "where-60" / name
    assert "the MLP layers alone bring" in build_where_page(load_where(folder)).html()
    rates = {(part.part, part.left_out): part.metric("recall_rate").value for part in Record.read(folder).details.parts}
    assert rates["mlp", False] > 0.9 > 0.4 > rates["output-value", False], "as in LOG and docs/results.md"


def test_the_change_inside_is_of_no_low_rank_with_anything_to_infer_or_without():
    own, null = (make_results.ROOT / "results" / "inside-60" / name for name in ("mixed", "null"))
    for folder, most in ((own, 180), (null, 190)):
        assert Record.read(folder).status == "done"
        rows = pq.read_table(folder / "inside.parquet").to_pylist()
        ranks = [row["effective_rank"] for row in rows if row["matrix"] == "change" and row["checkpoint"] == 8]
        assert 170 < statistics.median(ranks) < most, "as LOG tells it"
    apart = {folder.name: pq.read_table(folder / "inside-shared.parquet").to_pylist() for folder in (own, null)}
    more = {name: statistics.mean(row["overlap"] - row["overlap_never_seen"] for row in rows)
            for name, rows in apart.items()}  # fmt: skip
    assert more == {"mixed": pytest.approx(0.088, abs=1e-3), "null": pytest.approx(0.036, abs=1e-3)}


def test_real_names_take_what_was_invented_from_what_the_model_knew():
    ranks = {}
    for name in ("stated", "known", "null"):
        record = Record.read(make_results.ROOT / "results" / "talisman-60" / name)
        found = record.metrics["implications"]["is_in->keeps_as_talisman"]
        ranks[name] = (round(found["implication_rank_test"]["value"], 2), round(found["map_test"]["p"], 2))
        assert record.status == "done" and record.settings.get("facts_known", False) == (name == "known")
    assert ranks == {"stated": (0.11, 0.01), "known": (0.20, 0.01), "null": (1.92, 0.29)}, (
        "as in LOG and docs/results.md"
    )


def test_a_cell_that_keeps_its_seeds_alone_is_read_as_all_of_them(tmp_path):
    """Each seed asks of as many subjects, in five pairs, and reads the same plain text: pooled is the mean."""
    kept = make_results.ROOT / "results" / "families" / "cells" / "city-language"
    for seed in (0, 1, 2):
        shutil.copytree(kept / f"seed-{seed}", tmp_path / f"seed-{seed}")
    found, every = load_run(tmp_path), [load_run(tmp_path / f"seed-{seed}") for seed in (0, 1, 2)]
    assert found.seeds == [0, 1, 2] and found.answers.num_rows == sum(run.answers.num_rows for run in every)
    for name, clusters in (("recall_rank", 15), ("implication_rank_test", 15), ("forgetting_nats", 12)):
        pooled, *own = (run.metric(name) for run in (found, *every))
        assert pooled.clusters == clusters, name
        assert pooled.value == pytest.approx(statistics.mean(each.value for each in own)), name


def test_every_kept_study_has_a_page_of_all_that_was_run():
    for folder in ("families", "dial", "theorem", "paper-270m", "prediction", "adapters"):
        study = load_study(make_results.ROOT / "results" / folder)
        assert len(study.done) == len(study.cells), folder


def tried(name, removed, change, forgets, status=judging.LEARNED):
    values = {"removed": (removed, "share"), "wanted_change": (change, "share"), "forgetting_nats": (forgets, "nats")}
    metrics = {key: Metric(value, value, value, 40, 15, unit) for key, (value, unit) in values.items()}
    return FrontierEntry.model_validate({"cell": name, "remedy": name, "strength": 1.0, "status": status, **metrics})


def test_what_another_removes_more_than_at_no_greater_cost_is_out_of_reach():
    untreated, best = tried("untreated", 0.0, 0.0, 0.4), tried("best", 0.9, -0.04, 0.3)
    for name, figures, there in (
        ("little less", (0.7, 0.0, 0.3), True),
        ("much less", (0.6, 0.0, 0.3), False),
        ("much less, but all is kept", (0.6, 0.02, 0.3), True),
        ("much less, but alive", (0.6, 0.0, 0.1), True),
        ("as much, at a greater cost", (0.9, -0.1, 0.3), False),
        ("all, at a great cost", (1.0, -0.3, 0.3), True),
    ):
        assert (name in make_results.within_reach([untreated, best, tried(name, *figures)])) == there, name
    assert make_results.within_reach([untreated, tried("late", 0.9, 0.0, 0.3, "failed to learn")]) == set()
    worse = tried("worse", 0.6, 0.0, 0.3)
    assert make_results.within_reach([untreated, best, worse], controls=["best"]) == {"best", "worse"}
    assert make_results.within_reach([untreated.model_copy(update={"removed": None}), best]) == set()
