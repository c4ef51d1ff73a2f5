"""The page of rank-sweep: how many columns are enough."""

from __future__ import annotations

import numpy as np

from spillover.report.lab.page import Section, Shown, Told
from spillover.report.lab.run import LabRun, points_of
from spillover.report.plots.lab_curves import Chart, Line
from spillover.report.words import number


def tell(run: LabRun) -> Told:
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
    return Told(
        title=f"To conclude nine tenths of what nobody stated, {what}.",
        facts=facts,
        sections=[_at_the_end(run, log_n), _on_the_way(run, ranks, log_n)],
        terms=[
            ("d_h", "The head dimension: columns of W_O and W_V, hence the highest rank that their product can have.")
        ],
        notes=_notes(run, ranks),
    )


def _notes(run: LabRun, ranks: list[int]) -> list[str]:
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
