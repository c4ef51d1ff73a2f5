"""With SPILLOVER_SHAPES, as `make test-all` has it, shapes and types are checked; in CI a skipped test is a failure."""

import gc
import os

# Until everything is collected: looking for garbage among what is imported takes a fifth of the time of importing it.
gc.disable()
# Read once, when the hub's library is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

from tests import shapes  # noqa: E402

# Before anything of ours is imported. Jobs and the command line stay out: they name types they must not import.
ROOMS = [f"spillover.{room}" for room in ("packs", "metrics", "theory", "lm", "interventions", "interp")]
_hook = shapes.check(ROOMS) if os.environ.get("SPILLOVER_SHAPES") else None

import pytest  # noqa: E402

SKIPPED = []


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        SKIPPED.append(report.nodeid)


def pytest_sessionfinish(session, exitstatus):
    if SKIPPED and os.environ.get("CI") and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nskipped tests count as failures here: {', '.join(SKIPPED)}")


def pytest_collection_modifyitems(items):
    """The longest files come first, so that one process does not end with them alone."""
    items.sort(key=lambda item: item.path.name not in ("test_real_model.py", "test_examples.py"))


def pytest_collection_finish():
    """What is imported by now stays; a run, which collects garbage before it trains, need not look through it."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _calm(monkeypatch):
    """No test shows progress bars."""
    monkeypatch.setenv("TQDM_DISABLE", "1")


pytest_plugins = ["tests.tiny_models", "tests.two_kinds"]
