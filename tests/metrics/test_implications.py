"""Every measure against numbers counted by hand, and the exact map test against a count of all permutations."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.metrics import implications
from spillover.metrics.implications import (
    MEASURES,
    first_learned,
    forgetting_nats,
    map_rank,
    map_test,
    margin_ratio,
    measure,
    measure_all,
    rank_totals,
    summarise,
)
from spillover.metrics.intervals import clusters_of, interval, mean_metric, standard_error
from spillover.metrics.ranks import answers_at_end, at_end, rank_table
from spillover.record import ANSWER_SCHEMA

CANDIDATES = ["a", "b", "c", "d"]


def question(
    cluster, expected, scores, *, stated=False, implication="r->t", trained=True, checkpoint=1, seed=0, name=""
):
    """Rows of one question over four candidates; scores in the order a, b, c, d."""
    subject = name or f"{cluster}-{expected}-{scores}"
    relation = "t" if implication else "r"
    return [
        {"seed": seed, "checkpoint": checkpoint, "subject": subject, "relation": relation, "implication": implication,
         "cluster": cluster, "prompt": f"{{subject}} {trained}", "trained": trained, "candidate": candidate,
         "log_probability": float(score), "expected": expected, "stated": stated}
        for candidate, score in zip(CANDIDATES, scores, strict=True)
    ]  # fmt: skip


def table(*questions):
    return pa.Table.from_pylist([row for rows in questions for row in rows], schema=ANSWER_SCHEMA)


ANSWERS = table(
    question("P", "P", [-1, -2, -3, -4], stated=True, implication=None),  # P is no candidate: no rank
    question("a", "a", [-1, -2, -3, -4], stated=True, implication=None),  # rank 0
    question("b", "b", [-1, -3, -2, -4], stated=True, implication=None),  # rank 2
    question("a", "c", [-2, -3, -1, -4], stated=True),  # rank 0
    question("b", "d", [-1, -2, -3, -3], stated=True),  # rank 2 + a tie = 2.5
    question("a", "c", [-1, -2, -1, -4]),  # one tie: 0.5
    question("b", "d", [-4, -4, -4, -1]),  # 0
    question("b", "d", [-1, -2, -3, -4]),  # 3
    question("b", "d", [-1, -3, -3, -2], trained=False),  # 1
)


def value(name):
    metric = measure_all(rank_table(ANSWERS))[name]
    return metric.value, metric.n, metric.clusters


def test_ranks_are_counted_with_ties_half():
    ranks = rank_table(ANSWERS)
    assert [None if rank != rank else rank for rank in ranks.rank] == [None, 0, 2, 0, 2.5, 0.5, 0, 3, 1]
    assert list(ranks.top[:5]) == ["a", "a", "a", "c", "a"]


def test_implication_rank_train():
    assert value("implication_rank_train") == (1.25, 2, 2)


def test_recall_rank():
    only = rank_table(ANSWERS.slice(4, 8))
    assert MEASURES["recall_rank"](only).value == 1.0


def test_implication_rank_test():
    assert value("implication_rank_test") == (pytest.approx(3.5 / 3), 3, 2)


def test_implication_accuracy_test():
    # A tie at the top is not an answer: only one of three.
    assert value("implication_accuracy_test") == (pytest.approx(1 / 3), 3, 2)


def test_paraphrase_rank_test():
    assert value("paraphrase_rank_test") == (1.0, 1, 1)


def test_chance_rank():
    assert value("chance_rank")[0] == 1.5


def test_marginal_rank_of_answers_taken_equally_often():
    # c and d are stated once each: either stands at rank 0.5.
    assert value("marginal_rank")[0] == 0.5


def test_marginal_rank_knows_how_often():
    stated = [question("a", "c", [0, 0, 0, 0], stated=True, name=f"s{i}") for i in range(3)]
    rare = question("b", "d", [0, 0, 0, 0], stated=True, name="s3")
    asked = [question("a", "c", [0, 0, 0, 0]), question("b", "d", [0, 0, 0, 0]), question("x", "a", [0, 0, 0, 0])]
    found = measure_all(rank_table(table(*stated, rare, *asked)))["marginal_rank"]
    # c first, d second, a shares the last two places: 0, 1 and 2.5.
    assert found.value == pytest.approx(3.5 / 3)


def test_marginal_rank_without_stated_rows_counts_what_is_expected():
    asked = [question(cluster, answer, [0, 0, 0, 0]) for cluster, answer in [("a", "c"), ("b", "d")]]
    assert measure_all(rank_table(table(*asked)))["marginal_rank"].value == 0.5


def test_marginal_rank_counts_each_seed_by_itself():
    """Other answers are taken in another seed, as where they are fictitious people: no guess has to know both."""
    worlds = [[("a", "c"), ("b", "d")], [("a", "a"), ("b", "b")]]
    asked = [question(cluster, answer, [0, 0, 0, 0], seed=seed)
             for seed, pairs in enumerate(worlds) for cluster, answer in pairs]  # fmt: skip
    assert measure_all(rank_table(table(*asked)))["marginal_rank"].value == 0.5


def test_five_of_ten_answers_give_two():
    candidates = [f"answer {i}" for i in range(10)]
    rows = []
    for i in range(5):
        for stated in (True, False):
            rows += [
                {"seed": 0, "checkpoint": 0, "subject": f"{i}{stated}", "relation": "t", "implication": "r->t",
                 "cluster": str(i), "prompt": "p", "trained": True, "candidate": candidate, "log_probability": -1.0,
                 "expected": candidates[i], "stated": stated}
                for candidate in candidates
            ]  # fmt: skip
    found = measure_all(rank_table(pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA)))
    assert found["marginal_rank"].value == 2.0
    assert found["chance_rank"].value == 4.5


def test_the_interval_is_over_clusters_not_rows():
    # Two beliefs, fifty rows each: rows would give about 0.4 to 0.6, clusters give all or nothing.
    values = np.array([0.0] * 50 + [1.0] * 50)
    low, high, clusters = interval(values, np.array(["x"] * 50 + ["y"] * 50, dtype=object))
    assert (low, high, clusters) == (0.0, 1.0, 2)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(150):
        beliefs = generator.normal(size=20)
        low, high, _ = interval(np.repeat(beliefs, 4), np.repeat(np.arange(20), 4).astype(str).astype(object))
        hits += low <= 0 <= high
    assert 0.86 <= hits / 150 <= 0.99


def test_few_clusters_say_so_and_nothing_gives_nothing():
    clusters = np.array([str(i) for i in range(10)], dtype=object)
    assert mean_metric(np.zeros(10), clusters, "rank").note is None
    assert mean_metric(np.zeros(9), clusters[:9], "rank").note == "few clusters"
    assert mean_metric(np.zeros(0), clusters[:0], "rank") is None


def test_forgetting_is_the_rise_a_token():
    found = forgetting_nats(np.array([10.0, 20.0]), np.array([14.0, 22.0]), np.array([10.0, 20.0]))
    assert found.value == pytest.approx(6 / 30)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.4))
    assert (found.n, found.clusters, found.note) == (30, 2, "few clusters")


def test_the_summary_tells_before_from_after_and_one_implication_from_another():
    answers = table(
        question("a", "c", [-1, -2, -3, -4], checkpoint=0, name="s"),
        question("b", "d", [-1, -2, -3, -4], checkpoint=0, name="s2"),
        question("a", "c", [-4, -2, -1, -3], checkpoint=2, name="s"),
        question("b", "d", [-4, -2, -3, -1], checkpoint=2, name="s2"),
        question("a", "b", [-4, -2, -1, -3], checkpoint=2, implication="r->u", name="s"),
    )
    found = summarise(answers)
    assert found["implication_rank_test_before"].value == 2.5
    assert found["implication_rank_test"].value == pytest.approx(1 / 3)
    assert found["implications"]["r->t"]["implication_rank_test"].value == 0
    assert found["implications"]["r->u"]["implication_rank_test"].value == 1
    # Two pairs: the expected map is the better of two permutations.
    assert found["implications"]["r->t"]["map_test"].p == 0.5
    assert found["implications"]["r->u"]["map_test"] is None
    assert found["paraphrase_rank_test"] is None


#: What the base model believes once told: a first (1/2), then b and c alike (1/4 each), d never.
TOLD = np.log([0.5, 0.25, 0.25, 1e-12])
WARRANTED = table(*(
    [row | {"warranted": belief} for row, belief in zip(rows, TOLD, strict=True)]
    for rows in (
        question("a", "a", np.log([0.8, 0.1, 0.05, 0.05])),  # a: rank 0; ln 0.8/0.5 beyond
        question("b", "b", np.log([0.1, 0.4, 0.25, 0.25]) - 3),  # b: rank 1.5; ln 0.4/0.25, whatever all texts get
        question("a", "a", np.log([0.3, 0.25, 0.25, 0.2])),  # a, of which it is less sure than what is warranted
        question("a", "a", np.log([0.8, 0.1, 0.05, 0.05]), trained=False),
    )
), question("b", "b", [-4, -1, -4, -4]), question("a", "a", [-1, -2, -3, -4], stated=True))  # fmt: skip


def test_warranted_rate():
    """Of the three that were judged, on the trained prompt, the top answer is the first that is warranted in two."""
    found = measure_all(rank_table(WARRANTED))["warranted_rate"]
    assert (found.value, found.n, found.unit) == (2 / 3, 3, "share")
    assert measure_all(rank_table(ANSWERS))["warranted_rate"] is None, "nothing was judged"
    ranks = rank_table(WARRANTED).warranted_rank
    np.testing.assert_array_equal(ranks, [0, 1.5, 0, 0, np.nan, np.nan])


def test_excess_nats():
    found = measure_all(rank_table(WARRANTED))["excess_nats"]
    assert found.value == pytest.approx((np.log(0.8 / 0.5) + np.log(0.4 / 0.25) + 0) / 3) and found.unit == "nats"
    older = ANSWERS.drop_columns(["warranted"])
    assert measure_all(rank_table(older))["excess_nats"] is None, "tables of earlier versions lack the column"


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_has_a_test_of_its_name(name):
    assert f"def test_{name}" in Path(__file__).read_text(encoding="utf-8"), f"write test_{name}"


def test_adding_a_measure_is_one_function(monkeypatch):
    monkeypatch.setattr(implications, "MEASURES", dict(MEASURES))

    @measure("number_of_questions")
    def number_of_questions(table):
        return mean_metric(np.ones(len(table)), clusters_of(table), "share")

    assert measure_all(rank_table(ANSWERS))["number_of_questions"].n == 9


def test_each_seed_ends_at_its_own_last_checkpoint():
    # Seed 0 stops after one pass, seed 1 after three; both count, each where it ended.
    answers = table(
        question("a", "c", [-1, -2, -3, -4], checkpoint=0, seed=0),
        question("a", "c", [-1, -2, -3, -4], checkpoint=0, seed=1),
        question("a", "c", [-4, -2, -1, -3], checkpoint=1, seed=0),
        question("a", "c", [-4, -2, -3, -1], checkpoint=1, seed=1),
        question("a", "c", [-2, -1, -3, -4], checkpoint=3, seed=1),
    )
    ranks = rank_table(answers)
    assert list(zip(at_end(ranks).seed, at_end(ranks).checkpoint, strict=True)) == [(0, 1), (1, 3)]
    assert answers_at_end(answers).num_rows == 2 * len(CANDIDATES)
    found = summarise(answers)
    assert (found["implication_rank_test"].value, found["implication_rank_test"].clusters) == (1.0, 2)
    assert found["implication_rank_test_before"].value == 2.0
    assert len(at_end(ranks.only(seed=9))) == 0 and answers_at_end(answers.slice(0, 0)).num_rows == 0


def test_seeds_that_end_alike_are_read_at_the_common_end():
    answers = table(*(question("a", "c", [-1, -2, -3, -4], checkpoint=c, seed=s) for s in (0, 1) for c in (0, 2)))
    last = rank_table(answers).only(checkpoint=2)
    assert measure_all(at_end(rank_table(answers))) == measure_all(last)


def test_the_standard_error_is_that_of_cluster_means():
    # Two clusters of means 0 and 1: the mean of two draws is 0, 1/2 or 1 in 1/4, 1/2, 1/4 of all cases, whose
    # standard deviation is the square root of 1/8, however many rows each cluster has.
    clusters = np.array(["x"] * 50 + ["y"] * 50, dtype=object)
    values = np.array([0.0] * 50 + [1.0] * 50)
    assert standard_error(values, clusters) == pytest.approx(np.sqrt(1 / 8), rel=0.03)
    assert standard_error(values[:50], clusters[:50]) is None
    assert standard_error(values[:0], clusters[:0]) is None


def test_the_first_checkpoint_at_which_the_stated_rows_are_learned():
    right, wrong = [-1, -2, -3, -4], [-4, -2, -3, -1]
    seen = [(0, 0, right), (0, 1, wrong), (0, 2, right), (0, 3, right), (1, 0, wrong), (1, 1, wrong)]
    rows = [
        question("a", "a", scores, stated=True, implication=None, checkpoint=epoch, seed=seed)
        for seed, epoch, scores in seen
    ]
    assert first_learned(rank_table(table(*rows))) == {0: 2, 1: None}


def test_the_margin_of_the_unstated_is_counted_in_stated_margins():
    answers = table(
        question("a", "a", [-1, -5, -6, -7], stated=True),  # margin 4
        question("b", "b", [-9, -1, -3, -9], stated=True),  # margin 2: the stated mean is 3
        question("a", "a", [-1, -4, -9, -9]),  # margin 3
        question("b", "b", [-1, -2, -9, -9]),  # margin -1: the unstated mean is 1
        question("b", "b", [-9, -1, -9, -9], trained=False),  # asked in other words: left out
        question("b", "b", [-9, -1, -9, -9], stated=True, implication=None),  # a fact: left out
    )
    found = margin_ratio(answers)
    assert (found.value, found.n, found.clusters, found.note) == (pytest.approx(1 / 3), 2, 2, "few clusters")
    # Only pair b drawn: -1 over 2; only pair a: 3 over 4.
    assert (found.low, found.high) == (pytest.approx(-0.5), pytest.approx(0.75))
    assert margin_ratio(answers, "r->u") is None
    assert margin_ratio(answers.filter(pc.invert(answers["stated"]))) is None


def test_the_rank_of_what_another_map_implies():
    answers = table(
        question("a", "a", [-1, -2, -3, -4], name="s1"),
        question("b", "b", [-1, -2, -3, -4], name="s2"),
        question("c", "c", [-1, -2, -3, -4], name="s3"),
        question("a", "a", [-1, -2, -3, -4], stated=True, name="s4"),
    )
    # a -> d ranks 3, b -> a ranks 0; c is not in the map.
    found = map_rank(answers, "r->t", {"a": "d", "b": "a"})
    assert (found.value, found.n) == (1.5, 2)
    assert map_rank(answers, "r->t", {}) is None and map_rank(answers, "r->u", {"a": "d"}) is None


def map_answers(scores, asked=1):
    """`asked` subjects of each pair i expect answer i; scores[i][j] is the score of answer j for pair i."""
    rows = [
        {"seed": 0, "checkpoint": 0, "subject": f"{i}.{k}", "relation": "t", "implication": "r->t",
         "cluster": f"g{i:02d}", "prompt": "p", "trained": True, "candidate": f"a{j:02d}",
         "log_probability": float(score),
         "expected": f"a{i:02d}", "stated": False}
        for i, line in enumerate(scores) for k in range(asked) for j, score in enumerate(line)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA)


def test_a_perfect_map_of_five_beats_all_but_itself():
    found = map_test(map_answers(np.eye(5), asked=3))
    assert (found.p, found.pairs, found.permutations, found.exact) == (1 / 120, 5, 120, True)


def test_no_association_is_no_evidence():
    assert map_test(map_answers(np.zeros((5, 5)))).p == 1.0


def test_knowing_only_the_marginal_is_no_evidence():
    # Every subject gets the same order of answers: all permutations rank alike.
    assert map_test(map_answers(np.tile(np.arange(5.0), (5, 1)))).p == 1.0


def test_rank_totals_add_up_subjects_and_count_ties_half():
    totals = rank_totals(map_answers([[3, 2, 2], [1, 3, 2], [0, 0, 0]], asked=2))
    np.testing.assert_array_equal(totals, [[0, 3, 3], [4, 0, 2], [2, 2, 2]])


@settings(deadline=None)
@given(st.integers(2, 6).flatmap(lambda n: st.lists(
    st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=n, max_size=n)))  # fmt: skip
def test_the_count_equals_brute_force(scores):
    matrix, found = rank_totals(map_answers(scores)), map_test(map_answers(scores))
    totals = [sum(matrix[i, p] for i, p in enumerate(order)) for order in itertools.permutations(range(len(matrix)))]
    expected = sum(total <= np.trace(matrix) for total in totals) / len(totals)
    assert found.exact and found.p == pytest.approx(expected, abs=1e-12)


def test_beyond_the_exact_reach_permutations_are_drawn_and_said_so(monkeypatch):
    monkeypatch.setattr(implications, "EXACT_PAIRS", 3)
    scores = np.diag([1.0, 0, 0, 1])
    drawn, exact = map_test(map_answers(scores)), None
    monkeypatch.undo()
    exact = map_test(map_answers(scores))
    assert not drawn.exact
    assert drawn.permutations == implications.SAMPLES
    assert drawn.p == pytest.approx(exact.p, abs=0.01)


def test_one_pair_cannot_be_tested():
    assert map_test(map_answers([[1.0]])) is None
    assert map_test(map_answers([[1.0]]).slice(0, 0)) is None


def test_permutations_drawn_in_parts_are_those_of_one_large_part(monkeypatch):
    scores = map_answers(np.random.default_rng(1).integers(0, 4, (20, 20)))
    whole = map_test(scores)
    monkeypatch.setattr(implications, "AT_ONCE", 20 * 777)
    assert map_test(scores) == whole and not whole.exact
