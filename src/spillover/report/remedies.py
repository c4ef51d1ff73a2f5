"""The page of a comparison of remedies: the frontier, one recommendation with its reason, and what each cost."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from spillover.config import WORDING
from spillover.details import FrontierEntry, MitigateDetails, Recommendation, RemedyText
from spillover.errors import RunError
from spillover.metrics import remedies as judging
from spillover.metrics.implications import LEARNED as LEARNED_RANK
from spillover.metrics.intervals import FEW
from spillover.packs.pack import UNWANTED
from spillover.record import RECORD, Metric, Record
from spillover.report import page
from spillover.report.load import LoadedRun, spoken
from spillover.report.page import Cell, TableCell
from spillover.report.provenance import Download, command, command_line, of_metrics, provenance, table_link
from spillover.report.words import number, sentence

#: Groups of the table and of the figures, best first: what an entry's status and figures put it into.
SAFE, UNSAFE, NOT_LEARNED, APART, IMPOSSIBLE = "safe", "not safe", "not learned", "apart", "impossible"
UNTREATED = "untreated"
#: What stands over each group of the table, and what that means.
HEADINGS = {
    SAFE: ("Safe", "learned what was stated, removes enough, keeps what is wanted"),
    UNSAFE: ("Learned what was stated, but is not safe", "why, under Outcome"),
    NOT_LEARNED: ("Did not learn what was stated", "so that what it removes may only be what it did not learn"),
    APART: ("Leaves out or rewrites stated rows", "what it removes was never stated, so it cannot win"),
    IMPOSSIBLE: ("Could not be done", "to this pack or model"),
}
GROUPS = tuple(HEADINGS)
#: What a run costs, each as the frontier names it.
COSTS = ("epochs", "steps", "forward_passes", "seconds")
#: A share of the unwanted that counts as removed, and one that counts as left alone, beside the exact model.
MOST, LITTLE = 0.5, 0.1
#: How many remedies are worth more seeds.
_BEST = 5
#: Options of the comparison that its runs share.
_SHARED = ("lr", "batch", "freeze_embeddings", "chat", *WORDING, "dtype", "revision", "threads")
_LEAST, _POINTS = f"{100 * judging.REMOVED:.0f}%", f"{100 * judging.KEPT:.0f}"
Descriptions = Mapping[str, RemedyText]


@dataclass(frozen=True, eq=False)
class Tried:
    """One remedy (or combination) at one strength, or the untreated run.

    entry: its figures, as the record holds them. texts: what each of its parts does. after: it needs a finished model
    only. number: its place in the page, from 1; 0 is the untreated run. nothing: whether the untreated run left nothing
    to remove.
    """

    entry: FrontierEntry
    texts: Sequence[str] = ()
    after: bool = False
    number: int = 0
    nothing: bool = False

    @property
    def label(self) -> str:
        return _label(self.entry.remedy, self.entry.strength)

    @property
    def status(self) -> str:
        return self.entry.status

    def metric(self, name: str) -> Metric | None:
        return None if name == "removed" and self.nothing else self.entry.metric(name)

    def value(self, name: str) -> float | None:
        """The figure itself, or None when it was not measured."""
        if name == "removed" and self.nothing:
            return None
        metric = self.metric(name)
        return metric.value if metric else getattr(self.entry, name, None)

    @property
    def still(self) -> list[str]:
        """The ways of asking in which the unwanted conclusion is still there."""
        return judging.still_there(self.entry)

    def row(self, names: Sequence[str], *parts: str) -> dict[str, Any]:
        """Figures by name, and parts of their metrics (low, high, clusters) as `NAME_PART`."""
        found: dict[str, Any] = {}
        for name in names:
            metric = self.metric(name)
            found |= {name: self.value(name), **{f"{name}_{part}": getattr(metric, part, None) for part in parts}}
        return found

    @property
    def removed(self) -> float:
        """For comparisons: one of which nothing is known removed least."""
        removed = self.value("removed")
        return float("-inf") if removed is None else removed

    @property
    def taken(self) -> bool:
        """Whether another answer has taken the unwanted one's place."""
        return bool(self.entry.replaced and self.entry.replaced["taken"])

    @property
    def keeps(self) -> bool:
        """Whether it learned what was stated and keeps what is wanted."""
        return self.status == judging.LEARNED and judging.keeps_wanted(self.value("wanted_change"))

    @property
    def group(self) -> str:
        if self.label == UNTREATED:
            return UNTREATED
        safe = judging.is_safe(self.status, self.value("removed"), self.value("wanted_change"), self.taken, self.still)
        groups = {judging.LEARNED: SAFE if safe else UNSAFE, judging.REWRITES: APART, judging.UNLEARNED: NOT_LEARNED}
        return groups.get(self.status, IMPOSSIBLE)


