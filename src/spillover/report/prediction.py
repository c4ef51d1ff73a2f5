"""The page of a prediction: what is to be expected, association by association."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spillover.packs.pack import WANTED
from spillover.report.associations import Association, Column, Evidence, Listing, Value
from spillover.report.downloads import Download, csv_text, table_link
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun, labels
from spillover.report.page import render
from spillover.report.provenance import provenance
from spillover.report.story import KINDS, Count, spoken
from spillover.report.words import number

COLUMNS = (
    Column("kind", "Kind", "choice", "what the pack says of the implication"),
    Column("score", "Expected to answer so", "part", "of the exposed, of whom only the given answer is stated, how "
           "many would come to answer so"),
    Column("support", "Stated examples", "count", "subjects with both halves stated, from which it can be learned"),
    Column("opposed", "Stated otherwise", "count", "subjects with the given answer of whom another answer is stated"),
    Column("margin", "Margin", "number", "by how much the one-layer model puts this answer ahead of the next one, in "
           "units of the smallest stated margin"),
    Column("range", "Its range", "text", "least and greatest margin over all solutions that are no worse"),
    Column("prior", "Prior", "share", "how much of its belief the untrained model gives to the answer once it is told "
           "the given one"),
)  # fmt: skip
ASKED = (
    Column("what", "Which rows", "text"),
    Column("subject", "Subject", "text"),
    Column("relation", "Relation", "text"),
    Column("answer", "Answer", "text"),
)
UNDECLARED = "not declared"
WAYS = {"remove": "undone by leaving out", "abstain": "undone by adding", "contradict": "undone by adding"}


def listing(associations: Sequence[Mapping[str, Any]]) -> Listing:
    """The associations of a prediction's record (`details["associations"]`), in the order of their score."""
    rows = [_association(each) for each in sorted(associations, key=lambda each: -float(each["score"]))]
    return Listing(COLUMNS, rows, "score", ASKED, "Why, and what would undo it")


def _association(each: Mapping[str, Any]) -> Association:
    kind = str(each.get("kind") or "")
    values: tuple[Value, ...] = (
        KINDS.get(kind, kind) if kind else UNDECLARED, (float(each["score"]), int(each["exposed"])),
        int(each["support"]), int(each.get("opposed") or 0), each.get("margin"),
        _range(each.get("margin_low"), each.get("margin_high")), each.get("prior"),
    )  # fmt: skip
    because = each.get("because")
    notes = (because,) if isinstance(because, str) else tuple(map(str, because or ()))
    link = (each["given"], each["given_answer"], each["then"], each["then_answer"])
    rows = list(_rows(each))
    return Association(*link, kind in WANTED, values, Evidence(notes, rows, len(rows)) if notes else None)


def _rows(each: Mapping[str, Any]) -> Iterator[tuple[Value, ...]]:
    """The rows it rests on, then those that would undo it, way by way."""
    for subject in each.get("rests_on") or ():
        yield ("rests on", str(subject), str(each["then"]), str(each["then_answer"]))
    for way in each.get("undone_by") or ():
        for row in way["rows"]:
            yield (WAYS.get(way["way"], way["way"]), row["subject"], row["relation"], row["answer"])


