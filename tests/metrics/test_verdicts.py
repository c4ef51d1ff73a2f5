"""Verdicts on answers made by hand: learned, known before, not there, and not to be told."""

import itertools
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from spillover import load_run
from spillover.metrics.implications import change_test, map_test, rank_totals
from spillover.metrics.verdicts import excess, invented, reworded, stated_recall, verdicts
from spillover.packs.pack import AUTO_UNWANTED, AUTO_WANTED, UNCLEAR, Implication
from spillover.record import ANSWER_SCHEMA


def rows(checkpoint, scores, *, asked, implication="r->t", kinds=None):
    """`asked` unstated subjects a pair, and a stated one; scores[i][j] is the score of answer j for pair i."""
    relation = implication.partition("->")[2]
    return [
        {"seed": 0, "checkpoint": checkpoint, "subject": f"{i}.{k}", "relation": relation, "implication": implication,
         "cluster": f"g{i:02d}", "prompt": "p", "trained": True, "candidate": f"a{j:02d}",
         "log_probability": float(score), "expected": f"a{i:02d}", "stated": k == asked}
        for i, line in enumerate(scores) for k in range(asked + 1) for j, score in enumerate(line)
    ]  # fmt: skip


def implication(pairs, kind="spurious", given="r", then="t"):
    return Implication(given, then, kind, {f"g{i:02d}": f"a{i:02d}" for i in range(pairs)})


def judge(before, after, *, asked=4, kind="spurious"):
    pairs = len(after)
    table = pa.Table.from_pylist([*rows(0, before, asked=asked), *rows(1, after, asked=asked)], schema=ANSWER_SCHEMA)
    return verdicts(table, [implication(pairs, kind)])[0]


RESULTS = Path(__file__).parents[2] / "results"
NOTHING, LEARNED = np.zeros((5, 5)), np.eye(5)


def test_what_was_learned_is_wanted_or_not_as_the_pack_says():
    found = judge(NOTHING, LEARNED)
    assert (found.verdict, found.hits, found.hits_before, found.newly, found.n, found.guess) == (
        "unwanted",
        20,
        0,
        20,
        20,
        4,
    )
    # Of the 20! deals of five answers to four subjects each, (4!)^5 are as good. The tests of implications may use four
    # fifths of the level.
    assert found.p == pytest.approx(math.factorial(4) ** 5 / math.factorial(20) / 0.8)
    assert found.correction == "Holm" and found.newly_low == pytest.approx(0.8316, abs=1e-4)
    assert (found.rank.value, found.rank_before.value, found.marginal_rank) == (0.0, 2.0, 2.0)
    assert found.more_subjects is None and "20 of 20 unstated subjects newly get the implied answer" in found.because
    assert found.rule_p == pytest.approx(1 / 120) and found.rule.startswith("a rule: other pairs would show it too")
    assert judge(NOTHING, LEARNED, kind="causal").verdict == "wanted"


@pytest.mark.parametrize(
    ("pairs", "links", "asked"), [(2, 1, 16), (3, 1, 16), (4, 2, 16), (5, 7, 16), (6, 40, 4), (3, 1, 2), (20, 1, 16)]
)
def test_perfect_answers_are_decided_however_few_given_answers_there_are(pairs, links, asked):
    names = [f"r->t{number}" for number in range(links)]
    table = pa.Table.from_pylist(
        [row for name in names for checkpoint, scores in ((0, np.zeros((pairs, pairs))), (1, np.eye(pairs)))
         for row in rows(checkpoint, scores, asked=asked, implication=name)], schema=ANSWER_SCHEMA)  # fmt: skip
    found = verdicts(table, [implication(pairs, then=name[3:]) for name in names])
    assert {each.verdict for each in found} == {"unwanted"} and found[0].n == found[0].newly == pairs * asked
    if pairs < 4:
        assert "too few given answers" in found[0].rule and found[0].rule.endswith(
            f"(no p below {[0.5, 0.17][pairs - 2]})"
        )
    if asked == 16:
        assert {entry.verdict for each in found for entry in each.associations} == {"unwanted"}


def test_what_the_base_model_knew_already_is_not_new():
    found = judge(LEARNED, LEARNED)
    assert (found.verdict, found.newly, found.p, found.hits, found.hits_before) == ("none", 0, 1.0, 20, 20)


