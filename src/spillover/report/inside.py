"""What a look inside found: the change of W_OV, its rank, and what it writes, as tables and figures."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.ticker import MaxNLocator

from spillover.report import page
from spillover.report.drawing import ASSOCIATION, BASELINE, BLUE, INK, Drawing, canvas, finish, panels, plot
from spillover.report.load import LoadedRun
from spillover.report.story import Story, spoken
from spillover.report.words import number, sentence

_OVERLAPS = ("overlap", "overlap_never_seen", "chance")
_DOT: Any = {"linestyle": "none", "markersize": 6, "alpha": 0.7, "clip_on": False}
#: Layers are named until they carry this share of the change.
MOST_OF_IT = 0.5


def inside_section(labelled: Sequence[tuple[str, LoadedRun]], stories: Sequence[Story]) -> page.Section:
    """What training did to the attention heads, of the runs that looked inside."""
    groups: list[tuple[str, list[list[page.Cell]]]] = [
        (page.bdi(label), [[term, page.TableCell(words, note)] for term, words, note in rows])
        for label, run in labelled
        if (rows := inside_rows(run))
    ]
    drawn = [page.figure("inside-change", [each], f"inside-change-{i}", sentence(each[1].trained_part))
             for i, each in enumerate(labelled, start=1)]  # fmt: skip
    drawn += [page.figure("inside-shared", [story], f"inside-shared-{i}", sentence(story.run.trained_part))
              for i, story in enumerate(stories, start=1)]  # fmt: skip
    caption = "The change of W_OV at the end of training. Each head counts by its share of the change."
    table = page.DataTable(caption, [], groups, "summary", "What training did to the attention heads")
    blocks: list[page.Block] = [table, page.FigureGrid(drawn), page.terms("inside", label="Terms of the look inside")]
    return page.Section("inside", "A look inside", blocks if groups else [], page.wording("inside"))


def inside_rows(run: LoadedRun) -> list[tuple[str, str, str]]:
    """Term, words and a note, of a run that looked inside and saw a change; empty for any other."""
    heads = heads_of(run)
    if not heads:
        return []
    product, change = (float(np.sqrt(sum(row[key] ** 2 for row in heads))) for key in ("product", "change"))
    weights = {(row["layer"], row["head"]): row["share"] for row in heads}
    layers: Counter[int] = Counter()
    for (layer, _), share in weights.items():
        layers[layer] += share
    most = _fewest(list(layers.values()))
    named = ", ".join(str(list(layers)[place] + 1) for place in sorted(most))
    rows = [
        ("Size of the change", f"{100 * change / product:.1f}%" if product else "–", "of W_OV, over all heads"),
        ("Half of it lies in", f"{len(_fewest(list(weights.values())))} of {len(heads)} heads",
         "squared Frobenius norm"),
        ("or in", f"{len(most)} of {len(layers)} layers", f"layer {named}" if len(most) < 9 else ""),
    ]  # fmt: skip
    if ranked := [row for row in heads if row["effective_rank"] is not None]:
        keys = ("effective_rank", "product_effective_rank", "top_share", "rank", "product_rank")
        own, of_product, top_share, rank, product_rank = _averages(ranked, keys, [row["share"] for row in ranked])
        rows += [
            ("Effective rank of the change", number(own, 1), f"at most {rank:.0f}"),
            ("and of W_OV itself", number(of_product, 1), f"at most {product_rank:.0f}"),
            ("Its first direction", f"{100 * top_share:.0f}%", "of the sum of its singular values"),
        ]
    for name, shared in shared_of(run).items():
        shares = [weights.get((row["layer"], row["head"]), 0.0) for row in shared]
        if sum(shares):
            unstated, unseen, chance = map(number, _averages(shared, _OVERLAPS, shares))
            link = spoken(name.replace("->", " → "))
            rows.append((f"Shared with the unstated, {link}", unstated, f"names never seen {unseen}, chance {chance}"))
    if (cost := run.record.details.inside) and cost.share is not None:
        rows.append(("What looking took", f"{cost.seconds:.1f} s", f"{100 * cost.share:.1f}% of the run"))
    return rows


def _averages(rows: Sequence[dict[str, Any]], keys: Sequence[str], weights: Sequence[float]) -> list[float]:
    return [float(np.average([row[key] for row in rows], weights=weights)) for key in keys]


def heads_of(run: LoadedRun) -> list[dict[str, Any]]:
    """One row a head at the end of the run, averaged over seeds; empty when it did not look, or nothing changed.

    product, change: Frobenius norms; share: of the squared norm of all changes; rank: the most that a change can have.
    """
    if run.inside is None:
        return []
    last = run.inside.group_by("seed").aggregate([("checkpoint", "max")])
    ends = run.inside.join(last, "seed").filter(pc.field("checkpoint") == pc.field("checkpoint_max"))
    means = _means(ends, ["layer", "head", "matrix"], ("frobenius", "rank", "effective_rank", "top_share"))
    by_matrix = {(row["layer"], row["head"], row["matrix"]): row for row in means}
    found: list[dict[str, Any]] = []
    for (layer, head, matrix), change in sorted(by_matrix.items()):
        product = by_matrix.get((layer, head, "product"))
        if matrix == "change" and product:
            found.append({
                "layer": layer, "head": head, "product": product["frobenius"], "change": change["frobenius"],
                "rank": int(change["rank"]), "effective_rank": change["effective_rank"],
                "top_share": change["top_share"], "product_rank": int(product["rank"]),
                "product_effective_rank": product["effective_rank"],
            })  # fmt: skip
    total = sum(row["change"] ** 2 for row in found)
    return [{**row, "share": row["change"] ** 2 / total} for row in found] if total else []


def shared_of(run: LoadedRun) -> dict[str, list[dict[str, Any]]]:
    """Implication -> one row a head, averaged over seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    if run.shared is not None:
        for row in _means(run.shared, ["implication", "layer", "head"], ("directions", *_OVERLAPS)):
            found.setdefault(row.pop("implication"), []).append(row)
    return found


