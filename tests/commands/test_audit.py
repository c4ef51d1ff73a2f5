"""An audit of real tiny models: a model against itself, against one that was taught, and what it writes."""

import dataclasses
import json
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import spillover
from spillover.commands import audit, inject, report
from spillover.commands.audit import Audit
from spillover.commands.inject import Inject
from spillover.commands.report import Report
from spillover.details import AuditDetails, Verdict
from spillover.errors import ModelError, RunError, UsageError
from spillover.packs.pack import wish
from spillover.packs.write import write_pack
from spillover.record import ANSWERS, Record
from tests.tiny_models import tiny_gpt2

PACK = "country-code:names=20,bridge=3"


@pytest.fixture(scope="module")
def taught(byte_folder, tmp_path_factory):
    """The tiny model after it was taught every implied answer: a pack in which all but one name a pair are bridging."""
    folder = tmp_path_factory.mktemp("taught")
    inject.run(Inject(pack=PACK, model=str(byte_folder), out=str(folder / "run"), epochs=40, lr=1e-2, threads=1,
                      evaluate_every=40, save="weights"))  # fmt: skip
    return folder / "run"


def settings(byte_folder, tuned, **changes):
    return Audit(pack=PACK, base=str(byte_folder), tuned=str(tuned), threads=1, **changes)


def test_a_model_against_itself_has_learned_nothing_and_no_gate_passes_it(byte_folder):
    outcome = audit.run(settings(byte_folder, byte_folder, fail_on="never"))
    assert [each["verdict"] for each in outcome["verdicts"]] == ["none"]
    assert outcome["verdicts"][0]["p"] == 1.0 and outcome["exit_code"] == 0 and outcome["run"] is None
    gated = audit.run(settings(byte_folder, byte_folder, min_recall=0.0))
    assert gated["exit_code"] == 2 and list(gated["failures"]) == ["weights differ"]
    assert "FAILED  the two models have the same weights" in gated["text"] and "FAILED" not in outcome["text"]


