"""What the page of each `lab` experiment says and shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spillover.report.lab import LabRun, PageContent, Section, Shown, exact_points, points_of
from spillover.report.lab_plots import Chart, Line, Map, Maps, Pair, Pairs, Point
from spillover.report.words import number

STEPS = "training step"


def tell_two_models(run: LabRun) -> PageContent:
    """Losses of the paper's recipe, then the direction of the matrix under exact gradients."""
    accuracy = {kind: run.metric(kind, "implication_accuracy_test")["value"] for kind in ("factorised", "merged")}
    return PageContent(
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
        notes=_two_models_notes(run),
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


def _two_models_notes(run: LabRun) -> list[str]:
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


SAMPLE_EFFICIENCY_KINDS = ("factorised", "merged")


def tell_sample_efficiency(run: LabRun) -> PageContent:
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
    return PageContent(
        title=_sample_efficiency_title(run, few),
        facts=facts,
        sections=[
            Section(
                "Margin of what nobody stated, against the number of bridges",
                "Above 0 every unstated implication is answered as the class would. The exact margin of the least "
                "nuclear norm is "
                "min(1, √(m_train / m_test)), that of the least Frobenius norm is 0.",
                [
                    Shown(
                        "lab-curves",
                        f"margin-{t}",
                        _sample_efficiency_chart(run, t),
                        "Exact arm. Band: 95% interval over seeds.",
                    )
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


def _sample_efficiency_title(run: LabRun, few: list[dict[str, float]]) -> str:
    low = [run.metric(f"factorised train=1 test={size['m_test']}", "margin_ratio_test")["low"] for size in few]
    if low and all(value is not None and value > 0 for value in low):
        return "One bridging subject a class was enough: the factorised model's unstated margin is above zero."
    return "One bridging subject a class was not enough everywhere for a margin above zero on what nobody stated."


def _sample_efficiency_chart(run: LabRun, test: int) -> Chart:
    sizes = [size for size in run.record.details["sizes"] if size["m_test"] == test]
    places = [size["m_train"] for size in sizes]
    lines = [Line("exact, least nuclear norm", exact_points(places, [size["exact"] for size in sizes]), 2, known=True)]
    lines.append(Line("solved from the rows alone", exact_points(places, [size["solved"] for size in sizes]), 3))
    last = run.columns["step"] == run.columns["step"].max()
    for style, kind in enumerate(SAMPLE_EFFICIENCY_KINDS):
        mask = last & run.mask(model=kind, m_test=test)
        values = run.columns["margin_ratio_test"][mask].astype(float)
        lines.append(Line(f"{kind}, trained", points_of(run.columns["m_train"][mask].astype(float), values), style))
    ticks = tuple(float(x) for x in np.unique(places))
    title = f"{test} subject{'s' if test > 1 else ''} a class told the fact only"
    return Chart(title, "m_train: bridges a class", "per stated margin", tuple(lines), ticks=ticks, limits=(-0.1, 1.1))


def tell_rank_sweep(run: LabRun) -> PageContent:
    """Test loss and accuracy against d_h at the end, and against time."""
    ranks, log_n = run.record.details["ranks"], run.record.details["log_n"]
    learned = [r for r in ranks if run.metric(f"d_h={r}", "implication_accuracy_test")["value"] >= 0.9]
    what = f"d_h = {learned[0]} is enough" if learned else "no d_h was enough"
    facts = [
        (
            f"d_h = {rank}",
            number(run.metric(f"d_h={rank}", "implication_loss_test")["value"], 3),
            f"nats on unstated implications; {run.metric(f'd_h={rank}', 'implication_accuracy_test')['value']:.0%} "
            "answered "
            "as the class would",
        )
        for rank in ranks
    ]
    return PageContent(
        title=f"To conclude nine tenths of what nobody stated, {what}.",
        facts=facts,
        sections=[_at_the_end(run, log_n), _on_the_way(run, ranks, log_n)],
        terms=[
            ("d_h", "The head dimension: columns of W_O and W_V, hence the highest rank that their product can have.")
        ],
        notes=_rank_sweep_notes(run, ranks),
    )


def _rank_sweep_notes(run: LabRun, ranks: list[int]) -> list[str]:
    """What the narrowest model learned, so that its failure can be told from not having learned at all."""
    narrow = f"d_h={ranks[0]}"
    loss, test = run.metric(narrow, "train_loss")["value"], run.metric(narrow, "implication_loss_test")
    return [
        f"With d_h = {ranks[0]} the loss on stated rows ends at {loss:.2g} nats; on unstated implications it is "
        "between "
        f"{number(test['low'])} and {number(test['high'])} (95% interval over {test['n']} seeds: few)."
    ]


def _at_the_end(run: LabRun, log_n: float) -> Section:
    mask = run.last() & ~np.isnan(run.columns["head_dimension"].astype(float))
    places = run.columns["head_dimension"][mask].astype(float)
    figures = []
    for name, title, column, unit in (
        ("loss", "Loss on what nobody stated, after training", "implication_loss_test", "nats"),
        ("accuracy", "Share answered as the class would, after training", "implication_accuracy_test", "share"),
    ):
        line = Line("factorised", points_of(places, run.columns[column][mask].astype(float)), 0)
        merged = ("merged model", float(run.metric("merged", column)["value"]))
        references = ((("log n", log_n),) if column.endswith("loss_test") else ()) + (merged,)
        chart = Chart(title, "d_h", unit, (line,), references, log_x=True, ticks=tuple(np.unique(places).tolist()))
        figures.append(Shown("lab-curves", name, chart, "Mean over seeds; the band is its 95% interval."))
    return Section(
        "How many columns are enough",
        "The same task and recipe with narrower and narrower models, beside the merged model, whose full matrix has "
        "no such limit.",
        figures,
    )


def _on_the_way(run: LabRun, ranks: list[int], log_n: float) -> Section:
    figures = []
    shown = [rank for rank in ranks if rank in (3, 4, 8, 16, 128)] or ranks
    for name, title, column in (
        ("train", "Loss on what was stated", "train_loss"),
        ("test", "Loss on what nobody stated", "implication_loss_test"),
    ):
        lines = tuple(
            run.line(f"d_h = {rank}", style, "step", column, model="factorised", head_dimension=rank)
            for style, rank in enumerate(shown)
        )
        references = (("log n", log_n),) if column != "train_loss" else ()
        chart = Chart(title, "training step", "nats", lines, references, log_x=True)
        figures.append(Shown("lab-curves", name, chart, "Paper's recipe."))
    return Section(
        "On the way", "Narrow models learn the stated rows later, and the unstated ones later still.", figures
    )


STARTS = {
    "symmetric": "Symmetric start, exact gradients",
    "symmetric-perturbed": "Symmetric start with a small random part, exact gradients",
    "random": "Random start, sampled batches (the paper's recipe)",
}


def tell_key_query(run: LabRun) -> PageContent:
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
    return PageContent(
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
                    Shown("lab-curves", f"loss-{start}", _key_query_chart(run, start, title, log_n), _caption(start))
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


def _key_query_chart(run: LabRun, start: str, title: str, log_n: float) -> Chart:
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


ARCHITECTURE_KINDS = ("factorised", "merged")


def tell_architecture(run: LabRun) -> PageContent:
    """Accuracy of both models for every variant, and losses against time."""
    contrast = {name: run.record.details["contrast"][name] for name in run.record.details["order"]}
    holds = [name for name, metric in contrast.items() if metric["low"] is not None and metric["low"] > 0]
    none = [name for name in contrast if name not in holds]
    facts = [
        (name, number(metric["value"]), f"interval {number(metric['low'])} to {number(metric['high'])}")
        for name, metric in contrast.items()
    ]
    return PageContent(
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
                [
                    Shown("lab-curves", f"way-{i}", _architecture_chart(run, name), "")
                    for i, name in enumerate(contrast)
                ],
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
        for kind in ARCHITECTURE_KINDS:
            m = run.metric(f"{name} / {kind}", metric)
            points.append(Point(0.0, m["value"], m["low"], m["high"], m["n"]))
        found.append(Pair(name, tuple(points)))
    titles = {
        "implication_accuracy_test": ("Share answered as the class would", "share", None),
        "train_loss": ("Loss on what was stated", "nats", None),
        "implication_loss_test": ("Loss on what nobody stated", "nats", ("log n", run.record.details["log_n"])),
    }
    title, unit, reference = titles[metric]
    return Pairs(title, unit, ARCHITECTURE_KINDS, tuple(found), reference)


def _architecture_chart(run: LabRun, variant: str) -> Chart:
    lines = tuple(
        run.line(kind, style, "step", "implication_loss_test", variant=variant, model=kind)
        for style, kind in enumerate(ARCHITECTURE_KINDS)
    )
    return Chart(variant, "training step", "nats", lines, (("log n", run.record.details["log_n"]),), log_x=True)


def tell_dial(run: LabRun) -> PageContent:
    """The size of the start, the norm, and added rows."""
    details = run.record.details
    main = run.mask(model="factorised", **_main(run))
    sigmas = sorted(set(run.columns["sigma"][main].tolist()))
    ends = [
        points_of(run.columns["sigma"][main], run.columns["margin_ratio_test"][main].astype(float))[i] for i in (0, -1)
    ]
    lone = next(row for row in details["abstaining"] if row["norm"] == "nuclear" and row["count"] == 1)
    none = next(row for row in details["abstaining"] if row["norm"] == "nuclear" and row["count"] == 0)
    return PageContent(
        title=_dial_title(ends[0].mean, ends[1].mean),
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


def _dial_title(small: float, large: float) -> str:
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
        "Between the two exact solutions lie those of least (1 − t) · nuclear + t · Frobenius norm. At t = 0 stands "
        "the "
        "margin of the one, at t = 1 that of the other.",
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
