"""`spillover report`: one self-contained HTML page from runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from spillover.commands.mitigate import write_page
from spillover.config import Common, Flag
from spillover.errors import UsageError
from spillover.metrics.ranks import rank_table
from spillover.packs.redaction import Redaction
from spillover.record import Record, write_atomically
from spillover.report.audit import build_audit_page
from spillover.report.lab import build_lab_page, load_lab
from spillover.report.load import LoadedRun, load_run
from spillover.report.prediction import build_prediction_page
from spillover.report.runs import build_runs_page
from spillover.report.study import build_study_page
from spillover.report.study_data import load_study
from spillover.report.where import build_where_page, load_where


@dataclass(frozen=True, kw_only=True)
class Report(Common):
    """Make one self-contained HTML page from finished runs."""

    runs: Positional[tuple[str, ...]]
    """Run folders."""
    out: str = "spillover.html"
    """The page to write."""
    redact: Flag = False
    """Call subjects `subject 1`, `subject 2` and so on, in the order of the run's table; runs made with --redact have
    such names already."""


def run(settings: Report) -> dict[str, Any]:
    """Write the page and say where. Raises RunError for a folder without a readable run or an unwritable page."""
    if not settings.runs:
        raise UsageError("no run was named", where="report", do="Name one or more run folders")
    page = Path(settings.out)
    if page.is_dir():
        raise UsageError("this is a folder, not a page", where=str(page), do="Name a file, such as page.html")
    commands = {folder: Record.read(Path(folder)).command for folder in settings.runs}
    for folder, command in commands.items():
        if settings.redact and command.startswith(("lab ", "sweep", "mitigate", "where")):
            what = "only pages of runs can be redacted, not those of a study, a comparison or an experiment"
            raise UsageError(what, where=folder, do="Leave out --redact, or name runs")
        if command.startswith("lab "):
            return _experiment(folder, page, alone=len(settings.runs) == 1)
        if command == "predict":
            return _prediction(folder, page, settings)
        if command == "sweep":
            return _study(folder, page, alone=len(settings.runs) == 1)
        if command == "mitigate":
            return _comparison(folder, page, alone=len(settings.runs) == 1)
        if command == "where":
            return _where(folder, page, alone=len(settings.runs) == 1)
    runs = [load_run(folder) for folder in settings.runs]
    runs = [_redacted(each) for each in runs] if settings.redact else runs
    build = build_audit_page if all(each.audited for each in runs) else build_runs_page
    write_atomically(page, build(runs).html().encode())
    unfinished = sum(not each.finished for each in runs)
    stopped = f" ({unfinished} of them did not finish)" if unfinished else ""
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return {"page": str(page), "text": f"{page} shows {count}{stopped}."}


def _prediction(folder: str, page: Path, settings: Report) -> dict[str, Any]:
    """The page of a prediction."""
    if len(settings.runs) > 1:
        raise UsageError("a prediction has a page of its own", where=folder, do="Name this folder alone")
    run = load_run(folder)
    if settings.redact and not run.record.settings.get("redact"):
        what = "the names in this prediction can no longer be told from answers"
        raise UsageError(what, where=folder, do="Predict again with --redact")
    write_atomically(page, build_prediction_page([run]).html().encode())
    return {"page": str(page), "text": f"{page} shows one prediction."}


def _redacted(run: LoadedRun) -> LoadedRun:
    """The run with neutral subjects, and without the checksums that could confirm a guessed name."""
    if run.record.settings.get("redact"):
        return run
    hide = Redaction.of(run.answers["subject"].unique().to_pylist())
    answers = hide.table(run.answers)
    details = {key: value for key, value in run.record.details.items() if key != "files"}
    record = dataclasses.replace(
        run.record,
        hashes={key: value for key, value in run.record.hashes.items() if key != "pack"},
        details={**details, "pack": hide.outline(run.pack)},
    )
    return dataclasses.replace(run, record=record, answers=answers, ranks=rank_table(answers))


def _study(folder: str, page: Path, *, alone: bool) -> dict[str, Any]:
    """The page of a study, finished or not."""
    if not alone:
        raise UsageError("a study has a page of its own", where=folder, do="Name this folder alone")
    study = load_study(folder)
    write_atomically(page, build_study_page(study).encode())
    return {
        "page": str(page),
        "text": f"{page} shows the study in {folder}: {len(study.done)} of {len(study.cells)} cells.",
    }


def _comparison(folder: str, page: Path, *, alone: bool) -> dict[str, Any]:
    """The page of a comparison of remedies."""
    if not alone:
        raise UsageError("a comparison has a page of its own", where=folder, do="Name this folder alone")
    write_page(Path(folder), page)
    return {"page": str(page), "text": f"{page} shows the comparison of remedies in {folder}."}


def _where(folder: str, page: Path, *, alone: bool) -> dict[str, Any]:
    """The page of where a change lives."""
    if not alone:
        raise UsageError("where a change lives has a page of its own", where=folder, do="Name this folder alone")
    write_atomically(page, build_where_page(load_where(folder)).html().encode())
    return {"page": str(page), "text": f"{page} shows where the change in {folder} lives."}


def _experiment(folder: str, page: Path, *, alone: bool) -> dict[str, Any]:
    """The page of one experiment of `lab`."""
    if not alone:
        raise UsageError("an experiment of `lab` has a page of its own", where=folder, do="Name this folder alone")
    write_atomically(page, build_lab_page(load_lab(Path(folder))).encode())
    return {"page": str(page), "text": f"{page} shows the experiment in {folder}."}