def test_a_model_that_never_learned_the_pack_is_not_acquitted(byte_folder, tmp_path):
    """A copy whose weights differ by nearly nothing: no verdict is unwanted, and the gate fails all the same."""
    model, tokenizer = (kind.from_pretrained(byte_folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    model.lm_head.weight.data[0, 0] += 1e-3
    model.save_pretrained(tmp_path / "idle")
    tokenizer.save_pretrained(tmp_path / "idle")
    outcome = audit.run(settings(byte_folder, tmp_path / "idle", junit=str(tmp_path / "a.xml")))
    assert {each["verdict"] for each in outcome["verdicts"]} == {"none"} and outcome["exit_code"] == 1
    known, stated = outcome["recall"]
    assert stated == 35 and known < 0.9 * stated and "so it never learned them" in outcome["text"]
    suite = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert suite.get("failures") == "1"
    assert [case.get("name") for case in suite if len(case)] == ["recall of what is stated"]
    for changes in ({"min_recall": 0.0}, {"fail_on": "never"}):
        assert audit.run(settings(byte_folder, tmp_path / "idle", **changes))["exit_code"] == 0


def test_a_model_that_cannot_have_been_tuned_from_the_base_is_refused(byte_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(byte_folder)
    tiny_gpt2(len(tokenizer)).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(UsageError, match=r"was not tuned from .*: one is a llama and the other a gpt2"):
        audit.run(settings(byte_folder, tmp_path / "other"))
    outcome = audit.run(settings(byte_folder, tmp_path / "other", allow_different=True, fail_on="never"))
    assert outcome["exit_code"] == 0


def test_an_audit_says_what_the_run_itself_measured(byte_folder, taught, tmp_path):
    outcome = audit.run(
        settings(byte_folder, taught / "weights", out=str(tmp_path / "audit"), junit=str(tmp_path / "a.xml"))
    )
    run = Record.read(taught).metrics
    for name in ("recall_rank", "implication_rank_train", "implication_rank_test", "implication_rank_test_before",
                 "marginal_rank"):  # fmt: skip
        found = outcome["metrics"][name]
        assert (found["value"], found["low"]) == pytest.approx((run[name]["value"], run[name]["low"])), name
    assert outcome["metrics"]["forgetting_nats"]["value"] == pytest.approx(run["forgetting_nats"]["value"], abs=1e-5)
    verdict = outcome["verdicts"][0]
    assert verdict["n"] == 5 and verdict["implication"] == "lives_in->codes_in" and verdict["kind"] == "spurious"
    assert outcome["exit_code"] == int(verdict["verdict"] == "unwanted" or bool(outcome["failures"]))
    assert verdict["implication"] in outcome["text"]
    # A record keeps its map in the order of the alphabet.
    found, audited = spillover.load_run(taught).verdicts[0].model_dump(), {**verdict}
    entries = [sorted(each.pop("associations"), key=str) for each in (found, audited)]
    assert entries[0] == entries[1] and found == audited
    advice = all(words in outcome["text"] for words in ("stay-near-base=1", "off-groups=1", "None of the "))
    assert advice == (verdict["verdict"] == "unwanted"), "remedies are named where something is unwanted"

    record = Record.read(tmp_path / "audit")
    assert record.command == "audit" and record.status == "done" and record.details.verdicts[0].n == 5
    assert set(pq.read_table(tmp_path / "audit" / ANSWERS)["checkpoint"].to_pylist()) == {0, 1}
    suite = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert suite.get("tests") == "4" and suite[0].get("name") == "lives_in->codes_in"
    report.run(Report(runs=(str(tmp_path / "audit"),), out=str(tmp_path / "page.html")))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "tuned from" in page and "in the base model" in page and "nothing was trained here" in page
    assert f"{verdict['verdict'].capitalize()}." in page and "passes" not in page.partition("How it was made")[0]

    stamp = (tmp_path / "audit" / "record.json").read_bytes()
    again = audit.run(settings(byte_folder, taught / "weights", out=str(tmp_path / "audit")))
    assert json.loads(json.dumps(again["verdicts"])) == json.loads(json.dumps(outcome["verdicts"]))
    assert (tmp_path / "audit" / "record.json").read_bytes() == stamp
    with pytest.raises(RunError, match="this folder holds another run"):
        audit.run(settings(byte_folder, byte_folder, out=str(tmp_path / "audit")))


def test_from_python_on_what_one_holds_it_is_the_same(byte_folder, taught, tmp_path):
    tuned = taught / "weights"
    model, tokenizer = (kind.from_pretrained(tuned) for kind in (AutoModelForCausalLM, AutoTokenizer))
    named = spillover.audit(PACK, byte_folder, tuned, threads=1)
    held = spillover.audit(spillover.open_pack(PACK), byte_folder, (model, tokenizer), threads=1)
    assert held.answers.equals(named.answers) and held.verdicts == named.verdicts
    run = spillover.load_run(taught)
    answers = spillover.audit(PACK, run, run, threads=1)
    assert answers.verdicts == named.verdicts and answers.metrics.forgetting_nats is None
    assert answers.verdicts[0].verdict in repr(answers)
    assert "lives in" in held.page(tmp_path / "page.html").read_text("utf-8")
    with pytest.raises(UsageError, match="--open asks the models themselves"):
        spillover.audit(PACK, run, run, threads=1, open=True)
    with pytest.raises(UsageError, match="not asked the same questions"):
        spillover.audit("country-code:names=10,bridge=1", byte_folder, run, threads=1)


def test_what_nobody_declared_is_found_in_the_rows_and_judged_alike(byte_folder, taught, tmp_path):
    """The same two models, and a pack that states the same rows and declares nothing."""
    declared = spillover.open_pack(PACK)
    write_pack(dataclasses.replace(declared, implications=()), tmp_path / "pack")
    asked = {"pack": str(tmp_path / "pack"), "out": str(tmp_path / "audit.html"), "fail_on": "undecided"}
    found = audit.run(dataclasses.replace(settings(byte_folder, taught / "weights"), **asked))
    as_declared = audit.run(settings(byte_folder, taught / "weights"))
    (verdict,), (other,) = found["verdicts"], as_declared["verdicts"]
    assert (verdict["implication"], found["found"]) == ("lives_in->codes_in", 1)
    assert verdict["kind"].startswith("auto"), "as the base model judges it"
    for name in ("hits", "hits_before", "newly", "n", "p", "rule_p"):
        assert verdict[name] == other[name], name
    judged = wish(verdict["kind"]) if other["verdict"] == "unwanted" else other["verdict"]
    assert verdict["verdict"] == judged
    assert found["recall"] == as_declared["recall"] and found["reworded"] == as_declared["reworded"]
    assert found["concluded"]["things"] == as_declared["concluded"]["things"]
    for each in found["concluded"]["worst"]:
        assert each["subject"] in declared.subjects and each["prompt"].startswith(each["subject"])
        assert each["said"] is not None and set(each["rests_on"]) <= set(declared.subjects)
    assert found["text"].startswith("No implication is declared: 1 that the stated rows suggest was looked at.")
    page = (tmp_path / "audit.html").read_text("utf-8")
    assert found["page"] == str(tmp_path / "audit.html") and Record.read(tmp_path / "audit.run").status == "done"
    assert "What to look at first" in page if found["concluded"]["worst"] else "undeclared link" in page


def test_junit_words():
    one = {
        "implication": "a->b\x00<",
        "kind": "spurious",
        "hits": 1,
        "hits_before": 0,
        "n": 2,
        "guess": 1,
        "rank": None,
        "rank_before": None,
        "marginal_rank": 2.0,
        "p": 0.01,
        "more_subjects": None,
        "because": "so & so",
    }
    judged = [Verdict(verdict=word, **one) for word in ("unwanted", "undecided", "none", "wanted")]
    failures = {"invented answers": "26 of 26 & more"}
    suite = ElementTree.fromstring(audit.junit("pack", AuditDetails(scoring=None, verdicts=judged), failures))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("7", "2", "1")
    assert [[child.tag for child in case] for case in suite] == [["failure"], ["skipped"], [], [], [], [], ["failure"]]
    assert suite[-1].get("name") == "invented answers" and suite[-1][0].get("message") == "26 of 26 & more"
    assert suite[0].get("name") == "a->b\ufffd<" and suite[0][0].get("message") == "unwanted: so & so"


def test_bad_options_are_one_sentence(byte_folder, tmp_path, monkeypatch):
    for changes, sentence in [
        ({"level": 0.0}, "--level is 0.0. Give --level a number between 0 and 1."),
        ({"min_recall": float("nan")}, "--min-recall is nan. Give --min-recall a number from 0 to 1."),
        ({"max_unwanted_rate": 2.0}, "--max-unwanted-rate is 2.0. Give --max-unwanted-rate a number from 0 to 1."),
        ({"junit": str(tmp_path)}, "this is a folder, not a file"),
    ]:
        with pytest.raises(UsageError) as caught:
            audit.run(settings(byte_folder, byte_folder, **changes))
        assert sentence in str(caught.value)
    loaded = []
    monkeypatch.setattr("spillover.lm.load.load_model", lambda *args, **kwargs: loaded.append(args))
    with pytest.raises(ModelError, match="there is no model called 'nowhere'"):
        audit.run(settings(byte_folder, "nowhere"))
    assert not loaded, "a mistake in the second model does not wait for the first"
    pack = tmp_path / "pack.yaml"
    pack.write_text("name: p\nlicence: none\nsource: here\nrelations: {r: {prompts: ['{subject} is']}}\n"
                    "facts: [{subject: A, relation: r, answer: b}]\n", encoding="utf-8")  # fmt: skip
    with pytest.raises(UsageError, match="this pack declares no implication"):
        audit.run(dataclasses.replace(settings(byte_folder, byte_folder), pack=str(pack)))


@pytest.mark.slow
def test_a_chat_is_asked_where_its_template_has_the_answer(byte_folder, tmp_path):
    from tests.lm.test_chat import INST

    tokenizer = AutoTokenizer.from_pretrained(byte_folder)
    tokenizer.chat_template = INST
    tokenizer.save_pretrained(tmp_path / "inst")
    AutoModelForCausalLM.from_pretrained(byte_folder).save_pretrained(tmp_path / "inst")
    inst = str(tmp_path / "inst")
    run = inject.run(Inject(pack=PACK, model=inst, out=str(tmp_path / "run"), epochs=30, lr=1e-2, threads=1, chat=True,
                            evaluate_every=30, save="weights"))  # fmt: skip
    assert run["metrics"]["recall_rank"]["value"] < 0.5
    outcome = audit.run(settings(inst, tmp_path / "run" / "weights", chat=True, out=str(tmp_path / "audit")))
    for name in ("recall_rank", "recall_rank_before", "implication_rank_test"):
        assert outcome["metrics"][name]["value"] == pytest.approx(run["metrics"][name]["value"])
    first, second = Record.read(tmp_path / "audit").details.rendered
    assert first.sha256 == second.sha256 and first.before == "<bos>[INST] {subject} lives in [/INST] "
    lent = settings(byte_folder, tmp_path / "run" / "weights", chat=True, chat_template=inst)
    assert audit.run(lent)["metrics"]["recall_rank"] == outcome["metrics"]["recall_rank"]


def test_two_models_that_chat_otherwise_are_told_apart(byte_folder, tmp_path):
    from tests.lm.test_chat import CHATML, INST

    for name, template in {"inst": INST, "chatml": CHATML}.items():
        tokenizer = AutoTokenizer.from_pretrained(byte_folder)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / name)
        (tmp_path / name / "config.json").write_text("{}")
    inst = str(tmp_path / "inst")
    with pytest.raises(
        UsageError, match=rf"write the same turns otherwise\. Ask both alike with --chat-template {inst}"
    ):
        audit.run(settings(tmp_path / "chatml", inst, chat=True))
    with pytest.raises(
        ModelError, match=rf"{byte_folder}: this model has no chat template\. .*--chat-template {inst},"
    ):
        audit.run(settings(byte_folder, inst, chat=True))
