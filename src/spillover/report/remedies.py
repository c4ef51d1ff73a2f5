"""The page of a comparison of remedies: the frontier, one recommendation with its reason, and what each cost."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from spillover.errors import RunError
from spillover.metrics.implications import LEARNED as LEARNED_RANK
from spillover.metrics.intervals import FEW
from spillover.metrics.remedies import (
    FAILED,
    KEPT,
    LEARNED,
    MATCHED_NATS,
    REMOVED,
    REWRITES,
    UNLEARNED,
    is_safe,
    keeps_wanted,
)
from spillover.packs.pack import WANTED
from spillover.record import RECORD, Metric, Record
from spillover.report.downloads import Download, csv_text, of_metrics, table_link
from spillover.report.load import LoadedRun, metric_of
from spillover.report.page import (
    Bar,
    Card,
    Cards,
    Cell,
    DataTable,
    Glossary,
    Heading,
    Page,
    Paragraph,
    Section,
    Steps,
    TableCell,
    bdi,
    figure,
)
from spillover.report.provenance import command_line, provenance
from spillover.report.story import spoken
from spillover.report.words import number

#: Groups of the table and of the figures, best first: what an entry's status and figures put it into.
SAFE, UNSAFE, NOT_LEARNED, APART, IMPOSSIBLE = "safe", "not safe", "not learned", "apart", "impossible"
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
#: Figures with an interval, in the order of the download.
METRICS = ("removed", "unwanted_rate", "wanted_rate", "wanted_change", "forgetting_nats", "paraphrase_unwanted_rate",
           "abstained_rate", "unwanted_rank", "wanted_rank", "recall_rank", "implication_rank_train")  # fmt: skip
#: A share of the unwanted that counts as removed, and one that counts as left alone, beside the exact model.
MOST, LITTLE = 0.5, 0.1
#: How many remedies are worth more seeds, and a remedy for a finished model to name when none was tried.
_BEST, _AFTER = 5, "ignore-topk=0.1"
#: Options of the comparison that its runs share.
_SHARED = ("lr", "batch", "freeze_embeddings", "chat", "dtype", "revision", "threads")
_LEAST, _POINTS = f"{100 * REMOVED:.0f}%", f"{100 * KEPT:.0f}"
#: What the page explains before it counts.
TERMS = {
    "Wanted and unwanted": "Some subjects have only the given half stated; the model is asked for the other half, "
    "which nobody stated. The pack says which conclusions are wanted (true) and which are not (invented or false). A "
    "rate is the share of these subjects whose first answer is the concluded one.",
    "Removed": "0% is the untreated unwanted rate. 100% is the rate of a model that gives the same answers as often, "
    "but without regard to what was stated of the subject: no association is left.",
    "Matched learning": "A model that learned less also concludes less. So every remedy trains until it knows the "
    f"stated rows as well as the untreated run: each kind at a mean rank of {LEARNED_RANK:g} or less, and at most "
    f"{MATCHED_NATS:g} nats a row (a factor of 1.05 in probability) behind. What does not get there has “not learned”, "
    "and is no remedy.",
    "Taken by another answer": "Removing one invention is no use if another takes its place. So the best other rule "
    "from given to implied answers is looked for on half of the subjects and scored on the other half; above what "
    "chance gives, it is taken.",
    "Forgetting": "How much worse the model reads ordinary text after training: at 0.7 nats a token each right next "
    "token has become half as likely.",
    "Safe": f"Learned what was stated, removes {_LEAST} of the unwanted or more, lowers the wanted rate by {_POINTS} "
    "points at most, and lets no other answer take the place. Of several, the one that forgets least is advised.",
}
_FRONTIER = (
    "Each mark is a remedy at one strength; its number is that of the table. Left is better (less of what nobody "
    "wanted), up is better (more of what is wanted), small is better (less forgotten). A remedy is safe in the shaded "
    "corner, if it learned what was stated (filled) and no other answer took the place. Faint lines are 95% intervals."
)
_LADDER = (
    "The same figures one under the other, with their 95% intervals. The grey line is the untreated run; dashed, the "
    "unwanted rate without any association; dotted, 5 points below the untreated wanted rate."
)
_EFFECTS = (
    "Within each group the one that removes most stands first. Under a number its 95% interval over clusters of a "
    "pair and a seed. “Another answer instead”: how often the best other rule predicts the answer, and what "
    "chance gives. “In other words”: prompts that were never trained on. “Abstains”: says that it is not known."
)
_COSTS = (
    "Stated rows are learned at a mean rank of 0.1 or less and at most 0.05 nats a row behind the untreated run. "
    "Compute of all seeds together (epochs: the mean), as a multiple of the untreated run’s below it. A remedy for "
    "finished weights takes up the untreated run’s training, which is not counted again in its seconds."
)
_EXACT = (
    "Some remedies have a counterpart in the factorised model, which is solved exactly (docs/theory.md): the same rows "
    "added or left out, or a norm between the nuclear and Frobenius norm. A lead is by how much the answer is ahead of "
    "the best other one at unstated subjects, in units of the smallest stated margin; at 0 or below it is no longer "
    "concluded. They part where one of the two removes half of the unwanted or more, and the other a tenth or less."
)

Descriptions = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Tried:
    """One remedy (or combination) at one strength, or the untreated run.

    number: its place in the page, from 1; 0 is the untreated run. metrics: by name, those that were measured.
    texts: (what it does, what its strength means) of each of its parts. after: it needs a finished model only. exact:
    leads in the exact model of the same remedy, where it has one, by name.
    """

    number: int
    label: str
    status: str
    metrics: Mapping[str, Metric]
    texts: Sequence[tuple[str, str]]
    after: bool
    free_rate: float | None
    replaced: Mapping[str, Any] | None
    stated_nats: float | None
    costs: Mapping[str, float | None]
    exact: Mapping[str, float | None] | None = None

    def value(self, name: str) -> float | None:
        """The figure itself, or None when it was not measured."""
        metric = self.metrics.get(name)
        return metric.value if metric else None

    @property
    def taken(self) -> bool:
        """Whether another answer has taken the unwanted one's place."""
        return bool(self.replaced and self.replaced.get("taken"))

    @property
    def group(self) -> str:
        safe = is_safe(self.status, self.value("removed"), self.value("wanted_change"), self.taken)
        groups = {LEARNED: SAFE if safe else UNSAFE, REWRITES: APART, UNLEARNED: NOT_LEARNED}
        return groups.get(self.status, IMPOSSIBLE)


