"""The page of a prediction: what is to be expected, association by association; and what a run then measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from spillover.details import PredictDetails, PredictedAssociation
from spillover.errors import UsageError
from spillover.metrics.associations import EXPECTED, MeasuredCount, measured_open, surprise
from spillover.packs.pack import WANTED
from spillover.report import audit, page, sections
from spillover.report.drawing import plain
from spillover.report.load import KINDS, Count, LoadedRun, labels, spoken, stories
from spillover.report.page import Association, Listing, Value
from spillover.report.provenance import Download, of_metrics, of_ranks, provenance, table_link
from spillover.report.words import model_name, number, sentence

COLUMNS, ASKED, OUTCOMES = map(page.columns, ("prediction", "prediction_evidence", "outcomes"))
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
        each.lift,
    )  # fmt: skip
    rows = [("rests on", subject, each.then, each.then_answer) for subject in each.rests_on]
    rows += [(WAYS.get(way.way, way.way), row["subject"], row["relation"], row["answer"])
             for way in each.undone_by or () for row in way.rows]  # fmt: skip
    return Association(*each.link, kind in WANTED, values, (each.because,), rows)


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
    asked = Markup("No model was asked, so this rests on the facts alone; with <code>--model</code> it rests on more.")
    if model:
        asked = Markup("The untrained {} was asked what it believes.").format(page.bdi(model_name(model)))
    lede = Markup("Before any training on {}. {}")
    note = f"{details.left_out:,} further associations, with fewer exposed subjects, were not looked at."
    return page.Page(
        title=title(details, run.record.metrics),
        name=f"Spillover prediction: {label}",
        kicker="prediction: what a model will conclude",
        lede=lede.format(page.bdi(label), asked),
        sections=[
            page.Section(
                "found", "What is expected", [page.Cards(cards(details, run.record.metrics))], hidden=True, first=True
            ),
            _limits(details),
            page.list_section(found, page.wording("prediction_list"), note if details.left_out else ""),
            page.Section("trust", "How far to trust it", _trust(details)),
            sections.remedies_section(finished=False) if _sorted(details, "unwanted") else None,
            page.Section("terms", "Words used here", [page.terms("prediction", "reasoning")], aside=True),
        ],
        made=[(label, provenance(run))],
        downloads=[found.download("spillover-prediction", "Every association"), _undoing(details.associations)],
    )


def title(details: PredictDetails, metrics: Mapping[str, Any]) -> str:
    for sort, (*_, answer) in SORTS.items():
        if _sorted(details, sort):
            found = _count(metrics, sort)
            return f"Of {found.n:,} subjects with only the first half stated, about {found.hits:,} will get {answer}."
    return "Nothing is expected: no subject is exposed to any association."


def cards(details: PredictDetails, metrics: Mapping[str, Any]) -> list[page.Card]:
    """A card for each sort of association to which somebody is exposed."""
    found = []
    for sort, (words, about, tone, _) in SORTS.items():
        if own := _sorted(details, sort):
            texts: list[page.Paragraph | page.Details | None] = [
                page.Paragraph(page.bdi(_sentence(each)), "small") for each in own[:NAMED]
            ]
            do, elsewhere = _next(sort, own)
            texts += [page.next_paragraph(do), elsewhere]
            found.append(page.Card(f"{words}: about {_count(metrics, sort)}", texts, tone, say=_said(own, about)))
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


def _next(sort: str, own: Sequence[PredictedAssociation]) -> tuple[Markup, page.Details | None]:
    """What to do about it before training, in one sentence, and how that did elsewhere."""
    removed = [way.count for way in own[0].undone_by or () if way.way == "remove"]
    if sort != "unwanted" or not removed:
        remedy, found = sections.measured_words()
        did = page.wording("elsewhere_remedy").format(remedy=remedy, found=found)
        return page.wording(f"expected_{sort}"), _elsewhere(did) if sort == "unwanted" else None
    (fewer, fewer_found), (added, added_found) = map(sections.measured_words, ("fewer-bridging", "abstention"))
    rows = f"{removed[0]:,} {'row' if removed[0] == 1 else 'rows'}"
    measured = {"fewer": fewer, "fewer_found": fewer_found, "added": added, "added_found": added_found}
    did = page.wording("elsewhere_rows").format(**measured)
    return page.wording("expected_removable").format(rows=rows), _elsewhere(did)


def _elsewhere(did: Markup) -> page.Details:
    return page.Details("How that did elsewhere", [page.Paragraph(did)], "small")


def _limits(details: PredictDetails) -> page.Section:
    """What a prediction does not say, for the first screen."""
    known = plain(", ".join(details.calibrated_on.models)) if details.calibrated_on else ""
    models = Markup("of {} alone; of others read the order, not the numbers.").format(known)
    said = [page.wording("limit_predicted"), Markup("How many in any model: the numbers are those ") + models]
    return page.limits_section(said[: 2 if known else 1])


def _calibrated(details: PredictDetails) -> str:
    """On what the expected numbers were calibrated, as a sentence."""
    return plain(f"Expected numbers are {details.calibrated_on.words}.") if details.calibrated_on else ""


def _trust(details: PredictDetails) -> list[page.Block]:
    """On what the numbers were calibrated, and how they did on packs never seen."""
    heads = ("Rank correlation", "Mean squared error", "Score better by (correlation)")
    tables = []
    for name in ("never_seen", "third_model"):
        if rows := unseen(own := details.held_out.get(name) or {}):
            caption = page.wording(f"trust_{name}").format(**own, on=", ".join(own["models"]))
            lines: list[list[page.Cell]] = [
                [name, *map(page.num, row)] for name, *row in [("Resting on", *heads), *rows]
            ]
            tables.append(page.DataTable(caption, lines[:1], [("", lines[1:])], "examples", "How predictions did"))
    proven = plain(details.solution.get("verdict") or "")
    return [*(page.Paragraph(text) for text in (_calibrated(details), proven) if text), page.wording("trust"), *tables]


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
        rested = f"{' and '.join(name.split('+'))} (the score)" if ours else f"{name} alone"
        found.append((rested, *figures, "–" if ours else interval(better, 2)))
    return sorted(found, key=lambda row: row[-1] != "–")  # The score itself, then its rivals.


def _undoing(associations: Sequence[PredictedAssociation]) -> Download:
    """Every row that would undo an association, as CSV."""
    link = ("given", "given_answer", "then", "then_answer")
    rows = [[*each.link, way.way, *row.values()]
            for each in associations for way in each.undone_by or () for row in way.rows]  # fmt: skip
    columns = [*link, "way", "subject", "relation", "answer"]
    return table_link("spillover-undoing", "Rows that would undo", columns, rows)


@dataclass(frozen=True)
class Outcome:
    """One association that was predicted, measured or both. verdict: the run's, or why there is none.

    notes, evidence: of the list. Counts are of unstated subjects; what was foretold is a share of those measured.
    """

    link: tuple[str, str, str, str]
    kind: str
    predicted: PredictedAssociation | None = None
    measured: MeasuredCount | None = None
    verdict: str = ""
    notes: tuple[str, ...] = ()
    evidence: Sequence[Sequence[Value]] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """In words, with both numbers."""
        given, answer, then, implied = self.link
        n, hits = (self.measured.n, self.measured.hits) if self.measured else (0, 0)
        told = f"foretold {number(self.expected, 1)} of {n:,}, measured {hits:,}"
        return f"{spoken(given)} {answer} → {spoken(then)} {implied}: {told}"

    @property
    def expected(self) -> float:
        """How many of the measured subjects were foretold to answer so; of the exposed ones where none was measured."""
        if self.predicted is None:
            return 0.0
        return self.predicted.rate * self.measured.n if self.measured else self.predicted.score

    @property
    def surprise(self) -> float | None:
        """Standard deviations between what was foretold and what was measured."""
        if self.predicted is None or self.measured is None:
            return None
        return surprise(self.predicted.rate, self.measured.n, self.measured.hits)

    def row(self) -> Association:
        """The association as the list shows it."""
        told, found = self.predicted, self.measured
        values: tuple[Value, ...] = (
            (self.expected, found.n if found else told.exposed) if told else None,
            (found.hits, found.n) if found else None,
            found.newly if found else None,
            found.hits - self.expected if told and found else None,
            self.surprise,
            KINDS.get(self.kind, self.kind) if self.kind else "not declared",
            self.verdict,
        )
        return Association(*self.link, self.kind in WANTED, values, self.notes, self.evidence)


def outcomes(prediction: LoadedRun, run: LoadedRun) -> list[Outcome]:
    """Every association that was measured, or foretold of somebody, the most surprising first.

    Those on one side only come last: first the measured ones, by what is new, then the foretold ones, by their score.
    """
    told = {each.link: each for each in prediction.record.details_of(PredictDetails).associations}
    judged = [story for story in stories(run, "") if story.judged]
    asked = {(row.given, row.given_answer, row.then, row.then_answer): row for row in audit.listing(judged).rows}
    found: dict[tuple[str, str, str, str], Outcome] = {}
    for story in judged:
        for each in story.judged.associations if story.judged else ():
            link = (story.given, each.given, story.then, each.answer)
            row, measured = asked.get(link), MeasuredCount(each.n, each.hits, each.newly)
            notes = (*_why(told.get(link)), f"Measured: {each.because}.", *(row.notes if row else ()))
            evidence = row.evidence if row else ()
            found[link] = Outcome(link, story.kind, told.get(link), measured, each.verdict, notes, evidence)
    rest = {link: each for link, each in told.items() if link not in found and each.exposed}
    opened = measured_open(run.ranks, rest)
    for link, one in rest.items():
        verdict = "not judged" if link in opened else "not asked"
        found[link] = Outcome(link, one.kind or "", one, opened.get(link), verdict, _why(one))

    def first(each: Outcome) -> tuple[float, ...]:
        newly = each.measured.newly if each.measured else -1
        return each.surprise is None, -(each.surprise or 0), -newly, -each.expected

    return sorted(found.values(), key=first)


def _why(each: PredictedAssociation | None) -> tuple[str, ...]:
    return (f"Foretold: {each.because}.",) if each else ("Not foretold.",)


def build_outcomes_page(prediction: LoadedRun, run: LoadedRun) -> page.Page:
    """The page of a prediction and a run of its pack: foretold and measured in one list, in one unit.

    Raises: UsageError when no association was both foretold and measured.
    """
    details, (label, other) = prediction.record.details_of(PredictDetails), labels([prediction, run])
    found = outcomes(prediction, run)
    both = [each for each in found if each.measured and each.predicted]
    if not both:
        what = f"this run of {run.pack_name} measured no association of this prediction of {prediction.pack_name}"
        raise UsageError(what, where="report", do="Name a finished run of the pack that was predicted")
    asked = model_name(details.model.name) if details.model.name else "any model, since none was asked"
    rows = [each.row() for each in found]
    listed = Listing(OUTCOMES, rows, "surprise", audit.ASKED, "Why, and who was asked", page.wording("outcomes_order"))
    expected, measured, newly = _totals(both)
    title = f"Foretold: about {expected} unstated subjects in all draw the conclusion."
    lede = f"Foretold for {asked}, before any training; measured in {_measured_model(run)}."
    return page.Page(
        title=f"{title} Measured: {measured.hits:,}, {newly:,} of them newly.",
        name=f"Spillover: {label}, foretold and measured",
        kicker="foretold and measured",
        lede=lede,
        notices=mismatches(prediction, run),
        sections=[
            page.Section("found", "What came of it", [page.Cards(_outcome_cards(both))], hidden=True, first=True),
            _limits(details),
            page.list_section(listed, page.wording("outcomes_list"), _one_sided(found, details)),
            page.Section("trust", "How far to trust a prediction", _trust(details)),
            page.Section("terms", "Words used here", [page.terms("prediction", "verdicts", "reasoning")], aside=True),
        ],
        made=[(f"Foretold: {label}", provenance(prediction)), (f"Measured: {other}", provenance(run))],
        downloads=[
            listed.download("spillover-foretold-and-measured", "Every association"),
            of_ranks([(other, run)]),
            of_metrics([(label, prediction), (other, run)]),
        ],
    )  # fmt: skip


def mismatches(prediction: LoadedRun, run: LoadedRun) -> list[str]:
    """In what a prediction and a run do not belong together, a sentence each."""
    found = [] if run.finished else ["The run did not finish: its numbers are those it had reached."]
    settings, (own, theirs) = run.record.settings, (each.record.hashes.get("pack") for each in (prediction, run))
    named = prediction.pack_name == run.pack_name
    # A run over several seeds keeps a hash of hashes, and draws a built-in pack anew for each.
    known = own and theirs and len(run.seeds) == 1
    known = known and bool(prediction.record.settings.get("redact")) == bool(settings.get("redact"))
    if known and own != theirs and named:
        found.append(f"Both are of {run.pack_name}, but not of the same rows: the seed or the file is another one.")
    elif not (own == theirs if known else named):
        found.append(f"The prediction was made of {prediction.pack_name}, the run is of {run.pack_name}: "
                     "the list puts together what both have.")  # fmt: skip
    asked, trained = prediction.record.details.model.name, settings.get("base" if run.audited else "model")
    hashes = prediction.record.hashes.get("model"), run.record.hashes.get("base" if run.audited else "model")
    if asked and trained and not (hashes[0] == hashes[1] if all(hashes) else asked == trained):
        found.append(f"The prediction was made for {model_name(asked)}, the run is of {model_name(str(trained))}.")
    return found


def _measured_model(run: LoadedRun) -> str:
    name, base = (model_name(str(each)) for each in (run.model, run.record.settings.get("base")))
    return f"{name}, audited against {base}" if run.audited else f"{name} after training"


def _totals(both: Sequence[Outcome]) -> tuple[Count, Count, int]:
    """Foretold and measured, of all the subjects measured, and how many of them are new."""
    measured = [each.measured for each in both if each.measured]
    n = sum(each.n for each in measured)
    expected = Count(round(sum(each.expected for each in both)), n)
    return expected, Count(sum(each.hits for each in measured), n), sum(each.newly for each in measured)


def _outcome_cards(both: Sequence[Outcome]) -> list[page.Card]:
    """A card for each sort of association: both numbers as bars, and the most surprising associations."""
    found = []
    for sort, (words, about, tone, _) in SORTS.items():
        if own := [each for each in both if (each.kind or None) in EXPECTED[sort]]:
            expected, measured, newly = _totals(own)
            bars = [page.Bar("foretold", expected.share, str(expected), "pale"),
                    page.Bar("measured", measured.share, str(measured))]  # fmt: skip
            lines = ["The most surprising:", *(page.bdi(each.text) for each in own[:NAMED])]
            texts = [page.Paragraph(f"{newly:,} of those measured are new: the base model did not answer so."),
                     *(page.Paragraph(line, "small") for line in lines)]  # fmt: skip
            lead = "Unstated subjects whose first answer is the one that is suggested"
            found.append(page.Card(words, texts, tone, say=_said(own, about), bars=bars, bars_lead=lead))
    return found


def _said(own: Sequence[Outcome] | Sequence[PredictedAssociation], about: str) -> str:
    return f"{len(own):,} {'association' if len(own) == 1 else 'associations'}, {about}."


def _one_sided(found: Sequence[Outcome], details: PredictDetails) -> str:
    """How many associations only one side has, and what the list leaves out."""
    measured, foretold = sum(not each.predicted for each in found), sum(not each.measured for each in found)
    idle = len(details.associations) - sum(each.predicted is not None for each in found)
    counts = {
        f"{measured:,} measured but not foretold": measured,
        f"{foretold:,} foretold but not asked": foretold,
        f"{idle:,} left out of the list, since nobody is exposed to them": idle,
    }
    return sentence("; ".join(words for words, count in counts.items() if count))
