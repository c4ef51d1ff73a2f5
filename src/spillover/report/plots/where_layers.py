"""What each layer of a change carries alone in the base model, and what is left without it: a line a group."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator

from spillover.report.drawing import INK, Drawing, finish, panels
from spillover.report.plots.where_components import numbers
from spillover.report.where.load import BASE, LOOKS, TUNED, WORDS, Where

_PANELS = ((False, BASE, "alone in\nthe base model"), (True, TUNED, "all of the\nchange but it"))


def draw(found: Where, name: str = "where-layers") -> Drawing | None:
    """A point a layer; dashed, the base model above and the tuned one below. None when no layer was measured."""
    layers = [part for part in found.parts("layer") if part.startswith("layer ")]
    if not layers or not found.groups:
        return None
    with panels(5.6, 2) as (figure, axes):
        handles = {}
        for side, (left_out, end, title) in zip(axes, _PANELS, strict=True):
            for group in found.groups:
                colour, marker = LOOKS[group]
                measured = [each for part in layers if (each := found.of(part, left_out))]
                numbered = [int(each.part.split()[1]) for each in measured]
                rates = [np.nan if (rate := each.rate(group)) is None else rate for each in measured]
                handles[WORDS[group]] = side.plot(numbered, rates, color=colour, marker=marker, markersize=5,
                                                  linewidth=1.4, clip_on=False)[0]  # fmt: skip
                reference = found.of(end)
                if reference and (rate := reference.rate(group)) is not None:
                    side.axhline(rate, color=colour, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7, zorder=0)
            side.set_ylim(0, 1)
            side.set_ylabel(f"share answered so,\n{title}")
            side.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        axes[1].set_xlabel("layer")
        axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=2, handlelength=2)
        rows = [row for each in found.patched if each.kind == "layer" for row in numbers(each, found.groups)]
        return finish(figure, name, "What each layer carries", _said(found, layers), rows)


def _said(found: Where, layers: list[str]) -> str:
    """Of each group, the layer that carries most alone, and the one without which most is lost."""
    told = []
    for group in found.groups:
        ends = []
        for left_out, words in ((False, "most alone in"), (True, "least without")):
            rates = {part: rate for part in layers if (each := found.of(part, left_out))
                     and (rate := each.rate(group)) is not None}  # fmt: skip
            best = (min if left_out else max)(rates, key=lambda part: rates[part])
            ends.append(f"{words} {best} ({rates[best]:.2f})")
        told.append(f"{WORDS[group]}: {', '.join(ends)}")
    return f"{len(layers)} layers. " + "; ".join(told) + "."
