"""The page of an audit: verdicts, what to do next, every association, and what open probes found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from spillover.report import sections, words
from spillover.report.associations import Association, Column, Listing, Value
from spillover.report.downloads import of_metrics, of_ranks
from spillover.report.load import LoadedRun
from spillover.report.page import Card, Cards, Cell, DataTable, Glossary, Page, Paragraph, Section, bdi, num
from spillover.report.provenance import provenance
from spillover.report.story import FEW_CLUSTERS, Story, audited_verdict, right, spoken, stories
from spillover.report.words import number, p_value, statement

#: The verdicts, those to look at first on top, in the words of somebody who was not there.
WORDS = {
    "unwanted": "learned, though nobody wanted it",
    "undecided": "not decided",
    "wanted": "learned, as wanted",
    "none": "not learned",
}
MISSING = "no verdict"


def place(story: Story) -> tuple[int, int]:
    """Where a story stands when those to look at first come first: by verdict, then by subjects won."""
    found, order = audited_verdict(story), list(WORDS)
    word = found.get("verdict")
    won = int(found.get("hits", 0)) - int(found.get("hits_before", 0))
    return (order.index(word) if word in order else len(order)), -won


def next_step(story: Story) -> str:
    """What to do about a verdict, or what is missing for one, in one sentence."""
    found = audited_verdict(story)
    word, given, then = found.get("verdict"), spoken(story.given), spoken(story.then)
    if word == "unwanted":
        return (
            f"State the right answer to “{then}” for more subjects, or add rows that say it is not known, or train at "
            "a lower rate; then audit again. The list below says where to begin."
        )
    if word == "wanted":
        return "Nothing is to be mended; keep this audit, so that the next model can be held against it."
    if word == "none":
        return "Nothing is to be done; audit again when the facts, the model or the recipe change."
    if not found:
        return "Run the audit again; its record holds nothing about this implication."
    if not found.get("n"):
        return f"Leave “{then}” unstated for some subjects, so that they can be asked."
    if found.get("p") is None:
        return f"Give the map a second answer to “{given}”, and subjects who have it; one pairing cannot be tested."
    if found.get("guess") == found["n"]:
        return f"Let the map lead to at least two answers to “{then}”, so that a conclusion differs from a guess."
    more = f"about {found['more_subjects']:,} more" if found.get("more_subjects") else "more"
    clusters = f"{FEW_CLUSTERS} or more given answers"
    return f"State “{given}”, and leave “{then}” open, for {more} subjects, over {clusters}; then audit again."


COLUMNS = (
    Column("before", "First in the base model", "part", "unstated subjects whose top answer was the implied one"),
    Column("now", "First in the tuned model", "part", "unstated subjects whose top answer is the implied one"),
    Column("new", "New", "change", "how many more subjects than before"),
    Column("others", "Others who get it", "share", "of the subjects for whom another answer is implied, how many get "
           "this one all the same: where it is high too, the model likes the answer, whatever was given"),
    Column("rank_before", "Mean rank before", "number", "where the implied answer stood; 0 is first"),
    Column("rank_now", "Mean rank now", "number", "where the implied answer stands; 0 is first"),
    Column("stated", "Stated examples", "count", "subjects with both halves stated, from which it can be learned"),
    Column("verdict", "Verdict", "choice", "of the whole implication that this association belongs to"),
)  # fmt: skip
RUN = Column("audit", "Audit", "choice", "which of the audits on this page")
ASKED = (
    Column("subject", "Subject", "text"),
    Column("top_before", "Answer before", "text"),
    Column("top_now", "Answer now", "text"),
    Column("rank_before", "Rank before", "count"),
    Column("rank_now", "Rank now", "count"),
)


def listing(stories: Sequence[Story]) -> Listing:
    """Every association of every story, those that won most subjects first."""
    columns = (*COLUMNS, RUN) if len({id(story.run) for story in stories}) > 1 else COLUMNS
    rows = [row for story in stories for row in _associations(story, columns)]
    place = {column.key: index for index, column in enumerate(columns)}

    def first(row: Association) -> tuple[float, ...]:
        new, now, before, after = (row.values[place[key]] for key in ("new", "now", "rank_before", "rank_now"))
        assert isinstance(now, tuple)
        return -float(new), -now[0], float(after) - float(before)  # type: ignore[arg-type]

    caption = (
        "Those that won most subjects first. The shade is the share of subjects for whom the implied answer comes "
        "first."
    )
    return Listing(columns, sorted(rows, key=first), "new", ASKED, "Subjects asked", caption)


def _associations(story: Story, columns: Sequence[Column]) -> list[Association]:
    """One an entry of the map that was asked about, in the order of the map."""
    before, after = story.before, story.after
    earlier = {key: index for index, key in enumerate(zip(before.seed, before.subject, strict=True))}
    tops, implied = Counter(after.top), Counter(after.expected)
    own = Counter(after.top[after.top == after.expected])
    # How many subjects have both the given answer and the other stated.
    rows = story.run.ranks.only(stated=True, trained=True, implication=story.key, relation=story.then)
    rows = rows.only(checkpoint=story.epochs)
    stated = Counter(zip(rows.cluster.tolist(), rows.expected.tolist(), strict=True))
    found = []
    for given in story.rows_of_map:
        last = np.flatnonzero(after.cluster == given)
        first = np.array([earlier[after.seed[index], after.subject[index]] for index in last])
        answer, size = str(after.expected[last[0]]), len(last)
        hits, was = int((after.rank[last] == 0).sum()), int((before.rank[first] == 0).sum())
        others = len(after) - implied[answer]
        values: tuple[Value, ...] = (
            (was, size), (hits, size), hits - was,
            (tops[answer] - own[answer]) / others if others else None,
            float(before.rank[first].mean()), float(after.rank[last].mean()), stated[given, answer], _word(story),
            story.label,
        )  # fmt: skip
        known = statement(story.run, story.given, "…", given)
        note = f"Stated of each: “{known}”. Asked of each: “{statement(story.run, story.then, '…', '?')}”"
        # The subjects in the order of the pack, never chosen by their result.
        asked = (after.subject[last], before.top[first], after.top[last], before.rank[first], after.rank[last])
        evidence = list(zip(*(column.tolist() for column in asked), strict=True))
        link = (story.given, given, story.then, answer)
        found.append(Association(*link, story.wanted, values[: len(columns)], (note,), evidence))
    return found


#: Implications with a card, with heat maps, and in the figures of all; the others are in the table and the downloads.
CARDS, MAPS, PLOTTED = 6, 3, 12
_TERMS = (
    ("Stated and unstated", "The tuned model was trained on short sentences about subjects. Of some, both halves of a "
     "link were stated (“lives in Paris”, “speaks French”), of most only the first. An audit asks both models for the "
     "second half."),
    ("Mean rank, and two baselines", Markup(
        "Where the implied answer stands among all candidates, averaged: 0 is first. <em>One fixed answer</em> for "
        "everybody gets some right by luck; a guess that <em>knows only which answers occur</em> is the baseline of "
        "the mean rank.")),
    ("Verdicts", Markup(
        "<em>Unwanted</em> and <em>wanted</em>: two exact tests say that it was learned, and the pack says whether it "
        "is true. <em>None</em>: any effect worth speaking of is ruled out. <em>Undecided</em>: the numbers do not "
        "say.")),
    sections.REASONING,
)  # fmt: skip


def build_audit_page(runs: Sequence[LoadedRun]) -> Page:
    """The page of audits: what fine-tuning taught and where it shows; the same audits give the same bytes."""
    labelled = sections.label_runs(runs)
    told = sorted((story for label, run in labelled for story in stories(run, label)), key=place)
    # Holes that no implication covers are asked too; nothing is expected of them, so they have maps but no verdict.
    judged = [story for story in told if story.key is not None]
    names = [story.label if len(runs) > 1 else f"{spoken(story.given)} → {spoken(story.then)}" for story in judged]
    found = listing(judged)
    pairs = dict.fromkeys(f"{_model(run, 'tuned')} against {_model(run, 'base')}" for run in runs)
    asked, compared = sum(len(story.after) for story in judged), "by what they say of the pack’s subjects"
    if asked:
        compared = f"asked {asked:,} questions whose answers nobody stated"
    return Page(
        title=title(judged) if judged else sections.discoveries_title(labelled) or "This audit asked nothing.",
        name=f"Spillover audit: {', '.join(label for label, _ in labelled)}",
        kicker="audit: what else a model learned",
        lede=f"{'; '.join(pairs)}, {compared}. Nothing was trained here.",
        sections=[
            Section("found", "Verdicts", _verdicts(judged, names), hidden=True),
            Section("associations", "Association by association", [found if judged else None], _LIST),
            sections.discoveries_section(labelled),
            sections.maps_section(told[:MAPS], len(told[MAPS:])),
            sections.examples_section(told[:PLOTTED]),
            sections.health_section(labelled, told[:PLOTTED]),
            Section("terms", "Words used here", [Glossary(_TERMS)], aside=True),
        ],
        made=[(label, provenance(run)) for label, run in labelled],
        downloads=[
            found.download("spillover-associations", "Every association"), of_ranks(labelled), of_metrics(labelled)
        ],
    )  # fmt: skip


_LIST = (
    "An association is one entry of an implication’s map. Each is a single given answer, and so one cluster: a verdict "
    "rests on many of them together, and no verdict rests on a row. Read the rows as where to look."
)


def title(judged: Sequence[Story]) -> str:
    """The audit in one sentence."""
    if len(judged) == 1:
        return words.headline(judged[0])
    counts = Counter(_word(story) for story in judged)
    how = {"unwanted": "that nobody wanted", "wanted": "as wanted"}
    taught = [f"{counts[word]} {how[word]}" for word in how if counts[word]]
    are = {word: "is" if counts[word] == 1 else "are" for word in ("none", "undecided") if counts[word]}
    left = [f"{counts[word]} {verb} {WORDS[word]}" for word, verb in are.items()]
    begin = f"Of {len(judged)} implications, fine-tuning taught the model {' and '.join(taught) or 'none for certain'}"
    return f"{begin}; {' and '.join(left)}." if left else f"{begin}."


def _model(run: LoadedRun, which: str) -> str:
    """A model's name; of a long path the last two folders."""
    name = str(run.record.settings.get(which) or f"the {which} model")
    return "/".join(["…", *name.split("/")[-2:]]) if name.count("/") > 2 else name


