"""With SPILLOVER_SHAPES, as `make test-all` has it, shapes and types are checked; in CI a skipped test is a failure."""

import os

# Read once, when the hub's library is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

from jaxtyping import install_import_hook

# Before anything of ours is imported. Jobs and the command line stay out: they name types they must not import.
ROOMS = [f"spillover.{room}" for room in ("packs", "metrics", "theory", "lm", "interventions", "interp")]
# Of five files measured, it takes a seventh of the time.
_hook = install_import_hook(ROOMS, "beartype.beartype") if os.environ.get("SPILLOVER_SHAPES") else None

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


@pytest.fixture(autouse=True)
def _calm(monkeypatch):
    """No test shows progress bars."""
    monkeypatch.setenv("TQDM_DISABLE", "1")


pytest_plugins = ["tests.tiny_models", "tests.two_kinds"]
