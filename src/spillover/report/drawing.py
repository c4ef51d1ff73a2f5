"""From a matplotlib figure to an SVG that lives inside a page: same bytes each time, ink that follows the theme."""

import copy
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, TypeVar
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spillover import report
from spillover.errors import UsageError, nearest
from spillover.record import Metric

#: Stands for the colour of the text around the figure: currentColor inside a page, near-black in a file.
INK, FILE_INK = "#0a0b0d", "#1b1f24"
#: Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
#: How the n-th line of a figure looks: no two agree in colour, dash or marker until all are used.
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 2, 2, 2)))
LINES = tuple(zip((BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY), _DASHES, "os^Dv*", strict=True))
#: Colour and marker of an association that is wanted (true), and of one that is not.
ASSOCIATION: dict[bool, tuple[str, str]] = {True: (BLUE, "o"), False: (VERMILLION, "s")}
#: Dash and weight of the line at which a model knows only which answers occur.
BASELINE_NAME = "knows only which answers occur"
BASELINE: Any = {"color": INK, "linestyle": (0, (6, 3)), "linewidth": 1.5, "alpha": 0.8, "zorder": 0}
WIDTH = 5.5  # inches; at this width the text stays readable when a phone shrinks the figure
_SIZES = ("font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
_COLOURS = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_LEFT_OUT = ("text.parse_math", "axes.formatter.use_mathtext", "axes.spines.top", "axes.spines.right", "legend.frameon")
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    **dict.fromkeys(_SIZES, 12),
    **dict.fromkeys(_COLOURS, INK),
    **dict.fromkeys(_LEFT_OUT, False),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
}
_FONT = "font-family: system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# What XML cannot hold, and the marks that turn the direction of the text around them.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Drawing:
    """One figure: `svg` for the page, `file` to keep, `rows` the numbers in it, `description` for who cannot see it.

    pdf: the same figure for a paper. note: what the figure leaves out, as a sentence under it.
    """

    name: str
    title: str
    description: str
    svg: str = field(repr=False)
    file: str = field(repr=False)
    rows: tuple[dict[str, Any], ...] = field(repr=False)
    pdf: bytes = field(repr=False)
    figure: Figure = field(compare=False, repr=False)
    note: str = ""

    def save(self, path: str | Path) -> None:
        """Write the figure as its name ends: .svg, .pdf or .png. Raises UsageError for any other ending."""
        path = Path(path)
        if path.suffix == ".png":
            self.figure.savefig(path, dpi=200)
        elif path.suffix in (".svg", ".pdf"):
            path.write_bytes(self.pdf if path.suffix == ".pdf" else self.file.encode())
        else:
            what = "a figure is written as SVG, PDF or PNG"
            raise UsageError(what, where=str(path), do="Name a file such as ranks.svg")

    def _repr_svg_(self) -> str:
        return self.file

    @property
    def columns(self) -> list[str]:
        """Every key of `rows`, in order of first appearance."""
        return list(dict.fromkeys(key for row in self.rows for key in row))


def plain(text: object, length: int | None = None) -> str:
    """Text that any XML can hold, on one line, cut to `length` characters with an ellipsis."""
    line = " ".join(_UNFIT.sub("\ufffd", str(text)).split())
    return line if length is None or len(line) <= length else line[: length - 1].rstrip() + "…"


def label(text: object, length: int = 30) -> str:
    """`plain` for the inside of a figure: matplotlib would hide a label that starts with an underscore."""
    line = plain(text, length)
    return "\u200b" + line if line.startswith("_") else line


def limits(metric: Metric | None) -> tuple[float, float] | None:
    """The ends of a metric's 95% interval; None where it has none."""
    return None if metric is None or metric.low is None or metric.high is None else (metric.low, metric.high)


