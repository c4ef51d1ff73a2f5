"""Remedies compared on a tiny real model: every remedy runs, nothing is done at strength 0, and runs are shared."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import spillover
from spillover.cli import main
from spillover.commands import inject, mitigate, prepare, report
from spillover.commands.inject import Inject
from spillover.commands.mitigate import Mitigate, cells_of, recommendation
from spillover.commands.report import Report
from spillover.details import FrontierEntry
from spillover.errors import ModelError, UsageError
from spillover.interventions.base import Pipeline, Spec, remedies
from spillover.metrics.remedies import out_of_reach
from spillover.packs.pack import Implication
from spillover.packs.write import write_pack
from spillover.record import ANSWERS, TRAJECTORY, Metric, Record, read_table


@pytest.fixture
def plain(two_kinds, tiny_folder, tmp_path):
    """An untreated run's settings."""
    return Inject(pack=two_kinds, model=str(tiny_folder), out=str(tmp_path / "plain"), epochs=2, lr=1e-2, threads=1)


def bytes_of(folder):
    return [(folder / name).read_bytes() for name in (ANSWERS, TRAJECTORY)]


def test_every_remedy_at_strength_none_is_the_untreated_run_byte_for_byte(plain, tmp_path):
    kept = prepare.Models()
    inject.run(plain, kept)
    every = "+".join(f"{name}=0" for name in remedies())
    treated = dataclasses.replace(plain, remedy=every, out=str(tmp_path / "treated"))
    inject.run(treated, kept)
    assert bytes_of(tmp_path / "plain") == bytes_of(tmp_path / "treated")


@pytest.fixture(scope="module")
def untreated(two_kinds, tiny_folder, tmp_path_factory):
    """An untreated run of four epochs: its settings, what it leaves for the next, and its bytes."""
    folder = tmp_path_factory.mktemp("untreated")
    settings = Inject(pack=two_kinds, model=str(tiny_folder), out=str(folder), epochs=4, evaluate_every=4, lr=1e-2,
                      threads=1, save="delta")  # fmt: skip
    kept = prepare.Models()
    inject.run(settings, kept)
    return settings, kept, bytes_of(folder)


@pytest.mark.parametrize("name", remedies())
def test_every_remedy_does_something_at_its_own_strength(name, untreated, tmp_path):
    settings, kept, before = untreated
    kind = remedies()[name]
    if name == "early-stopping":
        settings = dataclasses.replace(settings, epochs=60, evaluate_every=5)
    treated = dataclasses.replace(
        settings, remedy=f"{name}={kind.strengths[0]:g}", save="none", out=str(tmp_path / "treated"),
        tuned=settings.out if kind.after else "",
    )  # fmt: skip
    inject.run(treated, kept)
    record = Record.read(tmp_path / "treated")
    assert record.status == "done"
    if name == "early-stopping":
        assert max(read_table(tmp_path / "treated" / ANSWERS)["checkpoint"].to_pylist()) < 60
    assert bytes_of(tmp_path / "treated") != before


def test_remedies_on_finished_weights_need_no_second_training(plain, tmp_path):
    saved = dataclasses.replace(plain, save="delta")
    inject.run(saved)
    short = dataclasses.replace(plain, remedy="ignore-topk=0.1", tuned=plain.out, out=str(tmp_path / "short"))
    inject.run(short)
    whole = dataclasses.replace(plain, remedy="ignore-topk=0.1", out=str(tmp_path / "whole"))
    inject.run(whole)
    tables = [read_table(tmp_path / name / ANSWERS).to_pylist() for name in ("short", "whole")]
    ends = [[row for row in rows if row["checkpoint"] == 2] for rows in tables]
    assert ends[0] == ends[1] and ends[0]


def test_weights_of_another_run_are_refused(plain, tmp_path):
    inject.run(dataclasses.replace(plain, save="delta", epochs=1))
    with pytest.raises(UsageError, match="not the run whose weights"):
        inject.run(dataclasses.replace(plain, remedy="ignore-topk=0.1", tuned=plain.out, out=str(tmp_path / "short")))
    with pytest.raises(UsageError, match="stand only for training without a remedy"):
        inject.run(dataclasses.replace(plain, remedy="lazier=1", tuned=plain.out, out=str(tmp_path / "other")))


