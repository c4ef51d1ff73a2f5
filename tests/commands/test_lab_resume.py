"""An experiment that is killed at any moment and taken up again ends with the bytes of one that never stopped."""

import functools
import random

import pytest

from spillover.commands import lab
from spillover.commands.lab import Lab
from spillover.errors import RunError
from spillover.record import TRAJECTORY, Record
from spillover.report.lab import MATRICES
from spillover.runs import locked
from tests.commands.killing import run_to

SEED, MOMENTS = 11, 20
PRESETS = ("rank-sweep", "two-models", "key-query", "architecture", "embedding-mlp")


def settings(preset, folder):
    size = "n=3,train=1,test=2"
    return Lab(preset=preset, out=str(folder), quick=True, steps=40, seeds="0,1", symbolic=size, threads=1)


def outcome(folder):
    record = Record.read(folder)
    assert record.status == "done"
    assert {path.name for path in folder.iterdir()} == {"record.json", TRAJECTORY, MATRICES, lab.PAGE}
    tables = {name: (folder / name).read_bytes() for name in (TRAJECTORY, MATRICES)}
    details = {name: value for name, value in record.details.as_json().items() if name != "checkpoints"}
    return tables, record.metrics, details, record.hashes, record.identity


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Of a preset: how it ends when nobody stops it and it writes no checkpoint; the moments of one that does."""
    folder = tmp_path_factory.mktemp("whole")

    @functools.cache
    def of(preset):
        lab.run(settings(preset, folder / preset), patience=1e9)
        names = run_to(settings(preset, folder / f"{preset}-kept"))
        assert outcome(folder / preset) == outcome(folder / f"{preset}-kept"), "checkpoints change nothing"
        return outcome(folder / preset), names

    return of


@pytest.mark.slow
@pytest.mark.parametrize("number", range(MOMENTS))
def test_killed_at_any_moment_it_ends_with_the_same_bytes(number, whole, tmp_path):
    drawn = random.Random(f"{SEED} {number}")
    preset = PRESETS[number % len(PRESETS)]
    expected, names = whole(preset)
    own = settings(preset, tmp_path / "run")
    first = drawn.randint(1, len(names))
    assert run_to(own, first) is None
    begun = (tmp_path / "run" / "record.json").exists()
    done = begun and Record.read(tmp_path / "run").status == "done"
    if number % 4 == 0:
        # Killed twice, if the rest is long enough for that.
        run_to(own, drawn.randint(1, len(names) - first + 1))
    lab.run(own, patience=0)
    assert outcome(tmp_path / "run") == expected, f"killed at moment {first}: {names[first - 1]}"
    assert Record.read(tmp_path / "run").resumed in ((0,) if done or not begun else (1, 2))


@pytest.mark.slow
def test_what_has_been_trained_is_not_trained_again(whole, tmp_path, capsys):
    expected, names = whole("rank-sweep")
    # The last half of the run belongs to the second of two trainings.
    assert run_to(settings("rank-sweep", tmp_path / "run"), len(names) * 3 // 4) is None
    again = settings("rank-sweep", tmp_path / "run")
    passed = run_to(again)
    assert passed.count("before update") <= 40 < names.count("before update") == 80
    assert outcome(tmp_path / "run") == expected
    lab.run(again)
    assert "Found this run finished in" in capsys.readouterr().err


def test_two_processes_do_not_work_on_one_experiment(tmp_path):
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(RunError, match="another process is at work on this run: process"):
        lab.run(settings("rank-sweep", tmp_path / "run"))
