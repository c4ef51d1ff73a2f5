import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.packs.pack import Implication, Pack, Relation
from spillover.theory.table import table_of
from tests.theory.random_packs import pack_of, random_pack

rows = st.lists(
    st.tuples(st.sampled_from("stuvw"), st.sampled_from(["r1", "r2", "r3"]), st.sampled_from("abc")), min_size=1
)


@settings(deadline=None, max_examples=30)
@given(rows)
def test_two_subjects_share_a_signature_exactly_when_they_state_the_same(facts):
    table = table_of(pack_of(facts))
    stated = {name: {(r, a) for s, r, a in facts if s == name} for name in table.subjects}
    for i, one in enumerate(table.subjects):
        for j, other in enumerate(table.subjects):
            assert (table.signature[i] == table.signature[j]) == (stated[one] == stated[other])
    assert table.problem.sizes.sum() == len(table.subjects)
    assert table.problem.cells == len({(table.signature[table.subjects.index(s)], r, a) for s, r, a in facts})


def test_compression_keeps_norms_and_margins():
    table = table_of(random_pack(3))
    matrix = np.random.default_rng(0).normal(size=(table.problem.answers, table.problem.columns))
    full = table.expand(matrix)
    assert np.isclose(np.linalg.norm(full, "nuc"), np.linalg.norm(matrix, "nuc"))
    assert np.isclose(np.linalg.norm(full), np.linalg.norm(matrix))
    assert np.isclose(table.full_problem.margins(full).min(), table.problem.margins(matrix).min())


def test_margins_by_hand():
    """Two subjects, one relation, answers a and b: scores are subject column plus relation column."""
    table = table_of(pack_of([("s", "r", "a"), ("t", "r", "b")]))
    full = np.array([[1.0, -2.0, 0.25], [0.0, 3.0, -0.25]])
    assert table.answers == ("a", "b")
    assert np.allclose(table.full_problem.margins(full), [1.25 - -0.25, 2.75 - -1.75])


def test_a_repeated_row_counts_once():
    assert len(table_of(pack_of([("s", "r", "a"), ("s", "r", "a"), ("t", "r", "b")])).subject) == 2


def test_questions_are_those_of_the_pack():
    holes = random_pack(5)
    assert table_of(holes).questions.count.sum() == len(holes.questions)
    relations = (Relation("in", ("{subject}",)), Relation("speaks", ("{subject}",)))
    base = pack_of([("s", "in", "P"), ("t", "in", "P"), ("t", "speaks", "F"), ("u", "in", "T"), ("v", "in", "X")])
    rule = Implication("in", "speaks", "causal", {"P": "F", "T": "J"})
    pack = Pack("p", "", "", relations, base.facts, (rule,))
    table = table_of(pack)
    found = {
        (table.representative[s], table.answers[e])
        for s, e in zip(table.questions.signature, table.questions.expected, strict=True)
    }
    asked = {(table.subjects.index(q.subject), q.expected) for q in pack.questions}
    assert found == asked == {(0, "F"), (2, "J")}


def test_a_large_pack_compresses_quickly():
    """100,000 subjects, two relations, five kinds: seconds, not minutes, and no subject is a column."""
    kind = np.random.default_rng(0).integers(5, size=100_000)
    facts = [(f"s{i}", relation, f"{relation}{k}") for i, k in enumerate(kind) for relation in ("r1", "r2")]
    pack = pack_of(facts)
    began = time.process_time()
    table = table_of(pack)
    assert time.process_time() - began < 5
    assert table.problem.columns == 7
    assert table.problem.sizes.sum() == 100_000
