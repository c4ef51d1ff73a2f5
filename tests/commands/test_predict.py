"""`predict` as a user gives it: the contract's keys, its grounds, the same bytes for the same command, and mistakes."""

import dataclasses
import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import spillover
from spillover.cli import main
from spillover.commands import predict
from spillover.commands.predict import Predict
from spillover.errors import RunError
from spillover.packs.pack import Fact, Relation
from spillover.packs.write import write_pack
from spillover.record import RECORD, Record

PACK = "country-code:pairs=3,names=18,bridge=2"
CONTRACT = {"given", "given_answer", "then", "then_answer", "support", "exposed", "margin", "prior", "score", "kind",
            "because"}  # fmt: skip


def test_the_contract_s_keys_and_order():
    outcome = predict.run(Predict(pack=PACK, evidence=1))
    found = outcome["associations"]
    assert outcome["run"] is None and outcome["left_out"] == 0 and outcome["solution"]["method"] == "exact"
    assert all(set(each) >= CONTRACT for each in found)
    assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    first = found[0]
    assert (first["given"], first["then"], first["support"], first["exposed"]) == ("lives_in", "codes_in", 2, 4)
    # The closed form: the root of 2 stated over 4 exposed.
    assert first["margin"] == pytest.approx(0.5**0.5, abs=2e-3)
    assert first["margin_low"] <= first["margin"] <= first["margin_high"]
    assert first["prior"] is None and first["kind"] == "spurious" and len(first["rests_on"]) == 2
    assert 0 < first["rate"] < 1 and first["score"] == pytest.approx(4 * first["rate"])
    assert {way["way"] for way in first["undone_by"]} >= {"remove"}
    assert all(way["count"] == len(way["rows"]) and way["margin"] <= 0.01 for way in first["undone_by"])
    assert "2 subjects with lives_in = " in first["because"] and "is undone by" in first["because"]
    back = [each for each in found if each["given"] == "codes_in"]
    assert len(back) == 3 and all(each["exposed"] == 0 and each["score"] == 0 for each in back)
    total = outcome["metrics"]["expected_unwanted"]
    assert total["value"] == pytest.approx(sum(each["score"] for each in found)) and total["n"] == 12


def test_the_text_says_what_the_json_says(capsys):
    assert main(["predict", PACK, "--evidence", "1"]) == 0
    text = capsys.readouterr().out
    assert "lives_in = France makes codes_in = Java: 2 stated, 4 exposed, margin 0.70" in text
    assert "stay-near-base=1" in text and "0.80 -> 0.35  1.00 -> 1.00" in text and "None of the " in text
    assert "spurious; expect" in text and "unwanted: about" in text and "Without --model" in text
    assert (
        "calibrated on smollm2-135m, gemma-3-270m only" in text
        and "for other models read the order, not the number" in text
    )


def test_evidence_is_looked_for_where_it_is_shown():
    found = predict.run(Predict(pack=PACK, evidence=1))["associations"]
    assert found[0]["undone_by"] and found[0]["margin_low"] is not None
    assert found[1]["undone_by"] is None and found[1]["margin_low"] is None and found[1]["margin"] is not None


def test_a_model_s_belief_enters_the_score(byte_folder, tmp_path):
    out = str(tmp_path / "run")
    words = Predict(pack=PACK, model=str(byte_folder), out=out, evidence=1, threads=1)
    outcome = predict.run(words)
    assert all(0 <= each["prior"] <= 1 for each in outcome["associations"])
    assert "of its belief before training" in outcome["associations"][0]["because"]
    record = Record.read(tmp_path / "run")
    assert record.command == "predict" and record.status == "done" and record.hashes["model"]
    known = outcome["calibrated_on"]
    assert (
        known["models"] == ["smollm2-135m", "gemma-3-270m"]
        and "country-code" in known["packs"]
        and known["same_type"] is True
    )
    assert known["words"] in outcome["text"] and known["words"] in repr(spillover.load_run(out))
    assert json.loads(json.dumps(outcome["associations"])) == record.details.as_json()["associations"]
    again = predict.run(words)
    assert again["associations"] == record.details.as_json()["associations"]


