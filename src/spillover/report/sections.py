"""The sections that the pages of runs, audits and studies share: figures, examples, recall and loss, open probes."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from spillover.details import AuditDetails, Rise, Rises
from spillover.metrics import remedies
from spillover.metrics.verdicts import ASSERTED
from spillover.report import page
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun, Story, labels, right, spoken
from spillover.report.run_plots import NUMBERED, highest
from spillover.report.words import number, p_value, percent, sentence, statement


def label_runs(runs: Sequence[LoadedRun]) -> list[tuple[str, LoadedRun]]:
    """The runs of a page, each with its unique label."""
    return [(plain(label), run) for label, run in zip(labels(runs), runs, strict=True)]


def led(labelled: Sequence[tuple[str, LoadedRun]]) -> list[tuple[str, LoadedRun]]:
    """Each run with what a sentence about it begins with: its label, where there are several."""
    return [(f"{label}: " if len(labelled) > 1 else "", run) for label, run in labelled]


def draw_stories(plot: str, name: str, stories: Sequence[Story], of: Any = None, **options: Any) -> page.Figure | None:
    """A figure of the stories (or `of` runs), whose caption says what was trained where they differ in that."""
    parts = dict.fromkeys(story.run.trained_part for story in stories)
    said = sentence("; ".join(parts)) if len(parts) > 1 else ""
    return page.figure(plot, stories if of is None else of, name, said, **options)


def measured_words(name: str = "") -> tuple[str, str]:
    """A remedy's label and what was measured of it on its first pack; by default of the one to name first."""
    each = remedies.measured_of(name) if name else remedies.advised(after=False)[0]
    return each.label, dataclasses.replace(each, trials=each.trials[:1]).found.replace("->", "→")


def remedies_section(finished: bool) -> page.Section:
    """What was measured elsewhere of the remedies that were repeated. finished: also of those for a finished model."""
    groups: dict[str, list[list[page.Cell]]] = {}
    for each in remedies.measured().values():
        for trial in each.trials if each.repeated and (finished or not each.after) else ():
            pairs = (trial.unwanted, trial.wanted, trial.stated, trial.forgetting)
            figures = ["–" if pair is None else " → ".join(map(number, pair)) for pair in pairs]
            where: page.Cell = page.TableCell(f"{trial.on}, {trial.model}", [f"{trial.study}, {trial.seeds} seeds"])
            name = page.TableCell(Markup("<strong>{}</strong>").format(each.label.replace("+", "+\u200b")), each.does)
            group = "For a finished model" if each.after else "While training"
            groups.setdefault(group, []).append([name, *map(page.num, figures), where])
    heads = ("Unwanted rate", "Wanted rate", "Rank of the stated", "Forgotten")
    head: list[page.Cell] = ["Remedy", *map(page.num, heads), "Measured on"]
    caption, label = page.wording("remedies_measured"), "Remedies, as they were measured"
    table = page.DataTable(caption, [head], list(groups.items()), "study remedies", label)
    return page.Section("remedies", label, [remedies.caveat(), table], aside=True)


def next_step(story: Story) -> Markup:
    """What to do about a verdict, or what is missing for one, in one sentence."""
    found = story.judged
    if found is None:
        case = "missing"
    elif found.verdict in (*ASSERTED, "none"):
        case = found.verdict
    elif not found.n:
        case = "nobody"
    else:
        case = "one_answer" if found.guess == found.n else "more"
    more = f"about {found.more_subjects:,} more" if found and found.more_subjects else "more"
    given, then = spoken(story.given), spoken(story.then)
    remedy, _ = measured_words()
    return page.wording(f"next_{case}").format(given=given, then=then, more=more, remedy=remedy)


#: What stands beside an answer that a link suggests, by whether it is wanted.
MARKS = {"wanted": ("✓", "true", "wanted"), "unwanted": ("✗", "untrue", "unwanted"),
         "undeclared": ("•", "not declared", "open")}  # fmt: skip


def _title_of(story: Story) -> Markup:
    return Markup('<bdi>{}</bdi> <span class="kind">{}</span>').format(plain(story.label), story.kind_in_words)


def count_bars(story: Story, names: str) -> dict[str, Any]:
    """The bars of a story's card: right answers before and after, with a mark where one fixed answer would be."""
    before, after, guess = right(story.before), right(story.after), story.best_guess
    bars = [page.Bar(story.when[0], before.share, str(before), "pale")] if len(story.checkpoints) > 1 else []
    tick = (guess.share, f"one fixed answer for every {names}: {guess}") if guess.n else None
    return {"bars": [*bars, page.Bar(story.when[1], after.share, str(after))], "tick": tick}


