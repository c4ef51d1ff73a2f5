"""The training example runs as a reader would run it, and shows what it says."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "05_train_two_models.py"


def test_it_prints_the_two_directions():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    numbers = {line.split()[0]: list(map(float, line.split()[1:])) for line in done.stdout.splitlines()[-2:]}
    _, unstated, nuclear, frobenius, _ = numbers["factorised"]
    assert nuclear - frobenius > 0.05
    assert unstated < 0.1
    _, unstated, nuclear, frobenius, _ = numbers["merged"]
    assert nuclear - frobenius < -0.05
    assert unstated > 1.5


def test_it_is_short():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 60