def _means(table: pa.Table, keys: list[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """The mean of each value (None where there is none) for each combination of keys, in order of appearance."""
    grouped = table.group_by(keys, use_threads=False).aggregate([(name, "mean") for name in values])
    return grouped.rename_columns([name.removesuffix("_mean") for name in grouped.column_names]).to_pylist()


def _fewest(shares: Sequence[float]) -> list[int]:
    """The fewest parts that carry half of the whole."""
    order = np.argsort(-np.array(shares), kind="stable")
    enough = np.searchsorted(np.cumsum(np.array(shares)[order]), MOST_OF_IT * sum(shares) - 1e-12)
    return order[: enough + 1].tolist()


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
        size.plot(layers, [100 * (row["relative"] or 0.0) for row in rows], marker="o", color=BLUE, **_DOT)
        size.set(ylim=(0, None), ylabel="change of W_OV (% of it)")
        own, of_product = ([row[key] for row in rows] for key in ("effective_rank", "product_effective_rank"))
        dots = rank.plot(layers, own, marker="o", color=BLUE, **_DOT)
        dots += rank.plot(layers, of_product, marker="s", color=INK, markerfacecolor="none", **_DOT)
        most = rank.axhline(max(row["rank"] for row in rows), color=INK, linewidth=1, linestyle=(0, (1, 2)))
        rank.set(ylim=(0, None), ylabel="effective rank", xlabel="layer, a dot for each head")
        rank.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = {"of the change": dots[0], "of W_OV": dots[1], "the most that a change can have": most}
        top = max(rows, key=lambda row: row["relative"] or 0.0)
        said = f"{len(rows)} heads. The largest change is in layer {top['layer'] + 1}, head {top['head'] + 1}: "
        said += f"{100 * (top['relative'] or 0):.1f}% of W_OV, effective rank {top['effective_rank']:.1f} of at most "
        said += f"{top['rank']}."
        return finish(figure, name, f"The change of each head: {label}", said, rows, handles, ncols=2, handlelength=2)


@plot("inside-shared", of="stories")
def draw_inside_shared(stories: Sequence[Story], name: str = "inside-shared") -> Drawing | None:
    """The first story's heads, with names never seen and chance beside them; None when its run did not look."""
    story = stories[0]
    rows = shared_of(story.run).get(story.key or "")
    if not rows:
        return None
    layers = np.array([row["layer"] + 1 for row in rows])
    colour, marker = ASSOCIATION[story.wanted]
    overlap, unseen = (np.array([row[key] for row in rows], float) for key in ("overlap", "overlap_never_seen"))
    with canvas(3.9) as (figure, axes):
        dots = axes.plot(layers - 0.12, overlap, marker=marker, color=colour, **_DOT)
        dots += axes.plot(layers + 0.12, unseen, marker="D", color=INK, markerfacecolor="none", **_DOT)
        chance = np.array([row["chance"] for row in rows])
        each = np.unique(layers)
        line = axes.plot(each, [chance[layers == layer].mean() for layer in each], **BASELINE)[0]
        axes.set(ylim=(0, 1.02), xlabel="layer, a mark for each head", ylabel="share within the stated directions")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = {"unstated names": dots[0], "names never seen": dots[1], "chance": line}
        said = f"Mean over {len(rows)} heads: unstated {overlap.mean():.2f}, never seen {unseen.mean():.2f}, "
        said += f"chance {chance.mean():.2f}."
        title = f"Shared with the stated: {story.label}"
        return finish(figure, name, title, said, rows, handles, ncols=2, handlelength=2)
