"""What the page of `where` says in words, computed from its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spillover.report.drawing import plain
from spillover.report.where.load import BASE, LINEARISED, TUNED, WORDS, Where
from spillover.report.words import number

#: A part carries a group when it alone brings this share of what training added; a smaller addition tells nothing.
MOST, LEAST = 0.5, 0.1

TERMS = (
    ("Alone", "The base model, but with the tuned values of this part: what the part brings about by itself."),
    ("All but it", "The tuned model, but with this part as it was before training: what the others do without it. "
                   "Parts work together, so the two need not agree."),
    ("Components", "“output-value”: the value and output weights of attention, which say what is written once a name "
                   "is read. “key-query”: all else in attention, which says what is read. “mlp”: the other matrices of "
                   "the layers. “rest”: norms and what else there is. Frozen embeddings did not change."),
    ("Chance", "What the rate would be if the same answers had nothing to do with what was stated of each name. Only "
               "what lies above it is the link."),
    ("Moved", "The Frobenius norm of the change of the part's matrices over that of what they were; of “rest”, of its "
              "vectors."),
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """What carries one group."""

    heading: str
    value: str
    text: str
    tone: str


def title(found: Where) -> str:
    """The page in one sentence: what recall and what the conclusions rest on."""
    told = [(group, _best(found, group, left_out=False)) for group in ("recall", "wanted", "unwanted")
            if _told(found, group)]  # fmt: skip
    if not found.parts("component"):
        return "How much the tuned model is the base model’s first-order expansion."
    if not told:
        return "Training added too little to any rate to say where it lives."
    texts: list[str] = []
    last = ""
    for group, best in told:
        text = _brings(best, _NOUNS[group])
        name = best[0] if best and best[1] >= MOST else ""
        # What carries several is named once.
        texts.append(text.removeprefix(f"{name} alone brings ") if name and name == last else text)
        last = name
    listed = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])}, and {texts[-1]}"
    return f"Of what training added, {listed}."


_NOUNS = {"recall": "the recall of facts", "wanted": "the wanted conclusions", "unwanted": "the unwanted conclusions"}


def _brings(best: tuple[str, float] | None, what: str) -> str:
    if best is None or best[1] < MOST:
        return f"no component alone brings half of {what}"
    return f"{best[0]} alone brings {100 * best[1]:.0f}% of {what}"


def _told(found: Where, group: str) -> bool:
    """Whether training added enough to a group's rate to ask where it lives."""
    added = found.added(group)
    return added is not None and added >= LEAST


def _best(found: Where, group: str, *, left_out: bool) -> tuple[str, float] | None:
    """The component that carries most alone, or without which most is lost, and the share."""
    shares = {part: found.share(group, part, left_out) for part in found.parts("component")}
    known = {part: share for part, share in shares.items() if share is not None}
    return max(known.items(), key=lambda item: item[1]) if known else None


def lede(found: Where) -> str:
    """Under the title: which run, over how many seeds."""
    trained: Any = found.record.details.get("trained") or {}
    seeds = f"{found.seeds} seeds" if found.seeds > 1 else "one seed"
    whole = found.laziness["moved"].get(TUNED)
    size = f" The matrices that changed moved by {100 * whole:.2f}% of their norm." if whole is not None else ""
    return plain(
        f"{trained.get('model')}, tuned on {trained.get('pack')}; {seeds}, {found.clusters} clusters of a pair and a "
        f"seed.{size}"
    )


def notices(found: Where) -> list[str]:
    """What the numbers do not support."""
    texts = []
    if found.few:
        texts.append("Fewer than ten clusters: the intervals are too rough for a verdict. Repeat it with more seeds.")
    return texts


def cards(found: Where) -> list[Card]:
    """One a group: from what to what training took it, what carries it alone, and without what it is lost."""
    made = []
    for group in found.groups:
        rates = {name: each.rate(group) if (each := found.of(name)) else None for name in (BASE, TUNED, LINEARISED)}
        tone = group if group in ("wanted", "unwanted") else ""
        value = f"{number(rates[BASE])} → {number(rates[TUNED])}"
        made.append(Card(WORDS[group].capitalize(), value, _card(found, group, rates[LINEARISED]), tone))
    return made


def _card(found: Where, group: str, linearised: float | None) -> str:
    if not _told(found, group):
        return "The base and the tuned model. Training added too little to say where it lives."
    texts = ["The base and the tuned model."]
    alone, without = (_best(found, group, left_out=each) for each in (False, True))
    if alone:
        texts.append(f"Of what was added, {alone[0]} alone brings most: {100 * alone[1]:.0f}%.")
    if without:
        texts.append(f"Without {without[0]} most is lost: {100 * without[1]:.0f}%.")
    if linearised is not None:
        texts.append(f"The base model’s first-order expansion would get {number(linearised)}.")
    return " ".join(texts)