@dataclass(frozen=True)
class Comparison:
    """tried: every remedy and strength, group by group, in each the one that removes most first."""

    record: Record
    advice: Recommendation
    untreated: Tried
    tried: Sequence[Tried]

    @property
    def measured(self) -> list[Tried]:
        return [each for each in self.tried if each.group != IMPOSSIBLE]

    @cached_property
    def advised(self) -> Tried | None:
        """The one that the record recommends, unless there was nothing to remove."""
        if self.untreated.nothing:
            return None
        label = _label(self.advice.remedy, self.advice.strength)
        return next((each for each in self.tried if self.advice.safe and each.label == label), None)

    @cached_property
    def nearest(self) -> Tried | None:
        """Of those that learned and keep what is wanted, the one that removes most, if there was anything to."""
        if self.untreated.nothing:
            return None
        return max((each for each in self.tried if each.keeps), key=lambda each: each.removed, default=None)

    @property
    def promising(self) -> list[Tried]:
        """Those worth another look: they keep what is wanted, and removed something; the advised one first."""
        some = [each for each in self.tried if each.keeps and each.removed > 0 and not each.taken and not each.still]
        return sorted(some, key=lambda each: (each is not self.advised, -each.removed))[:_BEST]

    @property
    def seeds(self) -> int:
        return len(self.record.details.seeds)

    @property
    def clusters(self) -> int:
        """Clusters of a pair and a seed behind every interval."""
        metric = self.untreated.metric("unwanted_rate")
        return metric.clusters if metric else 0

    @property
    def few(self) -> bool:
        """Whether the clusters are too few for an interval to decide anything."""
        return self.clusters < FEW


def load_comparison(folder: str | Path, descriptions: Descriptions | None = None) -> Comparison:
    """Read a folder that `mitigate` wrote (see `comparison_of`)."""
    return comparison_of(Record.read(Path(folder)), str(Path(folder) / RECORD), descriptions)


def comparison_of(record: Record, where: str = RECORD, descriptions: Descriptions | None = None) -> Comparison:
    """The comparison that a record holds. Raises RunError when it holds none, or none that is finished.

    descriptions: what each remedy does, by name, where the record does not say so.
    """
    details = record.details_of(MitigateDetails, where)
    if details.recommendation is None:
        do = "Give the same `mitigate` command again; it goes on where it stopped"
        raise RunError("this comparison is not finished", where=where, do=do)
    known = details.remedies or descriptions or {}
    nothing = judging.leaves_nothing(details.frontier[0])
    untreated, *others = [_tried(entry, known, nothing) for entry in details.frontier]
    ordered = sorted(others, key=lambda each: (GROUPS.index(each.group), -each.removed))
    numbered = [dataclasses.replace(each, number=place) for place, each in enumerate(ordered, start=1)]
    return Comparison(record, details.recommendation, untreated, numbered)


def _tried(entry: FrontierEntry, descriptions: Descriptions, nothing: bool) -> Tried:
    names = judging.names_in(_label(entry.remedy, entry.strength))
    known = [descriptions[name] for name in names if name in descriptions]
    # A mere switch has no number.
    texts = [each.text + ("" if each.strength.startswith("which turns it on") else f" Its number: {each.strength}.")
             for each in known]  # fmt: skip
    return Tried(entry, texts, bool(known) and all(each.after for each in known), nothing=nothing)


def _label(name: str | None, strength: float | None) -> str:
    """A remedy as `--remedy` takes it."""
    return str(name) if strength is None else f"{name}={strength:g}"


