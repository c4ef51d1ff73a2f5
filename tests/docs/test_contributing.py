"""What CONTRIBUTING says is done, in a copy of the package: each thing is on offer once its block is in its place."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- (at the end of|file): (\S+) -->\n```python\n(.*?)```", re.DOTALL)
CHECK = """
import contextlib, io, json, sys
import spillover as so
from spillover.cli import main

def said(*words):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(list(words)) == 0
    return out.getvalue()

model, folder, copy = sys.argv[1:]
assert so.__file__.startswith(copy)
assert "sport-color" in said("packs") and so.open_pack("sport-color:pairs=2,names=6,bridge=1").questions
said("inject", "sport-color:pairs=2,names=6,bridge=1", "--model", model, "--out", folder, "--epochs", "1",
     "--threads", "1", "--remedy", "repetition=2", "--json")
run = so.load_run(folder)
assert 0 <= run.metrics.recall_accuracy.value <= 1 and run.metrics.recall_accuracy.clusters
assert run.plot("recall-accuracy").rows
assert "How many facts and questions does a pack have?" in said("--help") and "a pack.yaml" in said("count", "--help")
assert said("count", "sport-color:pairs=2,names=6,bridge=1") == "8 facts, 4 questions\\n"
counts = json.loads(said("count", "sport-color:pairs=2,names=6,bridge=1", "--json"))
assert counts == {"facts": 8, "questions": 4}
"""


@pytest.mark.slow
def test_what_the_page_says_can_be_done(byte_folder, tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    blocks = BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(blocks) == 5
    for where, name, body in blocks:
        path = tmp_path / name
        assert path.exists() == (where == "at the end of"), name
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n\n" if where == "at the end of" else "") + body)
    words = [sys.executable, "-c", CHECK, str(byte_folder), str(tmp_path / "run"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_its_links_and_files_exist():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page):
        assert (ROOT / target).exists(), target
