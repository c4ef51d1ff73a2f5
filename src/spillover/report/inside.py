"""What a look inside found: the change of W_OV, its rank, and what it writes, as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from spillover.report.drawing import BLUE, INK, VERMILLION, YARDSTICK, Drawing, canvas, finish, panels, plain, plot
from spillover.report.load import LoadedRun
from spillover.report.story import Story, spoken
from spillover.report.words import number

#: Layers are named until they carry this share of the change.
MOST_OF_IT = 0.5


@dataclass(frozen=True)
class Look:
    """The last look of one run. rows: term, words and a note below them."""

    label: str
    heads: int
    rows: list[tuple[str, str, str]]


def looks(labelled: Sequence[tuple[str, LoadedRun]]) -> list[Look]:
    """One for every run that looked inside and saw a change."""
    found = []
    for label, run in labelled:
        if heads := heads_of(run):
            cost = run.record.details.get("inside") or {}
            found.append(Look(label, len(heads), [*_change(heads), *_rank(heads), *_shared(run), *_cost(cost)]))
    return found


def heads_of(run: LoadedRun) -> list[dict[str, Any]]:
    """One row a head at the end of the run, averaged over seeds; empty when it did not look, or nothing changed.

    product, change: Frobenius norms; share: of the squared norm of all changes; rank: the most that a change can have.
    """
    if run.inside is None:
        return []
    ends = _at_end(run.inside)
    found: list[dict[str, Any]] = []
    for (layer, head), rows in _grouped(ends, "layer", "head").items():
        product, change = ([row for row in rows if row["matrix"] == matrix] for matrix in ("product", "change"))
        if product and change:
            found.append({
                "layer": layer, "head": head, "product": _mean(product, "frobenius"),
                "change": _mean(change, "frobenius"), "rank": change[0]["rank"],
                "effective_rank": _mean(change, "effective_rank"), "top_share": _mean(change, "top_share"),
                "product_rank": product[0]["rank"], "product_effective_rank": _mean(product, "effective_rank"),
            })  # fmt: skip
    total = sum(row["change"] ** 2 for row in found)
    return [{**row, "share": row["change"] ** 2 / total} for row in found] if total else []


def shared_of(run: LoadedRun) -> dict[str, list[dict[str, Any]]]:
    """Implication -> one row a head, averaged over seeds."""
    if run.shared is None:
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for (name, layer, head), rows in _grouped(run.shared.to_pylist(), "implication", "layer", "head").items():
        means = {key: _mean(rows, key) for key in ("directions", "overlap", "overlap_never_seen", "chance")}
        found.setdefault(name, []).append({"layer": layer, "head": head, **means})
    return found


def _at_end(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of each seed's last checkpoint."""
    rows = table.to_pylist()
    last: dict[int, int] = {}
    for row in rows:
        last[row["seed"]] = max(last.get(row["seed"], 0), row["checkpoint"])
    return [row for row in rows if row["checkpoint"] == last[row["seed"]]]