def when_section(stories: Sequence[Story]) -> page.Section:
    """Rank against epochs of every story, on one scale."""
    top = max(map(highest, stories), default=1.0)
    drawn = [
        draw_stories("rank-by-epoch", f"rank-by-epoch-{index}", [story], top=top,
                     heading=f"{story.label} ({story.kind_in_words})")
        for index, story in enumerate(stories, start=1) if not story.run.audited
    ]  # fmt: skip
    return page.Section("when", "When it happened", [page.FigureGrid(drawn)], page.wording("when"))


def maps_section(stories: Sequence[Story], left_out: int = 0) -> page.Section:
    """Two heat maps a story. left_out: how many further stories have none."""
    blocks: list[page.Block | None] = []
    for index, story in enumerate(stories, start=1):
        pair = [("inferred-before", story.when[0]), ("inferred-after", story.when_last)]
        wide = len(story.columns_of_map) > NUMBERED
        drawn = [draw_stories(name, f"{name}-{index}", [story], wide=wide, heading=when.capitalize())
                 for name, when in pair[0 if len(story.checkpoints) > 1 else 1 :]]  # fmt: skip
        if drawn[-1]:
            blocks += [page.Heading(_title_of(story)), page.FigureGrid(drawn)]
    have = "link has" if left_out == 1 else "links have"
    note = f"{left_out} further {have} no maps here; the downloads hold every answer."
    blocks.append(page.Paragraph(note, "small") if left_out else None)
    return page.Section("which", "Which answer it gives for what was stated", blocks, page.wording("maps"))


def health_section(labelled: Sequence[tuple[str, LoadedRun]], stories: Sequence[Story]) -> page.Section:
    """Recall of what was stated, training loss, forgetting: whether the training itself went well."""
    drawn = [
        draw_stories(plot, plot, stories, None if plot == "stated-links" else labelled)
        for plot in ("recall", "stated-links", "training-loss", "forgetting")
    ]
    heading = "What it learned, and what it forgot"
    return page.Section("health", heading, [page.FigureGrid(drawn)], page.wording("health"))


class Example(NamedTuple):
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
    found: list[list[Example]] = [[] for _ in stories]
    rounds = zip_longest(*map(_in_turn, stories))
    turns = ((found[place], each) for turn in rounds for place, each in enumerate(turn) if each)
    for own, each in islice(turns, max(count, len(stories))):
        own.append(each)
    return found


def _in_turn(story: Story) -> Iterator[Example]:
    """Examples of one story: the first name of every pair, then the second of every pair, and so on."""
    rows = story.after.only(seed=story.run.seeds[0]) if len(story.after) else story.after
    groups = [np.flatnonzero(rows.cluster == given) for given in story.rows_of_map] or [np.arange(len(rows))]
    known = story.key is not None
    for index in chain.from_iterable(zip_longest(*groups)):
        if index is None:
            continue
        subject = str(rows.subject[index])
        earlier = story.before.only(subject=subject, seed=rows.seed[index])
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


def some_examples(stories: Sequence[Story]) -> page.Section:
    """Three questions (or one for each link) in sentences, for the first screen."""
    said: list[Markup] = []
    for story, items in zip(stories, examples(stories, 3), strict=True):
        for each in items:
            begin = Markup("Stated: “{}”. ").format(page.bdi(each.stated)) if each.stated else ""
            after, before = _top_after(story, each), page.bdi(each.top_before)
            then = Markup("Asked “{}”, it says <strong>{}</strong>").format(page.bdi(each.prompt), after)
            said.append(begin + then + Markup("; before, {}.").format(before))
    note = page.Paragraph("The first names in the order of the facts, not picked by their answer.", "small")
    return page.Section("some", "For example", [page.points(said), note] if said else [], first=True)


def limits_section(labelled: Sequence[tuple[str, LoadedRun]]) -> page.Section:
    """What a page of runs or audits does not say."""
    runs = [run for _, run in labelled]
    audited, seeds = all(run.audited for run in runs), max((len(run.seeds) for run in runs), default=1)
    whose = "audited" if audited else f"trained with {'one seed' if seeds == 1 else f'these {seeds} seeds'}"
    limits = [page.wording("limit_models").format(whose=whose)]
    limits += [page.wording("limit_words")] if any(len(run.ranks.rank) for run in runs) else []
    limits += [] if any(details for _, details in probed(labelled)) else [page.wording("limit_asked")]
    return page.limits_section(limits)


def examples_section(stories: Sequence[Story]) -> page.Section:
    """Some questions with what was stated and what the model answers."""
    head: list[page.Cell] = ["Stated", "Asked", "Answer before", "Answer after", "The link suggests",
                             page.num("Its probability before"), page.num("and after")]  # fmt: skip
    shown = zip(stories, examples(stories), strict=True)
    groups = [(_title_of(story), [_example_row(story, each) for each in items]) for story, items in shown if items]
    count = sum(len(rows) for _, rows in groups)
    caption = "What was stated, what was asked, and what the model answers."
    table = page.DataTable(caption, [head], groups, "examples", "Examples", row_heads=False)
    heading = f"{'Ten' if count == 10 else count} of the questions"
    return page.Section("examples", heading, [table if count else None], page.wording("examples"))


