"""The entry points: statuses, questions, ranges, and the behaviour of abstaining rows."""

import numpy as np
import pytest

import spillover
from spillover.errors import UsageError
from spillover.packs.pack import Fact, Implication, Pack, Relation
from spillover.theory.norms import NORMS
from spillover.theory.solving import certify, solve
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import table_of
from tests import quick
from tests.theory.random_packs import pack_of, random_pack


@pytest.mark.parametrize("norm", NORMS)
def test_the_solver_and_the_closed_form_tell_the_same(norm):
    task = EqualClasses(5, 1, 3)
    exact, solved = solve(task, norm), solve(task.pack(), norm, gap=1e-7)
    assert (exact.status, solved.status) == ("optimal", "optimal")
    assert np.isclose(exact.objective, solved.objective, rtol=1e-6)
    assert exact.signatures == solved.signatures == 10
    assert {a.predicted for a in exact.questions} == {a.predicted for a in solved.questions}
    assert [a.count for a in exact.questions] == [3] * 5
    assert len(solved.questions) == 15
    by_name = {a.subject: a for a in solved.questions}
    for answer in exact.questions:
        assert np.isclose(by_name[answer.subject].margin, answer.margin, atol=5e-3)
        assert by_name[answer.subject].expected == answer.expected


def test_the_weights_are_what_was_certified():
    for seed in range(4):
        pack = random_pack(seed)
        solution = solve(pack)
        found = certify(pack, solution.weights(), multipliers=solution.multipliers).certificate
        assert np.isclose(found.objective, solution.objective)
        assert np.isclose(found.lower_bound, solution.lower_bound)


@pytest.mark.parametrize(("abstaining", "lead"), [(0, 0.835), (1, -0.106), (2, -0.360), (4, -0.602)])
def test_abstaining_flips_the_leaked_answer(abstaining, lead):
    rows = []
    for i in range(4):
        rows += [(f"s{i}.{j}", "r1", f"b{i}") for j in range(6)] + [(f"s{i}.0", "r2", f"c{i}")]
        rows += [(f"s{i}.{j}", "r2", "unknown") for j in range(1, abstaining + 1)]
    solution = solve(pack_of(rows, {"r2": ("unknown",)}), gap=1e-7)
    table, weights = solution.table, solution.weights()
    scores = weights[:, table.subjects.index("s0.5")] + weights[:, -1]
    assert abs(scores[table.answers.index("c0")] - scores[table.answers.index("unknown")] - lead) < 1e-3
    answer = next(a for a in solution.questions if a.subject == "s0.5")
    assert answer.predicted == ("unknown" if abstaining else "c0")


def test_contradicting_rows_cancel_the_leak_only_in_equal_number():
    """Of five subjects a class, one states c_i and k the next class's answer; the leak is a tie at k = 1 alone."""

    def predicted(contradicting):
        rows = []
        for i in range(4):
            rows += [(f"s{i}.{j}", "r1", f"b{i}") for j in range(6)] + [(f"s{i}.0", "r2", f"c{i}")]
            rows += [(f"s{i}.{j}", "r2", f"c{(i + 1) % 4}") for j in range(1, contradicting + 1)]
        solution = solve(pack_of(rows), gap=1e-8)
        table, weights = solution.table, solution.weights()
        scores = weights[:, table.subjects.index("s0.5")] + weights[:, -1]
        return scores[table.answers.index("c0")] - scores[table.answers.index("c1")]

    assert predicted(0) > 0.1
    assert abs(predicted(1)) < 1e-2
    assert predicted(2) < -0.1


def test_running_out_is_said_with_the_true_gap():
    solution = solve(EqualClasses(6, 1, 3).pack(), gap=1e-8, max_iterations=20)
    assert solution.status == "iterations"
    assert "limit of 20 iterations" in solution.verdict
    assert solution.gap is not None
    assert solution.gap > 1e-8
    assert solution.lower_bound <= solve(EqualClasses(6, 1, 3)).objective <= solution.objective


def test_an_infeasible_pack_is_said_to_be_so():
    rows = [("s", "r1", "a"), ("s", "r2", "b"), ("t", "r1", "b"), ("t", "r2", "a")]
    found = solve(pack_of(rows)).as_json()
    assert (found["status"], found["objective"]) == ("infeasible", None)
    assert {tuple(row.values()) for row in found["rows"]} == set(rows)
    with pytest.raises(UsageError, match="no matrix"):
        solve(pack_of(rows)).weights()


@pytest.mark.parametrize("norm", quick.first(reversed(NORMS), 1))
def test_ranges_hold_the_margin_and_settle_its_sign_or_say_not(norm):
    solution = solve(EqualClasses(3, 1, 2).pack(), norm, gap=1e-4, ranges=True)
    for answer in solution.questions:
        assert answer.margin_low - 1e-9 <= answer.margin <= answer.margin_high + 1e-9
        assert (answer.predicted == "undetermined") == (answer.margin_low <= 0)
    assert {a.predicted == "undetermined" for a in solution.questions} == {norm == "frobenius"}


def test_an_exact_range_is_a_point():
    answer = solve(EqualClasses(3, 1, 3)).questions[0]
    assert answer.margin_low == answer.margin == answer.margin_high


def test_a_pack_with_implications_asks_only_their_questions():
    relations = tuple(Relation(name, ("{subject}",)) for name in ("in", "speaks"))
    facts = [Fact(s, "in", c) for s, c in (("s", "P"), ("t", "P"), ("u", "T"), ("v", "X"))] + [Fact("s", "speaks", "F")]
    rule = Implication("in", "speaks", "causal", {"P": "F", "T": "J"})
    found = solve(Pack("p", "", "", relations, tuple(facts), (rule,)), gap=1e-6).questions
    assert [(a.subject, a.relation, a.expected) for a in found] == [("t", "speaks", "F"), ("u", "speaks", "J")]
    assert found[0].predicted == "F"
    assert found[0].ocr_margin == found[0].margin > 0


def test_many_holes_are_listed_by_signature():
    rows = [(f"s{i}", "r1", f"b{i % 3}") for i in range(10_002)]
    rows += [(f"t{i}", relation, f"{letter}{i}") for i in range(3) for relation, letter in (("r1", "b"), ("r2", "c"))]
    found = solve(pack_of(rows)).questions
    assert [answer.count for answer in found] == [3334] * 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gap": 0.0}, "gap of 0"),
        ({"gap": 2.0}, "gap"),
        ({"max_iterations": 0}, "0 iterations"),
        ({"norm": "l2"}, "no norm"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        solve(EqualClasses(3, 1, 1).pack(), **options)


def test_an_empty_pack_is_refused():
    with pytest.raises(UsageError, match="states nothing"):
        solve(Pack("empty", "", "", (Relation("r", ("{subject}",)),), ()))


def test_the_library_gives_the_same_functions():
    assert spillover.solve is solve
    assert spillover.certify is certify
    assert {"solve", "certify", "Pack"} <= set(dir(spillover))
    with pytest.raises(AttributeError, match="no attribute 'solv'"):
        spillover.solv  # noqa: B018
    assert table_of(spillover.open_pack("mixed")).problem.relations == 3