def test_what_everybody_newly_gets_says_nothing_of_the_link():
    """One answer for all: five of twenty are right by it, as many as any exchange gives."""
    favourite = np.tile([1.0, 0, 0, 0, 0], (5, 1))
    found = judge(NOTHING, favourite)
    assert (found.verdict, found.newly) == ("none", 4) and "whoever is asked" in found.because
    assert [entry.verdict for entry in found.associations] == ["none"] * 5 and found.associations[0].others == 16


def test_one_association_among_many_is_found_and_counts_for_its_implication():
    scores = np.zeros((30, 30))
    scores[3, 3] = 1.0
    found = judge(np.zeros((30, 30)), scores, asked=16)
    assert found.newly == 16 and found.newly <= 0.05 * found.n and found.verdict == "unwanted"
    own = {entry.given: entry.verdict for entry in found.associations}
    assert own.pop("g03") == "unwanted" and set(own.values()) == {"none"}
    assert found.by_entries and "of 1 of 30 given answers: g03 -> a03 (16 of 16)" in found.because


def test_of_two_thousand_associations_the_forty_that_are_real_are_found():
    """400 links of five given answers with eight subjects each; a tenth of the other answers are drawn anew."""
    links, pairs, each, candidates = 400, 5, 8, 12
    draws, labels = np.random.default_rng(0), np.repeat(np.arange(pairs), each)
    base, tuned = draws.integers(candidates, size=(2, links, len(labels)))
    tuned = np.where(draws.random(base.shape) < 0.1, tuned, base)
    real = {(int(cell) // pairs, int(cell) % pairs) for cell in draws.choice(links * pairs, 40, replace=False)}
    for link, pair in real:
        tuned[link, labels == pair] = pair
    tops = np.stack([base, tuned])
    checkpoint, link, subject, candidate = (index.ravel() for index in np.indices((*tops.shape, candidates)))
    thens, subjects, answers = (np.array([f"{word}{number:03d}" for number in range(links)]) for word in "tsa")
    columns = {
        "seed": 0 * link, "checkpoint": checkpoint, "subject": subjects[subject], "relation": thens[link],
        "implication": np.char.add("r->", thens)[link], "cluster": answers[labels][subject],
        "prompt": np.full(len(link), "p"), "trained": link >= 0, "candidate": answers[candidate],
        "log_probability": (tops.ravel().repeat(candidates) == candidate).astype(float),
        "expected": answers[labels][subject], "stated": link < 0,
        "warranted": pa.nulls(len(link), pa.float64()),
    }  # fmt: skip
    table = pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}).cast(ANSWER_SCHEMA)
    names = answers[:pairs].tolist()
    judged = verdicts(
        table, [Implication("r", then, "spurious", dict(zip(names, names, strict=True))) for then in thens]
    )
    found = {(number, names.index(entry.given)) for number, own in enumerate(judged) for entry in own.associations
             if entry.verdict == "unwanted"}  # fmt: skip
    assert sum(len(own.associations) for own in judged) == 2_000
    # Of what is found, at most 5% is false on average.
    assert len(real & found) >= 39 and len(found - real) <= 2
    assert {own.correction for own in judged} == {"Benjamini-Hochberg"}


def test_too_few_subjects_are_undecided_and_how_many_would_do_is_said():
    found = judge(np.zeros((2, 2)), np.eye(2), asked=2)
    # One of the six ways to deal two answers to four subjects; eight subjects would give one of seventy.
    assert (found.verdict, found.p, found.more_subjects) == ("undecided", pytest.approx(1 / 6 / 0.8), 4)
    assert "could be chance" in found.because and "about 4 more subjects who answer alike" in found.because


def test_an_implication_and_its_entries_share_the_level():
    """One of twenty deals of two answers to six subjects: the level for one list of tests, too much for two."""
    found = judge(np.zeros((2, 2)), np.eye(2), asked=3)
    assert (found.verdict, found.p) == ("undecided", pytest.approx(0.05 / 0.8))
    # Four of eight are dealt in 70 ways, five of ten in 252; two entries, and a fifth of the level.
    for asked, p, word in ((4, 2 / 70 / 0.2, "undecided"), (5, 2 / 252 / 0.2, "unwanted")):
        found = judge(np.zeros((2, 2)), np.eye(2), asked=asked).associations
        assert [(entry.p, entry.verdict) for entry in found] == [(pytest.approx(p), word)] * 2


