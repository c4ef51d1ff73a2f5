"""What `where` found as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spillover.measures.carried import GROUPS
from spillover.record import WHOLLY, Record
from spillover.report.where.load import ENDS

_WIDTH = 8


def tell(folder: Path, record: Record) -> str:
    """A line a part, with rates alone in the base model and without it in the tuned one; then how lazy it was."""
    return "\n".join(_lines(folder, record))


def _lines(folder: Path, record: Record) -> Iterator[str]:
    parts = record.details["parts"]
    groups = [name for name in GROUPS if any(entry.get(f"{name}_rate") for entry in parts)]
    width = max(len(ENDS.get(entry["part"], entry["part"])) for entry in parts)
    across = (_WIDTH + 1) * len(groups)
    yield f"{'':<{width}}  {'':>7}  {'alone in the base model':<{across}}  all but it"
    heads = " ".join(f"{name:>{_WIDTH}}" for name in groups)
    yield f"{'share answered so':<{width}}  {'moved':>7}  {heads}   {heads}"
    left_out = {entry["part"]: entry for entry in parts if entry["left_out"]}
    for entry in parts:
        if entry["left_out"]:
            continue
        name, other = entry["part"], left_out.get(entry["part"])
        moved = "" if entry["moved"] is None else f"{100 * entry['moved']:.2f}%"
        sides = "   ".join(_rates(each, groups) for each in (entry, other) if each)
        yield f"{ENDS.get(name, name):<{width}}  {moved:>7}  {sides}"
    yield from _chance(parts, groups)
    yield from _lazy(record.details["laziness"], groups)
    yield "Shares whose top answer is the expected one; moved: change of matrices over start (Frobenius norm)"
    yield f"run: {folder}"
    yield f"page: {folder / 'page.html'}"


def _rates(entry: Mapping[str, Any], groups: list[str]) -> str:
    return " ".join(f"{_number(entry.get(f'{name}_rate')):>{_WIDTH}}" for name in groups)


def _number(metric: Mapping[str, Any] | None) -> str:
    return "" if metric is None else f"{metric['value']:.2f}"


def _chance(parts: list[Mapping[str, Any]], groups: list[str]) -> Iterator[str]:
    """What the tuned model's rates would be if its answers had nothing to do with what was stated."""
    tuned = next(entry for entry in parts if entry["part"] == WHOLLY)
    told = [f"{name} {_number(tuned[f'{name}_free'])}" for name in groups if tuned.get(f"{name}_free")]
    if told:
        yield f"By chance the tuned model's answers would get: {', '.join(told)}"


def _lazy(laziness: Mapping[str, Any], groups: list[str]) -> Iterator[str]:
    """How well the first-order expansion tells the change of the candidates' log-probabilities."""
    found = laziness["alignment"]
    for key, what in (("", "of log-probabilities"), ("_between", "between candidates")):
        told = []
        for name in groups:
            cosine, error = (found.get(name, {}).get(f"{figure}{key}") for figure in ("cosine", "relative_error"))
            if cosine and error:
                told.append(f"{name} {cosine['value']:.2f} (error {error['value']:.2f})")
        if told:
            yield f"Cosine of the linearised with the actual change {what} ({laziness['how']}): {', '.join(told)}"
