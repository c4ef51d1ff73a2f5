"""The picture of the house is that of the imports, and the page about it names files that exist."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from tools import make_architecture  # noqa: E402


def test_the_picture_is_up_to_date():
    drawn = make_architecture.PICTURE.read_text(encoding="utf-8")
    assert drawn == make_architecture.picture(), "run python tools/make_architecture.py"


def test_arrows_lead_down():
    level = {room: number for number, row in enumerate(make_architecture.ROWS) for room in row}
    assert len(make_architecture.imports()) > 20
    assert all(level[importer] < level[imported] for importer, imported in make_architecture.imports())


def test_the_page_names_files_that_exist():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = re.findall(r"`((?:\w+/)*\w+\.py)`", page)
    assert len(files) > 10
    for file in files:
        assert any((folder / file).exists() for folder in (ROOT, ROOT / "src" / "spillover")), file
