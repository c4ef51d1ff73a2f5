"""The page of run folders, whatever command wrote them; and that of runs of `inject`: what each learned unstated."""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

from markupsafe import Markup

from spillover.details import AuditDetails, Details
from spillover.errors import UsageError
from spillover.metrics.ranks import rank_table
from spillover.packs.redaction import Redaction
from spillover.record import Metric, Record
from spillover.report import page, sections, words
from spillover.report.audit import build_audit_page
from spillover.report.inside import inside_section
from spillover.report.lab import build_lab_page, load_lab
from spillover.report.load import LoadedRun, load_run
from spillover.report.prediction import build_outcomes_page, build_prediction_page
from spillover.report.provenance import of_metrics, of_ranks, provenance
from spillover.report.remedies import Comparison, build_remedies_page, load_comparison
from spillover.report.repair import build_repair_page, load_repair
from spillover.report.story import AUDITED, TRAINED, Count, Story, right, stories
from spillover.report.study import build_study_page
from spillover.report.study_data import load_study
from spillover.report.where import build_where_page, load_where
from spillover.report.words import number, p_value

#: Commands whose folders have a page of their own: what that is of, how to load and to build it, what it then shows.
_ALONE: dict[str, tuple[str, Callable[[str | Path], Any], Callable[[Any], page.Page], str]] = {
    "predict": ("a prediction", load_run, build_prediction_page, "one prediction"),
    "sweep": ("a study", load_study, build_study_page, "the study in {folder}: {found.progress}"),
    "mitigate": ("a comparison", load_comparison, build_remedies_page, "the comparison of remedies in {folder}"),
    "repair": ("a repair", load_repair, build_repair_page, "the repair in {folder}"),
    "where": ("where a change lives", load_where, build_where_page, "where the change in {folder} lives"),
    "lab": ("an experiment of `lab`", load_lab, build_lab_page, "the experiment in {folder}"),
}


def html_of(
    folders: Sequence[str | Path],
    redact: bool = False,
    load_comparison: Callable[[str | Path], Comparison] = load_comparison,
    brief: bool = False,
) -> tuple[str, str]:
    """The page of the folders, and what it shows in a few words.

    Arguments:
    - folders: runs or audits, any number of them; or a prediction and one run or audit; or one folder of any other
      command, which has a page of its own.
    - redact: whether to call subjects "subject 1", "subject 2" and so on.
    - load_comparison: what reads a folder of `mitigate`.
    - brief: whether to leave out everything but the first screen.

    Returns: the HTML, and words such as "2 runs".

    Raises:
    - RunError for a folder that holds nothing to show.
    - UsageError for folders that do not go together, or that can no longer be redacted.
    """
    commands = [Record.read(Path(folder)).command.partition(" ")[0] for folder in folders]
    alone = [command for command in commands if command in _ALONE]
    if len(folders) == 2 and alone == ["predict"]:
        place = commands.index("predict")
        prediction, run = load_run(folders[place]), load_run(folders[1 - place])
        if redact:
            _refuse_names(prediction.record, folders[place])
        together = build_outcomes_page(prediction, redacted(run) if redact else run)
        return together.html(brief), "a prediction beside what a run measured"
    for folder, command in zip(map(str, folders), commands, strict=True):
        if command not in _ALONE:
            continue
        what, load, build_alone, shown = _ALONE[command]
        if redact and command != "predict":
            what = "only pages of runs can be redacted, not those of a study, a comparison or an experiment"
            raise UsageError(what, where=folder, do="Leave out --redact, or name runs")
        if len(folders) > 1:
            beside = ", or beside one run of its pack" if command == "predict" else ""
            raise UsageError(f"{what} has a page of its own", where=folder, do=f"Name this folder alone{beside}")
        found = (load_comparison if command == "mitigate" else load)(folder)
        if redact:
            _refuse_names(found.record, folder)
        return build_alone(found).html(brief), shown.format(folder=folder, found=found)
    runs = [redacted(load_run(folder)) if redact else load_run(folder) for folder in folders]
    build = build_audit_page if all(each.audited for each in runs) else build_runs_page
    unfinished = sum(not each.finished for each in runs)
    stopped = f" ({unfinished} of them did not finish)" if unfinished else ""
    return build(runs).html(brief), ("1 run" if len(runs) == 1 else f"{len(runs)} runs") + stopped


def _refuse_names(record: Record, folder: str | Path) -> None:
    if not record.settings.get("redact"):
        what = "the names in this prediction can no longer be told from answers"
        raise UsageError(what, where=str(folder), do="Predict again with --redact")


def redacted(run: LoadedRun) -> LoadedRun:
    """The run with neutral subjects, and without the checksums that could confirm a guessed name."""
    if run.record.settings.get("redact"):
        return run
    hide = Redaction.of(run.answers["subject"].unique().to_pylist())
    answers = hide.table(run.answers)
    hashes = {key: value for key, value in run.record.hashes.items() if key != "pack"}
    shown = run.record.details.as_json() | {"pack": hide.outline(run.pack)}
    details = Details.read(run.record.command, {key: value for key, value in shown.items() if key != "files"})
    if isinstance(details, AuditDetails):
        hide.audit(details)
    record = dataclasses.replace(run.record, hashes=hashes, details=details)
    return dataclasses.replace(run, record=record, answers=answers, ranks=rank_table(answers))


