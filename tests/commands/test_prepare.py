"""The micro-batch of a run: chosen, told, recorded, taken up again; and what is said when there is no memory."""

import json
import re

import pytest
import torch

from spillover.commands import inject, prepare
from spillover.errors import UsageError
from spillover.lm import memory as room
from spillover.lm.memory import Exhausted
from spillover.record import Record
from tests import quick
from tests.commands.test_resume import outcome, settings
from tests.lm.test_train_micro_batches import failing_in_backward, memory_for
from tests.test_runs import counted

#: One model for all runs of this file; each foretells anew.
KEPT = prepare.Models()


@pytest.fixture(autouse=True)
def unknown():
    KEPT.budgets, KEPT.announced = {}, set()


def since(folder):
    return Record.read(folder).details.memory.micro_batches


def test_with_room_the_whole_batch_is_taken_told_and_recorded(byte_folder, tmp_path, capsys):
    own = settings(byte_folder, tmp_path / "run")
    inject.run(own, KEPT)
    assert "This run needs about " in capsys.readouterr().err
    record = Record.read(tmp_path / "run")
    memory = record.details.memory
    assert since(tmp_path / "run") == [[1, 4]] and record.settings["micro_batch"] == 4
    assert memory.forecast["traced"] and memory.forecast["micro_batch"] == 4
    assert memory.peak > memory.forecast["weights"] > 0 and memory.room > memory.forecast["needed"]
    asked = settings(byte_folder, tmp_path / "asked", micro_batch=4)
    inject.run(asked, KEPT)
    assert outcome(tmp_path / "run")[:2] == outcome(tmp_path / "asked")[:2], "the same bytes"
    inject.run(own, KEPT)
    assert "Found this run finished" in capsys.readouterr().err, "what was chosen is not what was asked for"


def with_room_for(monkeypatch, rows):
    """The forecast of this many rows fits, that of more does not; gradients of parts cost nothing here."""
    from spillover.lm.forecast import Forecast

    monkeypatch.setattr(Forecast, "needed", property(lambda self: 10**6 * self.micro_batch))
    monkeypatch.setattr(room, "free", lambda device: int(1.25 * 10**6 * rows))
    monkeypatch.setattr(room, "taken", lambda device: 0)


def test_with_less_room_it_is_less_and_a_run_taken_up_keeps_it(byte_folder, tmp_path, monkeypatch, capsys):
    """Stopped with room for two rows and taken up with room for all: the bytes of two rows from end to end."""
    expected = settings(byte_folder, tmp_path / "expected", micro_batch=2)
    inject.run(expected, KEPT)
    own = settings(byte_folder, tmp_path / "run")
    for step, patience in ((1, 1e9), (6, 0)):  # Before its first checkpoint, and behind one.
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            with_room_for(patch, 2)
            counted(patch, stop_at=step)
            inject.run(own, KEPT, patience=patience)
        KEPT.budgets, KEPT.announced = {}, set()
        assert since(tmp_path / "run") == [[1, 2]]
    assert " of memory with 2 rows of a step at once; " in capsys.readouterr().err
    facts = json.loads((tmp_path / "run" / "checkpoints" / "step-000000005" / "state.json").read_text())
    assert facts["micro_batches"] == [[1, 2]]
    inject.run(own, KEPT)
    assert since(tmp_path / "run") == [[1, 2]]
    assert outcome(tmp_path / "run")[:2] == outcome(tmp_path / "expected")[:2]


@pytest.mark.parametrize("failing", quick.first([failing_in_backward, None], 1), ids=["in backward", "in forward"])
def test_memory_that_runs_out_gives_the_same_bytes_wherever_it_did(failing, byte_folder, tmp_path, monkeypatch, capsys):
    """Within a step that had updated weights the run goes back to its checkpoint; before, the step is made again; and
    a run that was killed goes on as one that was not."""
    with monkeypatch.context() as patch:
        memory_for(patch, 2, from_pass=5)
        inject.run(settings(byte_folder, tmp_path / "expected"), KEPT)
    assert since(tmp_path / "expected") == [[1, 4], [5, 2]]
    own = settings(byte_folder, tmp_path / "run")
    with monkeypatch.context() as patch:
        if failing:
            failing(patch, at_step=5)
            inject.run(own, KEPT, patience=0)
            assert "within step 5, after some weights had been updated; going back" in capsys.readouterr().err
        else:
            memory_for(patch, 2, from_pass=5)
            with pytest.raises(KeyboardInterrupt):
                counted(patch, stop_at=8)
                inject.run(own, KEPT, patience=0)
            patch.undo()
            for step in (5, 6):  # Only checkpoints from before the change are left.
                for path in (tmp_path / "run" / "checkpoints").glob(f"step-00000000{step}/state.json"):
                    path.unlink()
            inject.run(own, KEPT)
    assert since(tmp_path / "run") == [[1, 4], [5, 2]]
    assert outcome(tmp_path / "run")[:2] == outcome(tmp_path / "expected")[:2]


def test_no_room_even_for_a_row_is_one_sentence(byte_folder, tmp_path, monkeypatch):
    with_room_for(monkeypatch, 0.5)
    with pytest.raises(Exhausted) as caught:
        inject.run(settings(byte_folder, tmp_path / "run"), prepare.Models())
    assert str(caught.value) == (
        f"{byte_folder}: this run needs about 0.0 GB of memory, and there are 0.0 GB for it. Use --lora 8, "
        "--dtype bfloat16, a smaller --batch or a smaller model, or free some memory."
    )
    assert not (tmp_path / "run" / "record.json").exists()


def test_memory_that_runs_out_for_good_is_one_sentence(byte_folder, tmp_path, monkeypatch):
    memory_for(monkeypatch, 0)
    with pytest.raises(Exhausted) as caught:
        inject.run(settings(byte_folder, tmp_path / "run"), KEPT)
    said = r"memory ran out in step 1, with one row at a time: the run needs about \d\.\d GB in all"
    assert re.match(said, str(caught.value))
    assert " GB are free beside what it held. Use --lora 8, " in str(caught.value)
    assert Record.read(tmp_path / "run").status == "failed"
    monkeypatch.setattr("spillover.lm.fine_tune.trainable_copy", lambda *args: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(Exhausted, match=r"^memory ran out: the run needs about \d\.\d GB in all, and "):
        inject.run(settings(byte_folder, tmp_path / "other"), KEPT)


def test_a_negative_micro_batch_is_refused(byte_folder, tmp_path):
    with pytest.raises(UsageError) as caught:
        inject.run(settings(byte_folder, tmp_path / "run", micro_batch=-1))
    assert str(caught.value) == "--micro-batch is -1. Give --micro-batch 0 or more."


def test_bounds_of_ranking_are_taken_up_too(byte_folder, tmp_path, monkeypatch):
    from spillover.lm.score import MAXIMUM_TOKENS, Scorer

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        real = Scorer.logits

        def logits(self, fed):
            if self.size(fed)[1] > 200:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return real(self, fed)

        patch.setattr(Scorer, "logits", logits)
        counted(patch, stop_at=6)
        inject.run(settings(byte_folder, tmp_path / "run"), KEPT, patience=0)
    bounds = json.loads((tmp_path / "run" / "checkpoints" / "step-000000005" / "state.json").read_text())["bounds"]
    assert bounds[0] < MAXIMUM_TOKENS
    seen = []
    real_score = Scorer.score
    monkeypatch.setattr(Scorer, "score", lambda self, asks: seen.append(self.maximum_tokens) or real_score(self, asks))
    inject.run(settings(byte_folder, tmp_path / "run"), KEPT)
    assert set(seen) == {bounds[0]}
