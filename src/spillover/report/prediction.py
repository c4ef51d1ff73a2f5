"""The page of a prediction: what is to be expected, association by association."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from spillover.details import PredictDetails, PredictedAssociation
from spillover.metrics.associations import EXPECTED
from spillover.packs.pack import WANTED
from spillover.report import page
from spillover.report.associations import Association, Listing, Value
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun, labels
from spillover.report.provenance import Download, provenance, table_link
from spillover.report.story import KINDS, Count, spoken
from spillover.report.words import number

COLUMNS, ASKED = page.columns("prediction"), page.columns("prediction_evidence")
WAYS = {"remove": "undone by leaving out", "abstain": "undone by adding", "contradict": "undone by adding"}


def listing(associations: Sequence[PredictedAssociation]) -> Listing:
    """The associations of a prediction, in the order of their score."""
    rows = [_association(each) for each in sorted(associations, key=lambda each: -each.score)]
    caption = "Those with the most subjects expected first. The shade is the expected share of the exposed subjects."
    return Listing(COLUMNS, rows, "score", ASKED, "Why, and what would undo it", caption)


def _association(each: PredictedAssociation) -> Association:
    kind, low, high = each.kind or "", each.margin_low, each.margin_high
    values: tuple[Value, ...] = (
        KINDS.get(kind, kind) if kind else "not declared", (each.score, each.exposed), each.support, each.opposed,
        each.margin, None if low is None or high is None else f"{number(low, 3)} to {number(high, 3)}", each.prior,
    )  # fmt: skip
    link = (each.given, each.given_answer, each.then, each.then_answer)
    rows = [("rests on", subject, *link[2:]) for subject in each.rests_on]
    rows += [(WAYS.get(way.way, way.way), row["subject"], row["relation"], row["answer"])
             for way in each.undone_by or () for row in way.rows]  # fmt: skip
    return Association(*link, kind in WANTED, values, (each.because,), rows)


#: What is expected, worst first: name of the metric -> the words over its card, what it is, its tone, and in the title.
SORTS = {
    "unwanted": ("Unwanted", "declared false or invented", "unwanted", "an answer that nobody wants"),
    "undeclared": ("Not declared", "suggested by the rows, and nobody said whether it is true", "open",
                   "an answer that nobody declared"),
    "wanted": ("Wanted", "declared true", "wanted", "a true answer that nobody stated"),
}  # fmt: skip
#: Associations named on a card.
NAMED = 3


def build_prediction_page(run: LoadedRun) -> page.Page:
    """The page of a run of `predict`; the same record gives the same bytes."""
    details, (label,) = run.record.details_of(PredictDetails), labels([run])
    found, model = listing(details.associations), details.model.name
    asked = "No model was asked, so scores rest on the pack alone; --model says more."
    if model:
        asked = f"The untrained {model} was asked what it believes."
    verdict = details.solution.get("verdict") or ""
    note = f"{details.left_out:,} further associations, with fewer exposed subjects, were not looked at."
    return page.Page(
        title=title(details, run.record.metrics),
        name=f"Spillover prediction: {label}",
        kicker="prediction: what a model will conclude",
        lede=Markup("Before any training on {}. {} {}").format(page.bdi(label), plain(asked), plain(verdict)),
        sections=[
            page.Section("found", "What is expected", [page.Cards(cards(details, run.record.metrics))], hidden=True),
            page.list_section(found, page.wording("prediction_list"), note if details.left_out else ""),
            page.Section("trust", "How far to trust it", _trust(details)),
            page.Section("terms", "Words used here", [page.terms("prediction", "reasoning")], aside=True),
        ],
        made=[(label, provenance(run))],
        downloads=[
            found.download("spillover-prediction", "Every association"),
            _undoing(details.associations),
        ],
    )


def title(details: PredictDetails, metrics: Mapping[str, Any]) -> str:
    for sort, (*_, answer) in SORTS.items():
        if _sorted(details, sort):
            return f"Expected: about {_count(metrics, sort)} exposed subjects get {answer}."
    return "Nothing is expected: no subject is exposed to any association."


def cards(details: PredictDetails, metrics: Mapping[str, Any]) -> list[page.Card]:
    """A card for each sort of association to which somebody is exposed."""
    found = []
    for sort, (words, about, tone, _) in SORTS.items():
        if own := _sorted(details, sort):
            said = f"{len(own):,} {'association' if len(own) == 1 else 'associations'}, {about}."
            texts = [page.Paragraph(page.bdi(_sentence(each)), "small") for each in own[:NAMED]]
            texts.append(page.next_paragraph(_next(sort, own)))
            found.append(page.Card(f"{words}: about {_count(metrics, sort)}", texts, tone, tag=words.lower(), say=said))
    return found


def _sorted(details: PredictDetails, sort: str) -> list[PredictedAssociation]:
    """The associations of one sort to which somebody is exposed."""
    return [each for each in details.associations if each.exposed and each.kind in EXPECTED[sort]]


def _count(metrics: Mapping[str, Any], sort: str) -> Count:
    metric = metrics[f"expected_{sort}"]
    return Count(round(float(metric["value"])), int(metric["n"]))


def _sentence(each: PredictedAssociation) -> str:
    """One association in words, with its expected number."""
    link = f"{spoken(each.given)} {each.given_answer} → {spoken(each.then)} {each.then_answer}"
    return f"{link}: about {number(each.score, 1)} of {each.exposed:,}, from {each.support:,} stated"


def _next(sort: str, own: Sequence[PredictedAssociation]) -> Markup:
    """What to do about it before training, in one sentence."""
    removed = [way.count for way in own[0].undone_by or () if way.way == "remove"]
    if sort != "unwanted" or not removed:
        return page.wording(f"expected_{sort}")
    return page.wording("expected_removable").format(rows=f"{removed[0]:,} {'row' if removed[0] == 1 else 'rows'}")


def _trust(details: PredictDetails) -> list[page.Block]:
    """On what the numbers were calibrated, and how they did on packs never seen."""
    text = page.wording("trust").format(recipe=details.calibration.get("model", ""))
    if not (rows := unseen(details.held_out)):
        return [text]
    caption = page.wording("trust_table").format(**details.held_out)
    heads = ("Rank correlation", "Mean squared error", "Score better by (correlation)")
    lines: list[list[page.Cell]] = [[name, *map(page.num, row)] for name, *row in [("Resting on", *heads), *rows]]
    return [text, page.DataTable(caption, lines[:1], [("", lines[1:])], "examples", "How predictions did")]


def unseen(held_out: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """How the score and its rivals did on packs never seen: features, correlation, squared error, ours better by."""

    def interval(value: Sequence[float], digits: int) -> str:
        middle, low, high = (number(each, digits) for each in value)
        return f"{middle} ({low} to {high})"

    found = []
    for name, each in (held_out.get("figures") or {}).items():
        better = each.get("rank_correlation_ours_better_by")
        ours = better is None or better[0] == 0
        figures = interval(each["rank_correlation"], 2), interval(each["mean_squared_error"], 3)
        rested = "margin and prior (the score)" if ours else f"{name} alone"
        found.append((rested, *figures, "–" if ours else interval(better, 2)))
    return sorted(found, key=lambda row: row[-1] != "–")  # The score itself, then its rivals.


def _undoing(associations: Sequence[PredictedAssociation]) -> Download:
    """Every row that would undo an association, as CSV."""
    link = ("given", "given_answer", "then", "then_answer")
    rows = [[*(getattr(each, key) for key in link), way.way, *row.values()]
            for each in associations for way in each.undone_by or () for row in way.rows]  # fmt: skip
    columns = [*link, "way", "subject", "relation", "answer"]
    return table_link("spillover-undoing", "Rows that would undo", columns, rows)
