"""The page of sample-efficiency: how few bridges are enough."""

from __future__ import annotations

import numpy as np

from spillover.report.lab.page import Section, Shown, Told
from spillover.report.lab.run import LabRun, exact_points, points_of
from spillover.report.plots.lab_curves import Chart, Line
from spillover.report.words import number

KINDS = ("factorised", "merged")


def tell(run: LabRun) -> Told:
    """One chart an m_test: the exact margin, and what each trained model has."""
    sizes = run.record.details["sizes"]
    few = [size for size in sizes if size["m_train"] == 1]
    facts = [
        (
            f"one bridge, {size['m_test']} told the fact only",
            number(run.metric(f"factorised train=1 test={size['m_test']}", "margin_ratio_test")["value"]),
            f"unstated margin of the factorised model; the exact solution has {number(size['exact'])}, the merged "
            "model " + number(run.metric(f"merged train=1 test={size['m_test']}", "margin_ratio_test")["value"]),
        )
        for size in few
    ]
    tests = sorted({size["m_test"] for size in sizes})
    return Told(
        title=_title(run, few),
        facts=facts,
        sections=[
            Section(
                "Margin of what nobody stated, against the number of bridges",
                "Above 0 every unstated implication is answered as the class would. The exact margin of the least "
                "nuclear norm is "
                "min(1, √(m_train / m_test)), that of the least Frobenius norm is 0.",
                [
                    Shown("lab-curves", f"margin-{t}", _chart(run, t), "Exact arm. Band: 95% interval over seeds.")
                    for t in tests
                ],
            )
        ],
        terms=[("m_train, m_test", "Subjects a class told both answers (bridges), and told the fact only.")],
        notes=[
            "The nuclear optimum is flat: training ends near its norm, not at its margins, which may lie on either "
            "side.",
        ],
    )


def _title(run: LabRun, few: list[dict[str, float]]) -> str:
    low = [run.metric(f"factorised train=1 test={size['m_test']}", "margin_ratio_test")["low"] for size in few]
    if low and all(value is not None and value > 0 for value in low):
        return "One bridging subject a class was enough: the factorised model's unstated margin is above zero."
    return "One bridging subject a class was not enough everywhere for a margin above zero on what nobody stated."


def _chart(run: LabRun, test: int) -> Chart:
    sizes = [size for size in run.record.details["sizes"] if size["m_test"] == test]
    places = [size["m_train"] for size in sizes]
    lines = [Line("exact, least nuclear norm", exact_points(places, [size["exact"] for size in sizes]), 2, known=True)]
    last = run.columns["step"] == run.columns["step"].max()
    for style, kind in enumerate(KINDS):
        mask = last & run.mask(model=kind, m_test=test)
        values = run.columns["margin_ratio_test"][mask].astype(float)
        lines.append(Line(f"{kind}, trained", points_of(run.columns["m_train"][mask].astype(float), values), style))
    ticks = tuple(float(x) for x in np.unique(places))
    title = f"{test} subject{'s' if test > 1 else ''} a class told the fact only"
    return Chart(title, "m_train: bridges a class", "per stated margin", tuple(lines), ticks=ticks, limits=(-0.1, 1.1))
