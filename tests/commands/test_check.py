"""`spillover check` as a function."""

import json
import sys
import types

import pytest

from spillover.commands.check import MOST_SHOWN, Check, run
from spillover.errors import UsageError
from tests.packs.packs_on_disk import FACTS, PACK, jsonl, write


@pytest.fixture
def fake_tokenizer(monkeypatch):
    """Stands in for spillover.lm: tokens are letters without case; notes what was asked for."""
    asked = []
    loading, tokens = types.ModuleType("spillover.lm.load"), types.ModuleType("spillover.lm.tokens")
    loading.load_tokenizer = lambda name, revision, base="": asked.append((name, revision))
    tokens.encoder = lambda tokenizer: lambda text: [ord(letter) for letter in text.lower()]
    tokens.as_chat = lambda pack, tokenizer: pack
    monkeypatch.setitem(sys.modules, "spillover.lm.load", loading)
    monkeypatch.setitem(sys.modules, "spillover.lm.tokens", tokens)
    return asked


def test_a_sound_pack():
    found = run(Check(pack="mixed:pairs=10"))
    counts = {"facts": 180, "subjects": 100, "relations": 3, "implications": 2, "questions": 120}
    said = "60 unstated subjects can show whether a model asserts it; for a rule, 10 given answers are enough"
    assert found == {
        "pack": "mixed:pairs=10",
        "counts": counts,
        "decidable": {"lives_in->speaks": said, "lives_in->codes_in": said},
        "faults": [],
        "warnings": [],
        "exit_code": 0,
        "text": "mixed:pairs=10: no faults, no warnings\n"
        "  180 facts, 100 subjects, 3 relations, 2 implications, 120 questions\n"
        f"  lives_in->speaks: {said}\n  lives_in->codes_in: {said}",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("names=20,bridge=2", "10 unstated subjects can show whether a model asserts it; for a rule, 5 given "
                              "answers are enough"),
        ("pairs=2,names=4,bridge=1", "2 unstated subjects are too few to tell it from chance; 6 more would do"),
        ("pairs=2,names=10,bridge=1", "8 unstated subjects can show whether a model asserts it; for a rule, 2 given "
                                      "answers are too few (no p below 0.5)"),
        ("pairs=1,names=8,bridge=1", "all unstated subjects have the same implied answer: give some another one"),
    ],
)  # fmt: skip
def test_what_an_audit_could_decide_is_said_beforehand(options, said):
    found = run(Check(pack=f"country-code:{options}"))
    assert found["decidable"] == {"lives_in->codes_in": said} and f"  lives_in->codes_in: {said}" in found["text"]


def test_faults_and_warnings_with_their_places(tmp_path):
    table = jsonl([*FACTS, FACTS[0], ("Bob Day", "lives_in", "Paris")])
    found = run(Check(pack=str(write(tmp_path, table=table))))
    assert found["exit_code"] == 1
    assert [(fault["file"], fault["row"]) for fault in found["faults"]] == [(str(tmp_path / "facts.jsonl"), 5)]
    assert [set(fault) for fault in found["faults"]] == [{"code", "file", "row", "what", "expected", "do"}]
    assert [warning["row"] for warning in found["warnings"]] == [4]
    assert found["text"].splitlines()[0] == f"{tmp_path}: 1 fault, 1 warning"
    assert json.loads(json.dumps(found)) == found


def test_many_faults_are_counted_in_the_text_and_all_in_the_json(tmp_path):
    table = "".join(f'{{"subject": "s{i}"}}\n' for i in range(100))
    found = run(Check(pack=str(write(tmp_path, table=table))))
    assert len(found["faults"]) == 200
    assert found["text"].endswith(f"and {200 - MOST_SHOWN} faults more: --json lists all")


def test_a_model_adds_what_its_tokens_show(fake_tokenizer, tmp_path):
    sound = run(Check(pack="mixed", model="m", revision="r"))
    assert sound["exit_code"] == 0 and sound["text"].endswith("tokens of m: they tell the answers apart")
    table = jsonl([*FACTS, ("Cy Fox", "lives_in", "PARIS")])
    found = run(Check(pack=str(write(tmp_path, table=table)), model="m"))
    assert [fault["code"] for fault in found["faults"]] == ["same-tokens"]
    assert found["exit_code"] == 1 and "tokens of m: see the faults" in found["text"]
    assert fake_tokenizer == [("m", "r"), ("m", None)]


def test_a_pack_with_faults_never_loads_a_model(fake_tokenizer, tmp_path):
    assert run(Check(pack=str(write(tmp_path, PACK.replace("causal", "casual"))), model="m"))["exit_code"] == 1
    assert fake_tokenizer == []


def test_the_seed_reaches_a_built_in_pack(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "spillover.commands.check.check_structure", lambda pack: seen.append(pack.subjects[0]) or run_empty()
    )
    for seed in (0, 1):
        run(Check(pack="mixed", seed=seed))
    assert seen[0] != seen[1]


def run_empty():
    from spillover.packs.check import Findings

    return Findings()


def test_what_is_no_pack_is_a_usage_error():
    with pytest.raises(UsageError, match="there is no such pack"):
        run(Check(pack="./nowhere"))


def test_one_question_is_shown_as_a_model_reads_it(byte_folder, tmp_path):
    from transformers import AutoTokenizer

    from tests.lm.test_chat import DEEPSEEK, INST

    tokenizer = AutoTokenizer.from_pretrained(byte_folder)
    for name, template in {"inst": INST, "deepseek": DEEPSEEK}.items():
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / name)
        (tmp_path / name / "config.json").write_text("{}")
    found = run(Check(pack="mixed", model=str(tmp_path / "inst"), chat=True))
    assert (found["rendered"]["before"], found["rendered"]["after"]) == (
        "<bos>[INST] {subject} lives in [/INST] ",
        " <eos>",
    )
    shown = found["rendered"]["before"].replace("{subject}", found["rendered"]["subject"])
    assert f"one question: {shown!r}, then the answer, then ' <eos>'" in found["text"] and not found["warnings"]
    (warning,) = run(Check(pack="mixed", model=str(tmp_path / "deepseek"), chat=True))["warnings"]
    assert warning["code"] == "other-opening" and r"opens a reply with '<think>\n'" in warning["what"]
    assert "'{subject} lives in '" in str(run(Check(pack="mixed", model=str(byte_folder)))["rendered"])
    for options in ({"chat": True}, {"revision": "main"}):
        with pytest.raises(UsageError, match="needs the model that is asked"):
            run(Check(pack="mixed", **options))
