"""The page of key-query: training attention does not help the merged model."""

from __future__ import annotations

from spillover.report.lab.page import Section, Shown, Told
from spillover.report.lab.run import LabRun
from spillover.report.plots.lab_curves import Chart
from spillover.report.words import number

STARTS = {
    "symmetric": "Symmetric start, exact gradients",
    "symmetric-perturbed": "Symmetric start with a small random part, exact gradients",
    "random": "Random start, sampled batches (the paper's recipe)",
}


def tell(run: LabRun) -> Told:
    """The loss on unstated implications against log n, for each start and model."""
    details = run.record.details
    log_n, lowest = details["log_n"], details["lowest"]
    held = all(_held(lowest[f"merged {start}"], start, log_n) for start in STARTS)
    facts = [
        (
            f"merged, {start} start: lowest mean loss",
            number(lowest[f"merged {start}"]["mean_loss"], 4),
            f"log n is {number(log_n, 4)}. "
            + (
                f"Lowest of any one seed: {number(lowest[f'merged {start}']['loss_of_a_seed'], 4)}."
                if start != "random"
                else f"Standard error over seeds: {number(lowest[f'merged {start}']['standard_error'], 4)}."
            ),
        )
        for start in STARTS
    ]
    return Told(
        title=(
            f"With its key-query matrix trained, the merged model {'still never gets' if held else 'was seen to get'} "
            "below "
            f"log n on what nobody told it, from {len(run.seeds)} starts of each kind."
        ),
        facts=facts,
        sections=[
            Section(
                "Loss on what nobody stated",
                "Theorem 3 of the paper: from a symmetric start, the merged model's loss on unstated implications "
                "never falls "
                "below log n, the loss of a uniform guess among the implied answers. The factorised case is open; "
                "here it is measured.",
                [
                    Shown("lab-curves", f"loss-{start}", _chart(run, start, title, log_n), _caption(start))
                    for start, title in STARTS.items()
                ],
            ),
            Section(
                "Loss on what was stated",
                "If this loss is small, the loss above is not for want of learning.",
                [Shown("lab-curves", f"train-{s}", _train(run, s, title), _caption(s)) for s, title in STARTS.items()],
            ),
        ],
        terms=[
            (
                "Symmetric start",
                "All subjects of a kind, all b and all c start with the same random weight, so that no class stands "
                "out, in the "
                "output-value matrix and in the key scores alike.",
            )
        ],
        notes=[
            "A symmetric start of the factorised model is a saddle: in exact arithmetic its classes would never part. "
            "In floating "
            "point rounding parts them, in an order that has nothing to do with what was stated.",
            "For the random start with sampled batches, “not below” means not below log n by more than three standard "
            "errors.",
        ],
    )


def _held(lowest: dict[str, float], start: str, log_n: float) -> bool:
    if start == "random":
        return not lowest["standard_errors_below"] > 3
    return lowest["loss_of_a_seed"] >= log_n - 1e-9


def _caption(start: str) -> str:
    return (
        "AdamW, noise tokens." if start == "random" else "Gradient descent on all rows in float64, no noise, no decay."
    )


def _chart(run: LabRun, start: str, title: str, log_n: float) -> Chart:
    lines = tuple(
        run.line(kind, style, "step", "implication_loss_test", arm=start, model=kind)
        for style, kind in enumerate(("factorised", "merged"))
    )
    return Chart(title, "training step", "nats", lines, (("log n", log_n),), log_x=True)


def _train(run: LabRun, start: str, title: str) -> Chart:
    lines = tuple(
        run.line(kind, style, "step", "train_loss", arm=start, model=kind)
        for style, kind in enumerate(("factorised", "merged"))
    )
    return Chart(title, "training step", "nats", lines, log_x=True, log_y=True)
