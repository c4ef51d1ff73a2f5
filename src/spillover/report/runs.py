"""The page of runs of `inject`: what each run learned beyond what was stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from spillover.record import Metric
from spillover.report import page, sections, words
from spillover.report.downloads import of_metrics, of_ranks
from spillover.report.inside import inside_section
from spillover.report.load import LoadedRun
from spillover.report.provenance import provenance
from spillover.report.story import AUDITED, TRAINED, Count, Story, right, stories
from spillover.report.words import number, p_value


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
        notices=[unfinished.format(label) for label, run in labelled if not run.finished],
        sections=[
            page.Section("found", "What was found", [cards], hidden=True),
            page.Section("terms", "What this is about", [page.terms("runs", "reasoning")], hidden=True, aside=True),
            sections.discoveries_section(labelled),
            _numbers_section(every) if every else None,
            sections.when_section(every),
            sections.maps_section(every),
            inside_section(labelled, every),
            sections.examples_section(every),
            sections.health_section(labelled, every),
        ],
        made=[(label, provenance(run)) for label, run in labelled],
        made_open=True,
        downloads=[of_metrics(labelled), of_ranks(labelled)],
    )


def _card(story: Story, several: bool) -> page.Card:
    verdict = words.verdict(story)
    judged = story.key is not None and story.checkpoints
    gives = "the right answer" if story.wanted else "the answer this link suggests"
    return page.Card(
        page.bdi(story.label),
        tone="wanted" if story.wanted else "unwanted",
        tag=story.kind_in_words,
        say=words.headline(story) if several else "",
        bars_lead=f"Names for which it gives {gives}",
        **(sections.count_bars(story, "name") if judged else {}),
        texts=[
            page.Paragraph(words.setting(story)),
            page.Paragraph(Markup("<strong>{}.</strong> {}").format(verdict.word, verdict.sentence), "verdict"),
            page.Paragraph(words.sentence(story.run.trained_part), "small"),
        ],
    )


def _numbers_section(stories: Sequence[Story]) -> page.Section:
    heading = "Mean rank of the expected answer, before and after training"
    change = sections.draw_stories("rank-change", "rank-change", stories, heading=heading)
    glossary = page.terms("runs_numbers", label="Terms")
    head: list[page.Cell] = [""]
    for story in stories:
        wanted = (", wanted" if story.wanted else ", unwanted") if story.kind else ""
        head.append(page.TableCell(page.bdi(story.label), f"{story.kind_in_words}{wanted}"))
    caption = "Every link. Beside a number stands its 95% interval; with fewer than ten clusters nothing rests on it."
    table = page.DataTable(caption, [head], summary(stories), "summary", "Summary of every link")
    return page.Section("numbers", "In numbers", [page.Beside(change, [glossary]) if change else glossary, table])


#: What stands in the summary: a metric with its interval, a count, or a text with small print.
Found = Metric | Count | tuple[str, str] | None


def summary(stories: Sequence[Story]) -> list[tuple[str, list[list[page.Cell]]]]:
    """Groups of rows under their headings; a row has a cell a story."""
    audited = all(story.run.audited for story in stories)
    first, last = AUDITED if stories and audited else TRAINED

    def row(words: str, cell: Callable[[Story], Found], key: bool = False) -> list[page.Cell]:
        style = "key" if key else ""
        made: list[page.Cell] = [page.TableCell(words, style=style)]
        for found in map(cell, stories):
            if isinstance(found, Metric) or found is None:
                made.append(page.metric_cell(found, style=style))
            else:
                text, small = found if isinstance(found, tuple) else (str(found), "")
                made.append(page.TableCell(text, small, style))
        return made

    def metric(words: str, name: str, key: bool = False) -> list[page.Cell]:
        return row(words, lambda story: story.metric(name), key)

    def clusters(story: Story) -> tuple[str, str] | None:
        found = story.metric("implication_rank_test")
        return (str(found.clusters), found.note or "") if found else None

    def test(story: Story) -> tuple[str, str] | None:
        found = story.map_test
        return (p_value(found["p"]), f"of {int(found['permutations']):,} pairings") if found else None

    top = [
        row(first, lambda story: right(story.before) if story.key and len(story.checkpoints) > 1 else None),
        row(last, lambda story: right(story.after) if story.key and len(story.after) else None, key=True),
        row("one fixed answer for all", lambda story: story.best_guess if story.best_guess.n else None),
    ]
    ranks = [
        metric(first, "implication_rank_test_before"),
        metric(last, "implication_rank_test", key=True),
        metric("asked in other words, after", "paraphrase_rank_test"),
        row("knows only which answers occur", lambda story: (number(story.marginal), "")),
        row("random guess", lambda story: (number(story.chance), "")),
        row("clusters (pair and seed)", clusters),
        row("exact test of the pairing, p", test),
    ]
    recall = [metric("facts", "recall_rank"), metric("links", "implication_rank_train")]
    return [
        ("Unstated names whose top answer is the expected one", top),
        ("Mean rank of the expected answer for them", ranks),
        (f"Mean rank of what was stated, {last}", recall),
        ("Forgetting", [metric("rise of the loss on plain text, nats a token", "forgetting_nats")]),
    ]
