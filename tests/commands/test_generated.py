"""Generated chat files and model folders, from file to audit: what is measured, saved and audited is one, or a sentence
says why not. Facts that were read are facts that were written."""

import gzip
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from spillover.cli import main
from tests.tiny_models import byte_level, wrapped

FIRST = ["Ada", "J. K.", "Mrs. Olga", "Zoë", "Dr. Ben", "Li", "Jean-Luc", "O'Neil"]
LAST = ["Moss", "Ling Jr.", "St. John", "van der Berg", "Okri III", "Yahoo!", "明", "D'Arcy"]
PLACES = ["Paris", "St. Louis", "Washington D.C.", "New York", "Rio de Janeiro", "Oslo"]
TONGUES = ["French", "Old Norse", "Thai", "Danish"]
RELATIONS = """relations:
  lives_in: {prompts: ["Where does {subject} live?", "{subject} lives in"]}
  speaks: {prompts: ["Which language does {subject} speak?", "{subject} speaks"]}
"""
ASKED = {"lives_in": "Where does {} live?", "speaks": "Which language does {} speak?"}
SAID = {"lives_in": "{} lives in {}", "speaks": "{} speaks {}"}
#: How a reply words its answer, bare or as a sentence; the last ones say more, or something else.
REPLIES = ["{answer}", "{answer}.", "**{answer}**", "{said}.", "{said}!", "{said}. It is known.", "Sure! {said}.",
           "I do not know.", "{answer} and Berlin", "Well, that depends. Some say {answer}."]  # fmt: skip


@st.composite
def files(draw):
    """The true facts, and rows of some format that word them, each with what it may be read as."""
    names = draw(st.lists(st.sampled_from([" ".join(pair) for pair in itertools.product(FIRST, LAST)]), min_size=3,
                          max_size=6, unique=True))  # fmt: skip
    facts, rows = set(), []
    shape = draw(st.sampled_from(["messages", "prompt", "alpaca", "sharegpt"]))
    for name in names:
        for relation, answers in (("lives_in", PLACES), ("speaks", TONGUES)):
            answer, reply = draw(st.sampled_from(answers)), draw(st.sampled_from(REPLIES))
            facts.add((name, relation, answer))
            asked = ASKED[relation].format(name)
            said = reply.format(answer=answer, said=SAID[relation].format(name, answer))
            rows.append({
                "messages": {"messages": [{"role": "system", "content": "Be brief."},
                                          {"role": "user", "content": asked}, {"role": "assistant", "content": said}]},
                "prompt": {"prompt": asked, "completion": said},
                "alpaca": {"instruction": asked, "input": "", "output": said},
                "sharegpt": {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]},
            }[shape])  # fmt: skip
    return facts, rows, draw(st.sampled_from(["jsonl", "json", "jsonl.gz", "parquet"]))


def write(rows, path: Path):
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    else:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)


SLOWLY = {"deadline": None, "derandomize": True, "phases": [Phase.generate],
          "suppress_health_check": list(HealthCheck)}  # fmt: skip


def read_back(tmp_path_factory, case):
    """Import a generated file: every fact read is one that was written. Gives how many there were."""
    facts, rows, kind = case
    folder = tmp_path_factory.mktemp("chats")
    (folder / "relations.yaml").write_text(RELATIONS, encoding="utf-8")
    write(rows, folder / f"rows.{kind}")
    words = ["packs", "from-chat", str(folder / f"rows.{kind}"), "--relations", str(folder / "relations.yaml"), "--out",
             str(folder / "pack")]  # fmt: skip
    code = main(words)
    assert code in (0, 2)
    found = []
    if not code:
        found = [json.loads(line) for line in (folder / "pack" / "facts.jsonl").read_text("utf-8").splitlines()]
        assert found and {(each["subject"], each["relation"], each["answer"]) for each in found} <= facts
        assert main(["check", str(folder / "pack")]) == 0
    return len(found)


@given(case=files())
@settings(max_examples=15, **SLOWLY)
def test_what_is_read_of_a_chat_file_was_written_there(tmp_path_factory, case):
    read_back(tmp_path_factory, case)


@pytest.mark.slow
def test_what_is_read_of_any_chat_file_was_written_there(tmp_path_factory):
    read = []

    @given(case=files())
    @settings(max_examples=100, **SLOWLY)
    def each(case):
        read.append(read_back(tmp_path_factory, case))

    each()
    assert sum(count > 0 for count in read) >= 80


CHATML = ("{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}")  # fmt: skip
TEMPLATES = {
    "none": None,
    "chatml": CHATML,
    "space": "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[Q] ' + m['content'] | trim + ' [A]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' <eos>' }}{% endif %}{% endfor %}",
    "thought": CHATML.replace(
        "+ m['content']", "+ ('<think>\n\n</think>\n\n' if m['role'] == 'assistant' else '') + m['content']"
    ),
    "system": "{% if messages[0]['role'] != 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHATML,
    "deaf": "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% endfor %}",
}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3, "head_dim": 8}  # fmt: skip
FAMILIES = {"LlamaConfig": {}, "MistralConfig": {"sliding_window": 6}, "Gemma3TextConfig": {"sliding_window": 6},
            "Qwen3Config": {}, "GPTNeoXConfig": {}, "Cohere2Config": {"sliding_window": 6}}  # fmt: skip
