"""The whole page: self-contained, escaped, deterministic, accessible, and true to its runs."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from spillover.report.load import load_run
from spillover.report.pages import build_runs_page

HOSTILE = "<script>alert(1)</script>$\\frac{$\"'&]]><!--"
VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}


class Reader(HTMLParser):
    """Collects tags with their attributes, texts, and whether every tag is closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def test_the_page_says_what_was_found(page):
    text = Reader(page).text
    assert "something true 35 of 40 times, something untrue 30 of 40 times" in text
    assert "“Name Lima 0 lives in Lima” was stated, “Name Lima 0 speaks Spanish” was not." in text
    assert "The model newly infers 35 of 40 such answers." in text
    assert "The model newly hallucinates 30 of 40 such answers." in text
    assert "one fixed answer for every name: 8 of 40" in text
    assert "Of 120 possible pairings only the expected one fits the answers this well (p = 0.0083)." in text
    assert "5 pairs are too few for an interval to decide" in text
    assert text.count("Out-of-context reasoning (OCR)") == 1


def test_one_run_leads_with_its_own_sentence(make):
    reader = Reader(build_runs_page([make()]).html())
    assert reader.text.count("“Name Lima 0 speaks Spanish” was not.") == 1


def test_what_was_trained_is_said_once_and_every_figure_can_be_taken_away(page):
    reader = Reader(page)
    names = [link["download"] for link in reader.all("a") if "download" in link]
    assert len(names) == len(set(names))
    figures = len(reader.all("figure"))
    assert figures == 1 + 2 * 3 + 4
    assert sum(name.endswith(".svg") for name in names) == figures
    assert sum(name.endswith(".csv") for name in names) >= figures
    assert "2 copies of gemma-3-270m, each with facts of its own; all weights but the embeddings" in reader.text
    assert reader.text.count("ll weights but the embeddings trained.") == 1
    assert "Always giving the same answer would get 8 of 40." in reader.text


def test_the_first_screen_stands_open_and_alone_in_brief(make):
    whole, brief = (build_runs_page([make(kind="spurious")]).html(brief) for brief in (False, True))
    assert len(Reader(whole).all("section")) > 8 and "How it was made" in whole
    reader = Reader(brief)
    assert [each.get("id") for each in reader.all("section")] == ["found", "some", "limits"]
    for said in ("hallucinates 35 of 40", "Next: Compare remedies", "Name Lima 0 speaks … ”, it says Spanish ✗",
                 "this is about the models that were trained with one seed"):  # fmt: skip
        assert said in reader.text and said in Reader(whole).text
    assert "Take the data" not in reader.text and len(brief) < len(whole) / 10
    closed = [tag for tag, attributes in Reader(whole).tags if tag == "details" and "open" not in attributes]
    assert len(closed) > 8


def test_the_page_asks_for_nothing(page):
    reader = Reader(page)
    assert not {tag for tag, _ in reader.tags} & {"script", "img", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in reader.tags:
        assert "src" not in attributes and not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith(("#", "data:")), tag
    styles = [attributes.get("style", "") for _, attributes in reader.tags]
    assert not [style for style in styles if re.search(r"url\((?!#)|@import", style)]
    (policy,) = [meta["content"] for meta in reader.all("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none'")


def test_same_runs_same_bytes(pair, page):
    assert build_runs_page(pair).html() == page


def test_hostile_text_is_only_text(make):
    runs = [
        make(
            name=f"pack {HOSTILE}",
            prefix=HOSTILE,
            map={"=1+1": "$x^2$", "_Paris</text>": "_French", "\u202eevil\x07": HOSTILE},
            names=3,
            right=2,
            epochs=1,
        )
    ]
    reader = Reader(build_runs_page(runs).html())
    assert not reader.all("script") and not reader.all("img")
    assert f"{HOSTILE} =1+1 0 lives in =1+1" in reader.text
    assert "$x^2$" in reader.text and "\x07" not in reader.text and "\u202e" not in reader.text


def test_structure_for_screen_readers(page):
    reader = Reader(page)
    assert reader.all("html") == [{"lang": "en"}]
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in heading for heading in reader.all("th"))
    for svg in reader.all("svg"):
        assert svg["role"] == "img" and set(svg["aria-labelledby"].split()) <= set(ids)
    for attributes in (attributes for _, attributes in reader.tags):
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        if "scroll" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0" and attributes["aria-label"]


def test_how_it_was_made(edit):
    def settle(fields):
        fields["command"] = "inject"
        fields["settings"] |= {"out": "/somewhere/deep/run-1", "lr": 1e-5, "seed": 3, "batch": 8}

    text = Reader(build_runs_page([load_run(edit(settle))]).html()).text
    command = "spillover inject city-language --seed 3 --model gemma-3-270m --out run-1 --epochs 4 --lr 1e-05"
    assert command in text and "/somewhere" not in text
    for part in ("4 min 1 s", "Gemma terms", "BSD-3-Clause", "ab" * 32, "2.13.0", "100,000,000 of 268,000,000"):
        assert part in text


def test_an_interrupted_run_is_shown_as_such(make):
    text = Reader(build_runs_page([make(status="interrupted")]).html()).text
    assert "city-language did not finish" in text
    assert "No verdict. This run did not finish" in text
    assert "35 of 40" in text


def test_a_run_that_measured_nothing_still_makes_a_page(edit):
    folder = edit(lambda fields: None, status="running")
    (folder / "answers.parquet").unlink()
    (folder / "trajectory.parquet").unlink()
    assert "Nothing was measured before this run stopped." in Reader(build_runs_page([load_run(folder)]).html()).text


@pytest.mark.slow
def test_many_kinds_of_runs_make_a_page(make):
    runs = [
        make(seeds=(0, 1, 2)),
        make(implications=False, bridge=0),
        make(epochs=0, right=0),
        make(freeze=False, metrics={}),
    ]
    reader = Reader(build_runs_page(runs).html())
    assert "105 of 120" in reader.text and "open question" in reader.text
    assert "All weights but the embeddings trained; all weights trained." in reader.text


def test_two_links_of_one_run_are_two_stories(edit):
    def add_link(fields):
        link = {"given": "lives_in", "then": "codes_in", "kind": "spurious", "map": {"Paris": "Java"}}
        fields["details"]["pack"]["implications"].append(link)

    text = Reader(build_runs_page([load_run(edit(add_link))]).html()).text
    assert "city-language: lives in → speaks" in text
    assert "city-language: lives in → codes in" in text and "No question was asked about this link." in text
    assert "something true 35 of 40 times." in text
