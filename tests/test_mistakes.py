"""What a user can do wrong, typed as a command line: one sentence, the right exit code, and never a traceback."""

import json
import os
import re

import pytest
import torch
import transformers as library

from spillover.cli import main
from spillover.lm.load import quiet
from tests.packs.packs_on_disk import FACTS, HEAD, PACK, RELATIONS, jsonl, write
from tests.tiny_models import tiny_llama

SOUND = PACK + 'end: "."\n'
#: Each fault of a pack's form or rows: what pack.yaml and facts.jsonl say, and part of the sentence.
BROKEN_PACKS = {
    "two answers": (SOUND, jsonl([*FACTS, ("Bob Day", "lives_in", "Paris")]), "has two answers to 'lives_in'"),
    "unknown relation": (SOUND, jsonl([*FACTS, ("Bob Day", "livesin", "Rome")]), "Did you mean 'lives_in'?"),
    "no subject": (SOUND.replace("{subject} lives", "She lives"), None, "does not say whom it asks about"),
    "map outside": (SOUND.replace("Rome: Italian", "Roma: Italian"), None, "which is no answer of 'lives_in'"),
    "unknown kind": (SOUND.replace("causal", "casual"), None, "Did you mean 'causal'?"),
    "row without answer": (SOUND, '{"subject": "Ann Lee", "relation": "speaks"}\n', "there is no answer"),
    "row that is no JSON": (SOUND, "{subject: Ann\n", "row 1"),
    "no facts": (SOUND, "", "there is no fact"),
    "facts gone": (SOUND.replace("facts.jsonl", "gone.jsonl"), None, "names 'gone.jsonl', which does not exist"),
    "not YAML": ("name: [tiny", None, "pack.yaml"),
    "not UTF-8": (b"name: \xff\xfe\n", None, "not UTF-8"),
    "empty": ("", None, "the file is empty"),
    "a list": ("- name: tiny\n", None, "this is not a pack"),
    "relations a list": (HEAD + "relations: [speaks]\nfacts: facts.jsonl\n", None, "relations is not a mapping"),
    "only half": (HEAD + RELATIONS, None, "has no 'facts'"),
}


