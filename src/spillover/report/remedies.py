"""The page of a comparison of remedies: the frontier, one recommendation with its reason, and what each cost."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from spillover.metrics.implications import LEARNED as LEARNED_RANK
from spillover.metrics.implications import TRAJECTORY_SCHEMA
from spillover.metrics.ranks import rank_table
from spillover.metrics.remedies import KEPT, MATCHED_NATS, REMOVED, keeps_wanted
from spillover.packs.pack import WANTED
from spillover.record import ANSWER_SCHEMA, Metric
from spillover.report.downloads import Download, csv_text, of_metrics, table_link
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun
from spillover.report.page import figure, render
from spillover.report.provenance import command_line, provenance
from spillover.report.remedies_data import (
    APART,
    COSTS,
    GROUPS,
    IMPOSSIBLE,
    NOT_LEARNED,
    SAFE,
    UNSAFE,
    Comparison,
    Tried,
    comparison_of,
    load_comparison,
)
from spillover.report.story import spoken
from spillover.report.words import number

_LEAST, _POINTS = f"{100 * REMOVED:.0f}%", f"{100 * KEPT:.0f}"
#: What the page explains before it counts.
TERMS = (
    (
        "Wanted and unwanted",
        "Some subjects have only the given half stated; the model is asked for the other half, which nobody stated. "
        "The pack says which conclusions are wanted (true) and which are not (invented or false). A rate is the share "
        "of these subjects whose first answer is the concluded one.",
    ),
    (
        "Removed",
        "0% is the untreated unwanted rate. 100% is the rate of a model that gives the same answers as often, but "
        "without regard to what was stated of the subject: no association is left.",
    ),
    (
        "Matched learning",
        "A model that learned less also concludes less. So every remedy trains until it knows the stated rows as well "
        f"as the untreated run: each kind at a mean rank of {LEARNED_RANK:g} or less, and at most {MATCHED_NATS:g} "
        "nats a row (a factor of 1.05 in probability) behind. What does not get there has “not learned”, and is "
        "no remedy.",
    ),
    (
        "Taken by another answer",
        "Removing one invention is no use if another takes its place. So the best other rule from given to implied "
        "answers is looked for on half of the subjects and scored on the other half; above what chance gives, it is "
        "taken.",
    ),
    (
        "Forgetting",
        "How much worse the model reads ordinary text after training: at 0.7 nats a token each right next token has "
        "become half as likely.",
    ),
    (
        "Safe",
        f"Learned what was stated, removes {_LEAST} of the unwanted or more, lowers the wanted rate by {_POINTS} "
        "points at most, and lets no other answer take the place. Of several, the one that forgets least is advised.",
    ),
)
#: What stands over each group of the table.
HEADINGS = {
    "safe": ("Safe", "learned what was stated, removes enough, keeps what is wanted"),
    "not safe": ("Learned what was stated, but is not safe", "why, under Outcome"),
    "not learned": (
        "Did not learn what was stated", "so that what it removes may only be what it did not learn",
    ),
    "apart": ("Leaves out or rewrites stated rows", "what it removes was never told, so it cannot win"),
    "impossible": ("Could not be done", "to this pack or model"),
}  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """One bar of a card: words, its share from 0 to 1, how it reads."""

    words: str
    share: float
    text: str
    tone: str


@dataclass(frozen=True)
class Card:
    """A question in a glance: bars against a tick. tick: its place from 0 to 1 and what it is."""

    tone: str
    heading: str
    bars: Sequence[Bar]
    tick: tuple[float, str] | None
    note: str


def percent(value: float | None, digits: int = 0) -> str:
    """A share with a true minus sign; a dash when there is none."""
    return "–" if value is None else f"{number(100 * value, digits)}%"


def title(found: Comparison) -> str:
    """The advice in one sentence."""
    best, nearest, tries = found.advised, found.nearest, len(found.tried)
    if found.untreated.value("removed") is None:
        return "Nothing is to be remedied: untreated, the model concludes no more of the unwanted than chance."
    if best is not None:
        kept = " and keeps what is wanted" if best.value("wanted_rate") is not None else ""
        removed = percent(best.value("removed"))
        advice = f"train with {best.label}: it removes {removed} of what nobody wanted{kept}."
        return plain(f"A lead, on few data: {advice}" if found.few else f"{advice[0].upper()}{advice[1:]}")
    none = f"None of the {tries} remedies tried is safe" if tries > 1 else "The remedy tried is not safe"
    if nearest is None or (nearest.value("removed") or 0.0) <= 0:
        return f"{none}: nothing that learned what was stated kept what is wanted and removed anything unwanted."
    removed = percent(nearest.value("removed"))
    return plain(f"{none}. {nearest.label} comes nearest: it removes {removed} of what nobody wanted.")


def reason(found: Comparison) -> str:
    """Under the title: why this one, or why none."""
    best, nearest = found.advised, found.nearest
    if best is not None:
        others = len(found.of(SAFE)) - 1
        also = f" {others} more {'is' if others == 1 else 'are'} safe; this one forgets least." if others else ""
        return plain(f"{_weighed(found, best)}{also}")
    if nearest is None or found.untreated.value("removed") is None:
        return ""
    why = f" It is not safe, because it {_and(faults(nearest))}." if faults(nearest) else ""
    return plain(f"{_weighed(found, nearest)}{why}")


def _weighed(found: Comparison, each: Tried) -> str:
    """What an entry does to the three things that count, beside the untreated run."""
    base = found.untreated
    said = f"With {each.label} the answer that nobody wanted is given by {percent(each.value('unwanted_rate'))} of the "
    said += f"unstated subjects instead of {percent(base.value('unwanted_rate'))}"
    if base.free_rate is not None:
        said += f" ({percent(base.free_rate)} without any association)"
    if each.value("wanted_rate") is not None:
        said += (
            f", the wanted one by {percent(each.value('wanted_rate'))} instead of {percent(base.value('wanted_rate'))}"
        )
    forgets, before = each.value("forgetting_nats"), base.value("forgetting_nats")
    if forgets is not None and before is not None:
        said += f"; it forgets {number(forgets)} nats a token instead of {number(before)}"
    return f"{said}."


def faults(each: Tried) -> list[str]:
    """What keeps one that learned from being safe, each as the end of “it ...”."""
    removed, change = each.value("removed"), each.value("wanted_change")
    found = []
    if removed is None or removed < REMOVED:
        found.append(f"removes less than {_LEAST} of the unwanted")
    if change is not None and not keeps_wanted(change):
        found.append(f"lowers the wanted rate by {100 * -change:.0f} points")
    if each.taken:
        found.append("lets another answer take the place of the unwanted one")
    return found


def outcome(found: Comparison, each: Tried) -> str:
    """What became of an entry, for its row of the table."""
    if each.group == IMPOSSIBLE:
        return plain(each.why_failed)
    if each.group == NOT_LEARNED:
        return _unlearned(found, each)
    if each.group == APART:
        return "changes what is stated"
    if each.group == SAFE:
        return "safe, and advised" if each is found.advised else "safe"
    return _and(faults(each))


def _unlearned(found: Comparison, each: Tried) -> str:
    parts = [
        f"{what} at mean rank {number(value)}"
        for what, name in (("facts", "recall_rank"), ("stated implications", "implication_rank_train"))
        if (value := each.value(name)) is not None and value > LEARNED_RANK
    ]
    nats, base = each.stated_nats, found.untreated.stated_nats
    if not parts and nats is not None and base is not None:
        parts = [f"stated rows {number(nats - base)} nats behind the untreated run’s"]
    return _and(parts) or "did not learn what was stated"


def _and(parts: Sequence[str]) -> str:
    return ", and ".join(parts)


def lede(found: Comparison) -> str:
    """What was compared: model, pack, and how many tries."""
    record = found.record
    model = str((record.details.get("model") or {}).get("name") or record.settings.get("model") or "a model")
    pack = str(record.settings.get("pack") or "a pack")
    links = record.details["pack"].get("implications") or ()
    told = [f"“{spoken(item['given'])}” to “{spoken(item['then'])}”" for item in links if item["kind"] not in WANTED]
    tries = f"{len(found.tried)} {'try' if len(found.tried) == 1 else 'tries'}"
    seeds = "one seed" if found.seeds == 1 else f"{found.seeds} seeds"
    short = [name.rstrip("/").rpartition("/")[2] if name.count("/") > 1 else name for name in (model, pack)]
    return plain(
        f"{short[0]} was taught the same facts ({short[1]}) untreated and with each remedy, {tries}, {seeds}. What "
        f"nobody wanted: conclusions from {', '.join(told)}."
    )


def notices(found: Comparison) -> list[str]:
    """What a reader must know before believing a number."""
    if not found.few:
        return []
    return [
        f"Few clusters: {found.clusters} (pairs times seeds) are too few for an interval to decide anything; ten are "
        "needed. Read this page as a lead, not as a finding, and repeat it with more seeds."
    ]


def cards(found: Comparison) -> list[Card]:
    """The untreated run beside the one advised (or nearest): what nobody wanted, what is wanted, what it cost."""
    each, base = found.advised or found.nearest, found.untreated
    if each is None:
        return []
    made = []
    for tone, heading, name in (
        ("unwanted", "Given by mistake", "unwanted_rate"),
        ("wanted", "Rightly concluded", "wanted_rate"),
    ):
        values = (base.value(name), each.value(name))
        if values[0] is None or values[1] is None:
            continue
        line = base.free_rate if name == "unwanted_rate" else max(0.0, values[0] - KEPT)
        what = "without any association" if name == "unwanted_rate" else f"{_POINTS} points below untreated"
        bars = [_bar("untreated", values[0], "pale"), _bar("remedied", values[1], "full")]
        subjects = base.metrics[name].n
        note = f"Of {subjects:,} unstated subjects" + ("" if found.seeds == 1 else f" over {found.seeds} seeds")
        made.append(Card(tone, heading, bars, None if line is None else (line, f"{what}: {percent(line)}"), note))
    first, last = base.value("forgetting_nats"), each.value("forgetting_nats")
    if first is not None and last is not None:
        forgets = (first, last)
        most = max(*forgets, 1e-9) * 1.1
        bars = [
            Bar(words, max(0.0, value) / most, f"{number(value)} nats", tone)
            for words, value, tone in zip(("untreated", "remedied"), forgets, ("pale", "full"), strict=True)
        ]
        made.append(Card("open", "Forgotten", bars, None, "Rise of the loss on ordinary text, a token"))
    return made


def _bar(words: str, share: float, tone: str) -> Bar:
    return Bar(words, share, percent(share), tone)


#: What stands in a field, and the small print under it.
Field = tuple[str, str]
Column = tuple[str, Callable[[Tried], Field]]
_NOTHING: Field = ("–", "")
#: Figures with an interval, in the order of the download.
METRICS = ("removed", "unwanted_rate", "wanted_rate", "wanted_change", "forgetting_nats", "paraphrase_unwanted_rate",
           "abstained_rate", "unwanted_rank", "wanted_rank", "recall_rank", "implication_rank_train")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One entry. texts: what it does and what its strength means, a line each part."""

    number: str
    label: str
    texts: Sequence[str]
    outcome: str
    fields: Sequence[Field]


