"""A synthetic study: five cells of sets, bridging names and rates, one that failed and one that waits."""

import json
from pathlib import Path

from spillover.details import SweepDetails
from spillover.record import RECORD, Record
from tests.report.conftest import SHIFTED, Synthetic, write_run

SEEDS = (0, 1, 2)
FALSE = {"name": "city-language-counterfactual", "kind": "counterfactual", "map": dict(SHIFTED), "right": 6}
CELLS = {
    "city-language": Synthetic(seeds=SEEDS),
    "counterfactual": Synthetic(seeds=SEEDS, **FALSE),
    "null": Synthetic(name="profession-color:null", kind="spurious", right=0, seeds=SEEDS),
    "all weights": Synthetic(seeds=SEEDS, freeze=False, right=8),
    "bridge=0": Synthetic(name="city-language:bridge=0", bridge=0, right=3),
    "bridge=1": Synthetic(name="city-language:bridge=1", bridge=1, right=6),
    "slow": Synthetic(seeds=SEEDS, lr=1e-5, epochs=5, learns=2, ends={0: 2, 1: 5}),
    "never": Synthetic(seeds=SEEDS, lr=1e-4, learns=9),
}
GROUPS = [
    ("The five sets", "study-sets", ["city-language", "counterfactual", "broken"]),
    ("Controls", "study-sets", ["null", "bridge=0", "all weights"]),
    ("How many bridging names?", "rank-by-bridging", ["bridge=0", "bridge=1", "city-language"]),
    ("How fast?", "rank-by-rate", ["slow", "city-language", "never", "later"]),
    ("The rest", None, ["city-language", "broken"]),
]


def write_study(folder: Path, cells=None, groups=None, title="A study", verb="inject", **text) -> Path:
    """Write the cells' runs and the study's record."""
    cells, groups = CELLS if cells is None else cells, GROUPS if groups is None else groups
    for slug, run in cells.items():
        own = folder / "cells" / slug
        write_run(own, run)
        for seed in run.seeds if len(run.seeds) > 1 else ():
            alone = Synthetic(**{**vars(run), "seeds": (seed,), "epochs": run.last(seed), "ends": {}})
            write_run(own / f"seed-{seed}", alone)
    told = [
        {"cell": slug, "verb": verb, "options": {"pack": run.name, "lr": run.lr}, "seeds": list(run.seeds),
         "status": "done", "error": None, "seconds": 12.0}
        for slug, run in cells.items()
    ]  # fmt: skip
    named = {slug for _, _, slugs in groups for slug in slugs} - set(cells)
    for slug in sorted(named):
        status = "failed" if slug == "broken" else "waiting"
        error = "the disk is full" if slug == "broken" else None
        told.append({"cell": slug, "verb": verb, "options": {}, "seeds": [0], "status": status, "error": error})
    about = {
        "name": "toy", "title": title, "text": text.get("text", "Synthetic runs."),
        "groups": [
            {"name": name, "text": "Words of the group.", "plot": plot, "cells": slugs} for name, plot, slugs in groups
        ],
    }  # fmt: skip
    Record("sweep", {"study": "toy.yaml"}, 0, "done", details=SweepDetails(study=about, cells=told)).write(folder)
    return folder


def of_model(folder: Path, models: dict[str, str]):
    """Say in records and study what model each cell is of."""
    for slug, model in models.items():
        for path in (folder / "cells" / slug).rglob(RECORD):
            own = json.loads(path.read_text())
            own["settings"]["model"] = model
            path.write_text(json.dumps(own))
    record = Record.read(folder)
    for cell in record.details.cells:
        cell.options = {"pack": "city-language", **cell.options, "model": models.get(cell.cell, "olmo-7b")}
    record.write(folder)
