"""What a person reads of a prediction: a sentence an association, and a list of the highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spillover.settings import Predict
from spillover.theory.predicting.associations import Association
from spillover.theory.predicting.margins import Margin, Undoing

#: Associations that the text lists; --json lists all.
MOST_SHOWN = 12
WAYS = {
    "remove": "leaving out {rows} that state both",
    "abstain": "adding {rows} that say `unknown` of an exposed subject",
    "contradict": "adding {rows} that state another answer of an exposed subject",
}


def because(
    association: Association, margin: Margin, prior: float | None, model: str | None, ways: Sequence[Undoing] | None
) -> str:
    """On what a prediction rests, as one sentence."""
    support, given = association.support, f"{association.given} = {association.given_answer}"
    parts = [f"{_count(support, 'subject')} with {given} {'states' if support == 1 else 'state'} it"]
    if association.opposed:
        parts[0] += f" and {association.opposed} another answer"
    if margin.value is not None:
        parts.append(f"the exact model puts it {_lead(margin)} of the next answer")
    elif not association.exposed:
        parts.append("nobody is exposed")
    if prior is not None:
        parts.append(f"told {given}, {model} gives it {prior:.2f} of its belief before training")
    if ways:
        told = [WAYS[each.way].format(rows=_count(len(each.rows), "row")) for each in ways]
        parts.append("in the exact model it is undone by " + ", or by ".join(told))
    return "; ".join(parts)


def _lead(margin: Margin) -> str:
    assert margin.value is not None
    side = "ahead" if margin.value >= 0 else "behind"
    return f"{abs(margin.value):.3f}{_range(margin.low, margin.high)} {side}"


def _range(low: float | None, high: float | None) -> str:
    return f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def lines(settings: Predict, details: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """The prediction for a person: how it was found, what is expected in all, and the highest associations."""
    exposed = [each for each in details["associations"] if each["exposed"]]
    found = [f"{settings.pack}: {_count(len(exposed), 'association')} with subjects exposed to it"]
    found.append("  " + details["solution"]["verdict"])
    for name in ("unwanted", "wanted", "undeclared"):
        metric = metrics[f"expected_{name}"]
        if metric["n"]:
            share = f"about {metric['value']:,.0f} of {metric['n']:,} exposed subjects"
            found.append(f"  {name}: {share} will answer so")
    for each in exposed[:MOST_SHOWN]:
        found.append(line(each))
    hidden = len(exposed) - MOST_SHOWN
    if hidden > 0:
        found.append(f"  and {hidden:,} more: --json lists all, and `report` makes a page of a run with --out")
    if details["left_out"]:
        found.append(f"  {_count(details['left_out'], 'association')} not looked at: raise --most")
    if settings.model is None:
        found.append("  Without --model nobody knows which of these the model already believes; scores rest on less.")
    return found + ([f"  run: {settings.out}"] if settings.out else [])


def line(each: Mapping[str, Any]) -> str:
    """One association: what makes what, its grounds, and how many will answer so."""
    margin = "no margin" if each["margin"] is None else f"margin {each['margin']:.3f}"
    prior = f", prior {each['prior']:.2f}" if each["prior"] is not None else ""
    return (
        f"  {each['given']} = {each['given_answer']} makes {each['then']} = {each['then_answer']}: "
        f"{each['support']:,} stated, {each['exposed']:,} exposed, "
        f"{margin}{_range(each['margin_low'], each['margin_high'])}{prior}, {each['kind'] or 'not declared'}; "
        f"expect {each['score']:.1f}"
    )
