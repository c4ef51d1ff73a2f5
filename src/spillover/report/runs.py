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
    made = []
    for heading, rows in groups.items():
        styles = [(words, cell, "key" if words == last else "") for words, cell in rows.items()]
        own: list[list[page.Cell]] = [[page.TableCell(words, style=key), *(_cell(cell(each), key) for each in shown)]
               for words, cell, key in styles]  # fmt: skip
        made.append((heading, own))
    return made


def _cell(found: Found, style: str) -> page.TableCell:
    if isinstance(found, Metric) or found is None:
        return page.metric_cell(found, style=style)
    text, small = found if isinstance(found, tuple) else (str(found), "")
    return page.TableCell(text, small, style)
