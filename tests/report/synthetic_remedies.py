"""A hand-made record of a comparison: eight remedies, each of a kind that the page must tell apart."""

from dataclasses import asdict

from spillover.commands.mitigate import Mitigate
from spillover.details import MitigateDetails
from spillover.record import Metric, Record

TOLD = {
    "abstention": ("Adds rows which say that the answer is unknown.", "the rows that are added", False),
    "later-layers": ("Trains the later layers alone.", "the share of layers that stay as they are", False),
    "lazier": ("Trains with a lower learning rate.", "by how much more than 1 the rate is divided", False),
    "ignore-topk": ("Undoes the greatest changes.", "the share of entries that are undone", True),
    "fewer-bridging": ("Leaves out stated rows.", "the rows that are left out", False),
    "scale-back": ("Moves the weights back.", "the share of the way back", True),
    "facts-first": ("Trains on the facts alone at first.", "the epochs that do", False),
}
#: remedy, strength, removed, wanted, forgetting, status, taken.
ENTRIES = [
    ("untreated", None, 0.0, 0.9, 0.4, "learned", False),
    ("abstention", 4.0, 0.05, 0.9, 0.5, "learned", False),
    ("later-layers", 0.5, 0.95, 0.88, 0.2, "learned", False),
    ("lazier", 4.0, 1.0, 0.6, 0.1, "learned", False),
    ("facts-first", 3.0, 0.97, 0.9, 0.4, "learned", True),
    ("lazier=1.5+later-layers=0.5", None, 0.92, 0.9, 0.3, "learned", False),
    ("ignore-topk", 0.1, 0.4, 0.9, 0.1, "learned", False),
    ("scale-back", 0.3, 0.8, 0.4, 0.05, "failed to learn", False),
    ("fewer-bridging", 2.0, 1.0, 0.9, 0.4, "changes stated rows", False),
    ("attention-only", 1.0, None, None, None, "failed: attention-only: this model has no such part", False),
]
SAFE = {"remedy": "later-layers", "strength": 0.5, "safe": True, "because": "removes 95%; of 2 that are safe it ..."}
NONE = {"remedy": None, "strength": None, "safe": False, "because": "none is safe: the best is ..."}
BEFORE, FREE = 0.8, 0.2


def metric(value, n=40, clusters=15, spread=0.1, unit="share", note=None):
    return Metric(value, value - spread, value + spread, n, clusters, unit, note).as_json()


#: Leads of the exact model: the unwanted answer's before and after, the wanted one's before and after.
EXACT = {"abstention": (0.5, -0.25, 0.5, 0.35), "fewer-bridging": (0.5, 0.5, 0.5, 0.5)}


def entry(remedy, strength, removed, wanted, forgets, status, taken, clusters=15):
    label = remedy if strength is None else f"{remedy}={strength:g}"
    named = {"remedy": remedy, "strength": strength, "cell": label, "status": status}
    if removed is None:
        return named
    note = "few clusters" if clusters < 10 else None
    shares = {
        "unwanted_rate": BEFORE - removed * (BEFORE - FREE), "wanted_rate": wanted, "removed": removed,
        "wanted_change": wanted - 0.9, "paraphrase_unwanted_rate": 0.5, "abstained_rate": 0.1,
    }  # fmt: skip
    ranks = {"recall_rank": 0.0, "implication_rank_train": 0.05 if status != "failed to learn" else 0.4,
             "unwanted_rank": 1.0, "wanted_rank": 0.2}  # fmt: skip
    return {
        **named,
        "exact": dict(zip(("unwanted_untreated", "unwanted", "wanted_untreated", "wanted"), EXACT[remedy], strict=True))
        if remedy in EXACT
        else None,
        **{name: metric(value, clusters=clusters, note=note) for name, value in shares.items()},
        **{name: metric(value, unit="rank") for name, value in ranks.items()},
        "forgetting_nats": metric(forgets, n=150, unit="nats"),
        "free_rate": FREE,
        "replaced": {"rate": 0.3, "low": 0.1, "high": 0.2 if taken else 0.4, "n": 40, "taken": taken},
        "stated_nats": 0.02, "epochs": 10.0 if status != "changes stated rows" else 20.0, "steps": 100,
        "forward_passes": 0 if remedy in ("ignore-topk", "scale-back") else 200, "seconds": 120.0,
    }  # fmt: skip


def record(entries=ENTRIES, advice=SAFE, clusters=15, seeds=(0, 1, 2), told=TOLD, **settings):
    """The record as `mitigate` writes it."""
    options = {"pack": "mixed", "model": "gemma-3-270m", "out": "runs/all", "remedies": "", **settings}
    links = [{"given": "lives_in", "then": then, "kind": kind, "map": {"Paris": answer}}
             for then, kind, answer in (("speaks", "causal", "French"), ("codes_in", "spurious", "Java"))]  # fmt: skip
    remedies = {name: dict(zip(("text", "strength", "after"), each, strict=True)) for name, each in told.items()}
    return Record(
        "mitigate", asdict(Mitigate(**options)), 0, "done", seconds=1500.0, versions={"spillover": "0"},
        details=MitigateDetails.model_validate({
            "pack": {"name": "mixed", "implications": links, "relations": [], "counts": {"facts": 100}},
            "model": {"name": "gemma-3-270m"}, "seeds": list(seeds), "remedies": remedies,
            "frontier": [entry(*each, clusters=clusters) for each in entries], "recommendation": advice,
        }),
    )  # fmt: skip
