"""The numbers that docs/theory.md prints are computed here: each of its Python blocks runs on its own."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "theory.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[-1][:40])
def test_a_block_of_the_page_holds(block):
    assert "assert" in block
    exec(compile(block, str(PAGE), "exec"), {})


def test_every_section_that_code_cites_exists():
    """Docstrings cite sections by their heading."""
    headings = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    source = PAGE.parents[1] / "src" / "spillover" / "theory"
    cited = set()
    for path in source.rglob("*.py"):
        text = " ".join(path.read_text(encoding="utf-8").split())
        for line in re.findall(r"docs/theory\.md, ((?:\"[^\"]+\"(?:, | and )?)+)", text):
            cited |= set(re.findall(r'"([^"]+)"', line))
    assert cited
    assert {name for name in cited if not any(heading.startswith(name) for heading in headings)} == set()