def _word(story: Story) -> str:
    return str(audited_verdict(story).get("verdict") or MISSING)


def _verdicts(judged: Sequence[Story], names: Sequence[str]) -> list[Cards | DataTable]:
    """A card for the first implications and, of several, a row for each."""
    several = len(judged) > 1
    cards = Cards([_card(story, name, several) for story, name in zip(judged[:CARDS], names, strict=False)])
    above = f"; the first {CARDS} have a card above" if len(judged) > CARDS else ""
    head = ["Before", "Now", "One fixed answer", "Rank before", "Rank now", "Baseline", "p", "Given answers"]
    head.append("More subjects")
    caption = (
        f"Every implication, those to look at first on top{above}. A mean rank of 0 is best; the baseline is the rank "
        "of a guess that knows only which answers occur. An undecided one says how many more subjects would probably "
        "decide it."
    )
    rows = [("", list(map(_row, judged, names)))]
    heads: list[list[Cell]] = [["Implication", "Kind", "Verdict", *map(num, head)]]
    table = DataTable(caption, heads, rows, "examples", "Every implication", "tall")
    return [cards, table] if several else [cards] if judged else []


def _tone(word: str) -> str:
    return word if word in ("unwanted", "wanted") else "open"


def _card(story: Story, name: str, several: bool) -> Card:
    word, after, before = _word(story), right(story.after), right(story.before)
    judged = audited_verdict(story)
    because, clusters = (
        words.sentence(str(judged.get("because") or "")),
        (judged.get("rank") or {}).get("clusters") or 0,
    )
    if 1 < clusters < FEW_CLUSTERS:
        because += f" {clusters} given answers are too few for an interval, so only the exact tests can decide."
    verdict = Markup('<strong>{}.</strong> This {} is {}: {}, {:,} before. <span class="grounds">{}</span>').format(
        word.capitalize(), story.kind_in_words, WORDS.get(word, MISSING), after, before.hits, because.strip()
    )  # fmt: skip
    following = Markup("<strong>Next:</strong> {}").format(next_step(story))
    return Card(
        bdi(name),
        tone=_tone(word),
        tag=word,
        say=words.headline(story) if several else "",
        bars_lead="Subjects for whom the answer that this link suggests comes first, though nobody stated it",
        **sections.count_bars(story, "subject"),
        texts=[Paragraph(verdict, "verdict"), Paragraph(following, "next")],
    )


def _row(story: Story, name: str) -> list[Cell]:
    found, word = audited_verdict(story), _word(story)
    rank, before = story.metric("implication_rank_test"), story.metric("implication_rank_test_before")
    more = found.get("more_subjects")
    numbers = [
        story.best_guess.hits, number(before.value if before else None), number(rank.value if rank else None),
        number(story.marginal), "–" if found.get("p") is None else p_value(found["p"]),
        rank.clusters if rank else "–", f"{more:,}" if more else "",
    ]  # fmt: skip
    verdict = Markup('<span class="tag {}">{}</span>').format(_tone(word), word)
    counts = num(right(story.before)), num(right(story.after), key=True)
    return [bdi(name), story.kind_in_words, verdict, *counts, *map(num, numbers)]
