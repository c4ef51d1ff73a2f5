"""Two kinds of model side by side for every variant: a dot with its interval each."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.lines import Line2D

from spillover.report.drawing import INK, LINES, Drawing, canvas, finish, label
from spillover.report.plots.lab_curves import Point


@dataclass(frozen=True)
class Pair:
    """One variant: what each model reached (Point.x is not used), in the order of the names."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Pairs:
    """Variants from top to bottom; names of the models; reference: a value with a name, or None."""

    title: str
    x_label: str
    names: tuple[str, ...]
    pairs: tuple[Pair, ...]
    reference: tuple[str, float] | None = None


def draw(pairs: Pairs, name: str) -> Drawing | None:
    """The dots; None when there is no variant."""
    if not pairs.pairs:
        return None
    with canvas(1.4 + 0.52 * len(pairs.pairs)) as (figure, axes):
        for index, pair in enumerate(pairs.pairs):
            axes.text(
                0, index - 0.24, label(pair.label, 46), va="bottom", fontsize=11, transform=axes.get_yaxis_transform()
            )
            for place, point in enumerate(pair.points):
                colour, _, marker = LINES[place]
                height = index + 0.16 * place
                axes.plot([point.low, point.high], [height, height], color=colour, linewidth=2.4, alpha=0.5)
                axes.plot([point.mean], [height], color=colour, marker=marker, markersize=7, clip_on=False)
        handles = [Line2D([], [], color=LINES[i][0], marker=LINES[i][2], linestyle="") for i in range(len(pairs.names))]
        names = list(pairs.names)
        if pairs.reference:
            handles.append(axes.axvline(pairs.reference[1], color=INK, linestyle=(0, (1, 2)), linewidth=1.1))
            names.append(pairs.reference[0])
        axes.set_ylim(len(pairs.pairs) - 0.45, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(pairs.x_label)
        figure.legend(handles, names, loc="outside lower left", ncols=2)
        rows = [
            {"variant": p.label, "model": n, "mean": q.mean, "low": q.low, "high": q.high, "seeds": q.n}
            for p in pairs.pairs
            for n, q in zip(pairs.names, p.points, strict=True)
        ]
        said = ". ".join(f"{row['variant']}, {row['model']}: {row['mean']:.2f}" for row in rows)
        return finish(figure, name, pairs.title, said + ".", rows)