def build_remedies_page(found: Comparison) -> page.Page:
    """The page: the advice and its reason, the frontier, every figure, and what to do next."""
    run = LoadedRun.of_record(found.record)
    bounds = {"rank": LEARNED_RANK, "nats": judging.MATCHED_NATS, "least": _LEAST, "points": _POINTS}
    terms = [(term, text.format(**bounds)) for term, text in page.terms("remedies").terms]
    # Without a wanted link the figures draw something else, and say so.
    wants = "" if found.untreated.metric("wanted_rate") else "_alone"
    frontier, ladder = (
        page.figure(f"remedy-{name}", found, f"remedy-{name}", page.wording(f"remedy_{name}{wants}"), wide=True)
        for name in ("frontier", "ladder")
    )
    tables = [table for table in (effects(found), costs(found), exactly(found)) if table]
    figures = [block for table in tables for block in (page.Heading(table.label), table)]
    return page.Page(
        title=title(found),
        name=f"Spillover remedies: {run.pack_name}",
        kicker="remedies: less of what nobody wanted",
        reason=reason(found),
        lede=lede(found),
        notices=[at_hand(found)] if found.few else [],
        sections=[
            page.Section("found", "The remedy advised" if found.advised else "The nearest",
                    [page.Cards(cards(found), facts=True)], hidden=True, first=True),
            page.Section("next", "What to do next", [page.Steps(steps(found))], first=True),
            page.Section("frontier", "What each remedy removes, and what it costs", [frontier], first=True),
            page.Section("again", "Asked again: what only moved", [moved(found), asked_again(found)]),
            page.Section("terms", "How to read it", [page.Glossary(terms)], aside=True),
            page.Section("ladder", "Remedy by remedy", [ladder]),
            page.Section("table", "Every figure", figures),
        ],
        made=[(run.pack_name, provenance(run))],
        downloads=[download(found), of_metrics([(run.pack_name, run)])],
        footer="Intervals are 95% bootstrap intervals over clusters of a pair and a seed; that of forgetting is over "
        "passages of text.",
    )  # fmt: skip


def percent(value: float | None) -> str:
    """A share with a true minus sign; a dash when there is none."""
    return "–" if value is None else f"{number(100 * value, 0)}%"


def at_hand(found: Comparison) -> str:
    """On few clusters: first what holds of the models at hand, in counts, then whether it would happen again."""
    best = found.advised or found.nearest
    runs = {"untreated": found.untreated} | ({f"with {best.label}": best} if best else {})
    said = [f"{count(each.metric(name))} {kind} {when}"
            for name, kind in (("unwanted_rate", "get an unwanted answer"), ("wanted_rate", "a wanted one"))
            for when, each in runs.items() if each.metric(name)]  # fmt: skip
    again = f"Whether it would happen again: too few given answers to tell ({found.clusters} clusters of a pair and a "
    return f"Of the models at hand: of the unstated subjects {', '.join(said)}. {again}seed, {FEW} are needed)."


def count(metric: Metric | None) -> str:
    """A share as hits among those asked."""
    return "–" if metric is None or metric.value is None else f"{round(metric.value * metric.n):,} of {metric.n:,}"


def title(found: Comparison) -> str:
    """The advice in one sentence."""
    best, nearest, tries = found.advised, found.nearest, len(found.tried)
    if found.untreated.nothing:
        return sentence(judging.nothing_said(found.untreated.entry))
    if best is not None:
        kept = " and keeps what is wanted" if best.value("wanted_rate") is not None else ""
        start = "A lead, on few data: train" if found.few else "Train"
        return f"{start} with {best.label}: it removes {percent(best.removed)} of what nobody wanted{kept}."
    none = f"None of the {tries} remedies tried is safe" if tries > 1 else "The remedy tried is not safe"
    if nearest is None or nearest.removed <= 0:
        return f"{none}: nothing that learned what was stated kept what is wanted and removed anything unwanted."
    return f"{none}. {nearest.label} comes nearest: it removes {percent(nearest.removed)} of what nobody wanted."