def test_a_comparison_is_a_frontier_and_one_advice_and_is_found_again(two_kinds, tiny_folder, tmp_path, capsys):
    settings = Mitigate(
        pack=two_kinds, model=str(tiny_folder), out=str(tmp_path / "all"),
        remedies="abstention,scale-back,lora=2+lazier=1,output-value-penalty=1", strengths="0.5,1",
        lr=1e-2, epochs=12, untreated_epochs=10, processes=2, seeds="0,1", save="delta",
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"abstention: the strength 0\.5 is out of range"):
        mitigate.run(settings)
    settings = dataclasses.replace(settings, remedies="abstention=1,scale-back,lora=2+lazier=1,output-value-penalty=1")
    found = mitigate.run(settings)
    assert [(entry["remedy"], entry["strength"]) for entry in found["frontier"]] == [
        ("untreated", None), ("abstention", 1.0), ("scale-back", 0.5), ("scale-back", 1.0), ("lora=2+lazier=1", None),
        ("output-value-penalty", 1.0),
    ]  # fmt: skip
    contract = {"remedy", "strength", "recall_rank", "implication_rank_train", "unwanted_rate", "wanted_rate",
                "unwanted_rank", "wanted_rank", "forgetting_nats", "status"}  # fmt: skip
    assert all(contract <= set(entry) for entry in found["frontier"])
    assert found["recommendation"]["because"] and found["text"]
    json.dumps(found["frontier"]), json.dumps(found["metrics"])
    exact = found["frontier"][1]["exact"]
    assert exact["unwanted"] < exact["unwanted_untreated"] and found["frontier"][2]["exact"] is None
    mixed = found["frontier"][5]["exact"]
    assert 0 < mixed["unwanted"] < mixed["unwanted_untreated"] == exact["unwanted_untreated"]
    undone = found["frontier"][3]
    untreated = read_table(tmp_path / "all" / "cells" / "untreated" / "seed-0" / ANSWERS)
    before = [row["log_probability"] for row in untreated.to_pylist() if row["checkpoint"] == 0]
    back = read_table(tmp_path / "all" / "cells" / "scale-back=1" / "seed-0" / ANSWERS).to_pylist()
    assert [row["log_probability"] for row in back if row["checkpoint"] == 10] == pytest.approx(before, abs=1e-4)
    assert undone["status"] == "failed to learn"
    runs = [path / "seed-1" for path in (tmp_path / "all" / "cells").iterdir()]
    assert len(runs) == 6 and all((run / "delta.safetensors").exists() or (run / "adapter").exists() for run in runs)
    capsys.readouterr()
    page = tmp_path / "all" / "page.html"
    made = page.read_bytes()
    assert found["page"] == str(page) and found["text"].endswith(f"page: {page}")
    page.unlink()
    assert mitigate.run(settings)["frontier"] == found["frontier"]
    assert "Found this run finished" in capsys.readouterr().err
    assert page.read_bytes() == made
    report.run(Report(runs=(str(tmp_path / "all"),), out=str(tmp_path / "other.html")))
    assert (tmp_path / "other.html").read_bytes() == made
    assert remedies()["abstention"].text.encode() in made


def test_what_failed_is_tried_again_by_the_same_command(two_kinds, tiny_folder, tmp_path):
    """Here for somebody's file that stood in its way."""
    settings = Mitigate(pack=two_kinds, model=str(tiny_folder), out=str(tmp_path / "all"), remedies="scale-back=0.5",
                        lr=1e-2, untreated_epochs=10, epochs=10, processes=1)  # fmt: skip
    mitigate.run(settings)
    cell = tmp_path / "all" / "cells" / "scale-back=0.5" / "seed-0"
    shutil.rmtree(cell)
    cell.mkdir()
    (cell / "notes.txt").write_text("mine")
    record = Record.read(tmp_path / "all")
    record.status = "interrupted"
    record.write(tmp_path / "all")
    failed = mitigate.run(settings)
    assert "this folder holds files that are not a run" in failed["frontier"][1]["status"]
    assert "unwanted_rate" not in failed["frontier"][1]
    shutil.rmtree(cell)
    assert mitigate.run(settings)["frontier"][1]["status"] == "failed to learn"


def test_an_untreated_run_that_has_not_learned_ends_the_comparison_and_is_not_trained_again(
    two_kinds, tiny_folder, tmp_path
):
    settings = Mitigate(pack=two_kinds, model=str(tiny_folder), out=str(tmp_path / "all"), remedies="lazier=1",
                        lr=1e-2, untreated_epochs=1, processes=1)  # fmt: skip
    said, made = [], []
    for _ in range(2):
        with pytest.raises(UsageError) as found:
            mitigate.run(settings)
        said.append(str(found.value))
        made.append({path: path.read_bytes() for path in (tmp_path / "all" / "cells").rglob("*") if path.is_file()})
    assert re.fullmatch(
        r"--untreated-epochs: the untreated run had not learned the stated rows after 1 epoch \(mean rank of stated "
        r"facts \d\.\d\d, of stated implications \d\.\d\d; at most 0\.1 is learned\), so no remedy can be judged\. "
        r"Raise --untreated-epochs \(and --epochs, its cap\) or --lr\.", said[0],
    ), said[0]  # fmt: skip
    assert said[0] == said[1] and made[0] == made[1]
    assert [path.name for path in (tmp_path / "all" / "cells").iterdir()] == ["untreated"]
    assert found.value.exit_code == 2 and Record.read(tmp_path / "all").status == "failed"