def _example_row(story: Story, each: Example) -> list[page.Cell]:
    texts = (each.stated, each.prompt, each.top_before, each.expected)
    stated, asked, before, suggested = (page.bdi(text or "–") for text in texts)
    style = f"hit {MARKS[story.wish][2]}" if each.hit else ""
    shown = page.TableCell(_top_after(story, each), style=style)
    return [stated, asked, before, shown, suggested, page.num(each.before), page.num(each.after, key=True)]


def _top_after(story: Story, each: Example) -> Markup:
    """The answer after training; with a mark where it is what the link suggests."""
    mark, truth, _ = MARKS[story.wish]
    hit = Markup(' <span role="img" aria-label="{}, as the link suggests">{}</span>').format(truth, mark)
    return page.bdi(each.top_after) + (hit if each.hit else Markup(""))


def probed(labelled: Sequence[tuple[str, LoadedRun]]) -> list[tuple[str, AuditDetails]]:
    """The runs that asked open probes, each with its label."""
    found = [(label, run.record.details) for label, run in labelled]
    return [(label, details) for label, details in found if isinstance(details, AuditDetails) and details.probes]


def undeclared(details: AuditDetails) -> list[dict[str, Any]]:
    """What open probes found that the pack neither states nor implies; words that say little come last."""
    found = [each for each in details.discoveries if not each["declared"]]
    return sorted(found, key=lambda each: _says_little(each["word"]))


def _risen(rises: Rises) -> list[Rise]:
    """The words that rose in texts; those that say little come last."""
    return sorted(rises.found, key=lambda each: _says_little(each.word) or 2 * each.stated > each.n)


def _says_little(word: str) -> bool:
    """Whether a word is likely to be one such as "in" or "the", and no name or answer."""
    return re.fullmatch(r"[a-z]{1,3}|[\W_]+", word.strip()) is not None


def some_said(labelled: Sequence[tuple[str, LoadedRun]]) -> page.Section:
    """Three sentences in which open probes found something, as both models go on, for the first screen."""
    said: list[tuple[str, str, str]] = []
    for _, details in probed(labelled):
        examples = [each["examples"][0] for each in undeclared(details) if each["examples"]]
        said += [(each["prompt"], each["tuned"], each["base"]) for each in examples[:3]]
        risen = _risen(details.rises)[:3] if details.rises else []
        said += [(f"… {each.beginning}", each.words[1], each.words[0]) for each in risen]
    text = Markup("“{} <strong>{}</strong>”; the base model: “{}”")
    shown = page.points([text.format(*map(page.bdi, each)) for each in said[:3]]) if said else None
    lead = "How the tuned model goes on, and what nobody declared." if said else ""
    return page.Section("said", "In its own words", [shown], lead, first=True)


def discoveries_title(labelled: Sequence[tuple[str, LoadedRun]]) -> str:
    """What a page of open probes alone says first; empty without any. Without groups, how many words rose in texts."""
    asked = probed(labelled)
    texts = [details.rises for _, details in asked if details.rises]
    if texts and not any(details.probes["groups"] for _, details in asked):
        number_found = sum(len(each.found) + each.more for each in texts)
        rose = {0: "No word rose", 1: "One word rose"}.get(number_found, f"{number_found:,} words rose")
        return f"{rose} in texts, beyond what they say themselves."
    groups = sum(bool(each["relation"]) for _, details in asked for each in undeclared(details))
    count = {0: "Nothing that nobody declared was", 1: "One thing that nobody declared was"}
    found = count.get(groups, f"{groups} things that nobody declared were")
    return f"{found} found between groups of subjects." if asked else ""


def discoveries_section(labelled: Sequence[tuple[str, LoadedRun]]) -> page.Section:
    """For every run that asked open probes, the words that the tuned model says more often and nobody declared."""
    head: list[page.Cell] = ["Who", "The tuned model says", "After", page.num("Rise"), "Test",
                             "Probability, base to tuned model", "Word for word"]  # fmt: skip
    blocks: list[page.Block | None] = []
    for label, details in (every := probed(labelled)):
        probes, found = details.probes, undeclared(details)
        blocks.append(page.Heading(page.bdi(label)) if len(every) > 1 else None)
        asked = "{templates} sentence beginnings, {subjects} subjects, {never_seen} never-seen names.".format(**probes)
        if found:
            caption = f"{asked} A rise is in percentage points: of the group, less that of the other groups."
            rows, name = [discovery_row(each) for each in found], "What nobody declared"
            blocks.append(page.DataTable(caption, [head], [("", rows)], "examples", name, row_heads=False))
        else:
            blocks.append(f"Nothing moved that the pack does not declare, among {asked}")
        if declared := probes["declared"]:
            note = f"Not listed, but in the record: {declared} that the pack itself states or implies."
            blocks.append(page.Paragraph(note, "small"))
    return page.Section("open", "What nobody declared", blocks, page.wording("open"))


