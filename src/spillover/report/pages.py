"""The page of run folders, whatever command wrote them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from spillover.errors import UsageError
from spillover.metrics.ranks import rank_table
from spillover.packs.redaction import Redaction
from spillover.record import Record
from spillover.report.audit import build_audit_page
from spillover.report.lab import build_lab_page, load_lab
from spillover.report.load import LoadedRun, load_run
from spillover.report.prediction import build_prediction_page
from spillover.report.remedies import Comparison, build_remedies_page, load_comparison
from spillover.report.runs import build_runs_page
from spillover.report.study import build_study_page
from spillover.report.study_data import load_study
from spillover.report.where import build_where_page, load_where

#: Commands whose folders have a page of their own, and what that is of.
_ALONE = {
    "predict": "a prediction",
    "sweep": "a study",
    "mitigate": "a comparison",
    "where": "where a change lives",
    "lab": "an experiment of `lab`",
}


def html_of(
    folders: Sequence[str | Path],
    redact: bool = False,
    load_comparison: Callable[[str | Path], Comparison] = load_comparison,
) -> tuple[str, str]:
    """The page of the folders, and what it shows in a few words.

    Arguments:
    - folders: runs or audits, any number of them; or one folder of any other command, which has a page of its own.
    - redact: whether to call subjects "subject 1", "subject 2" and so on.
    - load_comparison: what reads a folder of `mitigate`.

    Returns: the HTML, and words such as "2 runs".

    Raises:
    - RunError for a folder that holds nothing to show.
    - UsageError for folders that do not go together, or that can no longer be redacted.
    """
    for folder in map(str, folders):
        command = Record.read(Path(folder)).command.partition(" ")[0]
        if command not in _ALONE:
            continue
        if redact and command != "predict":
            what = "only pages of runs can be redacted, not those of a study, a comparison or an experiment"
            raise UsageError(what, where=folder, do="Leave out --redact, or name runs")
        if len(folders) > 1:
            raise UsageError(f"{_ALONE[command]} has a page of its own", where=folder, do="Name this folder alone")
        if command == "predict":
            run = load_run(folder)
            if redact and not run.record.settings.get("redact"):
                what = "the names in this prediction can no longer be told from answers"
                raise UsageError(what, where=folder, do="Predict again with --redact")
            return build_prediction_page([run]).html(), "one prediction"
        if command == "sweep":
            study = load_study(folder)
            done = f"{len(study.done)} of {len(study.cells)} cells"
            return build_study_page(study).html(), f"the study in {folder}: {done}"
        if command == "mitigate":
            return build_remedies_page(load_comparison(folder)).html(), f"the comparison of remedies in {folder}"
        if command == "where":
            return build_where_page(load_where(folder)).html(), f"where the change in {folder} lives"
        return build_lab_page(load_lab(Path(folder))).html(), f"the experiment in {folder}"
    runs = [redacted(load_run(folder)) if redact else load_run(folder) for folder in folders]
    build = build_audit_page if all(each.audited for each in runs) else build_runs_page
    unfinished = sum(not each.finished for each in runs)
    stopped = f" ({unfinished} of them did not finish)" if unfinished else ""
    return build(runs).html(), ("1 run" if len(runs) == 1 else f"{len(runs)} runs") + stopped


def redacted(run: LoadedRun) -> LoadedRun:
    """The run with neutral subjects, and without the checksums that could confirm a guessed name."""
    if run.record.settings.get("redact"):
        return run
    hide = Redaction.of(run.answers["subject"].unique().to_pylist())
    answers = hide.table(run.answers)
    details = {key: value for key, value in run.record.details.items() if key != "files"}
    hashes = {key: value for key, value in run.record.hashes.items() if key != "pack"}
    record = dataclasses.replace(run.record, hashes=hashes, details={**details, "pack": hide.outline(run.pack)})
    return dataclasses.replace(run, record=record, answers=answers, ranks=rank_table(answers))
