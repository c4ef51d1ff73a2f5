"""The page of architecture: where the contrast of the two models holds, and where it does not."""

from __future__ import annotations

from spillover.report.lab.page import Section, Shown, Told
from spillover.report.lab.run import LabRun
from spillover.report.plots.lab_curves import Chart, Point
from spillover.report.plots.lab_pairs import Pair, Pairs
from spillover.report.words import number

KINDS = ("factorised", "merged")


def tell(run: LabRun) -> Told:
    """Accuracy of both models for every variant, and losses against time."""
    contrast = {name: run.record.details["contrast"][name] for name in run.record.details["order"]}
    holds = [name for name, metric in contrast.items() if metric["low"] is not None and metric["low"] > 0]
    none = [name for name in contrast if name not in holds]
    facts = [
        (name, number(metric["value"]), f"interval {number(metric['low'])} to {number(metric['high'])}")
        for name, metric in contrast.items()
    ]
    return Told(
        title=(
            f"In {len(holds)} of {len(contrast)} architectures the factorised network concluded more of what nobody "
            "stated "
            "than the merged one."
        ),
        facts=facts,
        sections=[
            Section(
                "What nobody stated, answered as the class would",
                "Each row is one change (or several) to the paper's one linear layer, trained in both ways. A dot is "
                "the mean over "
                "seeds, a bar its 95% interval.",
                [
                    Shown(
                        "lab-pairs",
                        "accuracy",
                        _pairs(run, "implication_accuracy_test"),
                        "Share of unstated implications.",
                        wide=True,
                    ),
                ],
            ),
            Section(
                "Losses",
                "Whether the stated rows were learned at all, and how sure the answers to the unstated ones are.",
                [
                    Shown("lab-pairs", "train", _pairs(run, "train_loss"), "Nats a stated row."),
                    Shown("lab-pairs", "loss", _pairs(run, "implication_loss_test"), "Nats an unstated implication."),
                ],
            ),
            Section(
                "On the way",
                "Loss on unstated implications while training.",
                [Shown("lab-curves", f"way-{i}", _chart(run, name), "") for i, name in enumerate(contrast)],
            ),
        ],
        terms=[
            (
                "The number on a card",
                "Accuracy of the factorised network minus that of the merged one on what nobody stated. Above 0, the "
                "factorised "
                "one concludes more.",
            )
        ],
        notes=[
            f"The difference is not clear of zero for: {', '.join(none) or 'none'}.",
            "A network with an MLP or with learned embeddings is factorised in other places, whatever is done to W_O "
            "and W_V. "
            "Where merging takes nothing away this may be why; nothing here tests it.",
            f"Intervals are over {len(run.seeds)} seeds; below ten they are shown and decide nothing.",
            "Trained with AdamW on all rows at once, without noise; one step size for all, which need not suit each "
            "alike.",
        ],
    )


def _pairs(run: LabRun, metric: str) -> Pairs:
    found = []
    for name in run.record.details["order"]:
        points = []
        for kind in KINDS:
            m = run.metric(f"{name} / {kind}", metric)
            points.append(Point(0.0, m["value"], m["low"], m["high"], m["n"]))
        found.append(Pair(name, tuple(points)))
    titles = {
        "implication_accuracy_test": ("Share answered as the class would", "share", None),
        "train_loss": ("Loss on what was stated", "nats", None),
        "implication_loss_test": ("Loss on what nobody stated", "nats", ("log n", run.record.details["log_n"])),
    }
    title, unit, reference = titles[metric]
    return Pairs(title, unit, KINDS, tuple(found), reference)


def _chart(run: LabRun, variant: str) -> Chart:
    lines = tuple(
        run.line(kind, style, "step", "implication_loss_test", variant=variant, model=kind)
        for style, kind in enumerate(KINDS)
    )
    return Chart(variant, "training step", "nats", lines, (("log n", run.record.details["log_n"]),), log_x=True)
