"""CounterFact, MQuAKE and PopQA: made-up rows in their shapes, and the packs they give."""

import json

import pytest

from spillover.commands.packs import Packs, run
from spillover.errors import PackError, UsageError
from spillover.packs.open import check_pack, open_pack
from spillover.packs.pack import Fact, Implication


def edit(subject, relation, prompt, new, true, question=None):
    made = {"subject": subject, "relation_id": relation, "prompt": prompt, "target_new": {"str": new, "id": "Q1"},
            "target_true": {"str": true, "id": "Q2"}}  # fmt: skip
    return made if question is None else {**made, "question": question}


MILA = edit("Mila Ortez", "P27", "{} is a citizen of", "Libya", "Norway", "Which passport has Mila Ortez?")
LIBYA = edit("Libya", "P36", "The capital of {} is", "Oslo", "Tripoli", "What is the capital of Libya?")
HOP = "What is the capital of the country of which Mila Ortez is a citizen?"


def case(*edits, question=HOP, **more):
    return {"requested_rewrite": list(edits), "questions": [question], "answer": "Bergen", "answer_alias": [],
            "new_answer": "Oslo", "new_answer_alias": ["Christiania"], **more}  # fmt: skip


def imported(tmp_path, *rows, name="rows.json"):
    path = tmp_path / name
    path.write_text(json.dumps(rows), encoding="utf-8")
    found = run(Packs(action="from-chat", pack=str(path), out=str(tmp_path / "pack")))
    pack, faults, _ = check_pack(tmp_path / "pack")
    assert pack is not None and not faults
    return pack, found


def test_counterfact(tmp_path):
    rows = [
        {"requested_rewrite": edit("Mila Ortez", "P103", "The first language of {} is", "English", "French"),
         "paraphrase_prompts": ["Yossel goes home today. Mila Ortez grew up with", "Nobody is named here"]},
        {"requested_rewrite": edit("Ben Okri", "P103", "{} was raised in", "Thai", "Dutch"), "paraphrase_prompts": []},
    ]  # fmt: skip
    pack, found = imported(tmp_path, *rows)
    (relation,) = pack.relations
    assert relation.prompts == (
        "The first language of {subject} is", "{subject} grew up with", "{subject} was raised in"
    )  # fmt: skip
    assert pack.candidates["P103"] == ("Dutch", "English", "French", "Thai")
    assert pack.facts == (Fact("Mila Ortez", "P103", "English"), Fact("Ben Okri", "P103", "Thai"))
    assert found["counts"] == {"rows": 2, "facts": 2, "repeated": 0, "unmatched": 0} and pack.name == "rows"


def test_mquake_hops_are_implications_and_aliases_are_kept(tmp_path):
    hops = [{"question": "?", "cloze": "", "answer": "Libya", "answer_alias": ["State of Libya"]}]
    pack, _ = imported(tmp_path, case(MILA, LIBYA, new_single_hops=hops))
    assert pack.facts == (Fact("Mila Ortez", "P27", "Libya"), Fact("Libya", "P36", "Oslo"))
    assert pack.implications == (Implication("P27", "P27-P36", "causal", {"Libya": "Oslo"}),)
    assert pack.relation_by_name["P27-P36"].prompts == (
        "What is the capital of the country of which {subject} is a citizen?",
    )
    assert pack.relation_by_name["P27"].prompts == ("{subject} is a citizen of", "Which passport has {subject}?")
    assert [question[:3] for question in pack.questions] == [("Mila Ortez", "P27-P36", "Oslo")]
    assert (
        pack.relation_by_name["P36"].aliases == pack.relation_by_name["P27-P36"].aliases == {"Oslo": ("Christiania",)}
    )
    assert pack.relation_by_name["P27"].aliases == {"Libya": ("State of Libya",)}
    assert pack.candidates["P27-P36"] == ("Bergen", "Oslo")


def test_hops_that_cannot_be_asked_are_listed(tmp_path):
    orig = {"new_triples_labeled": [["Tor", "citizen", "Libya"], ["Libya", "capital", "Oslo"]],
            "new_triples": [["Q1", "P27", "Q2"], ["Q2", "P36", "Q3"]]}  # fmt: skip
    pack, found = imported(
        tmp_path,
        case(MILA, LIBYA, new_answer="Cairo"),
        case(MILA),
        case(LIBYA, orig=orig),
        case(MILA, LIBYA),
    )
    assert [(each["row"], each["why"]) for each in found["unmatched"]] == [
        (1, "its hops do not lead to its answer"),
        (2, "its hops are not told"),
        (3, "its first hop is not stated"),
    ]
    assert len(pack.implications) == 1 and found["counts"]["repeated"] == 4


def test_an_alias_of_two_answers_is_left_out_and_listed(tmp_path):
    hops = [{"answer": "Libya", "answer_alias": ["Norway", "LY"]}]
    first = edit("Ada", "P27", "{} is a citizen of", "Norway", "Peru")
    pack, found = imported(tmp_path, {"requested_rewrite": first}, case(MILA, LIBYA, new_single_hops=hops))
    assert pack.relation_by_name["P27"].aliases == {"Libya": ("LY",)}
    assert [(each["text"], each["why"]) for each in found["unmatched"]] == [
        ("Norway", "this alias of Libya is Norway already")
    ]


def test_popqa(tmp_path):
    path = tmp_path / "popqa.tsv"
    answers = json.dumps(["painter", "artist"]).replace('"', '""')
    path.write_text(
        "id\tsubj\tprop\tobj\tquestion\tpossible_answers\n"
        f'1\tMila Ortez\toccupation\tpainter\tWhat is Mila Ortez\'s occupation?\t"{answers}"\n'
    )
    run(Packs(action="from-chat", pack=str(path), out=str(tmp_path / "pack")))
    pack = open_pack(str(tmp_path / "pack"))
    assert pack.facts == (Fact("Mila Ortez", "occupation", "painter"),)
    assert pack.relations[0].prompts == ("What is {subject}'s occupation?",)
    assert pack.relations[0].aliases == {"painter": ("artist",)}


def test_cases_that_contradict_each_other_are_refused_with_their_rows(tmp_path):
    rows = [case(MILA, LIBYA), {"requested_rewrite": {**LIBYA, "target_new": {"str": "Lima"}}}]
    with pytest.raises(PackError, match=r"rows\.json, row 2: 'Libya' has two answers to 'P36': 'Oslo' \(row 1\) and"):
        imported(tmp_path, *rows)
    assert not (tmp_path / "pack").exists()


def test_a_row_of_another_shape_is_named(tmp_path):
    with pytest.raises(UsageError, match="row 2 is not as CounterFact"):
        imported(tmp_path, case(MILA, LIBYA), {"requested_rewrite": {"subject": "Ada"}})
    (tmp_path / "r.yaml").write_text("relations: {a: {prompts: ['{subject} is']}}")
    settings = Packs(action="from-chat", pack=str(tmp_path / "rows.json"), out="p", relations=str(tmp_path / "r.yaml"))
    with pytest.raises(UsageError, match="the relations come from this file"):
        run(settings)