def reason(found: Comparison) -> str:
    """Under the title: why this one, or why none."""
    each, base = found.advised or found.nearest, found.untreated
    if base.nothing:
        return "No remedy is judged by what it removes. More passes, subjects or seeds may show a conclusion after all."
    if each is None:
        return ""
    # Each figure of this one and of the untreated run, as words.
    unwanted, wanted = ([percent(run.value(name)) for run in (each, base)] for name in ("unwanted_rate", "wanted_rate"))
    forgets = [number(run.value("forgetting_nats")) for run in (each, base)]
    text = f"With {each.label} the answer that nobody wanted is given by {unwanted[0]} of the unstated subjects "
    text += f"instead of {unwanted[1]}"
    if base.value("free_rate") is not None:
        text += f" ({percent(base.value('free_rate'))} without any association)"
    if each.value("wanted_rate") is not None:
        text += f", the wanted one by {wanted[0]} instead of {wanted[1]}"
    if "–" not in forgets:
        text += f"; it forgets {forgets[0]} nats a token instead of {forgets[1]}"
    if each is not found.advised:
        why = ", and ".join(faults(each))
        return f"{text}. It is not safe, because it {why}." if why else f"{text}."
    others = sum(other.group == SAFE for other in found.tried) - 1
    also = f" {others} more {'is' if others == 1 else 'are'} safe; this one forgets least." if others else ""
    return f"{text}.{also}"


def faults(each: Tried) -> list[str]:
    """What keeps one that learned from being safe, each as the end of “it ...”."""
    change = each.value("wanted_change") or 0.0
    found = {
        f"has {judging.NOTHING}": each.nothing,
        f"removes less than {_LEAST} of the unwanted": not each.nothing and each.removed < judging.REMOVED,
        f"lowers the wanted rate by {100 * -change:.0f} points": not judging.keeps_wanted(change),
        "lets another answer take the place of the unwanted one": each.taken,
        f"leaves it when asked {' and '.join(judging.AGAIN[way] for way in each.still)}": each.still,
    }
    return [fault for fault, there in found.items() if there]


def outcome(found: Comparison, each: Tried) -> str:
    """What became of an entry, for its row of the table."""
    sentences = {
        UNTREATED: "",
        IMPOSSIBLE: each.status.partition(":")[2].strip(),
        APART: "changes what is stated",
        SAFE: "safe, and advised" if each is found.advised else "safe",
        UNSAFE: ", and ".join(faults(each)),
    }
    if each.group in sentences:
        return sentences[each.group]
    ranks = {"facts": each.value("recall_rank"), "stated implications": each.value("implication_rank_train")}
    late = [f"{what} at mean rank {number(rank)}" for what, rank in ranks.items() if (rank or 0.0) > LEARNED_RANK]
    if not late and (behind := _behind(found, each)) is not None:
        return f"stated rows {number(behind)} nats behind the untreated run’s"
    return ", and ".join(late) or "did not learn what was stated"


def _behind(found: Comparison, each: Tried) -> float | None:
    """By how many nats a row the stated rows are behind those of the untreated run."""
    nats, base = each.value("stated_nats"), found.untreated.value("stated_nats")
    return None if nats is None or base is None else nats - base


def lede(found: Comparison) -> str:
    """What was compared: model, pack, and how many tries."""
    record = found.record
    model, pack = (Path(name).name if name.count("/") > 1 else name
                   for name in (record.details.model.name or "", record.settings["pack"]))  # fmt: skip
    links = [each for each in record.details.pack.implications if each.kind in UNWANTED]
    pairs = [f"“{spoken(each.given)}” to “{spoken(each.then)}”" for each in links]
    tries = f"{len(found.tried)} {'try' if len(found.tried) == 1 else 'tries'}"
    seeds = "one seed" if found.seeds == 1 else f"{found.seeds} seeds"
    taught = f"{model} was taught the same facts ({pack}) untreated and with each remedy, {tries}, {seeds}."
    return f"{taught} What nobody wanted: conclusions from {', '.join(pairs)}."


