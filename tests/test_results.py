"""What a Python caller gets back from a run's folder: typed metrics, answers, figures and pages."""

from pathlib import Path

import pytest

import spillover
from spillover.errors import RunError, UsageError
from spillover.record import Metric, Record
from spillover.results import Comparison, Run

RESULTS = Path(__file__).parents[1] / "results"
FOLDER = RESULTS / "talisman-60" / "stated"


@pytest.fixture(scope="module")
def run():
    return spillover.load_run(FOLDER)


def test_a_record_opens_as_what_its_command_makes(run):
    assert type(run) is Run
    comparison = spillover.load_run(RESULTS / "remedies-mixed-state")
    assert type(comparison) is Comparison
    with pytest.raises(RunError, match="there is no finished run here"):
        spillover.load_run(RESULTS / "nothing")


def test_metrics_are_typed_and_are_those_of_the_record(run):
    record = Record.read(FOLDER)
    link = next(iter(record.metrics["implications"]))
    kept = record.metrics["implications"][link]["implication_rank_test"]
    metric = run.metrics[link].implication_rank_test
    assert isinstance(metric, Metric)
    assert (metric.value, metric.low, metric.high) == (kept["value"], kept["low"], kept["high"])
    assert run.metrics["recall_rank"] is run.metrics.recall_rank
    assert {"recall_rank", link} <= set(run.metrics)
    with pytest.raises(UsageError, match="Did you mean 'recall_rank'"):
        run.metrics["recal_rank"]
    with pytest.raises(AttributeError, match="Did you mean 'recall_rank'"):
        _ = run.metrics.recal_rank


def test_a_representation_says_what_ran_and_each_metric_with_its_interval_and_what_it_was_before(run):
    text = repr(run)
    assert text.startswith(f"Run: pack {run.settings['pack']}")
    metric, before = run.metrics.implication_rank_test, run.metrics.implication_rank_test_before
    row = f"implication_rank_test {before.value:.3g} {metric.value:.3g} {metric.low:.3g} to {metric.high:.3g} rank"
    assert row.split() in [line.split() for line in text.splitlines()]
    assert "<table>" in run._repr_html_() and f"<td>{metric.value:.3g}</td>" in run._repr_html_()


def test_names_in_a_notebook_are_escaped(tmp_path):
    Record("inject", {"pack": "<script>"}, 0, "done").write(tmp_path)
    assert "<script>" not in spillover.load_run(tmp_path)._repr_html_()


def test_answers_and_trajectory_are_tables(run):
    assert {"subject", "candidate", "log_probability"} <= set(run.answers.column_names)
    assert "train_loss" in run.trajectory["quantity"].unique().to_pylist()


def test_a_figure_shows_in_a_notebook_and_can_be_saved(run, tmp_path):
    figure = run.plot("rank-by-epoch")
    assert figure._repr_svg_().startswith("<?xml") or figure._repr_svg_().startswith("<svg")
    figure.save(tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text(encoding="utf-8") == figure._repr_svg_()
    figure.save(tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(UsageError, match="SVG, PDF or PNG"):
        figure.save(tmp_path / "figure.bmp")
    with pytest.raises(UsageError, match="Did you mean 'rank-by-epoch'"):
        run.plot("rank-by-epochs")


def test_a_page_is_one_file(run, tmp_path):
    page = run.page(tmp_path / "page.html")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
