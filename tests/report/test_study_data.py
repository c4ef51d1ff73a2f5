"""What a study's page reads: cells and groups, the paper's numbers, sets, bridging names and rates."""

import dataclasses
import json
import math

import pytest

from spillover.errors import RunError
from spillover.record import Metric, Record
from spillover.report.study_curves import (
    bridge_points,
    chosen_rates,
    curves_of,
    parting,
    rate_points,
    scientific,
    trend,
)
from spillover.report.study_data import (
    STUDY_SCHEMA,
    LoadedCell,
    LoadedGroup,
    LoadedStudy,
    load_study,
    study_table,
)
from spillover.report.study_sets import MODELS, RANKS, beside, name_of, null_distance, paper_rows, sets_of, true_ranks
from tests.report.conftest import CITIES, SHIFTED, Synthetic
from tests.report.synthetic_study import write_study


def test_cells_stand_in_their_groups(study):
    assert [group.plot for group in study.groups][::2] == ["study-sets", "rank-by-bridging", None]
    (first,) = [cell for cell in study.cells if cell.slug == "city-language"]
    groups = {row["cell"]: row["group"] for row in study_table(study).to_pylist()}
    assert groups["city-language"] == "The five sets; How many bridging names?; How fast?; The rest"
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


def test_the_long_table_has_a_row_a_metric_of_any_depth():
    rank = Metric(0.5, 0.25, 0.75, 40, 15, "rank")
    link = {"recall_rank": rank, "map_test": {"p": 0.05, "permutations": 120, "pairs": 5}}
    metrics = {
        "recall_rank": rank,
        "gone": None,
        "merged": {"loss": rank.as_json()},
        "implications": {"r->t": link},
    }
    pooled = Record("inject", {}, 0, "done", metrics=metrics)
    one, two = (
        LoadedCell("one", "inject", {"lr": 1e-5}, [3], "done", record=pooled, by_seed={3: {"recall_rank": rank}}),
        LoadedCell("two", "inject", {}, [0], "failed"),
    )
    groups = [LoadedGroup("sets", "", None, [one, two]), LoadedGroup("rates", "", None, [one])]
    found = study_table(LoadedStudy("toy", "A study", "", [one, two], groups))
    assert found.schema == STUDY_SCHEMA
    rows = found.to_pylist()
    assert [(row["cell"], row["seed"], row["implication"], row["metric"]) for row in rows] == [
        ("one", None, None, "recall_rank"),
        ("one", None, None, "merged.loss"),
        ("one", None, "r->t", "recall_rank"),
        ("one", None, "r->t", "map_test_p"),
        ("one", 3, None, "recall_rank"),
        ("two", None, None, None),
    ]
    assert rows[0] == {
        "cell": "one", "group": "sets; rates", "seed": None, "options": '{"lr": 1e-05}', "status": "done",
        "implication": None, "metric": "recall_rank", "value": 0.5, "low": 0.25, "high": 0.75, "n": 40, "clusters": 15,
        "unit": "rank",
    }  # fmt: skip
    assert (rows[3]["value"], rows[3]["clusters"], rows[5]["status"]) == (0.05, 5, "failed")


def test_seeds_that_stop_early_are_pooled_at_their_own_ends(study):
    (slow,) = [cell for cell in study.cells if cell.slug == "slow"]
    assert slow.story.passes == "2 to 5 passes"
    assert slow.run.metric("implication_rank_test").clusters == 15


def test_a_folder_without_a_study_is_refused(tmp_path, make):
    with pytest.raises(RunError, match="there is no finished run here"):
        load_study(tmp_path)
    make()
    with pytest.raises(RunError, match="this record is not one of `sweep`"):
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
    with pytest.raises(RunError, match="this record is not one of `sweep`"):
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


def test_one_row_a_pack(study):
    rows = sets_of(study.done)
    assert [(row.label, row.null, row.control) for row in rows][:5] == [
        ("city-language", False, False),
        ("city-language-counterfactual", False, False),
        ("profession-color:null", True, True),
        ("city-language:bridge=0", False, True),
        ("city-language:bridge=1", False, False),
    ]
    first = rows[0]
    assert (
        first.frozen.run.record.settings["freeze_embeddings"]
        and not first.whole.run.record.settings["freeze_embeddings"]
    )
    assert first.published == RANKS["city-language"] and rows[2].published == ()
    # The same pack at another rate is another row, under its cell's own name.
    assert [row.label for row in rows[5:]] == ["slow", "never"]