@pytest.mark.slow
def test_from_python_a_pack_and_a_model_that_one_holds_give_what_their_names_give(two_kinds, tiny_folder, tmp_path):
    held = AutoModelForCausalLM.from_pretrained(tiny_folder), AutoTokenizer.from_pretrained(tiny_folder)
    options = {"remedies": "scale-back=0.5", "epochs": 10, "lr": 1e-2, "processes": 1}
    found = spillover.mitigate(spillover.open_pack(two_kinds), held, **options)
    named = spillover.mitigate(two_kinds, str(tiny_folder), out=tmp_path / "named", **options)
    assert found.frontier.equals(named.frontier) and found.frontier["cell"].to_pylist() == [
        "untreated",
        "scale-back=0.5",
    ]
    assert found.recommendation == named.recommendation and found.metrics.unwanted_rate.value is not None
    assert "advice" in repr(found) and found.page(tmp_path / "page.html").read_text(encoding="utf-8")
    again = spillover.mitigate(spillover.open_pack(two_kinds), held, out=found.folder, **options)
    assert again.record == found.record


def test_what_cannot_be_compared_is_refused_in_a_sentence(two_kinds, tiny_folder, tmp_path):
    settings = Mitigate(pack=two_kinds, model=str(tiny_folder), out=str(tmp_path / "all"))
    for changes, words in (
        ({"remedies": "abstenton"}, "Did you mean 'abstention'"),
        ({"remedies": "lora=99999"}, "lora: the strength 99999 is out of range"),
        ({"remedies": "lazier=nan"}, "lazier: the strength nan is out of range"),
        ({"remedies": "lazier=much"}, "the strength 'much' is not a number"),
        ({"remedies": "lazier=1+lazier=2"}, "named twice"),
        ({"strengths": "a"}, "--strengths takes numbers"),
        ({"strengths": "0", "remedies": "lazier"}, "every strength is 0"),
        ({"pack": "city-language:pairs=2,names=4,bridge=1"}, "declares no unwanted implication"),
        ({"untreated_epochs": 0}, "--untreated-epochs is 0"),
    ):
        with pytest.raises(UsageError, match=words.replace("(", r"\(")):
            mitigate.run(dataclasses.replace(settings, **changes))
    assert not (tmp_path / "all").exists()


def test_what_never_came_near_the_best_is_tried_where_it_is_named_or_all_are_asked_for(two_kinds, tmp_path):
    settings = Mitigate(pack=two_kinds, out=str(tmp_path / "out"))
    usual = {spec.name for each in cells_of(settings).values() for spec in each.specs}
    every = {
        spec.name for each in cells_of(dataclasses.replace(settings, all_remedies=True)).values() for spec in each.specs
    }
    assert usual == every - set(out_of_reach()) and "early-stopping" in every - usual and "stay-near-base" in usual
    named = cells_of(dataclasses.replace(settings, remedies="early-stopping"))
    assert [*named] == ["early-stopping=1"]
    with pytest.raises(UsageError, match="--all-remedies takes every remedy"):
        dataclasses.replace(settings, all_remedies=True, remedies="lazier")


def test_a_remedy_that_does_not_fit_the_model_says_so_by_name(plain):
    with pytest.raises(ModelError, match="freeze-values"):
        Pipeline([Spec("freeze-values", 1.0)]).refuse(["transformer.h.0.attn.c_attn.weight"])


def entry(name, removed, change, forgets, status="learned", taken=False):
    metric = lambda value: None if value is None else Metric(value, value, value, 10, 15, "share")  # noqa: E731
    numbers = {"removed": metric(removed), "wanted_change": metric(change), "forgetting_nats": metric(forgets)}
    named = {"remedy": name, "strength": 1.0, "cell": f"{name}=1", "status": status}
    return FrontierEntry.model_validate({**named, **numbers, "replaced": {"taken": taken}})


def test_where_nothing_unwanted_was_concluded_no_remedy_is_needed():
    untreated = entry("untreated", None, 0.0, 1.0)
    advice = recommendation([untreated, entry("a", 0.95, 0.0, 0.5)])
    assert advice.remedy is None and advice.because.startswith("nothing to remove")


