"""The page of an audit: verdicts, what to do next, every association, and what open probes found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spillover.report import words
from spillover.report.associations import Association, Column, Evidence, Listing, Value
from spillover.report.discoveries import discoveries, headline
from spillover.report.downloads import of_metrics, of_ranks
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun, labels
from spillover.report.page import render
from spillover.report.provenance import provenance
from spillover.report.runs import chapters_of, examples, health_of
from spillover.report.story import FEW_CLUSTERS, Count, Story, right, spoken, stories
from spillover.report.words import statement

#: The verdicts, those to look at first on top, in the words of somebody who was not there.
WORDS = {
    "unwanted": "learned, though nobody wanted it",
    "undecided": "not decided",
    "wanted": "learned, as wanted",
    "none": "not learned",
}
MISSING = "no verdict"


def verdict_of(story: Story) -> Mapping[str, Any]:
    """What the audit's record holds of the story's implication; empty when it holds nothing."""
    judged = story.run.record.details.get("verdicts") or ()
    return next((each for each in judged if each.get("implication") == story.key), {})


def word_of(story: Story) -> str:
    """The verdict's word."""
    return str(verdict_of(story).get("verdict") or MISSING)


def place(story: Story) -> tuple[int, int]:
    """Where a story stands when those to look at first come first: by verdict, then by subjects won."""
    found, order = verdict_of(story), list(WORDS)
    word = found.get("verdict")
    won = int(found.get("hits", 0)) - int(found.get("hits_before", 0))
    return (order.index(word) if word in order else len(order)), -won


def next_step(story: Story) -> str:
    """What to do about a verdict, in one sentence."""
    found = verdict_of(story)
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
    return _undecided(story, found, given, then)


def _undecided(story: Story, found: Mapping[str, Any], given: str, then: str) -> str:
    """What is missing for a verdict."""
    if not found:
        return "Run the audit again; its record holds nothing about this implication."
    if not found.get("n"):
        return f"Leave “{then}” unstated for some subjects, so that they can be asked."
    if found.get("p") is None:
        return f"Give the map a second answer to “{given}”, and subjects who have it; one pairing cannot be tested."
    if found.get("guess") == found["n"]:
        return f"Let the map lead to at least two answers to “{then}”, so that a conclusion differs from a guess."
    add = f"State “{given}”, and leave “{then}” open,"
    if more := found.get("more_subjects"):
        return f"{add} for about {more:,} more subjects, over {FEW_CLUSTERS} or more given answers; then audit again."
    return f"{add} for more subjects, over {FEW_CLUSTERS} or more given answers; then audit again."


def few(story: Story) -> str:
    """What a verdict on few given answers rests on; nothing when there are enough."""
    rank = verdict_of(story).get("rank") or {}
    clusters = rank.get("clusters") or 0
    if not 1 < clusters < FEW_CLUSTERS:
        return ""
    return f"{clusters} given answers are too few for an interval, so only the exact tests can decide."


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
    several = len({id(story.run) for story in stories}) > 1
    rows = [row for story in stories for row in associations(story, several)]
    columns = (*COLUMNS, RUN) if several else COLUMNS
    place = {column.key: index for index, column in enumerate(columns)}

    def first(row: Association) -> tuple[float, ...]:
        new, now, before, after = (row.values[place[key]] for key in ("new", "now", "rank_before", "rank_now"))
        assert isinstance(now, tuple)
        return -float(new), -now[0], float(after) - float(before)  # type: ignore[arg-type]

    return Listing(columns, sorted(rows, key=first), "new", ASKED, "Subjects asked")


def associations(story: Story, several: bool = False) -> list[Association]:
    """One an entry of the map that was asked about, in the order of the map."""
    before, after = story.before, story.after
    earlier = {key: index for index, key in enumerate(zip(before.seed, before.subject, strict=True))}
    now: dict[str, list[int]] = {}
    for index, given in enumerate(after.cluster):
        now.setdefault(given, []).append(index)
    tops, implied = Counter(after.top), Counter(after.expected)
    own = Counter(after.top[after.top == after.expected])
    stated = _stated(story)
    found = []
    for given in story.rows_of_map:
        last = np.array(now[given])
        first = np.array([earlier[after.seed[index], after.subject[index]] for index in last])
        answer, size = str(after.expected[last[0]]), len(last)
        hits, was = int((after.rank[last] == 0).sum()), int((before.rank[first] == 0).sum())
        others = len(after) - implied[answer]
        values: tuple[Value, ...] = (
            (was, size), (hits, size), hits - was,
            (tops[answer] - own[answer]) / others if others else None,
            float(before.rank[first].mean()), float(after.rank[last].mean()), stated[given, answer], word_of(story),
        )  # fmt: skip
        values = (*values, story.label) if several else values
        columns = (after.subject[last], before.top[first], after.top[last], before.rank[first], after.rank[last])
        evidence = _evidence(story, given, columns)
        found.append(Association(story.given, given, story.then, answer, story.wanted, values, evidence))
    return found


def _stated(story: Story) -> Counter[tuple[str, str]]:
    """(given answer, stated answer) -> how many subjects have both stated."""
    rows = story.run.ranks.only(stated=True, trained=True, implication=story.key, relation=story.then)
    rows = rows.only(checkpoint=story.epochs)
    return Counter(zip(rows.cluster.tolist(), rows.expected.tolist(), strict=True))


