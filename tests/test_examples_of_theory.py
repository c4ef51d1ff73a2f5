"""The examples on exact solutions run as a reader would run them, and stay short."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "said"),
    [("03_exact_solution.py", "Bob speaks: French"), ("04_certify_your_matrix.py", "remembering: Feasible")],
)
def test_an_example_runs(name, said):
    path = EXAMPLES / name
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
