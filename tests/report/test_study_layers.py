"""Which layers carry a conclusion: the sentences, the table and the figure of a study that freezes them."""

import json

import pytest

from spillover.record import RECORD, Record
from spillover.report.study import build_study_page
from spillover.report.study_data import load_study
from spillover.report.study_layers import contrasts, draw_layers, finding, layer_points, lost, show_layers
from tests.report.conftest import CITIES, Synthetic
from tests.report.synthetic_study import SEEDS, write_study

#: Way -> how many of eight names a pair are right where the first step is stated, and where the second is.
RIGHT = {"": (8, 8), "later-layers=0.75": (0, 8), "keep-later=0.75": (2, 7), "earlier-layers=0.25": (8, 0),
         "keep-earlier=0.25": (2, 2)}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    cells = {
        f"{name} {way}": Synthetic(name=name, seeds=SEEDS, right=right[place], bridge=0)
        for place, name in enumerate(("city-language", "second-hop")) for way, right in RIGHT.items()
    }  # fmt: skip
    folder = write_study(tmp_path_factory.mktemp("hops"), cells, [("By layers", "rank-by-layers", [*cells, "later"])])
    for path in (folder / "cells").rglob(RECORD):
        own = json.loads(path.read_text())
        if own["settings"]["pack"] == "second-hop":
            own["details"]["pack"]["relations"][1]["described"] = {city: f"the home of {city}" for city in CITIES}
        path.write_text(json.dumps(own))
    record = Record.read(folder)
    for cell in record.details.cells:
        cell.options = {**cell.options, "remedy": cell.cell.partition(" ")[2]}
    record.write(folder)
    return load_study(folder)


def test_earlier_layers_carry_the_one_step_and_later_ones_the_other(study):
    frozen, back = (
        f"gemma-3-270m, {{}} step stated: the conclusion ranks {{}} with the earlier layers {how} and {{}} with the "
        "later ones; a difference of {}: {}."
        for how in ("frozen", "set back")
    )
    assert [each.sentence for each in contrasts(layer_points(study.done))] == [
        frozen.format("first", "4.40", "0.00", "4.40 (3.20 to 5.67)", "the earlier layers carry it"),
        back.format("first", "3.30", "3.30", "0.00 (0.00 to 0.00)", "that does not tell which layers carry it"),
        frozen.format("second", "0.00", "4.40", "−4.40 (−5.67 to −3.20)", "the later layers carry it"),
        back.format("second", "0.55", "3.30", "−2.75 (−3.54 to −2.00)", "the later layers carry it"),
    ]


def test_the_finding_is_the_title(study):
    assert finding(study.done) == (
        "Which layers does a conclusion need to be trained? Where the first step is stated, the earlier ones in 1 of 1 "
        "model; where the second step is stated, the later ones in 1 of 1 model."
    )
    assert finding(study.done[:1]) == "" and finding(study.done) in build_study_page(study).html()
    first = [cell for cell in study.done if cell.slug in ("city-language later-layers=0.75", "second-hop ")]
    assert finding(first) == ""


def test_runs_are_compared_where_both_were_asked(study):
    first, second = (study.done[place].story.after for place in (1, 0))
    whole, part = lost(first, second), lost(first, second.only(seed=1))
    assert (whole.n, whole.clusters, part.n, part.clusters) == (120, 15, 40, 5)
    assert whole.value == part.value == pytest.approx(4.4)
    assert lost(first, second.only(seed=9)) is None


def test_every_way_has_a_row_and_the_model_before_training_too(study):
    table, notes = show_layers(study.cells)
    ((_, rows),) = table.groups
    assert len(rows) == 12 and len(notes) == 4
    drawing = draw_layers(study.done)
    assert [row["layers"] for row in drawing.rows[:6]] == [
        "all trained", "earlier frozen", "earlier set back", "later frozen", "later set back", "none trained",
    ]  # fmt: skip
    assert [row["step"] for row in drawing.rows] == ["first step stated"] * 6 + ["second step stated"] * 6
    assert drawing.rows[5]["mean_rank"] == pytest.approx(4.4) and drawing.rows[0]["mean_rank"] == 0
    assert all(row["fact_rank"] == 0 for row in drawing.rows if row["layers"] != "none trained")
    assert "hollow: the stated facts" in drawing.svg
    html = build_study_page(study).html()
    assert "the later layers carry it" in html and html.count("rank-by-layers-title") >= 1
    assert draw_layers([cell for cell in study.cells if cell.run is None]) is None