@dataclass(frozen=True)
class Table:
    """groups: (heading, what that means, rows), the untreated run in one of its own without a heading."""

    caption: str
    columns: Sequence[str]
    groups: Sequence[tuple[str, str, Sequence[Row]]]


def effects(found: Comparison) -> Table:
    """What every remedy removed, kept and lost."""
    columns: list[Column] = [
        ("removed", lambda each: share(each, "removed") if each.number else _NOTHING),
        ("unwanted rate", lambda each: share(each, "unwanted_rate")),
        ("wanted rate", lambda each: share(each, "wanted_rate")),
        ("wanted, change in points", lambda each: _points(each) if each.number else _NOTHING),
        ("forgetting, nats a token", lambda each: _plain(each, "forgetting_nats")),
        ("another answer instead", _instead),
        ("unwanted in other words", lambda each: share(each, "paraphrase_unwanted_rate")),
        ("abstains", lambda each: share(each, "abstained_rate")),
    ]
    caption = (
        "Within each group the one that removes most stands first. Under a number its 95% interval over clusters of a "
        "pair and a seed. “Another answer instead”: how often the best other rule foretells the answer, and what "
        "chance gives. “In other words”: prompts that were never trained on. “Abstains”: says that it is not known."
    )
    return table_of(found, caption, columns, found.tried)