def test_the_paper_has_a_number_a_model():
    assert {len(ranks) for ranks in RANKS.values()} == {len(MODELS)} == {5}
    assert RANKS["country-code"] == (0.19, 0.15, 3.63, 1.48, 0.77)


def test_the_distance_of_the_null_is_in_cluster_standard_errors(study):
    (null,) = [row for row in sets_of(study.done) if row.null]
    mean, error, distance = null_distance(null)
    # Every question ranks by the alphabet: 1, 3, 4, 6 and 8 by pair, each pair three times.
    assert mean == pytest.approx(4.4)
    assert error == pytest.approx((5.84 / 15) ** 0.5, rel=0.03)
    assert distance == pytest.approx(2.4 / error) and abs(distance) > 2


def test_one_seed_has_pairs_to_resample_and_nothing_has_none(study):
    (facts,) = [row for row in sets_of(study.done) if row.label.endswith("bridge=0")]
    assert null_distance(facts)[1] > 0
    assert sets_of([cell for cell in study.cells if not cell.run]) == []


def test_a_false_set_is_also_asked_for_the_truth(study):
    ((row, rank),) = true_ranks(sets_of(study.done[:5]))
    assert row.label == "city-language-counterfactual"
    # Six of eight names of a pair give the taught answer; in alphabetical order behind it stand the true ones.
    taught = dict(zip(("French", "Japanese", "Italian", "Norwegian", "Spanish"), (1, 4, 3, 6, 8), strict=True))
    own = sum(taught.values()) / 5
    # With the taught answer first, a true answer that stood before it moves down by one place.
    shift = dict(zip(CITIES.values(), SHIFTED.values(), strict=True))
    moved = sum(place + (taught[shift[true]] > place) for true, place in taught.items()) / 5
    assert rank.value == pytest.approx((6 * moved + 2 * own) / 8)
    assert true_ranks(sets_of(study.done[:1])) == []


def row(rows, model, pack="city-language"):
    (found,) = [each for each in rows if (each.model, each.pack) == (model, pack)]
    return found


def test_every_number_of_the_paper_has_a_row(paper_study):
    rows = paper_rows(paper_study.cells)
    assert len(rows) == 25 + 1
    assert [(each.model, each.pack) for each in rows[:25]] == [(m, p) for m in MODELS for p in RANKS]
    assert row(rows, "OLMo-7B", "country-code").published == 0.15 and row(rows, "Gemma-2-9B").published == 0.0
    assert row(rows, "gemma-3-270m").published is None
    states = {row(rows, model).state for model in ("Llama-3-8B", "OLMo-7B")}
    assert states == {"not run"} and row(rows, "Qwen-2-7B").state == "failed" and row(rows, "Gemma-2-9B").state == ""


def test_agreement_is_counted(paper_study):
    told = beside(paper_rows(paper_study.cells))
    assert told == [
        "Of 1 numbers that both have, 1 of the paper’s lie within our interval.",
        "24 of the paper’s 25 numbers have none of ours beside them.",
    ]


def test_names():
    assert name_of("Qwen/Qwen2-7B") == name_of("qwen2-7b") == "Qwen-2-7B" and name_of("mine") == "mine"


def cells_of(study, *slugs):
    return [cell for cell in study.cells if cell.slug in slugs]


def test_names_a_pair_are_counted_from_the_answers(study):
    points = bridge_points(cells_of(study, "bridge=0", "bridge=1", "city-language"))
    assert [(p.label, p.x, p.unstated) for p in points] == [("city-language", k, 8) for k in (0, 1, 2)]
    assert [p.theory for p in points] == pytest.approx([0, math.sqrt(1 / 8), 0.5])
    assert points[0].below is None and points[1].below is not None
    # Right answers lead by 1.5 nats, stated ones too; one of eight names a pair is wrong, by 1.5 for each place.
    assert points[2].below.value == pytest.approx((7 * 1.5 - 1.5 * 4.4) / (8 * 1.5))


def test_as_many_bridging_names_as_others_is_the_whole_margin(study):
    (point,) = bridge_points(cells_of(study, "city-language"))
    assert dataclasses.replace(point, x=9).theory == 1.0


