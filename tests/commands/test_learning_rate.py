"""What a run is trained with when nothing is named, what it forgets, and `--lr auto`."""

import dataclasses

import pytest

from spillover.commands import inject, prepare
from spillover.commands.inject import Inject
from spillover.commands.mitigate import Mitigate
from spillover.details import InjectDetails
from spillover.errors import UsageError
from spillover.lm.built_in import BUILT_IN, DEFAULT
from spillover.record import ANSWERS, TRAJECTORY, Record
from spillover.report.load import load_run
from spillover.report.pages import build_runs_page
from spillover.runs import identity_of


def bytes_of(folder):
    return [(folder / name).read_bytes() for name in (ANSWERS, TRAJECTORY)]


def test_a_model_that_has_a_rate_and_passes_of_its_own_is_trained_with_them():
    own = Inject(pack="mixed", out="x")
    assert (own.model, own.lr, own.epochs) == (DEFAULT, BUILT_IN[DEFAULT].learning_rate, BUILT_IN[DEFAULT].epochs)
    assert Mitigate(pack="mixed", out="x").lr == own.lr
    other = Inject(pack="mixed", model="some/folder", out="x")
    assert (other.lr, other.epochs) == (5e-5, 8)
    named = Inject(pack="mixed", out="x", lr=1e-3, epochs=2)
    assert (named.lr, named.epochs) == (1e-3, 2)
    assert identity_of(named) != identity_of(dataclasses.replace(named, train_prompts="all"))


def test_what_is_forgotten_is_said_on_every_side_and_changes_no_table(settings, tmp_path, capsys):
    quiet = dataclasses.replace(settings, out=str(tmp_path / "quiet"), max_forgetting=0.0)
    inject.run(quiet)
    assert "WARNING" not in capsys.readouterr().err
    text = inject.run(dataclasses.replace(settings, max_forgetting=1e-9, lr=1e-2))["text"]
    found = Record.read(tmp_path / "run").details_of(InjectDetails).forgetting
    assert [at for at, _ in found.checkpoints] == [1, 2, 3]
    metrics = Record.read(tmp_path / "run").metrics
    assert found.checkpoints[-1][1] == metrics["forgetting_nats"]["value"]
    assert found.exceeded == next(at for at, rise in found.checkpoints if rise > 1e-9)
    assert capsys.readouterr().err.count(f"WARNING: {found.sentence}") == 1
    assert f"WARNING: {found.sentence}" in text
    assert found.sentence in build_runs_page([load_run(tmp_path / "run")]).notices
    assert build_runs_page([load_run(tmp_path / "quiet")]).notices == []
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "quiet")


def test_rows_are_stated_in_all_prompts_and_asked_in_those_that_are_left(settings, tmp_path):
    one = inject.run(settings)["metrics"]
    every = dataclasses.replace(settings, out=str(tmp_path / "all"), train_prompts="all", batch=100)
    two = inject.run(every)["metrics"]
    assert one["paraphrase_rank_test"] is not None and two["paraphrase_rank_test"] is None
    assert one["recall_rank_before"]["value"] == two["recall_rank_before"]["value"]
    with pytest.raises(UsageError, match="--train-prompts is 0"):
        inject.run(dataclasses.replace(every, train_prompts=0))


@pytest.fixture
def rates(monkeypatch):
    """Rates that suit the tiny model, which was never trained: the first makes it worse, the second is too slow."""
    monkeypatch.setattr(prepare, "RATES", (1e-2, 1e-6))


def test_the_rate_that_is_found_is_the_one_of_the_run(settings, tmp_path, capsys, rates):
    auto = dataclasses.replace(settings, lr="auto", epochs=30, max_forgetting=100.0)
    inject.run(auto)
    record = Record.read(tmp_path / "run")
    tried = record.details_of(InjectDetails).rates_tried
    assert record.settings["lr"] == 1e-2 and [each.rate for each in tried] == [1e-2]
    assert tried[0].learned and 1 <= tried[0].passes <= 30
    assert "--lr 0.01: learned after" in capsys.readouterr().err
    named = dataclasses.replace(auto, lr=1e-2, out=str(tmp_path / "named"))
    inject.run(named)
    assert bytes_of(tmp_path / "named") == bytes_of(tmp_path / "run")
    assert Record.read(tmp_path / "named").identity == record.identity
    # A second time it is found in the record.
    inject.run(auto)
    assert "--lr" not in capsys.readouterr().err


def test_rates_at_which_nothing_is_learned_are_one_sentence(settings, tmp_path, rates):
    with pytest.raises(UsageError) as caught:
        inject.run(dataclasses.replace(settings, lr="auto", epochs=1))
    assert str(caught.value) == (
        "--lr auto: no rate from 1e-06 to 0.01 learns the stated rows in 1 passes within 0.5 nats a token of "
        "forgetting. Give more --epochs, another --max-forgetting, or a rate."
    )
    assert not (tmp_path / "run" / "record.json").exists()