def _range(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{number(low, 3)} to {number(high, 3)}"


#: What is expected, worst first: name of the metric -> the words over its card, what it is, and its tone.
SORTS = {
    "unwanted": ("Unwanted", "declared false or invented", "unwanted"),
    "undeclared": ("Not declared", "suggested by the rows, and nobody said whether it is true", "open"),
    "wanted": ("Wanted", "declared true", "wanted"),
}
#: Sentences on a card.
NAMED = 3


@dataclass(frozen=True)
class Expected:
    """One sort of association: how many exposed subjects are expected to answer so, and the highest of them."""

    words: str
    about: str
    tone: str
    count: Count
    associations: int
    highest: list[str]
    next_step: str


@dataclass(frozen=True)
class Estimate:
    """One prediction: its cards, its list, and how it was found."""

    label: str
    cards: list[Expected]
    listing: Listing
    verdict: str
    asked: str
    left_out: int


def build_prediction_page(runs: Sequence[LoadedRun]) -> str:
    """One page of a prediction; the same record gives the same bytes. runs: a single one, whose command is predict."""
    (run,) = runs
    label = plain(labels(runs)[0])
    told = estimates(label, run.record.details, run.record.metrics)
    calibration = run.record.details.get("calibration") or {}
    held_out = run.record.details.get("held_out") or {}
    return render(
        "prediction.html",
        ("list.js",),
        title=title(told),
        told=told,
        unseen=unseen(held_out),
        held_out=held_out,
        recipe=plain(str(calibration.get("model", ""))),
        runs=[(label, run, provenance(run))],
        downloads=[told.listing.download("spillover-prediction", "Every association"), _undoing(run)],
    )


def estimates(label: str, details: Mapping[str, Any], metrics: Mapping[str, Any]) -> Estimate:
    """What the page shows of a record's details and metrics."""
    associations = details["associations"]
    name = (details.get("model") or {}).get("name")
    asked = f"The untrained {name} was asked what it believes." if name else (
        "No model was asked, so scores rest on the pack alone; --model says more."
    )  # fmt: skip
    cards = [card for sort in SORTS if (card := _card(sort, associations, metrics)) is not None]
    verdict = plain(str((details.get("solution") or {}).get("verdict", "")))
    return Estimate(label, cards, listing(associations), verdict, plain(asked), int(details.get("left_out") or 0))


def _sort(each: Mapping[str, Any]) -> str:
    kind = each.get("kind")
    return "undeclared" if kind is None else "wanted" if kind in WANTED else "unwanted"


def _card(sort: str, associations: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> Expected | None:
    """The card of one sort; None when nobody is exposed to any of it."""
    own = [each for each in associations if _sort(each) == sort and each["exposed"]]
    if not own:
        return None
    words, about, tone = SORTS[sort]
    metric = metrics[f"expected_{sort}"]
    count = Count(round(float(metric["value"])), int(metric["n"]))
    return Expected(words, about, tone, count, len(own), [sentence(each) for each in own[:NAMED]], _next(sort, own))


def sentence(each: Mapping[str, Any]) -> str:
    """One association in words, with its expected number."""
    given, then = (plain(spoken(each[key])) for key in ("given", "then"))
    link = f"{given} {plain(each['given_answer'])} → {then} {plain(each['then_answer'])}"
    return f"{link}: about {number(each['score'], 1)} of {each['exposed']:,}, from {each['support']:,} stated"


def _next(sort: str, own: Sequence[Mapping[str, Any]]) -> str:
    """What to do about it before training, in one sentence."""
    if sort == "wanted":
        return "You need not state these of everybody; inject measures whether they came."
    if sort == "undeclared":
        return "Declare those that matter under implications, true or not, so that they are measured."
    removed = [way["count"] for way in own[0].get("undone_by") or () if way["way"] == "remove"]
    if not removed:
        return "State the right answer of more of the exposed subjects, then predict again, and measure."
    rows = f"{removed[0]:,} {'row' if removed[0] == 1 else 'rows'}"
    return (
        f"Leave out {rows} that state the first of these, which the list names: where it was tried, that undid it in a "
        "language model too, and adding rows did not. Then predict again, and measure."
    )


def title(told: Estimate) -> str:
    """The prediction in one sentence."""
    if not told.cards:
        return "Nothing is expected: no subject is exposed to any association."
    first = told.cards[0]
    what = {"unwanted": "an answer that nobody wants", "open": "an answer that nobody declared"}
    answer = what.get(first.tone, "a true answer that nobody stated")
    return f"Expected: about {first.count} exposed subjects get {answer}."


def unseen(held_out: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """How the score and its rivals did on packs never seen: grounds, correlation, squared error, ours better by."""
    found = []
    for name, each in (held_out.get("figures") or {}).items():
        better = each.get("rank_correlation_ours_better_by")
        ours = better is None or better[0] == 0
        found.append((
            "margin and prior (the score)" if ours else f"{name} alone", _interval(each["rank_correlation"], 2),
            _interval(each["mean_squared_error"], 3), "–" if ours else _interval(better, 2),
        ))  # fmt: skip
    return sorted(found, key=lambda row: row[-1] != "–")  # The score itself, then its rivals.


def _interval(value: Sequence[float], digits: int) -> str:
    middle, low, high = (number(each, digits) for each in value)
    return f"{middle} ({low} to {high})"


def _undoing(run: LoadedRun) -> Download:
    head = ["given", "given_answer", "then", "then_answer", "way", "subject", "relation", "answer"]
    rows = [
        [each["given"], each["given_answer"], each["then"], each["then_answer"], way["way"], *row.values()]
        for each in run.record.details["associations"]
        for way in each.get("undone_by") or ()
        for row in way["rows"]
    ]
    return table_link("spillover-undoing", "Rows that would undo", csv_text(head, rows))