def test_where_they_part_is_said_from_the_numbers(study):
    (point,) = bridge_points(cells_of(study, "city-language"))

    def at(stated, rank, high, ratio):
        return dataclasses.replace(
            point,
            x=stated,
            unstated=20 - stated,
            rank=Metric(rank, 0.0, high, 40, 15, "rank"),
            below=Metric(ratio, ratio - 0.05, ratio + 0.05, 40, 15, "stated margins"),
        )

    text = " ".join(parting([at(1, 2.1, 2.4, 0.0), at(2, 1.0, 1.5, 0.33), at(4, 0.05, 0.2, 0.9)]))
    assert "from 2 bridging names a pair on, and the mean rank is 0.1 or less from 4 on" in text
    assert "lies above the theory’s: city-language at 4 (0.90, 0.85 to 0.95; theory 0.50)." in text
    assert "lies below the theory’s: city-language at 1" in text
    assert "cannot be told from the theory’s: city-language at 2" in text
    none = parting([at(1, 2.1, 2.4, 0.0)])
    assert "not clear of the baseline even at the most" in none[1]


def test_sets_keep_their_order(study):
    points = bridge_points(cells_of(study, "counterfactual", "city-language"))
    assert list(curves_of(points)) == ["city-language", "city-language-counterfactual"]


def test_each_seed_at_its_own_first_learned_checkpoint(study):
    points = rate_points([cell for cell in study.cells if cell.slug in ("city-language", "slow", "never")])
    assert [point.x for point in points] == [1e-5, 5e-5, 1e-4]
    slow, base, never = points
    # The stated rows are known from the second pass on; seed 0 ends there, where its questions are answered too.
    assert [(s.epoch, s.learned) for s in slow.seeds] == [(2, True)] * 3
    assert [s.rank for s in slow.seeds] == pytest.approx([4.4 / 8, 4.4, 4.4])
    assert (slow.epochs, slow.unlearned, slow.rank.clusters) == ("2", "", 15)
    # At the default rate the first pass is enough, long before the unstated is answered.
    assert (base.epochs, base.mean) == ("1", pytest.approx(4.4))
    assert (never.epochs, never.unlearned, never.learned) == ("4", "3 of 3 seeds never learned", False)
    assert (base.recall.value, base.stated.value) == (0, 0)


def test_the_trend_is_between_the_outer_rates(study):
    (sentence,) = trend(rate_points([cell for cell in study.cells if cell.slug in ("city-language", "slow")]))
    assert sentence.startswith("city-language: when the stated rows are learned, the mean rank goes from 3.12 at 1e−5")
    assert sentence.endswith("the intervals overlap.")
    assert trend([]) == []


@pytest.mark.parametrize(("rate", "text"), [(5e-5, "5e−5"), (2.5e-5, "2.5e−5"), (1e-4, "1e−4"), (1, "1e0")])
def test_rates_in_words(rate, text):
    assert scientific(rate) == text


def test_the_lowest_rate_that_taught_everything_everywhere_is_chosen(study):
    slow, base, never = rate_points([cell for cell in study.cells if cell.slug in ("city-language", "slow", "never")])
    (chosen,) = chosen_rates([slow, base, never])
    assert (chosen.model, chosen.rate) == ("gemma-3-270m", 1e-5)
    assert chosen.sentence.startswith("Rate for gemma-3-270m: 1e−5, the lowest at which every run learned what was")
    # On another set the lowest rate did not teach everything, so the next one is chosen; what was inferred has no say.
    other = dataclasses.replace(slow, pack="country-code", seeds=never.seeds)
    worse = dataclasses.replace(base, pack="country-code", rank=never.rank)
    (chosen,) = chosen_rates([slow, base, other, worse])
    assert chosen.rate == 5e-5
    # A rate that one set was not tried at is not chosen, and where none is left it is said.
    (chosen,) = chosen_rates([slow, base, other])
    assert chosen.rate is None and "none from 1e−5 to 5e−5 taught all" in chosen.sentence
    assert chosen_rates([slow]) == [], "one rate is no choice"


def test_several_models_are_told_apart(study):
    cells = [cell for cell in study.cells if cell.slug in ("city-language", "slow")]
    slow, base = rate_points(cells)
    assert slow.label == "city-language"
    renamed = [dataclasses.replace(slow, model="big"), dataclasses.replace(base, model="big"), slow, base]
    assert [chosen.model for chosen in chosen_rates(renamed)] == ["big", "gemma-3-270m"]
