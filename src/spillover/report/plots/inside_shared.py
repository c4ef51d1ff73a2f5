"""How much of what each head's change writes for unstated subjects lies where it writes for the stated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from spillover.report.drawing import BLUE, INK, VERMILLION, YARDSTICK, Drawing, canvas, finish
from spillover.report.story import Story
from spillover.report.tables.inside import shared_of


def draw(stories: Sequence[Story], name: str = "inside-shared") -> Drawing | None:
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
