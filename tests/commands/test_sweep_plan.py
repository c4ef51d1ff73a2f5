"""A study's plan on a device: what fits, how long it takes, and what is told of both."""

import json
from types import SimpleNamespace

import pytest

from spillover.cli import main
from spillover.commands import sweep
from spillover.commands.inject import Inject
from spillover.commands.sweep import Cell, Sweep
from spillover.commands.sweep_plan import Estimate, totals_of
from spillover.errors import ModelError, UsageError

PACK = "city-language:names=10,bridge=1"


def planned(study, **changes):
    return sweep.run(Sweep(study=str(study), plan=True, **changes))


@pytest.fixture
def study(byte_folder, tmp_path):
    """One model on two packs, of two seeds each; the second may end early and keeps its weights."""
    path = tmp_path / "study.yaml"
    body = {
        "name": "trial", "seeds": [0, 1], "options": {"model": str(byte_folder), "epochs": 4, "threads": 1},
        "groups": [{"name": "all", "cells": [
            {"pack": PACK}, {"pack": PACK, "lr": 1e-4},
            {"pack": "country-code:names=10,bridge=1", "until_learned": True, "save": "weights"},
        ]}],
    }  # fmt: skip
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def test_a_card_that_holds_everything(study):
    found = planned(study, on="l4-24", devices=2)
    first, second, last = (cell["a_run"] for cell in found["cells"])
    assert first == second, "the rate changes nothing"
    assert first["fits"] and first["fitting"] == [] and first["memory"]["process"] == 0
    assert first["seconds"] == pytest.approx(sum(first["seconds_by_part"].values()), abs=0.3)
    assert not first["at_most"] and last["at_most"]
    weights = last["memory"]["weights"]
    assert last["disk"]["kept"] - weights == pytest.approx(first["disk"]["kept"], rel=0.2)
    totals = found["totals"]
    assert (totals["runs"], totals["lacking"]) == (6, 0)
    # On two places two checkpoints each, and a third while it is written: the trained weights and both sums.
    assert totals["running"] == 2 * 3 * 3 * first["memory"]["trained"]
    assert totals["work"] / 2 <= totals["wall"] < totals["work"]
    assert totals["models"] == weights == first["model_file"]
    assert found["device"]["name"] == "l4-24" and found["device"]["count"] == 2
    assert "On 2 x l4-24" in found["text"] and "from its data sheet, not measured" in found["text"]
    assert "up to" in found["text"].splitlines()[5] and "Time: " in found["text"] and "Disk: " in found["text"]


def test_a_processor_has_several_runs_at_once(study):
    found = planned(study, on="cpu", processes=3, memory=30.0)
    assert found["device"]["at_once"] == 3 and found["device"]["measured"]
    assert found["cells"][0]["a_run"]["memory"]["process"] > 4e8
    assert "3 runs at once" in found["text"]


def test_without_a_device_the_cells_alone(study):
    found = planned(study)
    assert set(found) == {"cells", "text"} and "a_run" not in found["cells"][0]
    assert found["text"].splitlines()[-1] == "Add --on DEVICE for memory, time and disk."


def test_what_does_not_fit_says_what_would(tmp_path):
    path = tmp_path / "study.yaml"
    options = {"model": "llama-3-8b", "pack": PACK, "dtype": "bfloat16", "freeze_embeddings": False}
    path.write_text(json.dumps({"name": "large", "options": options, "groups": [{"name": "all"}]}), encoding="utf-8")
    found = planned(path, on="a100-40", devices=4)
    assert found["totals"]["lacking"] == 1 and found["totals"]["runs"] == 0
    own = found["cells"][0]["a_run"]
    # In bfloat16: the model, its trained copy and both of AdamW's sums are four times two bytes a weight.
    assert own["memory"]["needed"] > 4 * 2 * 8_030_261_248 and not own["fits"]
    assert own["fitting"][0] == "one a100-80"
    assert "of these with the FSDP settings" in own["fitting"][1] and own["fitting"][2].startswith("--lora 8 (")
    assert "* does not fit: llama-3-8b needs" in found["text"] and found["text"].endswith("Nothing fits.")


def test_the_schedule_by_hand():
    """Three runs of 10 s on model A and three of 4 s on B, a load of 2 s whenever a place changes its model."""

    def cell(name, model, seeds):
        return Cell(name, {}, seeds, Inject(pack="x", model=model, out=""))

    def own(seconds):
        return Estimate(
            forecast=SimpleNamespace(needed=1.0), room=2.0, seconds=SimpleNamespace(total=seconds), saved=100.0,
            tables=10.0, checkpoint=7.0, stored=2e9, fitting=(), most=False,
        )  # fmt: skip

    cells, found = [cell("a", "A", (0, 1, 2)), cell("b", "B", (0, 1, 2))], {"a": own(10.0), "b": own(4.0)}
    alone = totals_of(cells, found, 1)
    # A, B, A, B, A, B, each loaded anew.
    assert alone.wall == alone.work == 3 * (12 + 6)
    both = totals_of(cells, found, 2)
    # Place 1: A until 12, B until 18, A until 30; place 2: B until 6, A until 18, B until 24.
    assert both.wall == 30 and both.work == 3 * (12 + 6)
    three = totals_of([cells[1]], found, 2)
    # B alone: place 1 until 6 and 10, place 2 until 6; the third run has its model already.
    assert three.wall == 10 and three.work == 6 + 6 + 4
    # Two cells of three runs, whose tables are there once more, pooled; two pages' shares; two places.
    assert both.kept == 2 * (3 * (100 + 2 * 10) + 25_000) and both.running == 2 * 7 and both.models == 4e9


def test_mistakes_are_sentences(study, tmp_path, capsys):
    with pytest.raises(UsageError, match=r"no device called 'h100'"):
        planned(study, on="h100")
    with pytest.raises(ModelError, match="configuration of this model is not on this machine"):
        planned(study, on="h100-80", model="nobody/no-such-model")
    solved = tmp_path / "solved.yaml"
    solved.write_text('{"name": "gaps", "verb": "solve", "groups": [{"name": "a", "grid": {"symbolic": ["n=4"]}}]}')
    with pytest.raises(UsageError, match="this study is one of `solve`"):
        planned(solved, on="cpu")
    for words, sentence in (
        (["--on", "h100-80"], "--on is for a plan alone"),
        (["--plan", "--devices", "2"], "--devices needs a device"),
        (["--plan", "--on", "cpu", "--devices", "0"], "--devices is 0"),
        (["--plan", "--memory", "-1"], "--memory is -1"),
        (["--plan", "--memory", "80"], "this describes no whole device"),
        (["--plan", "--on", "cpu", "--tflops", "3"], "--on cpu is this machine"),
    ):
        assert main(["sweep", str(study), *words]) == 2
        out, err = capsys.readouterr()
        assert out == "" and sentence in err and err.count("\n") == 1
