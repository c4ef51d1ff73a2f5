"""Rates and ranks of stated facts, stated links and conclusions, counted by hand."""

import pyarrow as pa

from spillover.metrics.patching import patched_metrics, ranks_of, where_rows
from spillover.record import WHERE_SCHEMA

COLUMNS = {
    "subject": ["A", "B", "A", "A", "B", "C", "A"],
    "relation": ["lives", "lives", "speaks", "speaks", "speaks", "codes", "codes"],
    "implication": [None, None, "l->s", "l->s", "l->s", "l->c", "l->c"],
    "cluster": ["Paris", "Rome", "Paris", "Paris", "Rome", "Paris", "Rome"],
    "stated": [True, True, True, False, False, False, False],
    "expected": ["x", "y", "f", "f", "g", "j", "k"],
    "top": ["x", "z", "f", "f", "f", "k", "k"],
    "rank": [0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0],
}


def make():
    same = {"seed": [0] * 7, "part": ["mlp"] * 7, "kind": ["component"] * 7, "left_out": [True] * 7}
    columns = COLUMNS | same
    return pa.table({name: columns[name] for name in WHERE_SCHEMA.names}, schema=WHERE_SCHEMA)


def test_by_hand():
    found = patched_metrics(ranks_of(make()), ["l->c"], ["l->s"])
    values = {name: metric and metric.value for name, metric in found.items()}
    assert values == {
        "recall_rate": 0.5, "recall_rank": 1.0, "links_rate": 1.0, "links_rank": 0.0, "wanted_rate": 0.5,
        "wanted_rank": 0.5, "wanted_free": 0.5, "unwanted_rate": 0.5, "unwanted_rank": 1.5, "unwanted_free": 0.5,
    }  # fmt: skip
    assert patched_metrics(ranks_of(make()), [], ["l->s"])["unwanted_rate"] is None


def test_rows_of_a_part_are_those_that_its_ranks_came_from():
    assert where_rows(ranks_of(make()), "mlp", "component", True) == make()
