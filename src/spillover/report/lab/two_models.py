"""The page of two-models: the paper's central contrast."""

from __future__ import annotations

from spillover.report.lab.page import Section, Shown, Told
from spillover.report.lab.run import LabRun
from spillover.report.plots.lab_curves import Chart
from spillover.report.plots.lab_matrices import Map, Maps
from spillover.report.words import number

STEPS = "training step"


def tell(run: LabRun) -> Told:
    """Losses of the paper's recipe, then the direction of the matrix under exact gradients."""
    accuracy = {kind: run.metric(kind, "implication_accuracy_test")["value"] for kind in ("factorised", "merged")}
    return Told(
        title=(
            "Of two models with the same power, trained on the same facts, the factorised one also answers "
            f"{accuracy['factorised']:.0%} of what nobody told it as the class would; the merged one "
            f"{accuracy['merged']:.0%}."
        ),
        facts=_facts(run),
        sections=[_losses(run), _matrices(run), _direction(run)],
        terms=[
            (
                "Two arms",
                "Losses come from the paper's recipe: AdamW, noise tokens, a trained key-query vector. Directions "
                "come from "
                "an exact arm: equal attention, no noise, all rows at every step, normalised gradient descent, no "
                "decay. "
                "The theory is about gradients; Adam prefers another geometry.",
            )
        ],
        notes=_notes(run),
    )


def _facts(run: LabRun) -> list[tuple[str, str, str]]:
    found = []
    for kind in ("factorised", "merged"):
        loss = run.metric(kind, "implication_loss_test")["value"]
        found.append(
            (
                f"{kind}: loss on unstated implications",
                number(loss, 3),
                f"A uniform guess among the implied answers has {number(run.record.details['log_n'], 3)}. Paper's "
                "recipe.",
            )
        )
        difference = run.record.details[kind]["cosine_difference"]["value"]
        found.append(
            (
                f"{kind}: cosine to nuclear minus to Frobenius",
                number(difference, 3),
                f"The trained matrix is closer to the {'nuclear' if difference > 0 else 'Frobenius'} solution. Exact "
                "arm.",
            )
        )
    return found


def _losses(run: LabRun) -> Section:
    log_n = ("log n: a uniform guess among the implied answers", run.record.details["log_n"])
    charts = []
    for name, title, y, references in (
        ("train-loss", "Loss on what was stated", "train_loss", ()),
        ("test-loss", "Loss on what nobody stated", "implication_loss_test", (log_n,)),
        (
            "test-accuracy",
            "Share of unstated implications answered as the class would",
            "implication_accuracy_test",
            (),
        ),
    ):
        lines = tuple(
            run.line(kind, style, "step", y, arm="paper", model=kind)
            for style, kind in enumerate(("factorised", "merged"))
        )
        unit = "share" if y.endswith("accuracy_test") else "nats"
        charts.append((name, Chart(title, STEPS, unit, lines, references, log_x=True, log_y=y == "train_loss")))
    caption = "Mean over seeds; the band is its 95% interval. Paper's recipe."
    return Section(
        "What they were told, and what nobody stated",
        "Both models are trained to fit every stated row. What of the implications nobody stated? At log n a model "
        "does no "
        "better than a uniform guess among the implied answers.",
        [Shown("lab-curves", name, chart, caption) for name, chart in charts],
    )


def _matrices(run: LabRun) -> Section:
    task = run.record.details["task"]
    titles = {
        "factorised": "trained, factorised",
        "nuclear": "exact, least nuclear norm",
        "merged": "trained, merged",
        "frobenius": "exact, least Frobenius norm",
    }
    maps = tuple(Map(title, run.matrices[name]) for name, title in titles.items() if name in run.matrices)
    what = Maps("Output-value matrices", maps, task["classes"], task["train"], task["test"])
    return Section(
        "What the matrices hold",
        "Rows are answers (facts b above, implied answers c below), columns are what is read: subjects told both "
        "answers, "
        "subjects told the fact only, and the two relations. The block that matters is below right of the middle: "
        "what the "
        "matrix holds of c for subjects whose c nobody stated. It is filled where a model concludes c, "
        "and empty where it does not.",
        [
            Shown(
                "lab-matrices",
                "matrices",
                what,
                "First seed of the exact arm, each column centred, scaled to a smallest stated margin of 1. One scale.",
                wide=True,
            )
        ],
    )


def _direction(run: LabRun) -> Section:
    details = run.record.details
    between = ("the two exact solutions with each other", details["exact"]["cosine"])
    figures = []
    for kind in ("factorised", "merged"):
        lines = tuple(
            run.line(f"to the {name} solution", style, "step", column, arm="exact", model=kind)
            for style, (name, column) in enumerate(
                (("nuclear", "cosine_to_nuclear"), ("Frobenius", "cosine_to_frobenius"))
            )
        )
        chart = Chart(f"Cosine of the {kind} model's matrix", STEPS, "cosine", lines, (between,), log_x=True)
        figures.append(Shown("lab-curves", f"cosine-{kind}", chart, "A claim is the difference of the two lines."))
    for kind, name, column in (
        ("factorised", "nuclear", "nuclear_over_margin"),
        ("merged", "Frobenius", "frobenius_over_margin"),
    ):
        lines = (run.line(f"{kind} model", kind == "merged", "step", column, arm="exact", model=kind),)
        optimum = (f"the least possible {name} norm", details["exact"][name.lower()]["norm"])
        chart = Chart(
            f"{name.capitalize()} norm per margin, {kind} model",
            STEPS,
            "norm per margin",
            lines,
            (optimum,),
            log_x=True,
            log_y=True,
        )
        figures.append(
            Shown("lab-curves", f"norm-{kind}", chart, "Undefined, hence not drawn, until every row is learned.")
        )
    lines = tuple(
        run.line(kind, style, "step", "margin_ratio_test", arm="exact", model=kind)
        for style, kind in enumerate(("factorised", "merged"))
    )
    exact = tuple(
        (f"exact, {name}", details["exact"][name]["margin_ratio_test"])
        for name in ("nuclear", "frobenius")
        if details["exact"][name]["margin_ratio_test"] is not None
    )
    chart = Chart(
        "Smallest margin of what nobody stated",
        STEPS,
        "per stated margin",
        lines,
        exact,
        log_x=True,
        limits=(-0.6, 1.1),
    )
    figures.append(
        Shown(
            "lab-curves", "margin-ratio", chart, "Above 0, every unstated implication is answered as the class would."
        )
    )
    return Section(
        "Which solution each one goes to",
        "Theorem 1 of the paper: under gradients the factorised model's matrix turns towards the nuclear solution, "
        "the merged "
        "model's towards the Frobenius solution. Each approaches the least norm of its own kind from above; and the "
        "nuclear "
        "optimum is flat, so that margins differ before norms do.",
        figures,
    )


def _notes(run: LabRun) -> list[str]:
    paper = {kind: run.record.details[kind]["paper_arm"] for kind in ("factorised", "merged")}
    said = "; ".join(
        f"{kind} {number(arm['cosine_to_nuclear']['value'])} to nuclear, "
        f"{number(arm['cosine_to_frobenius']['value'])} to Frobenius"
        for kind, arm in paper.items()
    )
    return [
        f"Under the paper's AdamW recipe the directions are: {said}. Adam's update is sign-like and prefers another "
        "geometry, "
        "so these cosines test nothing about Theorem 1.",
        "The factorised model's unstated margin may lie well away from the exact nuclear solution's: matrices within "
        "a fraction "
        "of a percent "
        "of the least norm have quite different margins there.",
    ]