def looks(wanted: Sequence[bool]) -> list[tuple[str, Any, str]]:
    """Colour, dash and marker of each curve: blue for the first true association, vermillion for the first other."""
    places: list[int] = []
    for each in wanted:
        first = 0 if each else 1
        places.append(next((place for place in (first, *range(2, len(LINES))) if place not in places), first))
    return [LINES[place] for place in places]


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one set of axes in the house style; sizes in inches."""
    with panels(height, 1, width) as (figure, (axes,)):
        yield figure, axes


@contextmanager
def panels(
    height: float, count: int, width: float = WIDTH, beside: bool = False
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with sets of axes, one under the other on one x axis or side by side on one y axis; sizes in inches."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # Widths are measured with a font that lacks some scripts; the reader's own font draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        warnings.filterwarnings("ignore", message="constrained_layout not applied", category=UserWarning)
        figure = Figure(figsize=(width, height), layout="constrained")
        rows, columns = (1, count) if beside else (count, 1)
        yield figure, list(figure.subplots(rows, columns, sharex=not beside, sharey=beside, squeeze=False).flat)


def finish(
    figure: Figure, name: str, title: str, description: str, rows: list[dict[str, Any]],
    legend: Mapping[str, Artist] | None = None, **look: Any,
) -> Drawing:  # fmt: skip
    """Render a figure made inside `canvas`, as SVG and as PDF. `name` is unique in the page and prefixes every id.

    legend: words -> what they name, for a legend below the axes; look: of that legend.
    """
    if legend:
        figure.legend(list(legend.values()), list(legend), loc="outside lower left", **look)
    stream, pdf = io.StringIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # The layout found for the one is that of the other.
    figure.set_layout_engine("none")
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    title, description = plain(title), plain(description)
    root = _clean(ElementTree.fromstring(stream.getvalue()), name, title, description)
    page, file = _for_page(copy.deepcopy(root)), _for_file(root)
    return Drawing(name, title, description, page, file, tuple(rows), pdf.getvalue(), figure)


#: How a mark looks, in matplotlib's words.
Look = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of a figure: a name with marks beside it, or a heading, which has none.

    marks: a number, or a metric, which has its interval as a bar; and its look. baseline: as BASELINE, on this line.
    """

    text: str
    marks: Sequence[tuple[Metric | float | None, Look]] = ()
    baseline: float | None = None


def draw_lines(
    lines: Sequence[Line], name: str, title: str, said: str, rows: list[dict[str, Any]], looks: Mapping[str, Look],
    x_label: str,
) -> Drawing | None:  # fmt: skip
    """Draw the lines from top to bottom over one axis; None without any. looks: of marks, by their name."""
    if not lines:
        return None
    with canvas(1.4 + 0.24 * (len(lines) + len(looks) / 2)) as (figure, axes):
        handles: dict[str, Artist] = {text: Line2D([], [], linestyle="none", **look) for text, look in looks.items()}
        baselines = {line.baseline for line in lines if line.baseline is not None}
        if len(baselines) == 1:
            only = baselines.pop()
            handles[f"{BASELINE_NAME}: {only:.2f}"] = axes.axvline(only, **BASELINE)
            said += f" Knowing only which answers occur gives {only:.2f}."
        for place, line in enumerate(lines):
            if not line.marks:
                axes.text(0, place, line.text, va="center", fontweight="bold")
            for mark, look in line.marks:
                at, ends = (mark.value, limits(mark)) if isinstance(mark, Metric) else (mark, None)
                if ends:
                    axes.plot(ends, [place] * 2, color=look["color"], linewidth=5, alpha=0.3)
                if at is not None:
                    axes.plot([at], [place], linestyle="none", clip_on=False, **look)
            if baselines and line.baseline is not None:
                handles[BASELINE_NAME] = axes.plot([line.baseline] * 2, [place - 0.5, place + 0.5], **BASELINE)[0]
        axes.set_xlabel(x_label, loc="right")
        axes.set(xlim=(-0.15, None), ylim=(len(lines) - 0.42, -0.62))
        axes.set_yticks(range(len(lines)), [line.text if line.marks else "" for line in lines])
        axes.tick_params(axis="y", length=0)
        return finish(figure, name, title, said, rows, handles, ncols=2, columnspacing=1.0, fontsize=10)


