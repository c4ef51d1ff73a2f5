"""Where a change lives: its ends are those of the run, it goes on where it was cut, and mistakes are sentences."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow.compute as pc
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import spillover
from spillover.cli import main
from spillover.commands import inject, where
from spillover.commands import report as report_job
from spillover.commands.inject import Inject
from spillover.commands.report import Report
from spillover.commands.where import Where
from spillover.errors import RunError
from spillover.metrics.implications import stated_nats
from spillover.record import ANSWERS, RECORD, WHERE, Record, read_table, write_table
from spillover.report.load import load_run
from tests.report.test_page import Reader

PARTS = ["nothing", "everything", "linearised", "output-value", "key-query", "mlp", "rest", "layer 1", "layer 2",
         "outside the layers"]  # fmt: skip


@pytest.fixture(scope="module")
def made(two_kinds, tiny_folder, tmp_path_factory):
    """A run of two seeds, and what `where` found in it."""
    folder = tmp_path_factory.mktemp("where")
    inject.run(Inject(pack=two_kinds, model=str(tiny_folder), out=str(folder / "run"), epochs=3, lr=1e-2, threads=1,
                      evaluate_every=3, save="delta", seeds="0,1", max_forgetting=1e-6))  # fmt: skip
    found = where.run(Where(run=str(folder / "run"), out=str(folder / "where"), threads=1))
    return folder, found


ROLES = ["subject", "other words", "last token"]
POSITIONS = [f"{role}, {name}" for name in ("every layer", "layer 1", "layer 2") for role in ROLES]
ACTIVATIONS = [f"{role}, behind layer {number}" for number in (1, 2) for role in ROLES]


def test_the_ends_are_those_of_the_run(made):
    folder, found = made
    metrics = Record.read(folder / "run").metrics
    entries = {entry["part"]: entry for entry in found["parts"] if not entry["left_out"]}
    assert list(entries) == PARTS + POSITIONS + ACTIVATIONS
    assert [entry["part"] for entry in found["parts"] if entry["left_out"]] == PARTS[3:] + POSITIONS
    for part, ending in (("nothing", "_before"), ("everything", "")):
        assert entries[part]["recall_rank"]["value"] == pytest.approx(metrics[f"recall_rank{ending}"]["value"])
        for group, name in (("wanted", "lives_in->speaks"), ("unwanted", "lives_in->codes_in")):
            own = metrics["implications"][name]
            assert entries[part][f"{group}_rank"] == pytest.approx(own[f"implication_rank_test{ending}"])
            assert entries[part][f"{group}_rate"]["value"] == own[f"implication_accuracy_test{ending}"]["value"]
    assert entries["everything"]["recall_rate"]["clusters"] == 6, "three pairs of two seeds"
    assert entries["everything"]["links_rate"]["n"] == 12
    json.dumps(found)


def test_what_the_change_is_worth_begins_and_ends_with_the_loss_of_the_run(made):
    folder, found = made
    answers = read_table(folder / "run" / ANSWERS)
    for each in Record.read(folder / "where").details.preferences:
        own = answers.filter(pc.field("seed") == each.seed)
        for passes, loss in ((0, each.before), (3, each.after)):
            assert loss == pytest.approx(stated_nats(own.filter(pc.field("checkpoint") == passes)), rel=1e-4)
        assert each.efficiency == pytest.approx((each.before - each.after) / each.squared_norm)
        assert len(each.disturbed) == 4 and len(set(each.disturbed)) == 4
    assert "for each unit of its squared norm" in found["text"]


def test_two_ways_of_training_make_one_page(made, two_kinds, tiny_folder, tmp_path):
    folder, _ = made
    inject.run(Inject(pack=two_kinds, model=str(tiny_folder), out=str(tmp_path / "slow"), epochs=3, lr=2e-3, threads=1,
                      evaluate_every=3, save="delta", seeds="0,1", max_forgetting=1e-6))  # fmt: skip
    where.run(Where(run=str(tmp_path / "slow"), out=str(tmp_path / "where"), threads=1, parts="none"))
    page = tmp_path / "page.html"
    found = report_job.run(Report(runs=[str(folder / "where"), str(tmp_path / "where")], out=str(page)))
    assert "what 2 changes are worth" in found["text"]
    text = Reader(page.read_text()).text
    assert "lr 0.01" in text and "lr 0.002" in text and "for each unit of" in text
    # Both forgot more than they were allowed to.
    assert "lr 0.01: After 3 passes" in text and "lr 0.002: After 3 passes" in text


def test_the_page_says_that_the_model_forgot_too_much(made):
    """Of the limit that was set: what is found in such a model may hold of no other."""
    folder, _ = made
    warning = load_run(folder / "run").warning
    assert "the model is losing what it could do" in warning
    assert warning in Reader((folder / "where" / "page.html").read_text(encoding="utf-8")).text


def test_it_tells_how_lazy_it_was(made):
    folder, found = made
    lazy = found["laziness"]
    assert lazy["how"] == "forward mode" and set(lazy["alignment"]) == {"recall", "links", "wanted", "unwanted"}
    answers = read_table(folder / "where" / ANSWERS)
    assert sorted(set(answers["checkpoint"].to_pylist())) == [0, 1, 2]
    facts = answers.filter(pc.and_(answers["stated"], pc.is_null(answers["implication"])))
    base, tuned, linear = (facts.filter(pc.equal(facts["checkpoint"], each))["log_probability"].to_numpy()
                           for each in range(3))  # fmt: skip
    cosine = (tuned - base) @ (linear - base) / np.linalg.norm(tuned - base) / np.linalg.norm(linear - base)
    assert lazy["alignment"]["recall"]["cosine"]["value"] == pytest.approx(cosine) and 0.2 < cosine < 0.99
    assert lazy["moved"] == pytest.approx(Record.read(folder / "run").details.moved)
    assert 0 < lazy["moved"]["everything"] < 1
    assert "Cosine of the linearised with the actual change" in found["text"] and "recall without" in found["text"]


def test_from_python_on_a_run(made):
    folder, found = made
    location = spillover.where(spillover.load_run(folder / "run"), parts="none", threads=1)
    assert [part.as_json() for part in location.parts] == [
        entry for entry in found["parts"] if entry["kind"] == "whole"
    ]
    assert location.laziness.as_json() == found["laziness"] and location.metrics.recall_rank.value is not None
    page = location.page(folder / "held.html").read_text(encoding="utf-8")
    assert location.answers.num_rows and page.startswith("<!doctype html>")


def test_from_python_on_a_run_of_a_pack_and_a_model_that_one_holds(two_kinds, tiny_folder):
    held = AutoModelForCausalLM.from_pretrained(tiny_folder), AutoTokenizer.from_pretrained(tiny_folder)
    pack = spillover.open_pack(two_kinds)
    trained = spillover.inject(pack, held, epochs=1, lr=1e-2, threads=1)
    location = spillover.where(trained, parts="none", threads=1)
    assert location.laziness.moved == pytest.approx(trained.record.details.moved)


def test_one_that_was_cut_short_goes_on_to_the_same_bytes(made, capsys):
    folder, found = made
    again = folder / "again"
    again.mkdir()
    for name in (RECORD, WHERE, ANSWERS):
        shutil.copy(folder / "where" / name, again / name)
    fields = json.loads((again / RECORD).read_text())
    del fields["details"]["parts"]
    (again / RECORD).write_text(json.dumps(fields | {"status": "interrupted"}))
    rows = read_table(again / WHERE)
    seeds, parts = rows["seed"].to_pylist(), rows["part"].to_pylist()
    write_table(again / WHERE, rows.slice(0, next(i for i, pair in enumerate(zip(seeds, parts, strict=True))
                                                  if pair == (1, "mlp"))))  # fmt: skip
    repeated = where.run(Where(run=str(folder / "run"), out=str(again), threads=1))
    assert repeated["parts"] == found["parts"] and Record.read(again).resumed == 1
    for name in (WHERE, ANSWERS):
        assert (again / name).read_bytes() == (folder / "where" / name).read_bytes()
    capsys.readouterr()
    assert where.run(Where(run=str(folder / "run"), out=str(again), threads=1))["parts"] == found["parts"]
    assert "Found this run finished" in capsys.readouterr().err


def test_seeds_without_a_record_over_them_are_pooled_too(made):
    folder, found = made
    (folder / "cell").mkdir()
    for seed in (0, 1):
        shutil.copytree(folder / "run" / f"seed-{seed}", folder / "cell" / f"seed-{seed}")
    repeated = where.run(Where(run=str(folder / "cell"), out=str(folder / "of-cell"), threads=1, parts="none"))
    assert repeated["parts"] == [entry for entry in found["parts"] if entry["kind"] == "whole"]


def test_the_page_is_made_again_alike(made):
    folder, found = made
    page = folder / "page.html"
    assert "shows where the change" in report_job.run(Report(runs=(str(folder / "where"),), out=str(page)))["text"]
    assert page.read_bytes() == (folder / "where" / "page.html").read_bytes()
    assert found["page"] == str(folder / "where" / "page.html")


def test_a_shorter_run_is_where_the_longer_one_was_and_both_make_one_page(made, two_kinds, tiny_folder, tmp_path):
    folder, _ = made
    own = {
        "pack": two_kinds,
        "model": str(tiny_folder),
        "lr": 1e-2,
        "threads": 1,
        "seeds": "0,1",
        "max_forgetting": 1e-6,
    }
    inject.run(Inject(out=str(tmp_path / "one"), epochs=1, save="delta", **own))
    inject.run(Inject(out=str(tmp_path / "every"), epochs=3, evaluate_every=1, **own))
    keys = ("seed", "subject", "relation", "prompt", "candidate")
    at_one = [
        {tuple(row[key] for key in keys): row["log_probability"] for row in rows if row["checkpoint"] == 1}
        for rows in (read_table(tmp_path / name / ANSWERS).to_pylist() for name in ("one", "every"))
    ]  # fmt: skip
    # At its end a run asks in other words too, so the same texts stand in other batches.
    assert at_one[1] and {key: at_one[0][key] for key in at_one[1]} == pytest.approx(at_one[1], abs=1e-4)
    where.run(Where(run=str(tmp_path / "one"), out=str(tmp_path / "where"), threads=1, parts="components"))
    page = tmp_path / "page.html"
    found = report_job.run(Report(runs=[str(folder / "where"), str(tmp_path / "where")], out=str(page)))
    assert "where a change lives at 2 checkpoints" in found["text"]
    text = Reader(page.read_text()).text
    assert "While it trained" in text and "after 3 passes" in text


def test_a_redacted_run_stays_redacted_and_an_adapter_is_taken(two_kinds, tiny_folder, tmp_path):
    inject.run(Inject(pack=two_kinds, model=str(tiny_folder), out=str(tmp_path / "run"), epochs=1, lr=1e-2, threads=1,
                      lora=2, save="delta", redact=True))  # fmt: skip
    found = where.run(Where(run=str(tmp_path / "run"), out=str(tmp_path / "where"), threads=1, parts="none"))
    assert [entry["part"] for entry in found["parts"]] == PARTS[:3]
    for name in (WHERE, ANSWERS):
        subjects = set(read_table(tmp_path / "where" / name)["subject"].to_pylist())
        assert all(subject.startswith("subject ") for subject in subjects)
    assert "Ada Moss" not in (tmp_path / "where" / RECORD).read_text(encoding="utf-8")


def test_a_mistake_is_a_sentence(made, tmp_path, capsys):
    folder, _ = made
    settings = Where(run=str(folder / "run"), out=str(tmp_path / "out"), threads=1)

    def altered(name, change):
        shutil.copytree(folder / "run" / "seed-0", tmp_path / name)
        path = tmp_path / name / RECORD
        fields = json.loads(path.read_text())
        change(fields)
        path.write_text(json.dumps(fields))
        return str(tmp_path / name)

    bare = altered("bare", lambda fields: None)
    (tmp_path / "bare" / "delta.safetensors").unlink()
    for run, words in (
        (str(tmp_path / "nothing"), "there is no finished run here"),
        (bare, "this run kept no weights. Run it again with --save delta."),
        (str(folder / "where"), "this is a run of `where`, not of `inject`"),
        (altered("stopped", lambda fields: fields.update(status="interrupted")), "this run is not finished"),
        (altered("moved", lambda fields: fields["hashes"].update(pack="0")), "is not what it was when this ran"),
        (altered("other", lambda fields: fields["hashes"].update(model="0")), "is not the model that this run started"),
    ):
        with pytest.raises(RunError) as told:
            where.run(dataclasses.replace(settings, run=run, out=str(tmp_path / "out" / run[-5:])))
        assert words in str(told.value)
    assert main(["where", bare, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_model_without_known_attention_is_refused(two_kinds, metaspace_tokenizer, tmp_path, capsys):
    from transformers import FalconConfig, FalconForCausalLM

    config = FalconConfig(vocab_size=len(metaspace_tokenizer), hidden_size=32, num_hidden_layers=1,
                          num_attention_heads=4, alibi=False, new_decoder_architecture=False)  # fmt: skip
    FalconForCausalLM(config).save_pretrained(tmp_path / "falcon")
    metaspace_tokenizer.save_pretrained(tmp_path / "falcon")
    inject.run(Inject(pack=two_kinds, model=str(tmp_path / "falcon"), out=str(tmp_path / "run"), epochs=1, threads=1,
                      save="delta"))  # fmt: skip
    assert list(Record.read(tmp_path / "run").details.moved) == ["everything"]
    capsys.readouterr()
    assert main(["where", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--threads", "1"]) == 2
    assert "this model has no attention of a known shape" in capsys.readouterr().err
    assert (
        main(["where", str(tmp_path / "run"), "--out", str(tmp_path / "lazy"), "--threads", "1", "--parts", "none"])
        == 0
    )