def costs(found: Comparison) -> Table:
    """Whether each learned what was stated, and its compute as multiples of the untreated run's."""
    base = found.untreated
    columns: list[Column] = [
        ("facts, mean rank", lambda each: _plain(each, "recall_rank")),
        ("stated implications, mean rank", lambda each: _plain(each, "implication_rank_train")),
        ("stated rows, nats a row", lambda each: (number(each.stated_nats, 3), _behind(each, base))),
        ("unwanted answer, mean rank", lambda each: _plain(each, "unwanted_rank")),
        ("wanted answer, mean rank", lambda each: _plain(each, "wanted_rank")),
        *((name.replace("_", " "), _cost(name, base)) for name in COSTS),
    ]
    caption = (
        "Stated rows are learned at a mean rank of 0.1 or less and at most 0.05 nats a row behind the untreated run. "
        "Compute of all seeds together (epochs: the mean), as a multiple of the untreated run’s below it. A remedy for "
        "finished weights takes up the untreated run’s training, which is not counted again in its seconds."
    )
    return table_of(found, caption, columns, found.measured)


def table_of(
    found: Comparison, caption: str, columns: Sequence[Column], tried: Sequence[Tried], untreated: bool = True
) -> Table:
    """A table of these entries in their groups; untreated: with that run's row before them."""
    groups: list[tuple[str, str, Sequence[Row]]] = []
    if untreated:
        groups.append(("", "", [_row(found, found.untreated, columns)]))
    for name in GROUPS:
        rows = [_row(found, each, columns) for each in tried if each.group == name]
        if rows:
            groups.append((*HEADINGS[name], rows))
    return Table(caption, [name for name, _ in columns], groups)


