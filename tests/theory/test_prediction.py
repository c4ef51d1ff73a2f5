"""Tables solved in parts and by factors, beside the whole."""

import numpy as np
import pytest

from spillover.packs.open import open_pack
from spillover.theory.prediction import affordable, factorised, parts, penalised_loss, solved, split, unknowns
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import table_of
from tests.theory.random_packs import pack_of, peer_optimum, random_pack


def two_parts(first=(3, 1, 3), second=(4, 2, 2)):
    """Two symbolic tasks that share nothing, as one pack."""
    rows = []
    for name, size in (("x", first), ("y", second)):
        rows += [tuple(f"{name}{word}" for word in fact) for fact in EqualClasses(*size).pack().facts]
    return pack_of(rows)


def test_parts_that_share_nothing_are_told_apart():
    problem = table_of(two_parts()).problem
    label = parts(problem)
    assert label.max() == 1 and len(split(problem, label)) == 2
    assert sum(part.cells for part, _, _ in split(problem, label)) == problem.cells
    assert parts(table_of(open_pack("mixed")).problem).max() == 0


def test_the_parts_together_are_the_whole_optimum():
    table = table_of(two_parts())
    whole, apart = solved(table), solved(table, whole=unknowns(table.problem) - 1)
    assert (whole.method, apart.method) == ("exact", "by parts") and apart.ranges is None
    assert apart.gap < 1e-5 and whole.gap < 1e-5
    norm = np.linalg.svd(apart.matrix.toarray(), compute_uv=False).sum()
    assert norm == pytest.approx(peer_optimum(table.problem, "nuclear"), rel=1e-4)
    assert table.problem.margins(apart.matrix.toarray()).min() == pytest.approx(1, abs=1e-6)
    cells = table.problem
    np.testing.assert_allclose(
        apart.scores(cells.cell_subject, cells.cell_relation),
        cells.scores(apart.matrix.toarray(), cells.cell_subject, cells.cell_relation),
    )


def test_a_part_of_two_answers_is_scaled_until_it_leads_the_others_too():
    """Alone, two answers are told apart by half a unit each; a third, of another part, scores zero."""
    rows = [("a", "r", "x"), ("b", "r", "y"), ("c", "q", "u"), ("d", "q", "v")]
    table = table_of(pack_of(rows))
    found = solved(table, whole=1)
    assert found.method in ("by parts", "factorised")
    if found.method == "by parts":
        assert table.problem.margins(found.matrix.toarray()).min() >= 1 - 1e-6
        norm = np.linalg.svd(found.matrix.toarray(), compute_uv=False).sum()
        assert norm * (1 - found.gap) <= peer_optimum(table.problem, "nuclear") * (1 + 1e-6) <= norm * (1 + 1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_factorised_gap_holds_against_an_independent_solver(seed):
    table = table_of(random_pack(seed))
    problem = table.problem
    if problem.answers < 2:
        pytest.fail("a pack of one answer tests nothing")
    found = factorised(table)
    size = np.linalg.svd(found.matrix, compute_uv=False).sum()
    best = peer_optimum(problem, "nuclear")
    assert problem.margins(found.matrix).min() == pytest.approx(1)
    assert size * (1 - found.gap) <= best * (1 + 1e-5) and best <= size * (1 + 1e-5)
    assert found.gap < 0.25


def test_the_factorised_gradient_is_the_slope_of_its_loss():
    problem = table_of(random_pack(3)).problem
    generator, rank = np.random.default_rng(0), 3
    values = generator.standard_normal(rank * (problem.answers + problem.columns))
    step = generator.standard_normal(len(values))
    gradient = penalised_loss(problem, values, 2.0)[1]
    ahead, behind = (penalised_loss(problem, values + sign * 1e-6 * step, 2.0)[0] for sign in (1, -1))
    assert (ahead - behind) / 2e-6 == pytest.approx(float(gradient @ step), rel=1e-5)


def test_beyond_every_reach_it_says_so(monkeypatch):
    table = table_of(open_pack("city-language:names=10,bridge=1"))
    monkeypatch.setattr("spillover.theory.prediction.MOST_NUMBERS", 10)
    assert not affordable(table.problem)
    found = solved(table, whole=1)
    assert found.method == "none" and found.matrix is None and found.verdict.startswith("Beyond reach: 10 kinds")


def test_factors_stand_in_where_the_whole_is_out_of_reach():
    table = table_of(open_pack("city-language:names=10,bridge=1"))
    found = solved(table, whole=1)
    assert found.method == "factorised" and 0 <= found.gap < 0.2 and "rank" in found.verdict


def test_a_pack_that_cannot_be_stated_says_why():
    rows = [("a", "r", "x"), ("a", "q", "y"), ("b", "r", "y"), ("b", "q", "x")]
    found = solved(table_of(pack_of(rows)))
    assert found.method == "none" and found.matrix is None and found.verdict.startswith("Infeasible")
