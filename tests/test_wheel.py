"""The wheel serves somebody who has nothing else."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import spillover

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tools import try_wheel  # noqa: E402


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(capsys):
    try_wheel.main([sys.executable])
    assert capsys.readouterr().out.endswith(f": spillover {spillover.__version__}\n")


def test_the_version_is_the_same_wherever_it_stands():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert cited == newest == spillover.__version__
