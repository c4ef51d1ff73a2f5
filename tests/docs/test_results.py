"""The README's table of results is what the kept numbers of the study give."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tools import make_results


def test_the_table_in_the_readme_is_fresh():
    assert make_results.README.read_text(encoding="utf-8") == make_results.readme(), "run python tools/make_results.py"


def test_the_table_holds_the_five_sets_and_the_papers_models():
    lines = make_results.block().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:7]] == list(make_results.ROWS.values())[:5]
    assert lines[2].count("|") == len(make_results.HEADS) + 1
    assert lines[2].endswith("| 0.00 | 0.07 | 0.13 | 0.00 | 0.00 |")
    assert make_results.FIGURE.read_text(encoding="utf-8").lstrip().startswith(("<?xml", "<svg"))
