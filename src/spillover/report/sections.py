"""The sections that the pages of runs, audits and studies share: figures, examples, recall and loss, open probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from spillover.report.drawing import plain
from spillover.report.load import LoadedRun, labels
from spillover.report.page import (
    Bar,
    Block,
    Cell,
    DataTable,
    Details,
    Figure,
    FigureGrid,
    Heading,
    Paragraph,
    Section,
    TableCell,
    bdi,
    figure,
)
from spillover.report.run_plots import NUMBERED, highest
from spillover.report.story import Story, right, spoken
from spillover.report.words import p_value, percent, sentence, statement

#: What every page explains.
REASONING = (
    "Out-of-context reasoning (OCR)",
    "Concluding from training sentences what none of them says. If the link is true, this is generalising; if it is "
    "not, the model makes things up. The mechanism is one and the same.",
)


def label_runs(runs: Sequence[LoadedRun]) -> list[tuple[str, LoadedRun]]:
    """The runs of a page, each with its unique label."""
    return [(plain(label), run) for label, run in zip(labels(runs), runs, strict=True)]


def draw_stories(plot: str, what: Sequence[Any], name: str, stories: Sequence[Story], **options: Any) -> Figure | None:
    """A figure whose caption says what was trained."""
    parts = dict.fromkeys(story.run.trained_part for story in stories)
    return figure(plot, what, name, sentence("; ".join(parts)), **options)


def title_of(story: Story) -> Markup:
    """A story's label with its kind."""
    return Markup('<bdi>{}</bdi> <span class="kind">{}</span>').format(plain(story.label), story.kind_in_words)


def count_bars(story: Story, names: str) -> dict[str, Any]:
    """The bars of a story's card: right answers before and after, with a mark where one fixed answer would be."""
    before, after, guess = right(story.before), right(story.after), story.best_guess
    bars = [Bar(story.when[0], before.share, str(before), "pale")] if len(story.checkpoints) > 1 else []
    tick = (guess.share, f"one fixed answer for every {names}: {guess}") if guess.n else None
    return {"bars": [*bars, Bar(story.when[1], after.share, str(after))], "tick": tick}


def when_section(stories: Sequence[Story]) -> Section | None:
    """Rank against epochs of every story, on one scale."""
    top = max((highest(story) for story in stories), default=1.0)
    drawn = [
        draw_stories("rank-by-epoch", [story], f"rank-by-epoch-{index}", [story], top=top,
                     heading=f"{story.label} ({story.kind_in_words})")
        for index, story in enumerate(stories, start=1)
        if not story.run.audited
    ]  # fmt: skip
    lead = (
        "At the dashed line a model knows which answers occur, but not who has which. Only what lies below it is the "
        "link."
    )
    return Section("when", "When it happened", [FigureGrid(drawn)], lead) if any(drawn) else None


def maps_section(stories: Sequence[Story], left_out: int = 0) -> Section | None:
    """Two heat maps a story. left_out: how many further stories have none."""
    blocks: list[Block | None] = []
    for index, story in enumerate(stories, start=1):
        wide = len(story.columns_of_map) > NUMBERED
        pair = [("before", story.when[0]), ("after", story.when_last)]
        drawn = [
            draw_stories(f"inferred-{side}", [story], f"inferred-{side}-{index}", [story], wide=wide,
                         heading=when.capitalize())
            for side, when in (pair if len(story.checkpoints) > 1 else pair[1:])
        ]  # fmt: skip
        if drawn[-1]:
            blocks += [Heading(title_of(story)), FigureGrid(drawn)]
    have = "implication has" if left_out == 1 else "implications have"
    note = f"{left_out} further {have} no maps here; the downloads hold every answer."
    lead = (
        "Each row is what was stated of a name, each column an answer, each number the percentage of names with no "
        "stated answer that get it. The outlined cells are what the link suggests. All maps share one scale, from 0 "
        "(empty) to 100 (full blue)."
    )
    blocks.append(Paragraph(note, "small") if left_out else None)
    return Section("which", "Which answer it gives for what was stated", blocks, lead) if any(blocks) else None