def build_runs_page(runs: Sequence[LoadedRun]) -> page.Page:
    """The page of runs; the same runs give the same bytes."""
    labelled = sections.label_runs(runs)
    every = [story for label, run in labelled for story in stories(run, label)]
    cards = page.Cards([_card(story, len(every) > 1) for story in every])
    title = words.title(every) if every else sections.discoveries_title(labelled)
    unfinished = Markup("<strong>{}</strong> did not finish. The numbers below are those it had reached.")
    return page.Page(
        title=title or "Nothing was measured before this run stopped.",
        name=f"Spillover: {', '.join(label for label, _ in labelled)}",
        kicker="what else a model learned",
        lede=words.lede(every),
        notices=[
            *(unfinished.format(label) for label, run in labelled if not run.finished),
            *(
                f"{label}: {run.warning}" if len(labelled) > 1 else run.warning
                for label, run in labelled
                if run.warning
            ),
        ],
        sections=[
            page.Section("found", "What was found", [cards], hidden=True, first=True),
            sections.some_examples(every),
            sections.limits_section(labelled),
            page.Section("terms", "What this is about", [page.terms("runs", "reasoning")], aside=True),
            sections.discoveries_section(labelled),
            _numbers_section(every) if every else None,
            sections.when_section(every),
            sections.maps_section(every),
            inside_section(labelled, every),
            sections.examples_section(every),
            sections.health_section(labelled, every),
            sections.remedies_section(finished=True)
            if any(words.drawn(each) and each.wish == "unwanted" for each in every)
            else None,
        ],
        made=[(label, provenance(run)) for label, run in labelled],
        downloads=[of_metrics(labelled), of_ranks(labelled)],
    )


def _card(story: Story, several: bool) -> page.Card:
    verdict, rule = words.verdict(story), words.rule(story)
    judged = story.key is not None and story.checkpoints
    said, rests = verdict.sentence, []
    if verdict.word in words.ASSERTED.values():
        said = words.setting(story)
        rests = [verdict.sentence, f"As a rule: {rule.word.lower()}. {rule.sentence}"]
    gives = "the right answer" if story.wanted else "the answer this link suggests"
    return page.Card(
        page.bdi(story.label),
        tone=story.wish if story.wish != "undeclared" else "open",
        tag=story.kind_in_words,
        say=words.headline(story) if several else "",
        bars_lead=f"Names for which it gives {gives}",
        **(sections.count_bars(story, "name") if judged else {}),
        texts=[
            page.Paragraph(Markup("<strong>{}.</strong> {}").format(verdict.word, said)),
            page.Details("On what this rests", [page.Paragraph(text) for text in rests], "small") if rests else None,
            *([page.next_paragraph(sections.next_step(story))] if judged and story.run.finished else []),
        ],
    )


def _numbers_section(stories: Sequence[Story]) -> page.Section:
    heading = "Mean rank of the expected answer, before and after training"
    change = sections.draw_stories("rank-change", "rank-change", stories, heading=heading)
    glossary = page.terms("runs_numbers", label="Terms")
    head: list[page.Cell] = [""]
    for story in stories:
        wanted = f", {story.wish}" if story.wish != "undeclared" else ""
        head.append(page.TableCell(page.bdi(story.label), f"{story.kind_in_words}{wanted}"))
    caption = "Every link. Beside a number stands its 95% interval; with fewer than ten clusters nothing rests on it."
    table = page.DataTable(caption, [head], summary(stories), "summary", "Summary of every link")
    return page.Section("numbers", "In numbers", [page.Beside(change, [glossary]) if change else glossary, table])


#: What stands in the summary: a metric with its interval, a count, or a text with small print.
Found = Metric | Count | tuple[str, str] | None


def summary(shown: Sequence[Story]) -> list[tuple[str, list[list[page.Cell]]]]:
    """Groups of rows under their headings; a row has a cell a story."""
    first, last = AUDITED if shown and all(story.run.audited for story in shown) else TRAINED

    def test(story: Story) -> tuple[str, str] | None:
        found = story.map_test
        return (p_value(found["p"]), f"of {int(found['permutations']):,} pairings") if found else None

    groups: dict[str, dict[str, Callable[[Story], Found]]] = {
        "Unstated names whose top answer is the expected one": {
            first: lambda story: right(story.before) if story.key and len(story.checkpoints) > 1 else None,
            last: lambda story: right(story.after) if story.key and len(story.after) else None,
            "one fixed answer for all": lambda story: story.best_guess if story.best_guess.n else None,
        },
        "Mean rank of the expected answer for them": {
            first: lambda story: story.rank_before,
            last: lambda story: story.rank,
            "asked in other words, after": lambda story: story.metric("paraphrase_rank_test"),
            "knows only which answers occur": lambda story: (number(story.marginal), ""),
            "random guess": lambda story: (number(story.chance), ""),
            "clusters (pair and seed)": lambda story: (
                (str(story.rank.clusters), story.rank.note or "") if story.rank else None
            ),
            "exact test of the pairing, p": test,
        },
        f"Mean rank of what was stated, {last}": {
            "facts": lambda story: story.metric("recall_rank"),
            "links": lambda story: story.metric("implication_rank_train"),
        },
        "Forgetting": {"rise of the loss on plain text, nats a token": lambda story: story.metric("forgetting_nats")},
    }

    def line(words: str, found: Callable[[Story], Found]) -> list[page.Cell]:
        style = "key" if words == last else ""
        return [page.TableCell(words, style=style), *(_cell(found(story), style) for story in shown)]

    return [(heading, list(starmap(line, rows.items()))) for heading, rows in groups.items()]


def _cell(found: Found, style: str) -> page.TableCell:
    if isinstance(found, Metric) or found is None:
        return page.metric_cell(found, style=style)
    text, small = found if isinstance(found, tuple) else (str(found), "")
    return page.TableCell(text, small, style)