def _for_page(root: ElementTree.Element) -> str:
    """Ink becomes currentColor; every other colour a variable of the page, so that a dark page can lighten it."""
    for element in root.iter():
        if style := element.get("style"):
            style = style.replace(INK, "currentColor")
            element.set("style", re.sub(r"(fill|stroke): #([0-9a-f]{6})", r"\1: var(--c-\2, #\2)", style))
    return ElementTree.tostring(root, encoding="unicode")


def _for_file(root: ElementTree.Element) -> str:
    """Fixed colours, its own size, and references as older programs read them."""
    root.attrib |= dict(zip(("width", "height"), root.get("viewBox", "0 0 1 1").split()[2:], strict=True))
    root.set("xmlns:xlink", "http://www.w3.org/1999/xlink")
    for element in root.iter():
        if style := element.get("style"):
            element.set("style", style.replace(INK, FILE_INK))
        if target := element.attrib.pop("href", None):
            element.set("xlink:href", target)
    return ElementTree.tostring(root, encoding="unicode")


def _clean(root: ElementTree.Element, name: str, title: str, description: str) -> ElementTree.Element:
    """Drop namespaces, metadata, the global style sheet and unused ids; name and describe the figure."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if style := element.get("style"):
            element.set("style", re.sub(r"font-family: [^;]*", _FONT, style))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "metadata" or (child.tag == "defs" and child.find("style") is not None):
                parent.remove(child)
        # Indentation is a fifth of the bytes; text lives only in text elements.
        if parent.tag not in ("text", "tspan"):
            parent.text = None
        parent.tail = None
    # Only ids that something points at stay, under the figure's name.
    pointers = re.compile(r"url\(#([^)]+)\)")
    used = {value[1:] for element in root.iter() if (value := element.get("href", "")).startswith("#")}
    used |= {found for element in root.iter() for value in element.attrib.values() for found in pointers.findall(value)}
    for element in root.iter():
        if element.get("id") in used:
            element.set("id", f"{name}-{element.get('id')}")
        else:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            local = key == "href" and value.startswith("#")
            element.set(key, f"#{name}-{value[1:]}" if local else pointers.sub(rf"url(#{name}-\1)", value))
    box = root.get("viewBox", "0 0 1 1")
    # A figure wider than usual scrolls inside its box before its text gets too small to read.
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": box, "role": "img",
        "style": f"stroke-linejoin: round; stroke-linecap: butt; min-width: {round(0.6 * float(box.split()[2]))}px",
        "aria-labelledby": f"{name}-title {name}-desc",
    }  # fmt: skip
    for tag, content in (("desc", description), ("title", title)):
        child = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        child.text = content
        root.insert(0, child)
    return root


@dataclass(frozen=True)
class Plot:
    """A registered plot. of: what `draw` takes, such as "runs" (labelled) or "stories" (implications of runs)."""

    draw: Callable[..., Drawing | None]
    of: str


#: Every plot of the files that were imported, by name; `find_plot` imports all of them first.
PLOTS: dict[str, Plot] = {}
Draw = TypeVar("Draw", bound=Callable[..., "Drawing | None"])


def plot(name: str, of: str) -> Callable[[Draw], Draw]:
    """Register a function that draws `of` (runs, stories, where, cells, comparison, lab) as the plot called `name`."""

    def register(draw: Draw) -> Draw:
        PLOTS[name] = Plot(draw, of)
        return draw

    return register


def find_plot(name: str) -> Plot:
    """The plot called `name`. Raises UsageError, with the nearest name, when there is none."""
    if name not in PLOTS:
        for module in iter_modules(report.__path__):
            import_module(f"spillover.report.{module.name}")
    if name not in PLOTS:
        raise UsageError(f"there is no plot called {name!r}", do=nearest(name, PLOTS))
    return PLOTS[name]
