"""`spillover report`: one self-contained HTML page from runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from spillover.commands.mitigate import compared
from spillover.config import Browsing, Flag
from spillover.errors import UsageError
from spillover.record import write_atomically
from spillover.report.pages import html_of


@dataclass(frozen=True, kw_only=True)
class Report(Browsing):
    """Make one self-contained HTML page from finished runs."""

    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN [RUN ...]")]
    """Folders of finished runs. A prediction and one run of its pack make one list, foretold beside measured. Folders
    of `where`, of one training after different numbers of passes, show how it moved."""
    out: str = "spillover.html"
    """The page to write."""
    redact: Flag = False
    """Call subjects `subject 1`, `subject 2` and so on, in the order of the run's table; runs made with --redact have
    such names already."""
    brief: Flag = False
    """Only the first screen: what was found, three examples, what to do, and what it does not say."""


def run(settings: Report) -> dict[str, Any]:
    """Write the page and say where. Raises RunError for a folder without a readable run or an unwritable page."""
    if not settings.runs:
        raise UsageError("no run was named", where="report", do="Name one or more run folders")
    page = Path(settings.out)
    if page.is_dir():
        raise UsageError("this is a folder, not a page", where=str(page), do="Name a file, such as page.html")
    html, shown = html_of(settings.runs, settings.redact, compared, settings.brief)
    write_atomically(page, html.encode())
    return {"page": str(page), "text": f"{page} shows {shown}."}
