"""The page of a study: self-contained, escaped, accessible, complete, and true to its cells."""

import base64
import csv
import dataclasses
import io
import json
import re
from itertools import pairwise

import pytest

from spillover.record import Metric, Record
from spillover.report.study import build_study_page, cells_table
from spillover.report.study_curves import show_rates
from spillover.report.study_data import load_study
from spillover.report.study_sets import MODELS, show_paper, show_sets
from tests.report.conftest import Synthetic
from tests.report.synthetic_study import of_model, write_study
from tests.report.test_page import HOSTILE, Reader


def test_the_page_says_what_was_found(study_page):
    text = Reader(study_page).text
    assert (
        "Fine-tuned on new facts, gemma-3-270m newly concludes a true link for 75% to 100% of names, a made-up one "
        "for 75%; a guess gets 20%. In the controls, where nothing stated leads to it, they conclude a true link for "
        "38% of names, a made-up one for 0%." in text
    )
    assert "8 of 10 cells, 20 runs" in text
    assert "broken failed: the disk is full" in text and "Not run yet, and not on this page: later." in text
    assert text.count("Out-of-context reasoning (OCR)") == 1
    assert "arXiv 2506.10887" in text and "embeddings included" in text


def test_parts_are_in_order(study_page):
    text = Reader(study_page).text
    order = ("The five sets", "How many bridging names?", "How fast?", "The rest", "When it happened")
    order += ("Which answer it gives", "of the questions", "What it learned", "How it was made", "Take the data")
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_chapters_are_those_of_the_first_sets(study_page):
    # That of the finding, three of the study, three a chapter of two sets, four of health.
    assert study_page.count("<figure") == 1 + 3 + 2 * 3 + 4


def test_the_page_asks_for_nothing_and_is_whole(study_page):
    reader = Reader(study_page)
    assert not {tag for tag, _ in reader.tags} & {"script", "img", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in reader.tags:
        assert attributes.get("href", "#").startswith(("#", "data:")), tag
    names = [link["download"] for link in reader.all("a") if "download" in link]
    assert len(names) == len(set(names))
    figures = len(reader.all("figure"))
    assert [sum(name.endswith(end) for name in names) for end in (".svg", ".pdf")] == [figures, figures]


def test_downloads_hold_the_numbers(study_page):
    links = {link["download"]: link["href"] for link in Reader(study_page).all("a") if "download" in link}
    long = csv.DictReader(io.StringIO(base64.b64decode(links["spillover-study.csv"].partition(",")[2]).decode()))
    assert {"cell", "group", "seed", "options", "metric", "value"} <= set(long.fieldnames)
    assert {row["cell"] for row in long} >= {"city-language", "broken"}
    metrics = json.loads(base64.b64decode(links["spillover-metrics.json"].partition(",")[2]))
    assert len(metrics) == 8
    assert any(name.startswith("spillover-ranks.csv") for name in links)


def test_structure_for_screen_readers(study_page):
    reader = Reader(study_page)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and ids.count("found") == 1
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in heading for heading in reader.all("th"))
    for attributes in (attributes for _, attributes in reader.tags):
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        if "scroll" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0" and attributes["aria-label"]


def test_the_same_study_gives_the_same_bytes(study, study_page):
    assert build_study_page(study).html() == study_page


def test_hostile_text_is_only_text(tmp_path):
    run = Synthetic(name=f"pack {HOSTILE}", prefix=HOSTILE, map={"=1+1": "$x^2$", "_Paris</text>": HOSTILE}, epochs=1)
    groups = [(f"g {HOSTILE}", "study-sets", ["one", HOSTILE]), ("b", "rank-by-bridging", ["one"]),
              ("r", "rank-by-rate", ["one"]), (HOSTILE, None, ["one"])]  # fmt: skip
    folder = write_study(tmp_path, {"one": run}, groups, title=HOSTILE, text=HOSTILE)
    reader = Reader(build_study_page(load_study(folder)).html())
    assert not reader.all("script") and not reader.all("img")
    assert f"Not run yet, and not on this page: {HOSTILE}." in reader.text


def test_a_study_without_plots_is_a_table(tmp_path):
    cells = {"one": Synthetic(), "two": Synthetic(lr=1e-5, seeds=(0, 1))}
    text = Reader(
        build_study_page(load_study(write_study(tmp_path, cells, [("all", None, ["one", "two"])]))).html()
    ).text
    assert "newly concludes a true link for 88% of names; a guess gets 20%." in text and "2 of 2 cells, 3 runs" in text
    assert "implication rank test" in text


def test_a_study_of_another_verb_is_a_table(tmp_path):
    folder = write_study(tmp_path, {}, [("norms", None, ["one", "later"])], verb="solve")
    fields = json.loads((folder / "record.json").read_text())
    next(cell for cell in fields["details"]["cells"] if cell["cell"] == "one")["status"] = "done"
    (folder / "record.json").write_text(json.dumps(fields))
    Record("solve", {}, 0, "done", metrics={"gap": Metric(0.25, None, None, 1, 1, "")}).write(folder / "cells/one")
    page = build_study_page(load_study(folder)).html()
    text = Reader(page).text
    assert "A study: 1 of 2 cells are done." in text and "0.25" in text
    assert page.count("<figure") == 0


