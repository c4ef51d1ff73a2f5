"""A study or a comparison that is killed at any moment and taken up again ends with the bytes of one that was not."""

import functools
import json
import random

import pytest
import yaml

from spillover.commands import mitigate, sweep
from spillover.commands.mitigate import Mitigate
from spillover.commands.sweep import Sweep
from spillover.record import ANSWERS, TRAJECTORY, Record
from tests.commands.killing import run_to

#: Moments of the process that hands out the runs; those of the runs themselves are in test_resume.
SEED, MOMENTS = 13, 10
VERBS = ("sweep", "mitigate")


def settings(verb, pack, model, folder):
    """Two cells of a study, or three of a comparison, of a second or two each."""
    if verb == "mitigate":
        return Mitigate(pack=pack, model=str(model), out=str(folder), remedies="lazier=1,scale-back=0.5", lr=1e-2,
                        epochs=10, processes=1)  # fmt: skip
    study = folder.parent / "study.yaml"
    options = {"model": str(model), "pack": pack, "epochs": 1, "threads": 1, "lr": 1e-2}
    body = {"name": "two", "options": options, "groups": [{"name": "all", "grid": {"batch": [4, 8]}}]}
    study.write_text(yaml.safe_dump(body), encoding="utf-8")
    return Sweep(study=str(study), out=str(folder), processes=1)


def outcome(folder):
    """Every table as bytes, by name, and what the runs measured."""
    assert Record.read(folder).status == "done"
    tables = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}
    assert sum(path.endswith((ANSWERS, TRAJECTORY)) for path in tables) >= 4
    records = sorted(folder.glob("cells/**/record.json"))
    metrics = [json.loads(path.read_text(encoding="utf-8"))["metrics"] for path in records]
    return tables, metrics


@pytest.fixture(scope="module")
def whole(byte_folder, tmp_path_factory):
    """Of a verb: how it ends when nobody stops it, and its moments."""

    @functools.cache
    def of(verb, pack):
        folder = tmp_path_factory.mktemp(verb) / "run"
        names = run_to(settings(verb, pack, byte_folder, folder))
        return outcome(folder), names

    return of


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("number", range(MOMENTS))
def test_killed_at_any_moment_it_ends_with_the_same_bytes(verb, number, whole, byte_folder, tmp_path):
    pack = "mixed:pairs=2,names=8,bridge=1"
    drawn = random.Random(f"{SEED} {verb} {number}")
    expected, names = whole(verb, pack)
    own = settings(verb, pack, byte_folder, tmp_path / "run")
    first = drawn.randint(1, len(names))
    # How often the process notes down depends on the time that it takes, so it may end before that moment.
    killed = run_to(own, first) is None
    begun = (tmp_path / "run" / "record.json").exists()
    done = begun and Record.read(tmp_path / "run").status == "done"
    (sweep.run if verb == "sweep" else mitigate.run)(own)
    assert outcome(tmp_path / "run") == expected, f"killed at moment {first}: {names[first - 1]}"
    assert done or killed
    assert Record.read(tmp_path / "run").resumed == (0 if done or not begun else 1)