def health_section(labelled: Sequence[tuple[str, LoadedRun]], stories: Sequence[Story]) -> Section | None:
    """Recall of what was stated, training loss, forgetting: whether the training itself went well."""
    drawn = [
        draw_stories(plot, stories if plot == "stated-links" else labelled, plot, stories)
        for plot in ("recall", "stated-links", "training-loss", "forgetting")
    ]
    lead = (
        "A model that did not learn the stated sentences cannot be blamed, or praised, for what it infers. Forgetting "
        "is how much worse it reads ordinary text: at 0.7 nats a token, each right next token has become half as "
        "likely."
    )
    return Section("health", "What it learned, and what it forgot", [FigureGrid(drawn)], lead) if any(drawn) else None


@dataclass(frozen=True)
class Example:
    """One question before and after training; probabilities are of the whole answer after the trained prompt."""

    subject: str
    stated: str
    prompt: str
    expected: str
    before: str
    after: str
    top_before: str
    top_after: str
    hit: bool


def examples(stories: Sequence[Story], count: int = 10) -> list[list[Example]]:
    """For each story its share of `count` examples (at least one), as evenly as they go round stories and pairs."""
    queues = [_in_turn(story) for story in stories]
    found: list[list[Example]] = [[] for _ in stories]
    wanted, turn, dry = max(count, len(stories)), 0, 0
    while sum(map(len, found)) < wanted and dry < len(stories):
        place = turn % len(stories)
        following = next(queues[place], None)
        dry = dry + 1 if following is None else 0
        if following is not None:
            found[place].append(following)
        turn += 1
    return found


def _in_turn(story: Story) -> Iterator[Example]:
    """Examples of one story: the first name of every pair, then the second of every pair, and so on."""
    rows = story.after.only(seed=story.run.seeds[0]) if len(story.after) else story.after
    groups = [np.flatnonzero(rows.cluster == given) for given in story.rows_of_map] or [np.arange(len(rows))]
    known = story.key is not None
    for depth in range(max(map(len, groups), default=0)):
        for index in (int(group[depth]) for group in groups if depth < len(group)):
            subject = str(rows.subject[index])
            earlier = story.before.only(subject=rows.subject[index], seed=rows.seed[index])
            yield Example(
                subject=plain(subject),
                stated=statement(story.run, story.given, subject, str(rows.cluster[index])) if known else "",
                prompt=statement(story.run, story.then, subject),
                expected=plain(rows.expected[index]) if known else "",
                before=percent(float(earlier.probability[0])) if known and len(earlier) else "–",
                after=percent(float(rows.probability[index])) if known else "–",
                top_before=plain(earlier.top[0]) if len(earlier) else "–",
                top_after=plain(rows.top[index]),
                hit=known and bool(rows.rank[index] == 0),
            )


def examples_section(stories: Sequence[Story]) -> Section | None:
    """Some questions with what was stated and what the model answers."""
    shown = examples(stories)
    count = sum(map(len, shown))
    lead = (
        "The first names of each pair in turn, not picked by their result. ✓ marks a true conclusion, ✗ an untrue one "
        "that the link suggests. The probability is that of the whole answer, out of everything the model could say."
    )
    head: list[Cell] = ["Stated", "Asked", "Answer before", "Answer after", "The link suggests"]
    head += [TableCell("Its probability before", style="num"), TableCell("and after", style="num")]
    table = DataTable(
        "What was stated, what was asked, and what the model answers.",
        head=[head],
        groups=[
            (title_of(story), [_example_row(story, each) for each in items])
            for story, items in zip(stories, shown, strict=True)
            if items
        ],
        style="examples",
        label="Examples",
        row_heads=False,
    )
    return Section("examples", f"{'Ten' if count == 10 else count} of the questions", [table], lead) if count else None


def _example_row(story: Story, each: Example) -> list[Cell]:
    mark, truth, tone = ("✓", "true", "wanted") if story.wanted else ("✗", "untrue", "unwanted")
    hit = Markup('<bdi>{}</bdi> <span role="img" aria-label="{}, as the link suggests">{}</span>')
    after: Cell = bdi(each.top_after)
    if each.hit:
        after = TableCell(hit.format(each.top_after, truth, mark), style=f"hit {tone}")
    return [
        *(bdi(each.stated or "–"), bdi(each.prompt), bdi(each.top_before), after, bdi(each.expected or "–")),
        *(TableCell(each.before, style="num"), TableCell(each.after, style="num key")),
    ]