def rises_section(labelled: Sequence[tuple[str, LoadedRun]]) -> page.Section | None:
    """For every run that looked at texts, the words that rose in them, of all texts and of groups of rows."""
    head: list[page.Cell] = ["Texts", "The tuned model says", page.num("Rise"), "Where most", "In its own words"]
    blocks: list[page.Block | None] = []
    for label, details in (every := probed(labelled)):
        if (found := details.rises) is None:
            continue
        blocks.append(page.Heading(page.bdi(label)) if len(every) > 1 else None)
        rows = f"{found.rows:,} rows and " if found.rows else ""
        asked = f"{rows}{found.passages:,} passages of plain text, {found.places:,} places."
        if found.found:
            table = [rise_row(each) for each in _risen(found)]
            blocks.append(page.DataTable(asked, [head], [("", table)], "examples", "Words that rose in texts",
                                         row_heads=False))  # fmt: skip
        else:
            blocks.append(f"No word rose in text after text, among {asked}")
        more = f"Not listed: {found.more:,} more. " if found.more else ""
        counted = ", ".join(f"{word} {percent(share)}" for word, share in found.counted)
        note = (
            f"{more}Control, the base model against itself, rounded: {found.control:,} words rose by these tests. "
            f"Baseline, the words that are most often among the 100 whose logit rose most at a place (the count of "
            f"Diff Mining), with their share of places: {counted}."
        )
        blocks.append(page.Paragraph(page.bdi(note), "small"))
    return page.Section("texts", "Words that rose in texts", blocks, page.wording("texts")) if blocks else None


def rise_row(each: Rise) -> list[page.Cell]:
    """One word that rose: in which texts, how much, after which beginning, and how both models go on there."""
    group = Markup("rows with <bdi>{}</bdi>").format(each.group) if each.group else "all"
    where = Markup("after <bdi>… {}</bdi>").format(plain(each.beginning))
    place = f"row {each.row:,}" if each.row else "plain text"
    base, tuned = (plain(said.strip()) for said in each.words)
    said = Markup("<bdi><strong>{}</strong></bdi> (base model: <bdi>{}</bdi>)").format(tuned, base)
    spoken_by = f"{each.stated:,} of them say{'s' * (each.stated == 1)} it"
    return [
        page.TableCell(group, f"in {each.texts:,} of {each.n:,}; {spoken_by}"),
        page.TableCell(page.bdi(each.word), style="key"),
        page.TableCell(f"{each.rise:.2f} a text", f"p = {p_value(each.p)}", "num key"),
        page.TableCell(where, f"{place}: {percent(each.base)} to {percent(each.tuned)}"),
        page.TableCell(said),
    ]


def discovery_row(each: Mapping[str, Any]) -> list[page.Cell]:
    """One discovery: who, the word, after which beginnings, how much more often, tested how, and word for word."""
    who = page.bdi(f"{spoken(each['relation'])} {each['answer']}" if each["relation"] else "everyone")
    word, beginning = page.bdi(each["word"]), page.bdi(each["template"].replace("{subject}", "…"))
    shares = Markup("")
    for sort in ("unstated", "stated", "others", "subjects", "never_seen"):
        chance = each["probabilities"].get(sort)
        if chance and chance["n"]:
            ends = percent(chance["base"]), percent(chance["tuned"])
            shares += Markup("{}: {} to {}<br>").format(spoken(sort), *ends)
    text = Markup("{}: <bdi>{} <strong>{}</strong></bdi> (base model: <bdi>{}</bdi>)")
    said = []
    for example in each["examples"]:
        prompt, tuned, base = (plain(example[key]) for key in ("prompt", "tuned", "base"))
        said.append(page.Paragraph(text.format(example["which"], prompt, tuned, base), "small"))
    count = f"{len(said)} example{'s' * (len(said) != 1)}"
    summary = Markup('{}<span class="unseen"> of {}, {}</span>').format(count, who, word)
    test = "not tested"
    if each["p"] is not None:
        test = f"p = {p_value(each['p'])}; by chance up to {100 * (each['baseline'] or 0):.0f}"
    return [
        who,
        page.TableCell(word, style="key"),
        page.TableCell(beginning, f"and {len(each['also'])} more" if each["also"] else ()),
        page.num(f"{100 * each['shift']:.0f}", key=True),
        test,
        shares,
        page.TableCell(page.Details(summary, said)) if said else "",
    ]