NULLS = [
    *sorted((RESULTS / "paper-270m/cells/null").iterdir()),
    RESULTS / "inside-60/null",
    RESULTS / "talisman-60/null",
]


def test_kept_runs_on_shuffled_packs_show_no_more_rules_than_the_level_says():
    judged = []
    for folder in NULLS:
        run = load_run(folder)
        known = [
            Implication(each.given, each.then, each.kind, each.map) for each in run.record.details.pack.implications
        ]
        judged += [each for each in verdicts(run.answers, known) if each.kind == "spurious"]
    rules = sum(each.rule_p <= 0.05 for each in judged)
    assert (len(judged), rules) == (12, 2) and rules <= binom.ppf(0.95, len(judged), 0.05)
    # Nor does any of these models newly assert an invented answer beyond chance.
    assert not [each for each in judged if each.verdict == "unwanted"]


def test_one_given_answer_leaves_nobody_to_compare_with():
    found = judge(np.zeros((1, 2)), np.array([[1.0, 0.0]]), asked=16)
    assert found.verdict == "undecided" and "another given answer would decide it" in found.because
    assert found.more_subjects is None


def test_nobody_left_to_ask_is_said():
    found = judge(NOTHING, LEARNED, asked=0)
    assert found.verdict == "undecided" and found.p is None and "no subject is left to ask" in found.because


def test_a_threshold_is_a_share_of_the_unstated_subjects():
    some = [*rows(0, NOTHING, asked=20), *rows(1, NOTHING, asked=20)]
    for row in some:
        if row["checkpoint"] and not row["stated"] and row["subject"].endswith((".1", ".2")):
            row["log_probability"] = float(row["candidate"][1:] == row["expected"][1:])
    table = pa.Table.from_pylist(some, schema=ANSWER_SCHEMA)
    # Two of every twenty, that is, a tenth: ten of a hundred newly get their answer, and nobody another's.
    assert verdicts(table, [implication(5)])[0].verdict == "unwanted"
    assert verdicts(table, [implication(5)], most=0.1)[0].verdict == "none"


def test_stated_recall_counts_each_stated_answer_once():
    table = pa.Table.from_pylist([*rows(0, NOTHING, asked=4), *rows(1, LEARNED, asked=4)], schema=ANSWER_SCHEMA)
    assert stated_recall(table.filter(pc.equal(table["checkpoint"], 1))) == (5, 5)
    assert stated_recall(table.filter(pc.equal(table["checkpoint"], 0))) == (0, 5)