def _grouped(rows: Sequence[Mapping[str, Any]], *keys: str) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def _change(heads: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """How large the change is, and where."""
    product, change = (float(np.sqrt(sum(row[key] ** 2 for row in heads))) for key in ("product", "change"))
    layers: dict[int, float] = {}
    for row in heads:
        layers[row["layer"]] = layers.get(row["layer"], 0.0) + row["share"]
    most = _fewest(np.array(list(layers.values())))
    named = ", ".join(str(list(layers)[place] + 1) for place in sorted(most))
    few = len(_fewest(np.array([row["share"] for row in heads])))
    return [
        ("Size of the change", f"{100 * change / product:.1f}%" if product else "–", "of W_OV, over all heads"),
        ("Half of it lies in", f"{few} of {len(heads)} heads", "squared Frobenius norm"),
        ("or in", f"{len(most)} of {len(layers)} layers", f"layer {named}" if len(most) < 9 else ""),
    ]


def _fewest(shares: Float[np.ndarray, " parts"]) -> list[int]:
    """The fewest parts that carry half of the whole."""
    order = np.argsort(-shares, kind="stable")
    enough = int(np.searchsorted(np.cumsum(shares[order]), MOST_OF_IT * shares.sum() - 1e-12)) + 1
    return [int(place) for place in order[:enough]]


def _rank(heads: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Effective ranks, each head counted by its share of the change."""
    told = [row for row in heads if row["effective_rank"] is not None]
    if not told:
        return []
    shares = np.array([row["share"] for row in told])

    def mean(key: str) -> float:
        return float(np.average([row[key] for row in told], weights=shares))

    return [
        ("Effective rank of the change", number(mean("effective_rank"), 1), f"at most {mean('rank'):.0f}"),
        ("and of W_OV itself", number(mean("product_effective_rank"), 1), f"at most {mean('product_rank'):.0f}"),
        ("Its first direction", f"{100 * mean('top_share'):.0f}%", "of the sum of its singular values"),
    ]


def _shared(run: LoadedRun) -> list[tuple[str, str, str]]:
    """For each implication, how much of what is written for others lies in the directions of the stated."""
    weights = {(row["layer"], row["head"]): row["share"] for row in heads_of(run)}
    found = []
    for name, rows in shared_of(run).items():
        shares = [weights.get((row["layer"], row["head"]), 0.0) for row in rows]
        if not sum(shares):
            continue
        unstated, unseen, chance = (
            float(np.average([row[key] for row in rows], weights=shares))
            for key in ("overlap", "overlap_never_seen", "chance")
        )
        given, _, then = name.partition("->")
        words = f"{spoken(given)} → {spoken(then)}" if then else name
        note = f"names never seen {number(unseen)}, chance {number(chance)}"
        found.append((f"Shared with the unstated, {plain(words)}", number(unstated), note))
    return found


def _cost(cost: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    if cost.get("share") is None:
        return []
    return [("What looking took", f"{cost['seconds']:.1f} s", f"{100 * cost['share']:.1f}% of the run")]


@plot("inside-change", of="runs")
def draw_inside_change(runs: Sequence[tuple[str, LoadedRun]], name: str = "inside-change") -> Drawing | None:
    """The first run's heads at the end of training; None when it did not look inside."""
    label, run = runs[0]
    heads = [row for row in heads_of(run) if row["effective_rank"] is not None]
    if not heads:
        return None
    rows = [{**row, "relative": row["change"] / row["product"] if row["product"] else None} for row in heads]
    layers = [row["layer"] + 1 for row in rows]
    with panels(5.4, 2) as (figure, (size, rank)):
        size.plot(layers, [100 * (row["relative"] or 0.0) for row in rows], linestyle="none", marker="o", color=BLUE,
                  markersize=6, alpha=0.7, clip_on=False)  # fmt: skip
        size.set_ylim(0, None)
        size.set_ylabel("change of W_OV (% of it)")
        dots = [
            rank.plot(layers, [row[key] for row in rows], linestyle="none", marker=marker, color=colour, alpha=0.7,
                      markersize=6, markerfacecolor=face, clip_on=False)[0]
            for key, marker, colour, face in (
                ("effective_rank", "o", BLUE, BLUE), ("product_effective_rank", "s", INK, "none")
            )
        ]  # fmt: skip
        most = rank.axhline(max(row["rank"] for row in rows), color=INK, linewidth=1, linestyle=(0, (1, 2)))
        rank.set_ylim(0, None)
        rank.set_ylabel("effective rank")
        rank.set_xlabel("layer, a dot for each head")
        rank.xaxis.set_major_locator(MaxNLocator(integer=True))
        texts = ["of the change", "of W_OV", "the most that a change can have"]
        figure.legend([*dots, most], texts, loc="outside lower left", ncols=2, handlelength=2)
        top = max(rows, key=lambda row: row["relative"] or 0.0)
        said = (
            f"{len(rows)} heads. The largest change is in layer {top['layer'] + 1}, head {top['head'] + 1}: "
            f"{100 * (top['relative'] or 0):.1f}% of W_OV, effective rank {top['effective_rank']:.1f} of at most "
            f"{top['rank']}."
        )
        return finish(figure, name, f"The change of each head: {label}", said, rows)


@plot("inside-shared", of="stories")
def draw_inside_shared(stories: Sequence[Story], name: str = "inside-shared") -> Drawing | None:
    """The first story's heads, with names never seen and chance beside them; None when its run did not look."""
    story = stories[0]
    rows = shared_of(story.run).get(story.key or "") or []
    if not rows:
        return None
    layers = [row["layer"] + 1 for row in rows]
    colour, marker = (BLUE, "o") if story.wanted else (VERMILLION, "s")
    with canvas(3.9) as (figure, axes):
        dots = [
            axes.plot([layer + shift for layer in layers], [row[key] for row in rows], linestyle="none", marker=shape,
                      color=ink, markerfacecolor=face, markersize=6, alpha=0.7, clip_on=False)[0]
            for key, shape, ink, face, shift in (
                ("overlap", marker, colour, colour, -0.12), ("overlap_never_seen", "D", INK, "none", 0.12)
            )
        ]  # fmt: skip
        each = sorted(set(layers))
        chance = [float(np.mean([row["chance"] for row in rows if row["layer"] + 1 == layer])) for layer in each]
        line = axes.plot(each, chance, **YARDSTICK)[0]
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("layer, a mark for each head")
        axes.set_ylabel("share within the stated directions")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        texts = ["unstated names", "names never seen", "chance"]
        figure.legend([*dots, line], texts, loc="outside lower left", ncols=2, handlelength=2)
        means = {key: float(np.mean([row[key] for row in rows])) for key in ("overlap", "overlap_never_seen", "chance")}
        said = (
            f"Mean over {len(rows)} heads: unstated {means['overlap']:.2f}, never seen "
            f"{means['overlap_never_seen']:.2f}, chance {means['chance']:.2f}."
        )
        return finish(figure, name, f"Shared with the stated: {story.label}", said, rows)
