"""Sentences of a comparison's page, computed from its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spillover.facts.pack import WANTED
from spillover.measures.learned import LEARNED as LEARNED_RANK
from spillover.measures.remedied import MATCHED_NATS
from spillover.measures.safe_remedy import KEPT, REMOVED, keeps_wanted
from spillover.report.drawing import plain
from spillover.report.remedies.load import APART, IMPOSSIBLE, NOT_LEARNED, SAFE, Comparison, Tried
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
