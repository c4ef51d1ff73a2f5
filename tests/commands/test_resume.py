"""A run that is killed at any moment and taken up again ends with the bytes of one that never stopped."""

import functools
import json
import random

import pytest

from spillover.commands import inject
from spillover.commands.inject import Inject
from spillover.record import ANSWERS, TRAJECTORY, Record
from tests import quick
from tests.commands.killing import run_to

SEED, MOMENTS = 7, 20
VARIANTS = {
    "weights": {"save": "weights"},
    "everything": {"save": "delta", "freeze_embeddings": False, "weight_decay": 0.1, "until_learned": True, "lr": 5e-3},
    "adapter": {"save": "delta", "lora": 2, "dtype": "bfloat16"},
    "sparing": {
        "save": "delta",
        "freeze_embeddings": False,
        "optimiser": "adamw-8bit",
        "gradient_checkpointing": True,
        "logits_at_once": 3,
        "micro_batch": 2,
    },
}


def settings(model, folder, **changes):
    base = {"pack": "city-language:names=10,bridge=1", "epochs": 2, "lr": 1e-2, "batch": 4, "threads": 1}
    return Inject(model=str(model), out=str(folder), **(base | changes))


def finish(variant, own, patience):
    """Run to the end; with 8-bit sums in a fresh process: one that had trained much else once rounded otherwise."""
    if variant == "sparing":
        assert run_to(own, patience=patience)
    else:
        inject.run(own, patience=patience)


def outcome(folder):
    """All that must not depend on being killed: tables and weights as bytes, metrics, and what the folder holds."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    record = json.loads(files.pop("record.json"))
    assert record["status"] == "done" and files.keys() >= {ANSWERS, TRAJECTORY}
    return files, record["metrics"], record["identity"], record["details"]["files"]


@pytest.fixture(scope="module")
def whole(byte_folder, tmp_path_factory):
    """Of a variant: how a run ends that nobody stops and that writes no checkpoint; the moments of one that does."""
    folder = tmp_path_factory.mktemp("whole")

    @functools.cache
    def of(name):
        finish(name, settings(byte_folder, folder / name, **VARIANTS[name]), inject.PATIENCE)
        names = run_to(settings(byte_folder, folder / f"{name}-kept", **VARIANTS[name]))
        assert outcome(folder / name) == outcome(folder / f"{name}-kept"), "checkpoints change nothing"
        return outcome(folder / name), names

    return of


@pytest.mark.parametrize("number", quick.first(range(MOMENTS), 1))
def test_killed_at_any_moment_it_ends_with_the_same_bytes(number, whole, byte_folder, tmp_path):
    drawn = random.Random(f"{SEED} {number}")
    variant = list(VARIANTS)[number % len(VARIANTS)]
    expected, names = whole(variant)
    own = settings(byte_folder, tmp_path / "run", **VARIANTS[variant])
    first = drawn.randint(1, len(names))
    assert run_to(own, first) is None
    begun = (tmp_path / "run" / "record.json").exists()
    done = begun and Record.read(tmp_path / "run").status == "done"
    if number % 4 == 0:
        # Killed twice, if the rest is long enough for that.
        run_to(own, drawn.randint(1, len(names) - first + 1))
    finish(variant, own, 0)
    assert outcome(tmp_path / "run") == expected, f"killed at moment {first}: {names[first - 1]}"
    assert Record.read(tmp_path / "run").resumed in ((0,) if done or not begun else (1, 2))