def _evidence(story: Story, given: str, columns: Sequence[np.ndarray]) -> Evidence:
    """The subjects in the order of the pack, never chosen by their result."""
    told = statement(story.run, story.given, "…", given)
    notes = (f"Stated of each: “{told}”. Asked of each: “{statement(story.run, story.then, '…', '?')}”",)
    rows = [tuple(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return Evidence(notes, rows, len(rows))


#: Implications with a card, with heat maps, and in the figures of all; the others are in the table and the downloads.
CARDS, MAPS, PLOTTED = 6, 3, 12


@dataclass(frozen=True)
class Judged:
    """One implication: the verdict in plain words, on what it rests, and what to do next."""

    story: Story
    label: str
    word: str
    words: str
    headline: str
    before: Count
    after: Count
    guess: Count
    because: str
    few: str
    next_step: str

    @property
    def tone(self) -> str:
        return {"unwanted": "unwanted", "wanted": "wanted"}.get(self.word, "open")


def build_audit_page(runs: Sequence[LoadedRun]) -> str:
    """One page that says what fine-tuning taught and where it shows; the same audits give the same bytes."""
    labelled = [(plain(label), run) for label, run in zip(labels(runs), runs, strict=True)]
    told = sorted((story for label, run in labelled for story in stories(run, label)), key=place)
    # Holes that no implication covers are asked too; nothing is expected of them, so they have maps but no verdict.
    links = [story for story in told if story.key is not None]
    judged = [_judged(story, story.label if len(runs) > 1 else spoken_link(story)) for story in links]
    shown = examples(told[:PLOTTED])
    found = listing(links)
    discovered = discoveries(labelled)
    return render(
        "audit.html",
        ("list.js",) if judged else (),
        title=title(judged) if judged else headline(discovered) or title(judged),
        lede=lede(labelled, judged),
        names=[label for label, _ in labelled],
        cards=judged[:CARDS],
        judged=[(each, _numbers(each.story)) for each in judged],
        listing=found,
        discovered=discovered,
        chapters=chapters_of(told[:MAPS]),
        mapped_out=len(told[MAPS:]),
        examples=list(zip(told, shown, strict=False)),
        count=sum(map(len, shown)),
        health=health_of(labelled, told[:PLOTTED]),
        runs=[(label, run, provenance(run)) for label, run in labelled],
        downloads=[
            found.download("spillover-associations", "Every association"), of_ranks(labelled), of_metrics(labelled)
        ],
    )  # fmt: skip


def _judged(story: Story, label: str) -> Judged:
    found = verdict_of(story)
    word = word_of(story)
    return Judged(
        story=story,
        label=label,
        word=word,
        words=WORDS.get(word, MISSING),
        headline=words.headline(story),
        before=right(story.before),
        after=right(story.after),
        guess=story.best_guess,
        because=words.sentence(plain(found.get("because") or "")),
        few=few(story),
        next_step=next_step(story),
    )


def _numbers(story: Story) -> Mapping[str, str]:
    """What the table of all implications says beside the counts."""
    found = verdict_of(story)
    rank, before = story.metric("implication_rank_test"), story.metric("implication_rank_test_before")
    p = found.get("p")
    return {
        "rank": words.number(rank.value if rank else None),
        "rank_before": words.number(before.value if before else None),
        "marginal": words.number(story.marginal),
        "p": "–" if p is None else words.p_value(p),
        "clusters": str(rank.clusters) if rank else "–",
        "more": f"{found['more_subjects']:,}" if found.get("more_subjects") else "",
    }


def title(judged: Sequence[Judged]) -> str:
    """The audit in one sentence."""
    if not judged:
        return "This audit asked nothing."
    if len(judged) == 1:
        return judged[0].headline
    counts = Counter(each.word for each in judged)
    taught = [f"{counts[word]} {how}" for word, how in (("unwanted", "that nobody wanted"), ("wanted", "as wanted"))
              if counts[word]]  # fmt: skip
    open_ = [f"{counts[word]} {_be(counts[word])} {WORDS[word]}" for word in ("none", "undecided") if counts[word]]
    begin = f"Of {len(judged)} implications, fine-tuning taught the model {' and '.join(taught) or 'none for certain'}"
    return f"{begin}; {' and '.join(open_)}." if open_ else f"{begin}."


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def lede(labelled: Sequence[tuple[str, LoadedRun]], judged: Sequence[Judged]) -> str:
    """Under the title: what was compared with what, on how many questions."""
    pairs = [f"{_model(run, 'tuned')} against {_model(run, 'base')}" for _, run in labelled]
    compared = "; ".join(dict.fromkeys(pairs))
    asked = sum(each.after.n for each in judged)
    if not asked:
        return plain(f"{compared}, by what they say of the pack’s subjects. Nothing was trained here.")
    return plain(f"{compared}, asked {asked:,} questions whose answers nobody stated. Nothing was trained here.")


def _model(run: LoadedRun, which: str) -> str:
    """A model's name; of a long path the last two folders."""
    name = str(run.record.settings.get(which) or f"the {which} model")
    return "/".join(["…", *name.split("/")[-2:]]) if name.count("/") > 2 else name


def spoken_link(story: Story) -> str:
    """An implication in words."""
    return plain(f"{spoken(story.given)} → {spoken(story.then)}")
