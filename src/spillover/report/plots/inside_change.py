"""Where the change of W_OV lies: its size and its effective rank, a dot a head, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from spillover.report.drawing import BLUE, INK, Drawing, finish, panels
from spillover.report.load import LoadedRun
from spillover.report.tables.inside import heads_of


def draw(runs: Sequence[tuple[str, LoadedRun]], name: str = "inside-change") -> Drawing | None:
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