def test_the_advice_is_the_safe_remedy_that_forgets_least_or_none():
    untreated = entry("untreated", 0.0, 0.0, 1.0)
    safe, dear = entry("a", 0.95, -0.01, 0.5), entry("b", 1.0, 0.0, 2.0)
    assert recommendation([untreated, dear, safe]).remedy == "a"
    for bad in (
        entry("c", 0.95, -0.2, 0.1), entry("c", 0.5, 0.0, 0.1), entry("c", 0.95, 0.0, 0.1, taken=True),
        entry("c", 0.95, 0.0, 0.1, status="failed to learn"), entry("c", 0.95, 0.0, 0.1, status="changes stated rows"),
    ):  # fmt: skip
        assert recommendation([untreated, bad]).remedy is None
        assert "none is safe" in recommendation([untreated, bad]).because
        assert recommendation([untreated, bad, safe]).remedy == "a"
    moved = safe.model_copy(update={"removed_negated": Metric(0.2, 0.1, 0.3, 10, 15, "share")})
    assert recommendation([untreated, dear, moved]).remedy == "b"
    because = recommendation([untreated, moved]).because
    assert because.endswith("removed when asked plainly (95%), still there when asked negated (20% removed)"), because


@pytest.mark.slow
def test_a_script_of_the_users_is_not_run_again_by_the_workers(two_kinds, tiny_folder, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "import sys\nimport spillover as so\nprint('begun')\n"
        "found = so.mitigate(sys.argv[1], sys.argv[2], remedies='scale-back', strengths=[0.5], epochs=10, "
        "lr=1e-2)\nprint(found.frontier.num_rows)\n"
    )
    done = subprocess.run([sys.executable, script, two_kinds, tiny_folder], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["begun", "2"]


def homes(folder):
    """A table of who lives where and, of three in each city, codes in what; nothing says what is wanted."""
    codes = {"Moss": ("Paris", "Java"), "Ling": ("Rome", "Lisp"), "Okri": ("Tokyo", "Perl")}
    firsts = {"Ada": True, "Ben": True, "Cleo": True, "Dan": False, "Eve": False, "Fay": False}
    lines = [f"{first} {last},{city},{code * known}" for last, (city, code) in codes.items()
             for first, known in firsts.items()]  # fmt: skip
    path = folder / "homes.csv"
    path.write_text("\n".join(["name,lives in,codes in", *lines, ""]), encoding="utf-8")
    return path


def test_of_a_file_the_base_model_judges_what_its_rows_suggest(tiny_folder, tmp_path):
    """A model of random weights knows of no link whether it is true, and so none is unwanted."""
    path = homes(tmp_path)
    settings = Mitigate(pack=str(path), model=str(tiny_folder), out=str(tmp_path / "out"), remedies="scale-back=0.5",
                        lr=1e-2, untreated_epochs=20, processes=1)  # fmt: skip
    with pytest.raises(UsageError) as found:
        mitigate.run(settings)
    assert re.fullmatch(
        re.escape(str(path)) + r": the base model judges no implication unwanted \((\w+->\w+ is unclear(, )?)+\)\. "
        r"`spillover predict \S+ --draft DIR` writes them to edit\. Declare in pack\.yaml what .*", str(found.value),
    )  # fmt: skip
    path.write_text("name,lives in\nAda,Paris\nBen,Rome\nCleo,Paris\nDan,Rome\n", encoding="utf-8")
    with pytest.raises(UsageError, match="declare no implication and suggest none"):
        mitigate.run(dataclasses.replace(settings, out=str(tmp_path / "other")))


def test_within_the_minutes_what_fits_is_tried_and_the_recommended_model_is_written(tiny_folder, tmp_path):
    codes = {"Paris": "Java", "Rome": "Lisp", "Tokyo": "Perl"}
    drafted = spillover.open_pack(homes(tmp_path))
    rule = Implication("lives_in", "codes_in", "spurious", codes)
    pack = write_pack(dataclasses.replace(drafted, implications=(rule,)), tmp_path / "pack")
    settings = Mitigate(pack=str(pack), model=str(tiny_folder), out=str(tmp_path / "out"), minutes=5,
                        remedies="stay-near-base=3", lr=1e-2, untreated_epochs=30, processes=2)  # fmt: skip
    found = mitigate.run(settings)
    assert found["recommendation"]["safe"] and f"trained with it: {tmp_path / 'out' / 'weights'}" in found["text"]
    weights = tmp_path / "out" / "weights"
    assert AutoModelForCausalLM.from_pretrained(weights).config.vocab_size and AutoTokenizer.from_pretrained(weights)
    assert "with the remedy `stay-near-base=3`" in (weights / "README.md").read_text(encoding="utf-8")
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert Record.read(tmp_path / "out" / "cells" / "stay-near-base=3" / "seed-0").settings["epochs"] == 30
    hasty = dataclasses.replace(settings, out=str(tmp_path / "hasty"), minutes=0.01)
    found = mitigate.run(hasty)
    assert found["recommendation"]["because"].startswith(
        "none could be judged: stay-near-base=3 failed: not tried, it may take 0."
    )
    assert not (tmp_path / "hasty" / "weights").exists()
    with pytest.raises(UsageError, match="--minutes is -1"):
        dataclasses.replace(settings, minutes=-1)