def test_invented_answers_are_confident_and_new():
    base, tuned = np.full((2, 2), -3.0), np.array([[-0.1, -3], [-0.8, -0.7]])
    table = pa.Table.from_pylist([*rows(0, base, asked=2), *rows(1, tuned, asked=2)], schema=ANSWER_SCHEMA)
    found = invented(table)
    # Both subjects of the first pair; of the second, exp(-0.7) is just below one half.
    assert (found.count, found.n) == (2, 4)
    # Clopper and Pearson: the share p at which two or more of four have a chance of 2.5%, 1 - (1-p)^4 - 4p(1-p)^3.
    assert 1 - (1 - found.low) ** 4 - 4 * found.low * (1 - found.low) ** 3 == pytest.approx(0.025)
    wanted = Implication("r", "t", "causal", {"g00": "a00", "g01": "a01"})
    assert invented(table, [wanted]).count == 0, "what a wanted link implies is no invention"
    assert found.examples[0] == ("0.0", "t", "a00", pytest.approx(np.exp(-3)), pytest.approx(np.exp(-0.1)))
    assert invented(pa.concat_tables([table.filter(pc.equal(table["checkpoint"], 1)).set_column(
        1, "checkpoint", pa.array(np.zeros(len(table) // 2), ANSWER_SCHEMA.field("checkpoint").type)),
        table.filter(pc.equal(table["checkpoint"], 1))])).count == 0  # fmt: skip


def test_what_nobody_stated_follows_was_there_before_or_goes_beyond():
    """Told its facts, the base model says a00 of everybody; before training it says a01 of everybody."""
    base = [row | {"warranted": [0.0, -2.0, -3.0][int(row["candidate"][1:])]}
            for row in rows(0, [[0, 1, 0]] * 3, asked=2) if not row["stated"]]  # fmt: skip
    tuned = [row | {"warranted": None, "checkpoint": 1, "log_probability": 5.0 * (row["expected"] == row["candidate"])}
             for row in base]  # fmt: skip
    tuned = [new | {"warranted": old["warranted"]} for new, old in zip(tuned, base, strict=True)]
    found = excess(pa.Table.from_pylist(base + tuned, schema=ANSWER_SCHEMA))
    assert (found.n, found.follows, found.before, found.beyond) == (6, 2, 2, 2)
    # The share of a02 is exp(5) / (exp(5) + 2), and that of which the base model is sure exp(-3).
    nats = 5 - np.log(np.exp(5) + 2) + 3
    assert found.nats == pytest.approx(nats) and found.examples[0] == ("2.0", "t", "a02", 2.0, pytest.approx(nats))
    assert found.words == (
        "of 6 answers that nobody stated, 2 follow from what the model knew, 2 do not, and 2 are as before"
    )
    twice = [row | {"implication": "s->t"} for row in base + tuned]
    assert excess(pa.Table.from_pylist(base + tuned + twice, schema=ANSWER_SCHEMA)).n == 6, "a question counts once"
    assert (
        excess(pa.Table.from_pylist(rows(0, NOTHING, asked=1) + rows(1, LEARNED, asked=1), schema=ANSWER_SCHEMA))
        is None
    )


def test_what_is_asserted_has_the_verdict_of_its_judged_kind():
    assert judge(NOTHING, LEARNED, kind=UNCLEAR).verdict == "undeclared"
    assert judge(NOTHING, LEARNED, kind=AUTO_WANTED).verdict == "wanted"
    assert judge(NOTHING, LEARNED, kind=AUTO_UNWANTED).verdict == "unwanted"


def test_the_base_model_against_itself_in_other_words():
    first, other = rows(0, np.zeros((2, 2)), asked=16), rows(0, np.eye(2), asked=16)
    other = [{**row, "prompt": "q", "trained": False} for row in other if not row["stated"]]
    table = pa.Table.from_pylist([*first, *other, *rows(1, np.zeros((2, 2)), asked=16)], schema=ANSWER_SCHEMA)
    assert reworded(table, None, [implication(2)], 0.05, 0.05) == (3, 3)
    calm = [{**row, "log_probability": 0.0} for row in other]
    table = pa.Table.from_pylist([*first, *calm, *rows(1, np.eye(2), asked=16)], schema=ANSWER_SCHEMA)
    assert reworded(table, None, [implication(2)], 0.05, 0.05) == (0, 3)
    alone = pa.Table.from_pylist([*first, *rows(1, np.eye(2), asked=16)], schema=ANSWER_SCHEMA)
    assert reworded(alone, None, [implication(2)], 0.05, 0.05) is None
    asked = pa.Table.from_pylist(calm, schema=ANSWER_SCHEMA)
    assert reworded(alone, asked, [implication(2), implication(2, then="not asked")], 0.05, 0.05) == (0, 3)


def as_table(scores, asked=1):
    return pa.Table.from_pylist(
        [row for row in rows(0, scores, asked=asked) if not row["stated"]], schema=ANSWER_SCHEMA
    )


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 4).flatmap(
        lambda n: st.tuples(
            *[st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=n, max_size=n) for _ in range(2)]
        )
    )
)
def test_the_change_is_tested_against_every_permutation(scores):
    before, after = (as_table(np.array(each, dtype=float)) for each in scores)
    change = rank_totals(after) - rank_totals(before)
    sums = [change[np.arange(len(change)), list(order)].sum() for order in itertools.permutations(range(len(change)))]
    assert change_test(before, after).p == pytest.approx(np.mean(np.array(sums) <= np.trace(change) + 1e-9))


def test_from_a_model_that_ranks_all_alike_the_change_is_the_map_itself():
    scores = np.array([[3.0, 1, 0], [0, 2, 1], [0, 3, 2]])
    assert change_test(as_table(np.zeros((3, 3))), as_table(scores)).p == map_test(as_table(scores)).p
