"""Where the table of a pack is: a file inside the pack's own folder, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from spillover.facts.check import Fault, quoted
from spillover.facts.reading.rows import READERS


def printable(path: Path | str) -> str:
    """The path as text that any terminal and any JSON file takes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def table_beside(pack_file: Path, given: str) -> tuple[Path | None, Fault | None]:
    """The file that `facts` names, or a fault: it must be a table inside the folder of `pack_file`."""
    target, kinds = pack_file.parent / given, ", ".join(READERS)
    try:
        inside = target.resolve().is_relative_to(pack_file.parent.resolve())
        exists, is_file = target.exists(), target.is_file()
    except (OSError, ValueError, RuntimeError):
        inside, exists, is_file = True, False, False

    def fault(code: str, what: str, expected: str, do: str) -> tuple[None, Fault]:
        return None, Fault(code, str(pack_file), None, f"facts names {what}", expected, do)

    if not inside:
        what = f"a file outside the pack: {quoted(given)}"
        return fault("facts-outside", what, "a file beside pack.yaml", "Copy it into the folder")
    if not exists:
        what = f"{quoted(given)}, which does not exist"
        return fault("facts-missing", what, "a file beside pack.yaml", "Mend the name")
    if not is_file:
        return fault("facts-missing", f"{quoted(given)}, which is not a file", kinds, "Name a table of facts")
    if target.suffix.lower() not in READERS:
        what = f"{quoted(given)}, whose format is not read"
        return fault("facts-format", what, kinds, "Save it in one of these")
    return target, None