def cards(found: Comparison) -> list[page.Card]:
    """The untreated run beside the one advised (or nearest): what nobody wanted, what is wanted, what it cost."""
    each, base, made = found.advised or found.nearest, found.untreated, list[page.Card]()
    wanted = base.value("wanted_rate")
    least = None if wanted is None else max(0.0, wanted - judging.KEPT)
    for name, tone, heading, place, mark in (
        ("unwanted_rate", "unwanted", "Given by mistake", base.value("free_rate"), "without any association"),
        ("wanted_rate", "wanted", "Rightly concluded", least, f"{_POINTS} points below untreated"),
        ("forgetting_nats", "open", "Forgotten", None, ""),
    ):
        before, after = base.metric(name), each.metric(name) if each else None
        if before is None or after is None:
            continue
        values = [before.value or 0.0, after.value or 0.0]
        seeds = "" if found.seeds == 1 else f" over {found.seeds} seeds"
        note, most, texts = f"Of {before.n:,} unstated subjects{seeds}", 1.0, [percent(value) for value in values]
        if name == "forgetting_nats":
            note, most = "Rise of the loss on ordinary text, a token", 1.1 * max(1e-9, *values)
            texts = [f"{number(value)} nats" for value in values]
        shares = [max(0.0, value) / most for value in values]
        bars = list(map(page.Bar, ("untreated", "remedied"), shares, texts, ("pale", "full")))
        tick = None if place is None else (place, f"{mark}: {percent(place)}")
        made.append(page.Card(heading, [page.Paragraph(note, "small")], tone, bars=bars, tick=tick))
    return made


def effects(found: Comparison) -> page.DataTable:
    """What every remedy removed, kept and lost."""

    def cells(each: Tried) -> dict[str, Cell]:
        instead: Cell = "–"
        if replaced := each.entry.replaced:
            low, high = (number(100 * replaced[end], 0) for end in ("low", "high"))
            instead = TableCell(percent(replaced["rate"]) + ", taken" * each.taken, f"chance {low} to {high}%")
        return {
            "Outcome": TableCell(outcome(found, each), style="words"),
            "removed": judging.NOTHING if each.nothing else _number(each, "removed") if each.number else "–",
            "unwanted rate": _number(each, "unwanted_rate"),
            "wanted rate": _number(each, "wanted_rate"),
            "wanted, change in points": _number(each, "wanted_change") if each.number else "–",
            "forgetting, nats a token": _number(each, "forgetting_nats"),
            "another answer instead": instead,
            "unwanted in other words": _number(each, "paraphrase_unwanted_rate"),
            "abstains": _number(each, "abstained_rate"),
        }

    return _table("What each did", "effects", cells, [found.untreated, *found.tried])


def moved(found: Comparison) -> page.Glossary | None:
    """In words, what became of the conclusion when it was asked again; those first that only moved it."""
    said = [(each, text) for each in found.measured if (text := judging.asked_again_said(each.entry))]
    said = [] if found.untreated.nothing else sorted(said, key=lambda pair: not pair[0].still)
    return page.Glossary([(each.label, sentence(text)) for each, text in said], "Asked again") if said else None


def asked_again(found: Comparison) -> page.DataTable | None:
    """The unwanted rate in every way of asking, and the share removed there; None where nothing was asked again."""
    every = {way: "paraphrase_unwanted_rate" if way == judging.OTHER_WORDS else f"unwanted_rate_{way}"
             for way in judging.AGAIN}  # fmt: skip
    ways = {way: rate for way, rate in every.items() if found.untreated.metric(rate)}

    def cells(each: Tried) -> dict[str, Cell]:
        made: dict[str, Cell] = {"plainly": _number(each, "unwanted_rate")}
        for way, rate in ways.items():
            share = each.value(f"removed_{way}")
            small = f"{percent(share)} removed" if share is not None else judging.NOTHING
            made[judging.AGAIN[way]] = TableCell(percent(each.value(rate)), small if each.number else "")
        return made

    if ways.keys() <= {judging.OTHER_WORDS}:
        return None
    return _table("The unwanted rate, asked again", "again", cells, [found.untreated, *found.measured])


