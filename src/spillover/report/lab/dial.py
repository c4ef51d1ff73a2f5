"""The page of dial: three ways from concluding to not concluding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spillover.report.lab.page import Section, Shown, Told
from spillover.report.lab.run import LabRun, exact_points, points_of
from spillover.report.plots.lab_curves import Chart, Line
from spillover.report.words import number


def tell(run: LabRun) -> Told:
    """The size of the start, the norm, and added rows."""
    details = run.record.details
    main = run.mask(model="factorised", **_main(run))
    sigmas = sorted(set(run.columns["sigma"][main].tolist()))
    ends = [
        points_of(run.columns["sigma"][main], run.columns["margin_ratio_test"][main].astype(float))[i] for i in (0, -1)
    ]
    lone = next(row for row in details["abstaining"] if row["norm"] == "nuclear" and row["count"] == 1)
    none = next(row for row in details["abstaining"] if row["norm"] == "nuclear" and row["count"] == 0)
    return Told(
        title=_title(ends[0].mean, ends[1].mean),
        facts=[
            (
                f"start of size {sigmas[0]:g}",
                number(ends[0].mean),
                "unstated margin, in units of the smallest stated margin",
            ),
            (
                f"start of size {sigmas[-1]:g}",
                number(ends[1].mean),
                "the same model, task and loss reached; below 0 some are wrong",
            ),
            (
                "one abstaining row a class",
                f"{number(none['leaked_minus_unknown'], 3)} → {number(lone['leaked_minus_unknown'], 3)}",
                "lead of the leaked answer over “unknown”, for subjects who were told neither (exact, certified)",
            ),
        ],
        sections=[_starts(run), _mixed(details), _rows(details)],
        terms=[
            (
                "Rich and lazy",
                "From a small start the change is large against the start, and features are learned (rich). From a "
                "large one the "
                "model hardly moves and behaves as its linearisation, a fixed kernel (lazy).",
            )
        ],
        notes=[
            "That a pretrained language model starts large, so that gentle fine-tuning is lazy and concludes less, is "
            "a conjecture "
            "that this experiment suggests and does not test.",
        ],
    )


def _title(small: float, large: float) -> str:
    """What the two ends of the first dial say."""
    if small > 0 >= large:
        return "From a small start the factorised model concludes what nobody told it, from a large one no longer."
    return f"From the smallest start the unstated margin is {number(small)}, from the largest {number(large)}."


def _main(run: LabRun) -> dict[str, Any]:
    """The width and step size trained from every size of start: the first in the table."""
    return {name: run.columns[name][0] for name in ("width", "rate")}


def _starts(run: LabRun) -> Section:
    main = _main(run)
    lines = [
        run.line(f"factorised, d_h = {main['width']:g}", 0, "sigma", "margin_ratio_test", model="factorised", **main)
    ]
    loss = [
        run.line(
            f"factorised, d_h = {main['width']:g}", 0, "sigma", "implication_loss_among", model="factorised", **main
        )
    ]
    arms = sorted({(w, r) for w, r in zip(run.columns["width"].tolist(), run.columns["rate"].tolist(), strict=True)})
    for style, (width, rate) in enumerate([arm for arm in arms if arm != (main["width"], main["rate"])], start=1):
        label = f"d_h = {width:g}, step size {rate:g}"
        lines.append(run.line(label, style, "sigma", "margin_ratio_test", model="factorised", width=width, rate=rate))
        loss.append(
            run.line(label, style, "sigma", "implication_loss_among", model="factorised", width=width, rate=rate)
        )
    linear = run.points("sigma", "margin_ratio_test", model="linearised")
    linear_loss = run.points("sigma", "implication_loss_among", model="linearised")
    exact = ("exact, least nuclear norm", run.record.details["exact_margin"])
    margins = (exact, *(((f"linearised, d_h = {main['width']:g}", linear[0].mean),) if linear else ()))
    losses = (
        ("log n", run.record.details["log_n"]),
        *(((f"linearised, d_h = {main['width']:g}", linear_loss[0].mean),) if linear_loss else ()),
    )
    caption = "Gradient descent to a loss of 0.01, centred at the start; equal attention, no noise. Band: 95% interval."
    return Section(
        "The size of the start",
        "Weights start Gaussian with standard deviation sigma / √d_h. All are trained to the same loss "
        "on what was stated. The linearised model is the limit of lazy training.",
        [
            Shown(
                "lab-curves",
                "start-margin",
                Chart(
                    "Smallest margin of what nobody stated",
                    "sigma, size of the start",
                    "per stated margin",
                    tuple(lines),
                    margins,
                    log_x=True,
                ),
                caption,
            ),
            Shown(
                "lab-curves",
                "start-loss",
                Chart(
                    "Loss on what nobody stated, among the implied answers",
                    "sigma, size of the start",
                    "nats",
                    tuple(loss),
                    losses,
                    log_x=True,
                ),
                caption,
            ),
        ],
    )


def _mixed(details: Mapping[str, Any]) -> Section:
    rows = details["mixed"]
    shares = [row["share"] for row in rows]
    lines = (
        Line("by hand, one unknown", exact_points(shares, [row["exact"] for row in rows]), 2, known=True),
        Line("by the general solver", exact_points(shares, [row["solved"] for row in rows]), 0),
    )
    worst = max(row["gap"] for row in rows)
    chart = Chart(
        "Margin of what nobody stated at the optimum", "t, share of the Frobenius norm", "per stated margin", lines
    )
    return Section(
        "The norm",
        "Between the two exact solutions lie those of least (1 − t) · nuclear + t · Frobenius norm. What is concluded "
        "fades evenly "
        "from one to the other: no threshold separates the two.",
        [
            Shown(
                "lab-curves",
                "mixed",
                chart,
                f"Both ways of computing it; the solver's largest certified gap is {worst:.1e}.",
            )
        ],
    )


def _rows(details: Mapping[str, Any]) -> Section:
    abstaining = tuple(
        _line(details["abstaining"], "leaked_minus_unknown", f"least {words} norm", style, norm=norm)
        for style, (norm, words) in enumerate((("nuclear", "nuclear"), ("frobenius", "Frobenius")))
    )
    contradicting = tuple(
        _line(
            details["contradicting"],
            "leaked_minus_other",
            f"{bridges} bridge{'s' if bridges > 1 else ''} a class",
            style,
            norm="nuclear",
            bridges=bridges,
        )
        for style, bridges in enumerate((1, 2))
    )
    zero = (("no lead", 0.0),)
    first = Chart(
        "Lead of the leaked answer over “unknown”",
        "subjects a class that say “unknown”",
        "per stated margin",
        abstaining,
        zero,
        ticks=(0, 1, 2, 3, 4),
    )
    second = Chart(
        "Lead of the leaked answer over another class's",
        "subjects a class that contradict",
        "per stated margin",
        contradicting,
        zero,
        ticks=(0, 1, 2, 3),
    )
    return Section(
        "Rows that abstain, rows that contradict",
        "Four classes of six subjects. Some subjects of each class answer “unknown” to the "
        "implication, or state another class's; the others stay silent. What do the silent ones get?",
        [
            Shown("lab-curves", "abstaining", first, "Exact solutions, certified to a gap of 1e-6."),
            Shown(
                "lab-curves",
                "contradicting",
                second,
                "Least nuclear norm, certified to a gap of 1e-6. Other: the answer that those subjects state.",
            ),
        ],
    )


def _line(rows: list[dict[str, Any]], column: str, label: str, style: int, **where: Any) -> Line:
    mine = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return Line(label, exact_points([row["count"] for row in mine], [row[column] for row in mine]), style)