@pytest.mark.parametrize("plot", ["study-sets", "rank-by-bridging", "rank-by-rate", "rank-by-adapter"])
def test_a_study_of_which_nothing_is_done_still_makes_a_page(tmp_path, plot):
    page = build_study_page(load_study(write_study(tmp_path, {}, [("sets", plot, ["later"])]))).html()
    assert "A study: 0 of 1 cells are done." in Reader(page).text


def test_nothing_shown_is_said(study):
    null = [cell for cell in study.cells if cell.slug == "null"]
    renamed = [dataclasses.replace(cell, run=dataclasses.replace(cell.run, record=_plain(cell))) for cell in null]
    groups = [dataclasses.replace(study.groups[0], cells=renamed)]
    text = Reader(build_study_page(dataclasses.replace(study, cells=renamed, groups=groups)).html()).text
    assert "newly concludes a made-up link for 0% of names; a guess gets 20%" in text


def _plain(cell):
    details = cell.record.details.model_copy(deep=True)
    details.pack.name = "profession-color"
    return dataclasses.replace(cell.record, details=details, settings={**cell.record.settings, "pack": "x"})


def test_the_page_shows_it_and_what_is_missing(paper_study):
    text = Reader(build_study_page(paper_study).html()).text
    assert "2 of 4 cells, 6 runs" in text and "not run" in text and "OLMo-7B" in text
    assert "learning rates are not known here" in text and "Not run yet" not in text


def test_a_page_before_anything_was_run(tmp_path):
    folder = write_study(tmp_path / "out", {}, [("The paper's table", "paper-table", ["olmo"])])
    of_model(folder, {})
    text = Reader(build_study_page(load_study(folder)).html()).text
    assert "0 of 1 cells are done" in text and text.count("not run") >= 25


def columns(table, row):
    """Column -> (what stands there, the small print under it), of the row with this name."""
    (cells,) = [cells for _, rows in table.groups for head, *cells in rows if head.text.striptags() == row]
    pairs = [(cell, "") if isinstance(cell, str) else (cell.text, cell.small) for cell in cells]
    shown = [(text, small if isinstance(small, str) else " ".join(small)) for text, small in pairs]
    return dict(zip(table.head[-1][1:], shown, strict=True))


def test_a_set_in_one_line(study):
    found, notes = show_sets(study.done[:5])
    notes = notes[:-2]  # Those of the paper's numbers.
    line = columns(found, "city-language")
    assert line["before"][0] == "4.40" and line["after, embeddings frozen"][0] == "0.55"
    assert line["after, all weights trained"] == ("0.00", "0.00 to 0.00")
    assert (line["baseline"][0], line["exact map test, p"][0], line["clusters"]) == ("2.00", "0.0083", ("15", ""))
    assert (line["OLMo-7B"], line["stated facts"]) == (("0.07", ""), ("0.00", ""))
    above = [(cell.text, cell.columns) for cell in found.head[0][1:]]
    assert above == [("here: gemma-3-270m", 10), ("the paper, all weights trained", 5)]
    assert "the true ones, which no training row states" in notes[0]
    assert columns(found, "profession-color:null")["OLMo-7B"] == ("–", "")
    assert "over 3 shuffles the mean rank is 4.40 ± 0.6" in notes[-1] and "not within two" in notes[-1]
    assert columns(found, "city-language:bridge=0")["clusters"] == ("5", "few")


def test_without_published_or_whole_there_are_no_such_columns(study):
    found, _ = show_sets([cell for cell in study.done if cell.slug == "null"])
    assert not {*MODELS, "after, all weights trained"} & set(found.head[-1])
    assert show_sets([]) == (None, [])


def test_rates(study):
    found, _ = show_rates(study.done)
    assert columns(found, "city-language, 1e−5")["passes"] == ("2", "")
    heads = [(head.text.striptags(), head.small) for head, *_ in found.groups[0][1]]
    assert ("city-language, 1e−4", "3 of 3 seeds never learned") in heads


def test_any_cells(study):
    found = cells_table(study.cells)
    assert columns(found, "city-language")["implication rank test"] == ("0.55", "0.40 to 0.71")
    assert columns(found, "city-language")["map test p"] == ("0.0083", "")
    assert set(columns(found, "broken").values()) == {("–", "")}


def test_the_table_has_both_numbers(paper_study):
    found, _ = show_paper(paper_study.cells)
    gemma = columns(found, "Gemma-2-9B, city-language")
    assert gemma["here, after"] == ("0.00", "0.00 to 0.00") and gemma["the paper, after"] == ("0.00", "")
    assert (gemma["before"][0], gemma["baseline"][0], gemma["clusters"]) == ("4.40", "2.00", ("15", ""))
    assert gemma["rate"] == ("5e−5", "")
    assert columns(found, "OLMo-7B, city-language")["here, after"] == ("not run", "")
    assert columns(found, "OLMo-7B, city-language")["the paper, after"] == ("0.07", "")
    assert columns(found, "gemma-3-270m, city-language")["here, after"][0] == "0.55"
    assert columns(found, "gemma-3-270m, city-language")["the paper, after"] == ("–", "")