def costs(found: Comparison) -> page.DataTable:
    """Whether each learned what was stated, and its compute as multiples of the untreated run's."""

    def cells(each: Tried) -> dict[str, Cell]:
        more = _behind(found, each) if each.number else None
        behind = "" if more is None else f"{'+' if more > 0 else ''}{number(more, 3)}"
        compute: dict[str, Cell] = {}
        for name in COSTS:
            own, first = each.value(name), found.untreated.value(name)
            digits = 1 if name == "epochs" and own is not None and own != int(own) else 0
            times = f"× {own / first:.2g}" if own is not None and first and each.number else ""
            compute[name.replace("_", " ")] = "–" if own is None else TableCell(f"{own:,.{digits}f}", times)
        return {
            "facts, mean rank": _number(each, "recall_rank"),
            "stated implications, mean rank": _number(each, "implication_rank_train"),
            "stated rows, nats a row": TableCell(number(each.value("stated_nats"), 3), behind),
            "unwanted answer, mean rank": _number(each, "unwanted_rank"),
            "wanted answer, mean rank": _number(each, "wanted_rank"),
            **compute,
        }

    return _table("What each learned, and what it cost", "costs", cells, [found.untreated, *found.measured])


def exactly(found: Comparison) -> page.DataTable | None:
    """What the exact model predicts, and what was measured; None when no remedy that was tried has a counterpart."""

    def cells(each: Tried) -> dict[str, Cell]:
        leads, exact = dict[str, Cell](), each.entry.exact or {}
        for name in ("unwanted", "wanted"):
            before, after = exact.get(f"{name}_untreated"), exact.get(name)
            small = "" if before is None else f"untreated {number(before)}"
            leads[f"{name} answer, lead"] = "–" if after is None else TableCell(number(after), small)
        return {
            **leads,
            "unwanted lead removed": percent(exact_removed(each)),
            "unwanted rate removed, measured": judging.NOTHING if each.nothing else _number(each, "removed"),
            "they": agreement(each),
        }

    tried = [each for each in found.measured if each.entry.exact]
    return _table("Beside the exact model", "exact", cells, tried) if tried else None


def _table(label: str, name: str, cells: Callable[[Tried], dict[str, Cell]], tried: Sequence[Tried]) -> page.DataTable:
    """These entries in their groups; where it is told what became of each, also what each does."""
    heads = list(cells(tried[0]))
    groups: dict[str, list[Sequence[Cell]]] = {}
    for each in tried:
        group = Markup('{} <span class="kind">{}</span>').format(*HEADINGS[each.group]) if each.number else ""
        place = Markup('<span class="place">{}</span> ').format(each.number) if each.number else ""
        # A long combination may be broken behind a plus.
        head = place + Markup("<strong>{}</strong>").format(page.bdi(each.label.replace("+", "+\u200b")))
        texts = each.texts if "Outcome" in heads else ()
        groups.setdefault(group, []).append([TableCell(head, texts), *cells(each).values()])
    names: list[Cell] = ["Remedy", *(TableCell(name, style="words" if name == "Outcome" else "") for name in heads)]
    caption = page.wording(f"remedy_{name}")
    return page.DataTable(caption, [names], list(groups.items()), "study remedies", label, "long")


def _number(each: Tried, name: str) -> Cell:
    """A metric, and under it its interval: shares in percent, a change of one in points with its sign."""
    metric = each.metric(name)
    if metric is None or metric.value is None:
        return "–"
    times, digits, unit = (100, 0, "%") if metric.unit == "share" else (1, 2, "")
    ends = (metric.value, metric.low, metric.high)
    value, low, high = ("" if end is None else number(times * end, digits) for end in ends)
    if name == "wanted_change":
        value, unit = f"+{value}" if metric.value > 0 else value, ""
    return TableCell(f"{value}{unit}", f"{low} to {high}{unit}" if low and high else "")


def exact_removed(each: Tried) -> float | None:
    """The share of the unwanted answer's lead that the remedy takes away in the exact model; above 1 it is behind."""
    before, after = ((each.entry.exact or {}).get(name) for name in ("unwanted_untreated", "unwanted"))
    return None if before is None or after is None or before <= 0 else 1 - after / before


def agreement(each: Tried) -> str:
    """Whether theory and measurement go together."""
    theory, measured = exact_removed(each), each.value("removed")
    if each.nothing:
        return judging.NOTHING
    if theory is None or measured is None:
        return "–"
    least, most = sorted((theory, measured))
    if most >= MOST and least <= LITTLE:
        return "part"
    return "agree" if least >= MOST or most <= LITTLE else "differ in size"


