"""The page about scaling says what its script computes from the kept runs."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("scaling", ROOT / "tools" / "scaling.py")
scaling = importlib.util.module_from_spec(spec)
sys.modules["scaling"] = scaling
spec.loader.exec_module(scaling)


def test_the_page_holds_the_arithmetic_of_its_script():
    assert scaling.block() in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_the_arithmetic_by_hand():
    # 1,000 cells of 36 s, ten at once: an hour, and a fiftieth more.
    cells, places, running, drawing, runs, page, record = scaling.row(scaling.Cost(36.0, 50_000), 1_000, 10)
    assert (cells, places, running, runs) == ("1,000", "10", "1.0 hours", "50.0 MB")
    assert (drawing, page, record) == ("7.4 seconds", "25.0 MB", "424.0 kB")


@pytest.mark.parametrize(("seconds", "words"), [(59, "59.0 seconds"), (90, "1.5 minutes"), (129_600, "1.5 days")])
def test_durations_are_told_in_the_unit_that_fits(seconds, words):
    assert scaling.duration(seconds) == words


def test_a_machine_of_ones_own():
    said = subprocess.run([sys.executable, ROOT / "tools" / "scaling.py", "--seconds", "10", "--at-once", "8"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert "| 1,000 | 8 | 21.2 minutes |" in said.stdout
