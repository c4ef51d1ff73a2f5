"""Pages of the lab: self-contained, complete, and saying what the numbers say."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa

from spillover.commands.experiments import EXPERIMENTS
from spillover.details import LabDetails
from spillover.record import Record
from spillover.report.lab import PAGES, LabRun, build_lab_page

EXACT = {
    "nuclear": {"norm": 5.0, "margin_ratio_test": 0.6},
    "frobenius": {"norm": 3.0, "margin_ratio_test": 0.0},
    "cosine": 0.93,
}


def metric(value, spread=0.01, n=3):
    return {"value": value, "low": value - spread, "high": value + spread, "n": n, "clusters": n, "unit": ""}


def two_models(factorised=0.97, merged=0.05):
    rows = []
    for arm in ("paper", "exact"):
        for model, level in (("factorised", factorised), ("merged", merged)):
            for seed in (0, 1, 2):
                for step in (0, 10, 100):
                    numbers = ("train_loss", "implication_loss_test", "cosine_to_nuclear", "cosine_to_frobenius")
                    more = ("nuclear_over_margin", "frobenius_over_margin", "margin_ratio_test")
                    found = dict.fromkeys((*numbers, *more), 0.1 + level + 0.01 * seed)
                    found["implication_accuracy_test"] = level
                    if step == 0:
                        found["nuclear_over_margin"] = None
                    rows.append({"arm": arm, "model": model, "seed": seed, "step": step, **found})
    metrics = {
        model: {"implication_accuracy_test": metric(level), "implication_loss_test": metric(1 - level)}
        for model, level in (("factorised", factorised), ("merged", merged))
    }
    beside = {
        "cosine_difference": metric(0.1),
        "paper_arm": {"cosine_to_nuclear": metric(0.5), "cosine_to_frobenius": metric(0.4)},
    }
    details = {
        "log_n": float(np.log(2)),
        "task": {"classes": 2, "train": 1, "test": 1},
        "factorised": beside,
        "merged": {**beside, "cosine_difference": metric(-0.1)},
        "exact": EXACT,
        "arms": {"paper": {"rate": 0.005}},
    }
    record = Record(
        "lab two-models", {"preset": "two-models"}, 0, "done", metrics=metrics, details=LabDetails(**details)
    )
    matrices = {name: np.arange(24.0).reshape(4, 6) for name in ("factorised", "merged", "nuclear", "frobenius")}
    return LabRun(record, pa.Table.from_pylist(rows), matrices)


class Balance(HTMLParser):
    """Every element that opens closes; collects addresses that something would be loaded from."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self):
        super().__init__()
        self.open, self.loaded = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.loaded += [value for name, value in attributes if name in ("src", "href") and value]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing():
    page = build_lab_page(two_models()).html()
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert {value.split(":")[0].split("#")[0] for value in balance.loaded} <= {"data", ""}
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "mathdefault" not in page
    assert page.count("<figure") == 9
    assert page.count('">PDF</a>') == page.count('">SVG</a>') == page.count('">CSV</a>') == 9


def test_the_same_run_gives_the_same_page():
    assert build_lab_page(two_models()).html() == build_lab_page(two_models()).html()


def test_the_title_and_the_cards_follow_the_numbers():
    page = build_lab_page(two_models(0.97, 0.05)).html()
    assert "answers 97% of what nobody stated" in page
    assert "the merged one 5%" in page
    assert (
        "Nearer than to the one of least Frobenius norm" in page
        and "Nearer than to the one of least nuclear norm" in page
    )
    assert "answers 40% of what nobody stated" in build_lab_page(two_models(0.4, 0.3)).title


def test_text_of_a_record_is_escaped():
    run = two_models()
    record = dataclasses.replace(run.record, versions={"<script>alert(1)</script>": "1"})
    page = build_lab_page(dataclasses.replace(run, record=record)).html()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_curves_are_means_with_intervals_and_gaps():
    table = pa.table({"place": [1.0, 1.0, 2.0, 2.0], "value": [1.0, 3.0, 5.0, np.nan], "arm": ["a"] * 4})
    curve = LabRun(Record("lab", {}, 0), table, {}).curve("place", "value", arm="a")
    assert [(x, each.value, each.low, each.high, each.n) for x, each in curve.items()] == [(1.0, 2.0, 1.0, 3.0, 2)]


def test_every_preset_has_a_page():
    assert set(PAGES) == set(EXPERIMENTS)