def download(found: Comparison) -> Download:
    """Every figure of every entry as CSV, a row each, with the ends of its interval as columns of their own."""
    rows: list[dict[str, Any]] = [
        {
            "number": each.number or None, "remedy": each.label, "group": each.group, "status": each.status,
            "outcome": outcome(found, each), **each.row(judging.METRICS, "low", "high", "clusters"),
            "free_rate": each.value("free_rate"), "taken": each.taken,
            **{f"taken_{part}": (each.entry.replaced or {}).get(part) for part in ("rate", "low", "high")},
            **each.row(("stated_nats", *COSTS)), "what_it_does": " ".join(each.texts),
        }
        for each in [found.untreated, *found.tried]
    ]  # fmt: skip
    return table_link("spillover-frontier", "Every figure", list(rows[0]), rows)


def steps(found: Comparison) -> list[tuple[str, str]]:
    """What to do and the command for it, or nothing, in the order in which they are of use."""
    if found.untreated.nothing:
        return [("Audit the model that you train in the end; this comparison has nothing to add.", "")]
    made, promising = [], found.promising
    if promising:
        # Seeds that give enough clusters, three at least and more than there were.
        seeds = max(3, -(-FEW // max(1, found.clusters // found.seeds)), found.seeds + (not found.few))
        why = "Too few clusters to decide: repeat" if found.few else "To be surer, repeat"
        what = "the remedy" if len(promising) == 1 else f"the {len(promising)} that removed most and kept the wanted"
        text = f"{why} {what} with {seeds} seeds, new names and another pairing in each."
        labels, numbers = [each.label for each in promising], ",".join(map(str, range(seeds)))
        made.append((text, _comparison_command(found, labels, "more-seeds", seeds=numbers)))
    # With few clusters more seeds come first.
    place = len(made) if found.few else 0
    two = [each.label for each in promising if "+" not in each.label][:2]
    if found.advised is not None:
        text = "Train with it and keep the weights; then audit them before you publish them."
        made.insert(place, (text, _training_command(found, found.advised)))
    elif len({label.partition("=")[0] for label in two}) == 2:
        text = "None is safe on its own. Combinations join what two of them do: the best two, for example."
        made.insert(place, (text, _comparison_command(found, ["+".join(two)], "joined")))
    # For a model that is trained already.
    ready = [each.label for each in promising if each.after]
    (elsewhere,) = judging.advised(after=True)
    text = "Your model is trained already, and training again is out of the question: repair the finished model."
    if ready:
        text += f" Of the remedies that need no training, {ready[0]} did best here."
    elif any(each.after for each in found.tried):
        text += " No remedy of that kind both learned and kept enough here, so expect little; the audit will tell."
    else:
        text += f" None of that kind was tried here. Elsewhere, {elsewhere.cited.replace('->', '→')}."
    base, pack = (found.record.settings[name] for name in ("model", "pack"))
    remedy = (ready or [elsewhere.label])[0]
    return [*made, (text, command("repair", "TUNED_MODEL", base=base, pack=pack, remedy=remedy, out="repaired"))]


def _training_command(found: Comparison, each: Tried) -> str:
    """`inject` with the remedy, to the end that the comparison used."""
    settings, nats = found.record.settings, found.untreated.value("stated_nats")
    options: dict[str, Any] = {name: settings.get(name) for name in (*_SHARED, "pack", "model")}
    options |= {"remedy": each.label, "epochs": settings.get("untreated_epochs" if each.after else "epochs")}
    if not each.after and nats is not None:
        options["until_nats"] = round(nats + judging.MATCHED_NATS, 4)
    options |= {"save": "weights", "out": "remedied"}
    return command_line(dataclasses.replace(found.record, command="inject", settings=options))


def _comparison_command(found: Comparison, labels: Sequence[str], suffix: str, **changes: Any) -> str:
    """The same comparison with other remedies."""
    name = Path(found.record.settings["out"]).name or "remedies"
    changes |= {"remedies": ",".join(labels), "strengths": "", "out": f"{name}-{suffix}"}
    return command_line(dataclasses.replace(found.record, settings={**found.record.settings, **changes}))