TARGETS = {"LlamaConfig": ["", "q_proj,v_proj", "q_proj,lm_head", "q_proj,embed_tokens"]}
PACK = """name: generated
licence: CC0-1.0
source: made up
relations:
  lives_in: {prompts: ["Where does {subject} live?", "{subject} lives in"]}
  speaks: {prompts: ["Which language does {subject} speak?"]}
implications:
  - {given: lives_in, then: speaks, kind: spurious, map: {Paris: French, Rome: Thai}}
facts:
"""


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "pack.yaml"
    rows = [f"  - {{subject: {name}, relation: lives_in, answer: {('Paris', 'Rome')[number % 2]}}}\n"
            for number, name in enumerate(["Ada", "Ben", "Cleo", "Dan"])]  # fmt: skip
    rows += [
        "  - {subject: Ada, relation: speaks, answer: French}\n  - {subject: Ben, relation: speaks, answer: Thai}\n"
    ]
    path.write_text(PACK + "".join(rows), encoding="utf-8")
    return path


@st.composite
def cases(draw):
    family = draw(st.sampled_from(list(FAMILIES)))
    return {
        "family": family,
        "tied": draw(st.booleans()),
        "padding": draw(st.sampled_from([0, 5])),
        "template": draw(st.sampled_from(list(TEMPLATES))),
        "chat": draw(st.booleans()),
        "lora": draw(st.sampled_from([0, 0, 2])),
        "targets": draw(st.sampled_from(TARGETS.get(family, ["", "q_proj,v_proj"]))),
        "save": draw(st.sampled_from(["weights", "delta"])),
        "adapter": draw(st.sampled_from([{}, {"use_dora": True}, {"use_rslora": True}, {"bias": "all"},
                                         {"modules_to_save": ["lm_head"]}, {"modules_to_save": ["embed_tokens"]}])),
    }  # fmt: skip


def model_folder(case, folder):
    tokenizer = wrapped(byte_level(), bos=True)
    tokenizer.chat_template = TEMPLATES[case["template"]]
    sizes = {"vocab_size": len(tokenizer) + case["padding"], "tie_word_embeddings": case["tied"], "bos_token_id": 1,
             "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, case["family"])(**SIZES, **sizes, **FAMILIES[case["family"]])
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def scores(folder, checkpoint):
    """Question -> log-probabilities of its candidates at a checkpoint."""
    table = pq.read_table(folder / "answers.parquet").to_pylist()
    last = max(row["checkpoint"] for row in table) if checkpoint < 0 else checkpoint
    keys = ("subject", "relation", "implication", "candidate")
    found = {}
    for row in table:
        if row["checkpoint"] == last and row["trained"]:
            found[tuple(row[key] for key in keys)] = row["log_probability"]
    return found


def agree(one, other):
    """Two tables hold the same questions, scored alike."""
    assert one.keys() == other.keys() and one
    np.testing.assert_allclose(list(one.values()), [other[key] for key in one], atol=1e-3)


def goes_through(pack, case, root, capsys):
    """Check, inject, save and audit one generated model; gives whether it got to its end."""
    base, run = root / "base", root / "run"
    model_folder(case, base)
    chat = ["--chat"] if case["chat"] else []
    system = ["--system", "Be brief."] if case["chat"] and case["template"] == "system" else []
    common = [*chat, *system, "--threads", "1", "--device", "cpu"]
    said = main(["check", str(pack), "--model", str(base), *chat, *system])
    lora = ["--lora", str(case["lora"])] if case["lora"] else []
    lora += ["--lora-targets", case["targets"]] if lora and case["targets"] else []
    code = main(["inject", str(pack), "--model", str(base), "--epochs", "2", "--lr", "1e-2", "--out", str(run),
                 "--save", case["save"], *lora, *common])  # fmt: skip
    error = capsys.readouterr().err
    assert code in (0, 2) and said in ((0,) if code == 0 else (0, 1, 2))
    if code:
        assert re.search(r"spillover: .*\.", error), error
        return False
    kept = run / "weights" if case["save"] == "weights" else run / "adapter"
    if kept.exists():
        assert main(["audit", str(pack), "--base", str(base), "--tuned", str(kept), "--out", str(root / "audit"),
                     *common]) in (0, 1)  # fmt: skip
        agree(scores(run, -1), scores(root / "audit", 1))
        agree(scores(run, 0), scores(root / "audit", 0))
    return True


def adapter_goes_through(pack, case, root):
    """An adapter of PEFT's own scores in an audit as before it was saved. Gives whether it was read"""
    base, adapter = root / "base", root / "user"
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(1)
    peft = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **case["adapter"]))
    with torch.no_grad():
        for weight in peft.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn_like(weight)
    peft.save_pretrained(adapter)
    from spillover import ask

    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    held = ask(peft.eval(), tokenizer, str(pack)).table.to_pylist()
    code = main(["audit", str(pack), "--base", str(base), "--tuned", str(adapter), "--out", str(root / "theirs"),
                 "--threads", "1", "--device", "cpu"])  # fmt: skip
    assert code in (0, 1, 2)
    if code < 2:
        keys = ("subject", "relation", "implication", "candidate")
        expected = {tuple(row[key] for key in keys): row["log_probability"] for row in held if row["trained"]}
        agree(expected, scores(root / "theirs", 1))
    return code < 2


@given(case=cases())
@settings(max_examples=3, **SLOWLY)
def test_measured_is_saved_is_audited(tmp_path_factory, pack, capsys, case):
    root = tmp_path_factory.mktemp("model")
    goes_through(pack, case, root, capsys)


@pytest.mark.slow
def test_measured_is_saved_is_audited_for_any_model(tmp_path_factory, pack, capsys):
    reached = []

    @given(case=cases())
    @settings(max_examples=50, **SLOWLY)
    def each(case):
        root = tmp_path_factory.mktemp("model")
        reached.append((goes_through(pack, case, root, capsys), adapter_goes_through(pack, case, root)))

    each()
    assert all(sum(column) >= 25 for column in zip(*reached, strict=True)), reached