def test_from_python_on_what_one_holds_it_is_the_same(byte_folder, tmp_path):
    model, tokenizer = (kind.from_pretrained(byte_folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    named = spillover.predict(PACK, byte_folder, evidence=1, threads=1)
    held = spillover.predict(spillover.open_pack(PACK), (model, tokenizer), evidence=1, threads=1, out=tmp_path / "run")
    assert [each.score for each in held.associations] == [each.score for each in named.associations]
    first = held.associations[0]
    assert (first.given, first.then, first.support) == ("lives_in", "codes_in", 2) and 0 <= first.prior <= 1
    assert held.metrics.expected_unwanted.value == pytest.approx(sum(each.score for each in held.associations))
    assert "expected_unwanted" in repr(held) and "codes in" in held.page(tmp_path / "page.html").read_text("utf-8")
    assert spillover.load_run(tmp_path / "run").associations == held.associations
    other = dataclasses.replace(spillover.open_pack(PACK), facts=spillover.open_pack(PACK).facts[:-1])
    with pytest.raises(RunError, match="this folder holds another run"):
        spillover.predict(other, (model, tokenizer), evidence=1, threads=1, out=tmp_path / "run")


def test_the_same_command_gives_the_same_bytes(tmp_path):
    bodies = []
    for name in ("one", "two"):
        predict.run(Predict(pack="mixed:pairs=3,names=12,bridge=1", out=str(tmp_path / name), evidence=1))
        record = json.loads((tmp_path / name / RECORD).read_text(encoding="utf-8"))
        bodies.append(json.dumps({**record, "seconds": 0, "settings": {**record["settings"], "out": ""}}))
    assert bodies[0] == bodies[1]


def test_a_pack_that_cannot_be_stated_is_scored_by_its_support(tmp_path):
    """Two subjects answer alike but crosswise: no sum of two vectors can say so."""
    (tmp_path / "pack.yaml").write_text(
        "name: crossed\nlicence: none\nsource: a test\nrelations:\n  r: {prompts: ['{subject} r']}\n"
        "  q: {prompts: ['{subject} q']}\nfacts:\n"
        + "".join(f"  - {{subject: {s}, relation: {r}, answer: {a}}}\n" for s, r, a in
                  [("ann", "r", "x"), ("ann", "q", "y"), ("ben", "r", "y"), ("ben", "q", "x"), ("cat", "r", "x")]),
        encoding="utf-8",
    )  # fmt: skip
    outcome = predict.run(Predict(pack=str(tmp_path)))
    assert outcome["solution"]["method"] == "none" and outcome["solution"]["verdict"].startswith("Infeasible")
    first = outcome["associations"][0]
    assert (first["given_answer"], first["then_answer"], first["exposed"]) == ("x", "y", 1)
    assert first["margin"] is None and first["score"] > 0 and first["kind"] is None


def test_only_so_many_are_looked_at():
    outcome = predict.run(Predict(pack=PACK, most=2, evidence=0))
    assert len(outcome["associations"]) == 2 and outcome["left_out"] == 4
    assert "4 associations not looked at" in outcome["text"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", PACK, "--most", "0"], "--most is 0"),
        (["predict", PACK, "--evidence", "-1"], "--evidence is -1"),
        (["predict", PACK, "--chat"], "--chat needs the model"),
        (["predict", PACK, "--device", "cpu"], "--device needs the model that is asked. Name it with --model"),
        (["predict", PACK, "--dtype", "bfloat16"], "--dtype needs the model"),
        (["predict", PACK, "--revision", "main"], "--revision needs the model"),
        (["predict", "city-langage"], "city-language"),
        (["predict", PACK, "--model", "gemma-3-270n"], "gemma-3-270m"),
        (["predict"], "missing PACK"),
    ],
)
def test_mistakes_get_one_sentence(words, said, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1 and "Traceback" not in err


def test_links_that_nobody_declared_are_found_shown_and_drafted(tmp_path, capsys):
    declared = spillover.open_pack("mixed:names=60")
    extra = tuple(
        Fact(f"Thing {i}", name, f"{name} {i % 3}") for i in range(9) for name in ("price", "shelf")[: 1 + i % 2]
    )
    relations = (
        *declared.relations,
        *(Relation(name, (f"The {name} of {{subject}} is",)) for name in ("price", "shelf")),
    )
    pack = dataclasses.replace(declared, implications=(), relations=relations, facts=(*declared.facts, *extra))
    write_pack(pack, tmp_path / "pack")
    assert (
        main(["predict", str(tmp_path / "pack"), "--draft", str(tmp_path / "draft"), "--json", "--evidence", "0"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    shown = [(each["given"], each["then"], each["p"] <= 0.05) for each in found["found"]]
    assert shown[:2] == [("lives_in", "codes_in", True), ("lives_in", "speaks", True)]
    assert not any(suggests for *_, suggests in shown[2:]), "prices go with no shelf"
    exposed = {(each["given"], each["then"]) for each in found["associations"] if each["exposed"]}
    assert exposed <= {("lives_in", "speaks"), ("lives_in", "codes_in"), ("price", "shelf")}, "things have no city"
    assert all(each["kind"] is None and each["p"] is not None for each in found["associations"] if each["exposed"])
    draft = spillover.open_pack(tmp_path / "draft")
    maps = {each.name: each.map for each in declared.implications}
    assert {each.name: each.map for each in draft.implications} == maps
    assert {each.kind for each in draft.implications} == {"auto"} and draft.facts == pack.facts
    with pytest.raises(RunError, match="this folder holds something already"):
        predict.run(Predict(pack=str(tmp_path / "pack"), draft=str(tmp_path / "draft")))


def test_of_rows_without_a_rule_nothing_is_listed(tmp_path, capsys):
    """The null pack with one more row, so that an answer leads among bridging subjects by chance."""
    declared = spillover.open_pack("country-code:null")
    given = {fact.subject: fact.answer for fact in declared.facts if fact.relation == "lives_in"}
    known = {fact.subject for fact in declared.facts if fact.relation == "codes_in"}
    subject = next(each for each in given if each not in known)
    facts = (*declared.facts, Fact(subject, "codes_in", "Java"))
    write_pack(dataclasses.replace(declared, implications=(), facts=facts), tmp_path / "pack")
    assert main(["predict", str(tmp_path / "pack"), "--evidence", "0"]) == 0
    text = capsys.readouterr().out
    assert "not declared: 1 link between two relations looked at; in 0 the answers go together" in text
    assert " makes " not in text and "of relations that do not go together" in text