#: Sorts of people whose probabilities a discovery gives.
_SORTS = ("unstated", "stated", "others", "subjects", "never_seen")


def undeclared(run: LoadedRun) -> list[Mapping[str, Any]]:
    """What the run's open probes found that the pack neither states nor implies."""
    return [each for each in run.record.details.get("discoveries") or () if not each["declared"]]


def discoveries_title(labelled: Sequence[tuple[str, LoadedRun]]) -> str:
    """What a page of open probes alone says first; empty without any."""
    probed = [run for _, run in labelled if run.record.details.get("probes")]
    groups = sum(bool(each["relation"]) for run in probed for each in undeclared(run))
    count = {0: "Nothing that nobody declared was", 1: "One thing that nobody declared was"}
    found = count.get(groups, f"{groups} things that nobody declared were")
    return f"{found} found between groups of subjects." if probed else ""


def discoveries_section(labelled: Sequence[tuple[str, LoadedRun]]) -> Section | None:
    """For every run that asked open probes, the words that the tuned model says more often and nobody declared."""
    probed = [(label, run) for label, run in labelled if run.record.details.get("probes")]
    blocks: list[Block | None] = []
    for label, run in probed:
        probes, found = run.record.details["probes"], undeclared(run)
        blocks.append(Heading(bdi(label)) if len(probed) > 1 else None)
        asked = (
            f"{probes['templates']} sentence beginnings, {probes['subjects']} subjects, {probes['never_seen']} "
            "never-seen names."
        )
        if found:
            caption = f"{asked} A rise is in percentage points: of the group, less that of the other groups."
            head: list[Cell] = ["Who", "The tuned model says", "After", TableCell("Rise", style="num"), "Test",
                    "Probability, base to tuned model", "Word for word"]  # fmt: skip
            rows = [discovery_row(each) for each in found]
            blocks.append(DataTable(caption, [head], [("", rows)], "examples", "What nobody declared", row_heads=False))
        else:
            blocks.append(f"Nothing moved that the pack does not declare, among {asked}")
        if declared := int(probes["declared"]):
            note = f"Not listed, but in the record: {declared} that the pack itself states or implies."
            blocks.append(Paragraph(note, "small"))
    lead = (
        "Everyday sentence beginnings about groups of subjects that share a stated answer, and about names that the "
        "pack does not hold. Listed is what the tuned model goes on with more often than the base model, for one group "
        "more than for the others, or for everyone. The test exchanges who belongs to which group and holds for this "
        "model, not for another training run."
    )
    return Section("open", "What nobody declared", blocks, lead) if probed else None


def discovery_row(each: Mapping[str, Any]) -> list[Cell]:
    """One discovery: who, the word, after which beginnings, how much more often, tested how, and word for word."""
    who = f"{spoken(each['relation'])} {each['answer']}" if each["relation"] else "everyone"
    by_chance = 100 * (each["yardstick"] or 0)
    chances = [(spoken(sort), each["probabilities"].get(sort)) for sort in _SORTS]
    shares = [
        Markup("{}: {} to {}<br>").format(sort, percent(chance["base"]), percent(chance["tuned"]))
        for sort, chance in chances
        if chance and chance["n"]
    ]
    said = [
        Paragraph(
            Markup("{}: <bdi>{} <strong>{}</strong></bdi> (base model: <bdi>{}</bdi>)").format(
                said["which"], plain(said["prompt"]), plain(said["tuned"]), plain(said["base"])
            ),
            "small",
        )
        for said in each["examples"]
    ]
    summary = Markup('{} examples<span class="unseen"> of {}, {}</span>')
    return [
        bdi(who),
        TableCell(bdi(each["word"]), style="key"),
        TableCell(
            bdi(each["template"].replace("{subject}", "…")), f"and {len(each['also'])} more" if each["also"] else ()
        ),
        TableCell(f"{100 * each['shift']:.0f}", style="num key"),
        "not tested" if each["p"] is None else f"p = {p_value(each['p'])}; by chance up to {by_chance:.0f}",
        Markup("").join(shares),
        TableCell(Details(summary.format(len(said), plain(who), plain(each["word"])), said)) if said else "",
    ]
