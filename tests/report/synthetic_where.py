"""A hand-made record of `where`: mlp carries the facts, output-value the unwanted conclusions, nothing the wanted."""

from dataclasses import asdict

from spillover.commands.where import Where
from spillover.details import Details
from spillover.record import Metric, Record

#: part, kind -> (recall, links, wanted, unwanted) alone, and in the tuned model without it.
ENDS = {"nothing": (0.1, 0.1, 0.2, 0.0), "everything": (1.0, 1.0, 0.9, 0.8), "linearised": (0.7, 0.8, 0.9, 0.1)}
PARTS = {
    ("output-value", "component"): ((0.3, 0.4, 0.3, 0.6), (0.8, 0.9, 0.8, 0.1)),
    ("mlp", "component"): ((0.82, 0.7, 0.4, 0.1), (0.28, 0.4, 0.5, 0.6)),
    ("layer 1", "layer"): ((0.2, 0.2, 0.2, 0.2), (0.9, 0.9, 0.9, 0.7)),
    ("layer 2", "layer"): ((0.6, 0.5, 0.4, 0.5), (0.4, 0.4, 0.4, 0.2)),
    ("outside the layers", "layer"): ((0.1, 0.1, 0.2, 0.0), (1.0, 1.0, 0.9, 0.8)),
}
#: The same by position: the subject's tokens carry the facts, the last token the unwanted conclusions.
POSITIONS = {
    ("subject, every layer", "position"): ((0.91, 0.8, 0.4, 0.0), (0.19, 0.3, 0.8, 0.8)),
    ("last token, every layer", "position"): ((0.1, 0.2, 0.55, 0.6), (0.9, 0.8, 0.2, 0.0)),
    ("subject, layers 1-2", "position"): ((0.5, 0.6, 0.3, 0.0), (0.6, 0.7, 0.8, 0.8)),
    ("last token, layers 1-2", "position"): ((0.1, 0.1, 0.25, 0.4), (1.0, 0.9, 0.5, 0.3)),
    ("subject, behind layer 2", "activation"): ((0.1, 0.1, 0.2, 0.0),),
    ("last token, behind layer 2", "activation"): ((1.0, 1.0, 0.9, 0.8),),
}
GROUPS = ("recall", "links", "wanted", "unwanted")
MOVED = {"everything": 0.01, "output-value": 0.02, "mlp": 0.005, "layer 1": 0.004, "layer 2": 0.016,
         "outside the layers": 0.001}  # fmt: skip


def metric(value, clusters=15, unit="share"):
    return Metric(value, max(0.0, value - 0.05), min(1.0, value + 0.05), 60, clusters, unit).as_json()


def entry(part, kind, left_out, rates, clusters):
    found = {"part": part, "kind": kind, "left_out": left_out, "moved": MOVED.get(part)}
    for group, rate in zip(GROUPS, rates, strict=True):
        found[f"{group}_rate"] = metric(rate, clusters)
        found[f"{group}_rank"] = metric(3 * (1 - rate), clusters, "rank")
    for group in ("wanted", "unwanted"):
        found[f"{group}_free"] = {**metric(0.2, clusters), "low": None, "high": None}
    return found


def record(parts=PARTS, clusters=15, **changes):
    entries = [entry(name, "whole", False, rates, clusters) for name, rates in ENDS.items()]
    for (name, kind), sides in parts.items():
        entries += [entry(name, kind, bool(side), rates, clusters) for side, rates in enumerate(sides)]
    figures = {"cosine": metric(0.6), "relative_error": metric(0.8), "cosine_between": metric(0.9),
               "relative_error_between": metric(0.4)}  # fmt: skip
    return Record(
        command="where", settings=asdict(Where(run="runs/mixed", out="runs/where")), seed=0, status="done",
        identity="0123456789abcdef", hashes={"pack": "ab" * 32},
        details=Details.read("where", {
            "pack": {"name": "mixed"}, "seeds": [0, 1, 2], "parts": entries,
            "trained": {"pack": "mixed:names=60", "model": "gemma-3-270m", "lora": 0, "freeze_embeddings": True,
                        "lr": 5e-5},
            "laziness": {"how": "forward mode", "moved": MOVED, "alignment": dict.fromkeys(GROUPS, figures)}, **changes,
        }),
    )  # fmt: skip
