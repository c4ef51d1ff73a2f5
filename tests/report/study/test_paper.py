"""The paper's table: ours beside the paper's, model by model, and what is missing said to be missing."""

import json
from pathlib import Path

import pytest

from spillover.record import RECORD, Record
from spillover.report.study import build_study_page
from spillover.report.study_data import MODELS, RANKS, beside, load_study, name_of, paper_rows, paper_table
from tests.report.conftest import Synthetic
from tests.report.synthetic_study import write_study
from tests.report.test_page import Reader

PLOT = "paper-table"


def of_model(folder: Path, models: dict[str, str]):
    """Say in records and study what model each cell is of."""
    for slug, model in models.items():
        for path in (folder / "cells" / slug).rglob(RECORD):
            own = json.loads(path.read_text())
            own["settings"]["model"] = model
            path.write_text(json.dumps(own))
    record = Record.read(folder)
    cells = [{**cell, "options": {**cell["options"], "model": models.get(cell["cell"], "olmo-7b"),
              "pack": cell["options"].get("pack", "city-language")}} for cell in record.details["cells"]]  # fmt: skip
    record.details = {**record.details, "cells": cells}
    record.write(folder)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Gemma on one set, all right; Gemma-3-270M on the same; OLMo waits, and Qwen failed."""
    folder = tmp_path_factory.mktemp("paper") / "out"
    cells = {"gemma": Synthetic(seeds=(0, 1, 2), right=8, freeze=False), "small": Synthetic(seeds=(0, 1, 2), right=7)}
    write_study(folder, cells, [("The paper's table", PLOT, ["gemma", "small", "olmo", "broken"])])
    of_model(folder, {"gemma": "google/gemma-2-9b", "small": "gemma-3-270m", "broken": "qwen2-7b"})
    return load_study(folder)


def row(rows, model, pack="city-language"):
    (found,) = [each for each in rows if (each.model, each.pack) == (model, pack)]
    return found


def test_every_number_of_the_paper_has_a_row(table):
    rows = paper_rows(table.cells)
    assert len(rows) == 25 + 1
    assert [(each.model, each.pack) for each in rows[:25]] == [(m, p) for m in MODELS for p in RANKS]
    assert row(rows, "OLMo-7B", "country-code").published == 0.15 and row(rows, "Gemma-2-9B").published == 0.0
    assert row(rows, "gemma-3-270m").published is None
    states = {row(rows, model).state for model in ("Llama-3-8B", "OLMo-7B")}
    assert states == {"not run"} and row(rows, "Qwen-2-7B").state == "failed" and row(rows, "Gemma-2-9B").state == ""


def test_the_table_has_both_numbers(table):
    found = paper_table(paper_rows(table.cells))
    line = {name: dict(zip(found.columns, fields, strict=True)) for name, _, fields in found.rows}
    gemma = line["Gemma-2-9B, city-language"]
    assert gemma["here, after"] == ("0.00", "0.00 to 0.00") and gemma["the paper, after"] == ("0.00", "")
    assert (gemma["before"][0], gemma["yardstick"][0], gemma["clusters"]) == ("4.40", "2.00", ("15", ""))
    assert gemma["rate"] == ("5e−5", "")
    assert line["OLMo-7B, city-language"]["here, after"] == ("not run", "")
    assert line["OLMo-7B, city-language"]["the paper, after"] == ("0.07", "")
    assert line["gemma-3-270m, city-language"]["here, after"][0] == "0.55"
    assert line["gemma-3-270m, city-language"]["the paper, after"] == ("–", "")


def test_agreement_is_counted(table):
    told = beside(paper_rows(table.cells))
    assert told == [
        "Of 1 numbers that both have, 1 of the paper’s lie within our interval.",
        "24 of the paper’s 25 numbers have none of ours beside them.",
    ]


def test_the_page_shows_it_and_what_is_missing(table):
    text = Reader(build_study_page(table)).text
    assert "2 of 4 cells are done" in text and "not run" in text and "OLMo-7B" in text
    assert "learning rates are not known here" in text and "Not run yet" not in text


def test_a_page_before_anything_was_run(tmp_path):
    folder = write_study(tmp_path / "out", {}, [("The paper's table", PLOT, ["olmo"])])
    of_model(folder, {})
    text = Reader(build_study_page(load_study(folder))).text
    assert "0 of 1 cells are done" in text and text.count("not run") >= 25


def test_names():
    assert name_of("Qwen/Qwen2-7B") == name_of("qwen2-7b") == "Qwen-2-7B" and name_of("mine") == "mine"