def _row(found: Comparison, each: Tried, columns: Sequence[Column]) -> Row:
    return Row(
        number=str(each.number or ""),
        label=plain(each.label),
        texts=[_does(*text) for text in each.texts],
        outcome=outcome(found, each) if each.number else "",
        fields=[_NOTHING if each.group == IMPOSSIBLE else field(each) for _, field in columns],
    )


def _does(text: str, strength: str) -> str:
    """A remedy's sentence, and what its number means unless it is a mere switch."""
    switch = strength.startswith("which turns it on")
    return plain(text if switch else f"{text} Its number: {strength}.")


def share(each: Tried, name: str) -> Field:
    metric = each.metrics.get(name)
    return _NOTHING if metric is None else (percent(metric.value), _ends(metric, 100, 0, "%"))


def _points(each: Tried) -> Field:
    metric = each.metrics.get("wanted_change")
    if metric is None or metric.value is None:
        return _NOTHING
    return f"{'+' if metric.value > 0 else ''}{number(100 * metric.value, 0)}", _ends(metric, 100, 0, "")


def _plain(each: Tried, name: str) -> Field:
    metric = each.metrics.get(name)
    return _NOTHING if metric is None else (number(metric.value), _ends(metric, 1, 2, ""))


def _ends(metric: Metric, times: float, digits: int, unit: str) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{number(times * metric.low, digits)} to {number(times * metric.high, digits)}{unit}"


def _instead(each: Tried) -> Field:
    found = each.replaced
    if not found:
        return _NOTHING
    chance = f"chance {number(100 * found['low'], 0)} to {number(100 * found['high'], 0)}%"
    return f"{percent(found['rate'])}{', taken' if each.taken else ''}", chance


def _behind(each: Tried, base: Tried) -> str:
    if not each.number or each.stated_nats is None or base.stated_nats is None:
        return ""
    behind = each.stated_nats - base.stated_nats
    return f"{'+' if behind > 0 else ''}{number(behind, 3)}"


def _cost(name: str, base: Tried) -> Callable[[Tried], Field]:
    def field(each: Tried) -> Field:
        own, first = each.costs.get(name), base.costs.get(name)
        if own is None:
            return _NOTHING
        digits = 1 if name == "epochs" and own != int(own) else 0
        return f"{own:,.{digits}f}", f"× {own / first:.2g}" if first and each.number else ""

    return field


def download(found: Comparison) -> Download:
    """Every figure of every entry as CSV, a row each, with the ends of its interval as columns of their own."""
    columns = ["number", "remedy", "group", "status", "outcome", *_metric_columns(), "free_rate", "taken",
               "taken_rate", "taken_low", "taken_high", "stated_nats", *COSTS, "what_it_does"]  # fmt: skip
    rows = [_flat(found, each) for each in [found.untreated, *found.tried]]
    return table_link("spillover-frontier", "Every figure", csv_text(columns, rows))


def _metric_columns() -> Iterator[str]:
    for name in METRICS:
        yield from (name, f"{name}_low", f"{name}_high", f"{name}_clusters")


def _flat(found: Comparison, each: Tried) -> list[Any]:
    row: list[Any] = [each.number or None, each.label, each.group if each.number else "untreated", each.status]
    row.append(outcome(found, each) if each.number else "")
    for name in METRICS:
        metric = each.metrics.get(name)
        row += [None] * 4 if metric is None else [metric.value, metric.low, metric.high, metric.clusters]
    instead = each.replaced or {}
    row += [each.free_rate, each.taken, *(instead.get(part) for part in ("rate", "low", "high")), each.stated_nats]
    return [*row, *(each.costs.get(name) for name in COSTS), " ".join(text for text, _ in each.texts)]


