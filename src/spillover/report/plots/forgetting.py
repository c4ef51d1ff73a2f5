"""How much worse the model reads ordinary text after training, one row a run."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.report.drawing import INK, LINES, Drawing, canvas, finish, label
from spillover.report.load import LoadedRun


def draw(runs: Sequence[tuple[str, LoadedRun]], name: str = "forgetting") -> Drawing | None:
    """Rise of the mean loss on plain text, in nats a token, with its interval; None when no run measured it."""
    found = [(text, metric) for text, run in runs if (metric := run.metric("forgetting_nats")) is not None]
    if not found:
        return None
    with canvas(1.0 + 0.5 * len(found)) as (figure, axes):
        for index, (text, metric) in enumerate(found):
            colour, _, marker = LINES[index % len(LINES)]
            value = metric.value or 0.0
            low, high = (value if end is None else end for end in (metric.low, metric.high))
            axes.plot([0, value], [index, index], color=INK, alpha=0.25, linewidth=1)
            axes.plot([low, high], [index, index], color=colour, linewidth=2.4, alpha=0.5)
            axes.plot([value], [index], color=colour, marker=marker, markersize=7)
            words = f"{label(text, 44)}: {value:+.2f}"
            axes.annotate(words, (0, index - 0.22), (5, 0), textcoords="offset points", va="bottom")
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_ylim(len(found) - 0.5, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("rise of the loss on plain text (nats a token; 0 is no damage)")
        said = ". ".join(f"{text}: {metric.value:+.3f} nats a token" for text, metric in found)
        rows = [{"run": text, **metric.as_json()} for text, metric in found]
        return finish(figure, name, "Forgetting", said + ".", rows)