def run(capsys, *words):
    """Exit code, standard output, and the one sentence on standard error."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def refused(capsys, *words):
    """The sentence of a command that ends in 2 and says nothing else; the same as JSON with --json."""
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, ""), err
    err = err.split("\r")[-1]  # A progress bar, if any, comes before.
    # So does what a run says of memory, once its pack and its model's configuration are sound.
    err = re.sub(r"\AThis run needs about [^\n]*\n", "", err)
    assert err.startswith("spillover") and err.count("\n") == 1 and err.endswith((".\n", "?\n"))
    code, out, _ = run(capsys, *words, "--json")
    error = json.loads(out)["error"]
    assert (
        code == 2 and set(error) == {"what", "where", "do"} and error["what"] in err and error["do"].rstrip(".") in err
    )
    return err


@pytest.fixture
def pack(tmp_path):
    return write(tmp_path / "pack", SOUND)


@pytest.fixture
def inject(capsys, pack, tiny_folder, tmp_path):
    """Types `spillover inject` with one thing changed, and gives the sentence; the folder stays without a record."""

    def typed(*more, pack=pack, model=tiny_folder, out=tmp_path / "run"):
        return refused(capsys, "inject", pack, "--model", model, "--out", out, "--epochs", "1", *more)

    return typed


@pytest.mark.parametrize("fault", BROKEN_PACKS)
def test_a_broken_pack_ends_inject_in_2_and_check_in_1_with_the_same_sentence(capsys, inject, tmp_path, fault):
    body, table, sentence = BROKEN_PACKS[fault]
    broken = write(tmp_path / "broken", body, table)
    said = inject(pack=broken)
    assert sentence in said
    assert not (tmp_path / "run").exists()
    code, out, err = run(capsys, "check", broken)
    assert (code, err) == (1, "")
    first = next(line for line in out.splitlines() if line.startswith("fault: ")).removeprefix("fault: ")
    # inject adds how many more there are.
    assert first.rstrip(".?") in said
    code, out, _ = run(capsys, "check", broken, "--json")
    assert code == 1 and json.loads(out)["faults"][0]["what"] in said


@pytest.mark.parametrize(
    ("relations", "end", "sentence"),
    [
        ('prompts: ["{subject} speaks"], answers: [French, Frenchified]', "", "the tokens of 'French' begin those of"),
        ('prompts: ["{subject} speaks"], answers: ["☃", "☄"]', 'end: "."\n', "have the same tokens"),
        ('prompts: ["{subject} speaks "]', 'join: ""\n', "change when 'French' is appended"),
    ],
)  # fmt: skip
def test_answers_that_the_tokens_cannot_tell_apart(capsys, inject, tiny_folder, tmp_path, relations, end, sentence):
    body = PACK.replace('speaks:\n    prompts: ["{subject} speaks"]', f"speaks: {{{relations}}}") + end
    colliding = write(tmp_path / "colliding", body)
    said = inject(pack=colliding)
    assert sentence in said
    assert not list(tmp_path.glob("run/record.json"))
    assert run(capsys, "check", colliding)[0] == 0, "no fault without the model"
    code, out, err = run(capsys, "check", colliding, "--model", tiny_folder)
    assert (code, err) == (1, "")
    assert sentence in out and "see the faults" in out


@pytest.mark.parametrize(
    ("pack", "sentence"),
    [
        ("city-language:pars=5", "a built-in pack has no option 'pars'. Did you mean 'pairs'?"),
        ("city-language:pairs=five", "pairs=five is not a whole number. Write for instance pairs=5."),
        ("city-language:pairs=5,pairs=6", "the option 'pairs' is given twice. Give it once."),
        ("city-langage", "there is no pack called 'city-langage'. Did you mean 'city-language'?"),
        ("./nowhere", "nowhere: there is no such pack. Name a built-in pack, a folder or a YAML file that exists."),
        ("city-language:names=7", "names"),
    ],
)
def test_a_pack_that_does_not_exist(capsys, inject, pack, sentence):
    assert sentence in inject(pack=pack)
    assert sentence in refused(capsys, "check", pack)


def test_a_table_or_an_empty_folder_in_place_of_a_pack(capsys, inject, pack, tmp_path):
    for place, sentence in (
        (pack / "facts.jsonl", "a table of facts, not a pack"),
        (tmp_path, "there is no pack.yaml"),
    ):
        assert sentence in inject(pack=place)
        assert sentence in refused(capsys, "check", place)


def saved(model, tokenizer, folder):
    with quiet():
        model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def gpt2(vocabulary, longest):
    return library.GPT2LMHeadModel(
        library.GPT2Config(vocab_size=vocabulary, n_embd=8, n_layer=1, n_head=2, n_positions=longest)
    )


def bert(vocabulary):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return library.BertForMaskedLM(library.BertConfig(vocab_size=vocabulary, **sizes))


def broken_model(kind, folder, tokenizer):
    """A folder with something that looks like a model and is none, or does not fit the pack."""
    torch.manual_seed(0)
    size = len(tokenizer)
    whole = tiny_llama(size)
    if kind == "empty":
        folder.mkdir()
    elif kind == "without tokenizer":
        saved(whole, None, folder)
    elif kind == "classifier":
        saved(library.LlamaForSequenceClassification(whole.config), tokenizer, folder)
    elif kind == "fills in blanks":
        saved(bert(size), tokenizer, folder)
    elif kind == "another's tokenizer":
        saved(tiny_llama(50), tokenizer, folder)
    elif kind == "reads too little":
        saved(gpt2(size, 6), tokenizer, folder)
    elif kind == "not numbers":
        with torch.no_grad():
            whole.model.norm.weight.fill_(float("nan"))
        saved(whole, tokenizer, folder)
    elif kind == "its own base":
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "this folder is not a model"),
        ("nowhere", "there is no model called"),
        ("without tokenizer", "this folder has no tokenizer. Copy tokenizer.json"),
        ("classifier", "it is not a whole language model: lm_head.weight is missing"),
        ("fills in blanks", "reads in both directions and so cannot continue a prompt"),
        ("another's tokenizer", "but the model has only 50. Name a folder whose tokenizer belongs to its weights"),
        ("reads too little", "tokens, and this model reads 6 at most. Shorten the pack's prompts"),
        ("not numbers", "the model's scores are not numbers"),
        ("its own base", "is an adapter too"),
    ],
)
def test_a_folder_that_is_not_a_model(inject, metaspace_tokenizer, tmp_path, kind, sentence):
    broken_model(kind, tmp_path / "model", metaspace_tokenizer)
    assert sentence in inject(model=tmp_path / "model")


def test_a_model_name_that_no_file_can_have(capsys, inject, pack):
    assert "there is no model called 'xxx" in inject(model="x" * 5000)
    assert "there is no model called 'xxx" in refused(capsys, "check", pack, "--model", "x" * 5000)


def test_passages_are_cut_to_what_the_model_reads(capsys, pack, metaspace_tokenizer, tmp_path):
    saved(gpt2(len(metaspace_tokenizer), 30), metaspace_tokenizer, tmp_path / "model")
    words = ("inject", pack, "--model", tmp_path / "model", "--out", tmp_path / "run", "--epochs", "1")
    assert run(capsys, *words)[0] == 0


def test_an_output_folder_that_is_taken(capsys, inject, pack, tiny_folder, tmp_path):
    words = ("inject", pack, "--model", tiny_folder, "--out", tmp_path / "done", "--epochs", "1")
    assert run(capsys, *words)[0] == 0
    before = (tmp_path / "done" / "record.json").read_bytes()
    assert "this folder holds another run" in inject("--lr", "1e-3", out=tmp_path / "done")
    assert (tmp_path / "done" / "record.json").read_bytes() == before
    assert "this is a file, not a folder" in inject(out=pack / "pack.yaml")
    assert "could not be written: not a directory" in inject(out=pack / "pack.yaml" / "below")
    assert "could not be written: file name too long" in inject(out=tmp_path / ("x" * 300))
    assert "holds files that are not a run" in inject(out=pack)


@pytest.mark.parametrize("body", ["{", "[]", '{"command": "inject"}'])
def test_an_output_folder_with_a_damaged_record(inject, tmp_path, body):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text(body)
    assert "this record cannot be read" in inject()


def test_an_output_folder_that_cannot_be_written_to(inject, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o500)
    if os.access(tmp_path / "run", os.W_OK):
        # The superuser may write anywhere, so the answer of the system is given in its place.
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "this folder cannot be written to. Choose another --out" in inject()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--seed", "-1"), "--seed is -1. Give --seed a whole number from 0 to 4294967295."),
        (("--seed", "99999999999999999999"), "--seed is 99999999999999999999. Give --seed a whole number"),
        (("--seeds", "0,-1"), "--seeds is 0,-1. Give whole numbers from 0 to 4294967295."),
        (("--threads", "100000"), "--threads is 100000. Give --threads a whole number from 0 to 512."),
        (("--threads", "-1"), "--threads is -1. Give --threads a whole number from 0 to 512."),
        (("--weight-decay", "nan"), "--weight-decay is nan. Give 0 or more."),
        (("--lr", "inf"), "--lr is inf. Give a learning rate between 0 and 1, such as 5e-5."),
        (("--device", "gpuu"), "there is no device called 'gpuu'. Use auto, cpu, cuda, cuda:0 or mps."),
        (("--device", "cuda:77"), "this machine has no device 'cuda:77'. Use --device cpu or auto."),
        (("--logits-at-once", "-1"), "--logits-at-once is -1. Give --logits-at-once 0 or more."),
        (("--optimiser", "sgd"), "'sgd' is no value of --optimiser."),
        (("--lora-targets", "q_proj"), "says where an adapter goes, and none is trained. Give --lora RANK too."),
        (
            ("--lora", "2", "--lora-targets", "qproj"),
            "--lora-targets: no module of this model that takes an adapter is called qproj. Its modules are "
            "embed_tokens, q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, ",
        ),
        (("--dtype", "float8"), "'float8' is no value of --dtype."),
    ],
)
def test_numbers_that_cannot_be(inject, words, sentence):
    assert sentence in inject(*words)


def test_a_device_that_this_machine_lacks(inject, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "this machine has no device 'cuda'. Use --device cpu or auto." in inject("--device", "cuda")


def test_eight_bits_without_the_package(inject, monkeypatch):
    monkeypatch.setattr("spillover.lm.train.find_spec", lambda name: None)
    said = inject("--optimiser", "adamw-8bit")
    assert "--optimiser adamw-8bit: the package that keeps an optimizer's state in 8 bits is not installed." in said


def test_looking_into_a_model_whose_attention_is_not_known(inject, metaspace_tokenizer, tmp_path):
    config = library.OPTConfig(
        vocab_size=len(metaspace_tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16,
        word_embed_proj_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    saved(library.OPTForCausalLM(config), metaspace_tokenizer, tmp_path / "model")
    assert "this model has no attention of a known shape" in inject("--inside", model=tmp_path / "model")


def test_training_that_goes_astray_is_a_sentence_and_a_failed_record(inject, tmp_path):
    said = inject("--lr", "0.99", "--weight-decay", "1e30", "--epochs", "4", "--batch", "1")
    assert "training went astray: the loss of step 2 is" in said
    assert json.loads((tmp_path / "run" / "record.json").read_text())["status"] == "failed"