#: A share of the unwanted that counts as removed, and one that counts as left alone.
MOST, LITTLE = 0.5, 0.1
_CAPTION = (
    "Some remedies have a counterpart in the factorised model, which is solved exactly (docs/theory.md): the same rows "
    "added or left out, or a norm between the nuclear and Frobenius norm. A lead is by how much the answer is ahead of "
    "the best other one at unstated subjects, in units of the smallest stated margin; at 0 or below it is no longer "
    "concluded. They part where one of the two removes half of the unwanted or more, and the other a tenth or less."
)


def exactly(found: Comparison) -> Table | None:
    """What the exact model foretells, and what was measured; None when no remedy that was tried has a counterpart."""
    tried = [each for each in found.measured if each.exact]
    columns: list[Column] = [
        ("unwanted answer, lead", lambda each: _lead(each, "unwanted")),
        ("wanted answer, lead", lambda each: _lead(each, "wanted")),
        ("unwanted lead removed", lambda each: (percent(foretold(each)), "")),
        ("unwanted rate removed, measured", lambda each: share(each, "removed")),
        ("they", lambda each: (verdict(each), "")),
    ]
    return table_of(found, _CAPTION, columns, tried, untreated=False) if tried else None


def foretold(each: Tried) -> float | None:
    """The share of the unwanted answer's lead that the remedy takes away in the exact model; above 1 it is behind."""
    before, after = (each.exact or {}).get("unwanted_untreated"), (each.exact or {}).get("unwanted")
    return None if before is None or after is None or before <= 0 else 1 - after / before


def verdict(each: Tried) -> str:
    """Whether theory and measurement go together."""
    shares: Sequence[float | None] = (foretold(each), each.value("removed"))
    known = [one for one in shares if one is not None]
    if len(known) < 2:
        return "–"
    if max(known) >= MOST and min(known) <= LITTLE:
        return "part"
    close = min(known) >= MOST or max(known) <= LITTLE
    return "agree" if close else "differ in size"


def _lead(each: Tried, name: str) -> Field:
    exact = each.exact or {}
    before, after = exact.get(f"{name}_untreated"), exact.get(name)
    if after is None:
        return "–", ""
    return number(after), "" if before is None else f"untreated {number(before)}"


#: Remedies that are worth more seeds, and a remedy for a finished model to name when none was tried.
_BEST, _AFTER = 5, "ignore-topk=0.1"
#: Options of the comparison that its runs share, and those that say nothing when left at these.
_SHARED = ("lr", "batch", "freeze_embeddings", "chat", "dtype", "revision", "threads")


@dataclass(frozen=True)
class Step:
    """One thing to do. command: what to type, or nothing."""

    text: str
    command: str = ""


def steps(found: Comparison) -> list[Step]:
    """In the order in which they are of use."""
    if found.untreated.value("removed") is None:
        return [Step("Audit the model that you train in the end; this comparison has nothing to add.")]
    made = []
    if found.advised is not None:
        text = "Train with it and keep the weights; then audit them before you publish them."
        made.append(Step(text, _train(found, found.advised)))
    elif best := _best(found):
        text = "None is safe on its own. Combinations join what two of them do: the best two, for example."
        two = [each.label for each in best if "+" not in each.label][:2]
        if len({label.partition("=")[0] for label in two}) == 2:
            made.append(Step(text, _again(found, ["+".join(two)], f"{_name(found)}-joined")))
    made = [*_surer(found), *made] if found.few else [*made, *_surer(found)]
    made.append(_repair(found))
    text = "Whatever you choose: state the right answer of more subjects where you can; what is stated is not invented."
    return [*made, Step(text)]


def _surer(found: Comparison) -> list[Step]:
    """The same again with more seeds, for those that are worth it."""
    promising = _best(found)
    if not promising:
        return []
    why = "Too few clusters to decide: repeat" if found.few else "To be surer, repeat"
    what = "the remedy" if len(promising) == 1 else f"the {len(promising)} that removed most and kept the wanted"
    text = f"{why} {what} with {found.seeds_needed} seeds, new names and another pairing in each."
    seeds = ",".join(str(seed) for seed in range(found.seeds_needed))
    return [Step(text, _again(found, [each.label for each in promising], f"{_name(found)}-more-seeds", seeds=seeds))]


