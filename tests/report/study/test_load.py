"""Reading a study: whole, with failed and waiting cells, of another verb, damaged, absent."""

import json

import pytest

from spillover.errors import RunError
from spillover.record import Metric, Record
from spillover.report.study_data import load_study, study_table
from tests.report.conftest import Synthetic
from tests.report.synthetic_study import write_study


def test_cells_stand_in_their_groups(study):
    assert [group.plot for group in study.groups][::2] == ["study-sets", "rank-by-bridging", None]
    (first,) = [cell for cell in study.cells if cell.slug == "city-language"]
    assert study.groups_of(first) == ["The five sets", "How many bridging names?", "How fast?", "The rest"]
    assert sorted(first.by_seed) == [0, 1, 2] and first.story.key == "lives_in->speaks"
    assert {cell.slug: cell.status for cell in study.cells if not cell.record} == {
        "broken": "failed",
        "later": "waiting",
    }


def test_the_long_table_has_pooled_and_single_seeds(study):
    rows = study_table(study).to_pylist()
    wanted = [
        row
        for row in rows
        if row["cell"] == "city-language" and row["metric"] == "implication_rank_test" and row["implication"] is None
    ]
    assert [(row["seed"], row["clusters"]) for row in wanted] == [(None, 15), (0, 5), (1, 5), (2, 5)]
    assert [row["value"] for row in wanted] == pytest.approx([4.4 / 8] * 4)
    assert [row["status"] for row in rows if row["cell"] == "broken"] == ["failed"]


def test_seeds_that_stop_early_are_pooled_at_their_own_ends(study):
    (slow,) = [cell for cell in study.cells if cell.slug == "slow"]
    assert slow.story.passes == "2 to 5 passes"
    assert slow.run.metric("implication_rank_test").clusters == 15


def test_a_folder_without_a_study_is_refused(tmp_path, make):
    with pytest.raises(RunError, match="there is no finished run here"):
        load_study(tmp_path)
    make()
    with pytest.raises(RunError, match="this record is not that of a study"):
        load_study(tmp_path / "run-1")


def test_a_cell_said_to_be_done_must_be_there(tmp_path):
    folder = write_study(tmp_path, {"one": Synthetic()}, [("all", None, ["one"])])
    (folder / "cells" / "one" / "answers.parquet").unlink()
    with pytest.raises(RunError, match="this run has no answers"):
        load_study(folder)


@pytest.mark.parametrize("part", ["study", "cells"])
def test_a_damaged_record_is_refused_in_a_sentence(tmp_path, part):
    folder = write_study(tmp_path, {"one": Synthetic()}, [("all", None, ["one"])])
    fields = json.loads((folder / "record.json").read_text())
    fields["details"][part] = ["nonsense"]
    (folder / "record.json").write_text(json.dumps(fields))
    with pytest.raises(RunError, match="this record is not that of a study"):
        load_study(folder)


def test_a_verb_that_does_not_pool_leaves_its_seeds(tmp_path):
    folder = write_study(tmp_path, {}, [("all", None, ["lab"])])
    fields = json.loads((folder / "record.json").read_text())
    fields["details"]["cells"][0] |= {"verb": "lab", "status": "done", "seeds": [0, 1]}
    (folder / "record.json").write_text(json.dumps(fields))
    for seed in (0, 1):
        loss = Metric(0.5 + seed, None, None, 1, 1, "nats")
        Record("lab dial", {}, seed, "done", metrics={"merged": {"loss": loss}}).write(
            folder / "cells/lab" / f"seed-{seed}"
        )
    rows = study_table(load_study(folder)).to_pylist()
    assert [(row["seed"], row["metric"], row["value"]) for row in rows] == [
        (0, "merged.loss", 0.5),
        (1, "merged.loss", 1.5),
    ]
