"""Whom the open probes ask about: who belongs to which group, how many, and that nobody invented is in the pack."""

import pytest

from spillover.errors import UsageError
from spillover.interp.open_probes import GROUPS, NEVER_SEEN, STATED, UNSTATED, choose, declared
from spillover.packs.builtin import available, draw_names
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact, Implication, Pack, Relation


def pack_of(facts, implications=()):
    names = dict.fromkeys(fact.relation for fact in facts)
    relations = tuple(Relation(name, ("{subject} " + name,)) for name in names)
    return Pack("made", "CC0-1.0", "made up", relations, tuple(facts), tuple(implications))


def test_bridging_subjects_are_the_stated_ones():
    pack = open_pack("country-code")
    cast = choose(pack, 0)
    assert [partition.relation for partition in cast.partitions] == ["lives_in", "codes_in"]
    lives, codes = cast.partitions
    assert len(lives.groups) == len(codes.groups) == 5
    bridging = {fact.subject for fact in pack.facts if fact.relation == "codes_in"}
    for group in lives.groups:
        assert len(group.unstated) == UNSTATED and len(group.stated) == STATED
        assert set(group.stated) <= bridging and not set(group.unstated) & bridging
        assert group.tested == group.unstated
        assert {pack.stated[name, "lives_in"] for name in (*group.unstated, *group.stated)} == {group.answer}
    for group in codes.groups:
        # All of them live somewhere, so nothing is stated of one that is not of all.
        assert set(group.tested) == set(group.unstated) <= bridging and not group.stated
    # Bridging subjects are asked about once, for both relations.
    assert len(cast.subjects) == len(set(cast.subjects)) == 5 * (UNSTATED + STATED)
    for partition in cast.partitions:
        for row, number in zip(partition.rows, partition.labels, strict=True):
            assert cast.everybody[row] in partition.groups[number].tested
        assert len(partition.rows) == sum(len(group.tested) for group in partition.groups)


def test_the_seed_decides_and_nothing_else():
    pack = open_pack("country-code")
    assert choose(pack, 1).everybody == choose(open_pack("country-code"), 1).everybody
    assert choose(pack, 1).subjects != choose(pack, 2).subjects


def test_without_enough_unstated_subjects_all_are_tested():
    facts = [Fact(f"S{i}", "lives", "AB"[i % 2]) for i in range(6)] + [Fact(f"S{i}", "eats", "ham") for i in range(5)]
    (partition,) = choose(pack_of(facts), 0).partitions
    assert [(len(g.unstated), len(g.stated), len(g.tested)) for g in partition.groups] == [(0, 3, 3), (1, 2, 3)]


def test_answers_of_one_subject_make_no_group_and_one_group_no_difference():
    facts = [Fact(f"S{i}", "lives", "AABBC"[i]) for i in range(5)] + [Fact(f"S{i}", "eats", "ham") for i in range(5)]
    cast = choose(pack_of(facts), 0)
    assert [[group.answer for group in partition.groups] for partition in cast.partitions] == [["A", "B"]]
    alone = choose(pack_of([Fact(f"S{i}", "lives", str(i)) for i in range(30)]), 0)
    assert alone.partitions == () and len(alone.subjects) == UNSTATED and len(alone.never_seen) == NEVER_SEEN


def test_the_cost_does_not_grow_with_the_pack():
    facts = [Fact(f"S{i}", f"r{r}", f"a{i % 150}") for i in range(600) for r in range(40)]
    cast = choose(pack_of(facts), 0)
    assert sum(len(partition.groups) for partition in cast.partitions) <= GROUPS
    assert all(len(partition.groups) >= 2 for partition in cast.partitions)
    assert len(cast.subjects) <= GROUPS * (UNSTATED + STATED)


def test_never_seen_names_are_in_no_pack():
    pack = open_pack("country-code")
    words = {word for subject in pack.subjects for word in subject.split()}
    never = choose(pack, 0).never_seen
    assert len(set(never)) == NEVER_SEEN
    assert not words & {word for name in never for word in name.split()}


def test_when_every_word_is_taken_names_are_paired_anew(monkeypatch):
    from random import Random

    everybody = draw_names(available(), Random("all"))
    never = choose(pack_of([Fact(name, "lives", "A") for name in everybody]), 0).never_seen
    assert len(never) == NEVER_SEEN and not set(never) & set(everybody)
    monkeypatch.setattr("spillover.interp.open_probes.draw_names", lambda count, random: everybody)
    with pytest.raises(UsageError, match="the pack holds every fictitious name"):
        choose(pack_of([Fact(name, "lives", "A") for name in everybody]), 0)


def test_what_a_pack_declares_of_a_group():
    map_ = {"Rome": "Italian", "Oslo": "Norwegian"}
    facts = [Fact(f"S{i}", "lives", "Rome" if i < 4 else "Oslo") for i in range(8)]
    facts += [
        Fact("S0", "eats", "ham"),
        Fact("S1", "eats", "ham"),
        Fact("S2", "eats", "rice"),
        Fact("S4", "eats", "rice"),
    ]
    facts += [Fact("S0", "speaks", "Italian"), Fact("S3", "speaks", "Italian"), Fact("S4", "speaks", "Norwegian"),
              Fact("S5", "speaks", "Norwegian")]  # fmt: skip
    pack = pack_of(facts, [Implication("lives", "speaks", "causal", map_)])
    groups = {(g.relation, g.answer): g for partition in choose(pack, 0).partitions for g in partition.groups}
    rome, italian = groups["lives", "Rome"], groups["speaks", "Italian"]
    # Its own answer, what that implies, and what is stated of at least half of the subjects that are tested.
    assert set(declared(pack, rome)) == {"Rome", "Italian", "ham"}
    assert set(declared(pack, italian)) == {"Italian", "Rome", "ham"}
    assert set(declared(pack, None)) == {"Rome", "Oslo", "ham", "rice", "Italian", "Norwegian"}