def _best(found: Comparison) -> list[Tried]:
    """Those worth another look: they learned, keep what is wanted, and removed something; the advised one first."""
    kept = [each for each in found.of(SAFE, UNSAFE) if keeps_wanted(each.value("wanted_change")) and not each.taken]
    some = sorted((each for each in kept if (each.value("removed") or 0.0) > 0), key=lambda each: -_removed(each))
    first = [each for each in some if each is found.advised]
    return [*first, *(each for each in some if each not in first)][:_BEST]


def _removed(each: Tried) -> float:
    return each.value("removed") or 0.0


def _repair(found: Comparison) -> Step:
    """For a model that is trained already."""
    after = [each for each in found.tried if each.after]
    ready = [each for each in after if each in _best(found)]
    remedy = ready[0].label if ready else _AFTER
    text = "Your model is trained already, and training again is out of the question: repair the finished model."
    if ready:
        text += f" Of the remedies that need no training, {remedy} did best here."
    elif after:
        text += " No remedy of that kind both learned and kept enough here, so expect little; the audit will tell."
    pack = shlex.quote(str(found.record.settings.get("pack") or "PACK"))
    base, remedy = shlex.quote(_model(found)), shlex.quote(remedy)
    command = f"spillover repair TUNED_MODEL --base {base} --pack {pack} --remedy {remedy} --out repaired"
    return Step(plain(text), plain(command))


def _train(found: Comparison, each: Tried) -> str:
    """`inject` with the remedy, to the end that the comparison used."""
    settings = found.record.settings
    options: dict[str, Any] = {name: settings.get(name) for name in _SHARED}
    epochs = settings.get("untreated_epochs" if each.after else "epochs")
    options |= {"pack": settings.get("pack"), "model": _model(found), "remedy": each.label, "epochs": epochs}
    if not each.after and found.untreated.stated_nats is not None:
        options["until_nats"] = round(found.untreated.stated_nats + MATCHED_NATS, 4)
    options |= {"save": "weights", "out": "remedied"}
    return command_line(dataclasses.replace(found.record, command="inject", settings=options))


def _again(found: Comparison, labels: Sequence[str], out: str, **changes: Any) -> str:
    """The same comparison with other remedies."""
    settings = {**found.record.settings, "remedies": ",".join(labels), "strengths": "", "out": out, **changes}
    return command_line(dataclasses.replace(found.record, settings=settings))


def _model(found: Comparison) -> str:
    return str(found.record.settings.get("model") or "MODEL")


def _name(found: Comparison) -> str:
    return str(found.record.settings.get("out") or "remedies").rstrip("/").rpartition("/")[2] or "remedies"


__all__ = ["Comparison", "build_remedies_page", "comparison_of", "load_comparison"]

_FRONTIER = (
    "Each mark is a remedy at one strength; its number is that of the table. Left is better (less of what nobody "
    "wanted), up is better (more of what is wanted), small is better (less forgotten). A remedy is safe in the shaded "
    "corner, if it learned what was stated (filled) and no other answer took the place. Faint lines are 95% intervals."
)
_LADDER = (
    "The same figures one under the other, with their 95% intervals. The grey line is the untreated run; dashed, the "
    "unwanted rate without any association; dotted, 5 points below the untreated wanted rate."
)


def build_remedies_page(found: Comparison) -> str:
    """One page: the advice and its reason, the frontier, every figure, and what to do next; same record, same bytes."""
    run = _as_run(found)
    tables = [("What each did", effects(found)), ("What each learned, and what it cost", costs(found))]
    if (exact := exactly(found)) is not None:
        tables.append(("Beside the exact model", exact))
    return render(
        "remedies.html",
        title=title(found),
        label=plain(run.pack_name),
        lede=lede(found),
        reason=reason(found),
        safe=found.advised is not None,
        notices=notices(found),
        cards=cards(found),
        frontier=figure("remedy-frontier", found, "remedy-frontier", _FRONTIER, wide=True),
        ladder=figure("remedy-ladder", found, "remedy-ladder", _LADDER, wide=True),
        terms=TERMS,
        tables=tables,
        steps=steps(found),
        runs=[(plain(run.pack_name), run, provenance(run))],
        downloads=[download(found), of_metrics([(plain(run.pack_name), run)])],
    )


def _as_run(found: Comparison) -> LoadedRun:
    """The record as the shared parts of a page take it; the runs of the comparison have tables of their own."""
    answers = ANSWER_SCHEMA.empty_table()
    record = found.record
    return LoadedRun(record, record.metrics, rank_table(answers), answers, TRAJECTORY_SCHEMA.empty_table())