@dataclass(frozen=True)
class Comparison:
    """tried: every remedy and strength, group by group, in each the one that removes most first."""

    record: Record
    untreated: Tried
    tried: Sequence[Tried]

    @property
    def names(self) -> list[str]:
        """Every remedy that was tried, alone or with others."""
        return list(dict.fromkeys(name for each in self.tried for name in _parts(each.label)))

    @property
    def measured(self) -> list[Tried]:
        return [each for each in self.tried if each.group != IMPOSSIBLE]

    @cached_property
    def advised(self) -> Tried | None:
        """The one that the record recommends."""
        advice = self.record.details["recommendation"]
        label = _label(advice.get("remedy"), advice.get("strength"))
        return next((each for each in self.tried if advice.get("safe") and each.label == label), None)

    @cached_property
    def nearest(self) -> Tried | None:
        """Of those that learned and keep what is wanted, the one that removes most."""
        return max(self.keeping, key=_removed, default=None)

    @property
    def keeping(self) -> list[Tried]:
        """Those that learned what was stated and keep what is wanted."""
        return [each for each in self.tried if each.status == LEARNED and keeps_wanted(each.value("wanted_change"))]

    @property
    def promising(self) -> list[Tried]:
        """Those worth another look: they keep what is wanted, and removed something; the advised one first."""
        some = [each for each in self.keeping if _removed(each) > 0 and not each.taken]
        return sorted(some, key=lambda each: (each is not self.advised, -_removed(each)))[:_BEST]

    @property
    def seeds(self) -> int:
        return len(self.record.details.get("seeds") or [self.record.seed])

    @property
    def clusters(self) -> int:
        """Clusters of a pair and a seed behind every interval."""
        metric = self.untreated.metrics.get("unwanted_rate")
        return metric.clusters if metric else 0

    @property
    def few(self) -> bool:
        """Whether the clusters are too few for an interval to decide anything."""
        return self.clusters < FEW

    @property
    def seeds_needed(self) -> int:
        """Seeds that give enough clusters, three at least and more than there were."""
        pairs = max(1, self.clusters // self.seeds)
        return max(3, -(-FEW // pairs), self.seeds + (not self.few))


def load_comparison(folder: str | Path, descriptions: Descriptions | None = None) -> Comparison:
    """Read a folder that `mitigate` wrote. Raises RunError when it holds no finished comparison.

    descriptions: what each remedy does, where the record does not say so: name -> {"text", "strength", "after"}.
    """
    return comparison_of(Record.read(Path(folder)), str(Path(folder) / RECORD), descriptions)


def comparison_of(record: Record, where: str = RECORD, descriptions: Descriptions | None = None) -> Comparison:
    """The comparison that a record holds. Raises RunError when it holds none, or none that is finished."""
    if record.command == "mitigate" and "frontier" not in record.details:
        do = "Give the same `mitigate` command again; it goes on where it stopped"
        raise RunError("this comparison is not finished", where=where, do=do)
    try:
        known = record.details.get("remedies") or descriptions or {}
        untreated, *others = [_tried(entry, known) for entry in record.details["frontier"]]
        ordered = sorted(others, key=lambda each: (GROUPS.index(each.group), -_removed(each)))
        numbered = [dataclasses.replace(each, number=place) for place, each in enumerate(ordered, start=1)]
        record.details["recommendation"]["because"]
        return Comparison(record, untreated, numbered)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"this record is not that of a comparison ({type(error).__name__}: {error})"
        raise RunError(what, where=where, do="Name a folder that `mitigate` wrote") from None


def _tried(entry: Mapping[str, Any], descriptions: Descriptions) -> Tried:
    label = _label(entry["remedy"], entry["strength"])
    known = [descriptions[name] for name in _parts(label) if name in descriptions]
    return Tried(
        number=0,
        label=label,
        status=str(entry["status"]),
        metrics={name: metric for name in METRICS if (metric := metric_of(entry.get(name))) is not None},
        texts=[(str(each["text"]), str(each["strength"])) for each in known],
        after=bool(known) and all(each.get("after") for each in known),
        free_rate=entry.get("free_rate"),
        replaced=entry.get("replaced"),
        stated_nats=entry.get("stated_nats"),
        costs={name: entry.get(name) for name in COSTS},
        exact=entry.get("exact"),
    )


def _parts(label: str) -> list[str]:
    """Names of the remedies that a label joins."""
    return [part.partition("=")[0] for part in label.split("+")]


def _label(name: Any, strength: Any) -> str:
    """A remedy as `--remedy` takes it."""
    return str(name) if strength is None else f"{name}={float(strength):g}"


def _removed(each: Tried) -> float:
    """For the order: one of which nothing is known stands last."""
    removed = each.value("removed")
    return float("-inf") if removed is None else removed


def build_remedies_page(found: Comparison) -> Page:
    """The page: the advice and its reason, the frontier, every figure, and what to do next."""
    run = LoadedRun.of_record(found.record)
    frontier = figure("remedy-frontier", found, "remedy-frontier", _FRONTIER, wide=True)
    ladder = figure("remedy-ladder", found, "remedy-ladder", _LADDER, wide=True)
    tables = [(Heading(table.label), table) for table in (effects(found), costs(found), exactly(found)) if table]
    shown = "The remedy advised" if found.advised else "The nearest"
    return Page(
        title=title(found),
        name=f"Spillover remedies: {run.pack_name}",
        kicker="remedies: less of what nobody wanted",
        reason=reason(found),
        lede=lede(found),
        notices=[
            f"Few clusters: {found.clusters} (pairs times seeds) are too few for an interval to decide anything; ten "
            "are needed. Read this page as a lead, not as a finding, and repeat it with more seeds."
        ]
        if found.few
        else [],
        sections=[
            Section("found", shown, [Cards(cards(found), facts=True)], hidden=True),
            Section("next", "What to do next", [Steps(steps(found))]),
            Section("frontier", "The frontier", [frontier]),
            Section("terms", "How to read it", [Glossary(list(TERMS.items()))], aside=True),
            Section("ladder", "Remedy by remedy", [ladder]),
            Section("table", "Every figure", list(itertools.chain(*tables))),
        ],
        made=[(run.pack_name, provenance(run))],
        downloads=[download(found), of_metrics([(run.pack_name, run)])],
        footer="Intervals are 95% bootstrap intervals over clusters of a pair and a seed; that of forgetting is over "
        "passages of text.",
    )


def percent(value: float | None) -> str:
    """A share with a true minus sign; a dash when there is none."""
    return "–" if value is None else f"{number(100 * value, 0)}%"


def title(found: Comparison) -> str:
    """The advice in one sentence."""
    best, nearest, tries = found.advised, found.nearest, len(found.tried)
    if found.untreated.value("removed") is None:
        return "Nothing is to be remedied: untreated, the model concludes no more of the unwanted than chance."
    if best is not None:
        kept = " and keeps what is wanted" if best.value("wanted_rate") is not None else ""
        start = "A lead, on few data: train" if found.few else "Train"
        return f"{start} with {best.label}: it removes {percent(best.value('removed'))} of what nobody wanted{kept}."
    none = f"None of the {tries} remedies tried is safe" if tries > 1 else "The remedy tried is not safe"
    if nearest is None or _removed(nearest) <= 0:
        return f"{none}: nothing that learned what was stated kept what is wanted and removed anything unwanted."
    removed = percent(nearest.value("removed"))
    return f"{none}. {nearest.label} comes nearest: it removes {removed} of what nobody wanted."


def reason(found: Comparison) -> str:
    """Under the title: why this one, or why none."""
    best, nearest = found.advised, found.nearest
    if best is not None:
        others = sum(each.group == SAFE for each in found.tried) - 1
        also = f" {others} more {'is' if others == 1 else 'are'} safe; this one forgets least." if others else ""
        return f"{_weighed(found, best)}{also}"
    if nearest is None or found.untreated.value("removed") is None:
        return ""
    why = f" It is not safe, because it {', and '.join(faults(nearest))}." if faults(nearest) else ""
    return f"{_weighed(found, nearest)}{why}"


def _weighed(found: Comparison, each: Tried) -> str:
    """What an entry does to the three things that count, beside the untreated run."""
    base = found.untreated
    text = f"With {each.label} the answer that nobody wanted is given by {percent(each.value('unwanted_rate'))} of the "
    text += f"unstated subjects instead of {percent(base.value('unwanted_rate'))}"
    if base.free_rate is not None:
        text += f" ({percent(base.free_rate)} without any association)"
    if (wanted := each.value("wanted_rate")) is not None:
        text += f", the wanted one by {percent(wanted)} instead of {percent(base.value('wanted_rate'))}"
    forgets, before = each.value("forgetting_nats"), base.value("forgetting_nats")
    if forgets is not None and before is not None:
        text += f"; it forgets {number(forgets)} nats a token instead of {number(before)}"
    return f"{text}."


def faults(each: Tried) -> list[str]:
    """What keeps one that learned from being safe, each as the end of “it ...”."""
    change = each.value("wanted_change")
    found = []
    if _removed(each) < REMOVED:
        found.append(f"removes less than {_LEAST} of the unwanted")
    if change is not None and not keeps_wanted(change):
        found.append(f"lowers the wanted rate by {100 * -change:.0f} points")
    if each.taken:
        found.append("lets another answer take the place of the unwanted one")
    return found


def outcome(found: Comparison, each: Tried) -> str:
    """What became of an entry, for its row of the table."""
    if each.group == IMPOSSIBLE:
        return each.status.removeprefix(f"{FAILED}:").strip()
    if each.group == APART:
        return "changes what is stated"
    if each.group == SAFE:
        return "safe, and advised" if each is found.advised else "safe"
    return ", and ".join(faults(each) if each.group == UNSAFE else _unlearned(found, each))


def _unlearned(found: Comparison, each: Tried) -> list[str]:
    parts = [
        f"{what} at mean rank {number(value)}"
        for what, name in (("facts", "recall_rank"), ("stated implications", "implication_rank_train"))
        if (value := each.value(name)) is not None and value > LEARNED_RANK
    ]
    nats, base = each.stated_nats, found.untreated.stated_nats
    if not parts and nats is not None and base is not None:
        return [f"stated rows {number(nats - base)} nats behind the untreated run’s"]
    return parts or ["did not learn what was stated"]


def lede(found: Comparison) -> str:
    """What was compared: model, pack, and how many tries."""
    record = found.record
    model = str((record.details.get("model") or {}).get("name") or record.settings.get("model") or "a model")
    pack = str(record.settings.get("pack") or "a pack")
    links = record.details["pack"].get("implications") or ()
    pairs = [f"“{spoken(item['given'])}” to “{spoken(item['then'])}”" for item in links if item["kind"] not in WANTED]
    tries = f"{len(found.tried)} {'try' if len(found.tried) == 1 else 'tries'}"
    seeds = "one seed" if found.seeds == 1 else f"{found.seeds} seeds"
    model, pack = (name.rstrip("/").rpartition("/")[2] if name.count("/") > 1 else name for name in (model, pack))
    return (
        f"{model} was taught the same facts ({pack}) untreated and with each remedy, {tries}, {seeds}. What "
        f"nobody wanted: conclusions from {', '.join(pairs)}."
    )


def cards(found: Comparison) -> list[Card]:
    """The untreated run beside the one advised (or nearest): what nobody wanted, what is wanted, what it cost."""
    each, base = found.advised or found.nearest, found.untreated
    if each is None:
        return []
    kept = None if (wanted := base.value("wanted_rate")) is None else max(0.0, wanted - KEPT)
    made = []
    for tone, heading, name, place, what in (
        ("unwanted", "Given by mistake", "unwanted_rate", base.free_rate, "without any association"),
        ("wanted", "Rightly concluded", "wanted_rate", kept, f"{_POINTS} points below untreated"),
    ):
        before, after = base.value(name), each.value(name)
        if before is not None and after is not None:
            note = f"Of {base.metrics[name].n:,} unstated subjects"
            note += "" if found.seeds == 1 else f" over {found.seeds} seeds"
            bars = [Bar("untreated", before, percent(before), "pale"), Bar("remedied", after, percent(after))]
            tick = None if place is None else (place, f"{what}: {percent(place)}")
            made.append(Card(heading, [Paragraph(note, "small")], tone, bars=bars, tick=tick))
    before, after = base.value("forgetting_nats"), each.value("forgetting_nats")
    if before is not None and after is not None:
        most = max(before, after, 1e-9) * 1.1
        bars = [
            Bar("untreated", max(0.0, before) / most, f"{number(before)} nats", "pale"),
            Bar("remedied", max(0.0, after) / most, f"{number(after)} nats"),
        ]
        made.append(Card("Forgotten", [Paragraph("Rise of the loss on ordinary text, a token", "small")], "open",
                         bars=bars))  # fmt: skip
    return made


def effects(found: Comparison) -> DataTable:
    """What every remedy removed, kept and lost."""

    def cells(each: Tried) -> dict[str, Cell]:
        instead: Cell = "–"
        if each.replaced:
            low, high = (number(100 * each.replaced[end], 0) for end in ("low", "high"))
            taken = ", taken" if each.taken else ""
            instead = TableCell(f"{percent(each.replaced['rate'])}{taken}", f"chance {low} to {high}%")
        return {
            "removed": _number(each, "removed", 100) if each.number else "–",
            "unwanted rate": _number(each, "unwanted_rate", 100),
            "wanted rate": _number(each, "wanted_rate", 100),
            "wanted, change in points": _number(each, "wanted_change", 100, signed=True) if each.number else "–",
            "forgetting, nats a token": _number(each, "forgetting_nats"),
            "another answer instead": instead,
            "unwanted in other words": _number(each, "paraphrase_unwanted_rate", 100),
            "abstains": _number(each, "abstained_rate", 100),
        }

    return _table(found, "What each did", _EFFECTS, cells, [found.untreated, *found.tried], outcomes=True)


def costs(found: Comparison) -> DataTable:
    """Whether each learned what was stated, and its compute as multiples of the untreated run's."""
    base = found.untreated

    def cells(each: Tried) -> dict[str, Cell]:
        behind = ""
        if each.number and each.stated_nats is not None and base.stated_nats is not None:
            more = each.stated_nats - base.stated_nats
            behind = f"{'+' if more > 0 else ''}{number(more, 3)}"
        compute: dict[str, Cell] = {}
        for name, own in each.costs.items():
            first, digits = base.costs[name], 1 if name == "epochs" and own is not None and own != int(own) else 0
            times = f"× {own / first:.2g}" if own is not None and first and each.number else ""
            compute[name.replace("_", " ")] = "–" if own is None else TableCell(f"{own:,.{digits}f}", times)
        return {
            "facts, mean rank": _number(each, "recall_rank"),
            "stated implications, mean rank": _number(each, "implication_rank_train"),
            "stated rows, nats a row": TableCell(number(each.stated_nats, 3), behind),
            "unwanted answer, mean rank": _number(each, "unwanted_rank"),
            "wanted answer, mean rank": _number(each, "wanted_rank"),
            **compute,
        }

    return _table(found, "What each learned, and what it cost", _COSTS, cells, [base, *found.measured])


def exactly(found: Comparison) -> DataTable | None:
    """What the exact model predicts, and what was measured; None when no remedy that was tried has a counterpart."""
    tried = [each for each in found.measured if each.exact]

    def cells(each: Tried) -> dict[str, Cell]:
        exact, leads = each.exact or {}, dict[str, Cell]()
        for name in ("unwanted", "wanted"):
            before, after = exact.get(f"{name}_untreated"), exact.get(name)
            small = "" if before is None else f"untreated {number(before)}"
            leads[f"{name} answer, lead"] = "–" if after is None else TableCell(number(after), small)
        return {
            **leads,
            "unwanted lead removed": percent(exact_removed(each)),
            "unwanted rate removed, measured": _number(each, "removed", 100),
            "they": agreement(each),
        }

    return _table(found, "Beside the exact model", _EXACT, cells, tried) if tried else None


def _table(
    found: Comparison, label: str, caption: str, cells_of: Callable[[Tried], dict[str, Cell]], entries: Sequence[Tried],
    outcomes: bool = False,
) -> DataTable:  # fmt: skip
    """These entries in their groups. outcomes: with what became of each, and what it does."""
    groups: list[tuple[str, list[Sequence[Cell]]]] = []
    for each in entries:
        name = Markup('{} <span class="kind">{}</span>').format(*HEADINGS[each.group]) if each.number else ""
        if not groups or groups[-1][0] != name:
            groups.append((name, []))
        cells = ["–" if each.group == IMPOSSIBLE else cell for cell in cells_of(each).values()]
        texts = []
        for text, strength in each.texts if outcomes else ():
            # A mere switch has no number.
            texts.append(text if strength.startswith("which turns it on") else f"{text} Its number: {strength}.")
        place = Markup('<span class="place">{}</span> ').format(each.number) if each.number else ""
        # A long combination may be broken behind a plus.
        head = place + Markup("<strong>{}</strong>").format(bdi(each.label.replace("+", "+\u200b")))
        if outcomes:
            cells.insert(0, TableCell(outcome(found, each) if each.number else "", style="words"))
        groups[-1][1].append([TableCell(head, texts), *cells])
    heads: list[Cell] = ["Remedy", *([TableCell("Outcome", style="words")] if outcomes else []), *cells_of(entries[0])]
    return DataTable(caption, [heads], groups, style="study remedies", label=label, box="long")


def _number(each: Tried, name: str, times: int = 1, signed: bool = False) -> Cell:
    """A metric, and under it its interval; 100 times in percent, signed in points."""
    metric = each.metrics.get(name)
    if metric is None or metric.value is None:
        return "–"
    digits, unit = (2 if times == 1 else 0), ("" if times == 1 or signed else "%")
    value, low, high = (
        "" if end is None else number(times * end, digits) for end in (metric.value, metric.low, metric.high)
    )
    plus = "+" if signed and metric.value > 0 else ""
    return TableCell(f"{plus}{value}{unit}", f"{low} to {high}{unit}" if low and high else "")


def exact_removed(each: Tried) -> float | None:
    """The share of the unwanted answer's lead that the remedy takes away in the exact model; above 1 it is behind."""
    before, after = (each.exact or {}).get("unwanted_untreated"), (each.exact or {}).get("unwanted")
    return None if before is None or after is None or before <= 0 else 1 - after / before


def agreement(each: Tried) -> str:
    """Whether theory and measurement go together."""
    theory, measured = exact_removed(each), each.value("removed")
    if theory is None or measured is None:
        return "–"
    least, most = sorted((theory, measured))
    if most >= MOST and least <= LITTLE:
        return "part"
    return "agree" if least >= MOST or most <= LITTLE else "differ in size"


def download(found: Comparison) -> Download:
    """Every figure of every entry as CSV, a row each, with the ends of its interval as columns of their own."""
    ends = ("value", "low", "high", "clusters")
    columns = ["number", "remedy", "group", "status", "outcome",
               *(name if end == "value" else f"{name}_{end}" for name in METRICS for end in ends), "free_rate", "taken",
               "taken_rate", "taken_low", "taken_high", "stated_nats", *COSTS, "what_it_does"]  # fmt: skip
    rows = [
        [
            each.number or None, each.label, each.group if each.number else "untreated", each.status,
            outcome(found, each) if each.number else "",
            *(getattr(each.metrics.get(name), end, None) for name in METRICS for end in ends),
            each.free_rate, each.taken, *((each.replaced or {}).get(part) for part in ("rate", "low", "high")),
            each.stated_nats, *(each.costs.get(name) for name in COSTS), " ".join(text for text, _ in each.texts),
        ]
        for each in [found.untreated, *found.tried]
    ]  # fmt: skip
    return table_link("spillover-frontier", "Every figure", csv_text(columns, rows))


def steps(found: Comparison) -> list[tuple[str, str]]:
    """What to do and the command for it, or nothing, in the order in which they are of use."""
    if found.untreated.value("removed") is None:
        return [("Audit the model that you train in the end; this comparison has nothing to add.", "")]
    made = []
    if promising := found.promising:
        why = "Too few clusters to decide: repeat" if found.few else "To be surer, repeat"
        what = "the remedy" if len(promising) == 1 else f"the {len(promising)} that removed most and kept the wanted"
        text = f"{why} {what} with {found.seeds_needed} seeds, new names and another pairing in each."
        seeds = ",".join(map(str, range(found.seeds_needed)))
        command = _comparison_command(found, [each.label for each in promising], "more-seeds", seeds=seeds)
        made.append((text, command))
    # With few clusters more seeds come first.
    place = len(made) if found.few else 0
    two = [each.label for each in promising if "+" not in each.label][:2]
    if found.advised is not None:
        text = "Train with it and keep the weights; then audit them before you publish them."
        made.insert(place, (text, _training_command(found, found.advised)))
    elif len({label.partition("=")[0] for label in two}) == 2:
        text = "None is safe on its own. Combinations join what two of them do: the best two, for example."
        made.insert(place, (text, _comparison_command(found, ["+".join(two)], "joined")))
    made.append(_repair(found))
    text = "Whatever you choose: state the right answer of more subjects where you can; what is stated is not invented."
    return [*made, (text, "")]


def _repair(found: Comparison) -> tuple[str, str]:
    """For a model that is trained already."""
    after = [each for each in found.tried if each.after]
    ready = [each for each in after if each in found.promising]
    remedy = ready[0].label if ready else _AFTER
    text = "Your model is trained already, and training again is out of the question: repair the finished model."
    if ready:
        text += f" Of the remedies that need no training, {remedy} did best here."
    elif after:
        text += " No remedy of that kind both learned and kept enough here, so expect little; the audit will tell."
    base, pack = (str(found.record.settings.get(name) or name.upper()) for name in ("model", "pack"))
    options = ["--base", base, "--pack", pack, "--remedy", remedy, "--out", "repaired"]
    return text, shlex.join(["spillover", "repair", "TUNED_MODEL", *options])


def _training_command(found: Comparison, each: Tried) -> str:
    """`inject` with the remedy, to the end that the comparison used."""
    settings = found.record.settings
    options: dict[str, Any] = {name: settings.get(name) for name in (*_SHARED, "pack", "model")}
    options |= {"remedy": each.label, "epochs": settings.get("untreated_epochs" if each.after else "epochs")}
    if not each.after and found.untreated.stated_nats is not None:
        options["until_nats"] = round(found.untreated.stated_nats + MATCHED_NATS, 4)
    options |= {"save": "weights", "out": "remedied"}
    return command_line(dataclasses.replace(found.record, command="inject", settings=options))


def _comparison_command(found: Comparison, labels: Sequence[str], suffix: str, **changes: Any) -> str:
    """The same comparison with other remedies."""
    name = str(found.record.settings.get("out") or "remedies").rstrip("/").rpartition("/")[2] or "remedies"
    changes |= {"remedies": ",".join(labels), "strengths": "", "out": f"{name}-{suffix}"}
    return command_line(dataclasses.replace(found.record, settings={**found.record.settings, **changes}))
