"""The page of an audit: counted by hand, without a script, only text, and not too large."""

import copy
import dataclasses
import re
from itertools import pairwise

import numpy as np
import pytest

from spillover.details import Invented
from spillover.report import audit as page_module
from spillover.report.audit import COLUMNS, RUN, build_audit_page, listing
from spillover.report.load import load_run, stories
from spillover.report.sections import next_step
from tests.report.synthetic_audit import HOSTILE, many, write_audit
from tests.report.test_page import Reader


def table(found):
    return [{"link": (row.given, row.given_answer, row.then, row.then_answer),
             **dict(zip((column.key for column in found.columns), row.values, strict=True))}
            for row in found.rows]  # fmt: skip


def test_counts_ranks_and_others(small):
    found = listing(stories(small, "small"))
    first, second = table(found)
    # x came first for a2 before, for a1 and a2 now; it also comes first for b2 and b3, of the three who live in B.
    assert first["link"] == ("lives", "A", "codes", "x")
    assert (first["before"], first["now"], first["new"], first["others"]) == ((1, 3), (2, 3), 1, 2 / 3)
    # Where it is not first, the answers that are not first follow in the alphabet: z first puts x at rank 1.
    assert (first["rank_before"], first["rank_now"]) == (2 / 3, 1 / 3)
    # y came first for b1 and b3 before, for b1 now; nobody who lives in A gets it. With x first, y is at rank 1.
    assert second["link"] == ("lives", "B", "codes", "y")
    assert (second["before"], second["now"], second["new"], second["others"]) == ((2, 3), (1, 3), -1, 0)
    assert (second["rank_before"], second["rank_now"]) == (1 / 3, 2 / 3)
    # Two subjects state A and x; the one that states B and z is no example of B -> y.
    assert (first["stated"], second["stated"]) == (2, 0)
    assert {row["verdict"] for row in (first, second)} == {"none"}
    assert found.columns == COLUMNS and found.sorted_by == "new"


def test_evidence_is_who_was_asked_in_the_order_of_the_pack(small):
    row = listing(stories(small, "small")).rows[0]
    assert row.notes == ("Stated of each: “… lives A”. Asked of each: “… codes ?”",)
    assert row.evidence == [("a1", "z", "x", 1, 0), ("a2", "x", "x", 0, 0), ("a3", "z", "z", 1, 1)]


def test_several_audits_are_told_apart(small):
    found = listing([*stories(small, "one"), *stories(copy.copy(small), "two")])
    assert found.columns[-1] == RUN and len(found.rows) == 4
    assert [row.values[-1] for row in found.rows] == ["one", "two", "one", "two"]


#: What the page of 2,000 associations may weigh.
MOST_BYTES = 6_000_000


@pytest.fixture
def page(small):
    return build_audit_page([small]).html()


def test_the_essentials_stand_there_without_a_script(page):
    text = Reader(page).text
    assert "From “a1 lives A”, does the model infer “a1 codes x”? It newly gives 1 of 6 such answers" in text
    assert "asked 6 questions whose answers nobody stated" in text
    # One newly gets the implied answer and one lost it; dealing the given answers out would give one and a half.
    assert "None. This invented link is not learned: 3 of 6, 3 before." in text
    assert "On what this rests 1 of 6 unstated subjects newly get" in text
    assert "too few given answers (2) to tell whether other pairs would show it" in text
    assert "Next: Nothing is to be done" in text and "Each has a test of its own" in text
    assert "lives A → codes x 1 of 3 2 of 3 +1 67%" in text and "Subjects asked (3)" in text
    assert "a3 z z 1 1" in text


def test_same_audit_same_bytes(small, page):
    assert build_audit_page([small]).html() == page


def test_only_the_pages_own_script_may_run(page):
    reader = Reader(page)
    (policy,) = [meta["content"] for meta in reader.all("meta") if meta.get("http-equiv")]
    assert re.fullmatch(r"default-src 'none'; script-src 'sha256-[\w+/]+=*'; style-src 'unsafe-inline'; img-src data:; "
                        r"base-uri 'none'; form-action 'none'", policy)  # fmt: skip
    assert [each.get("type") for each in reader.all("script")] == ["application/json", None]
    for tag, attributes in reader.tags:
        assert "src" not in attributes and not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith(("#", "data:")), tag


def test_without_an_implication_there_is_no_list_and_no_script_that_looks_for_it(small):
    small.record.details.pack.implications = []
    small.record.details.verdicts = []
    nothing = np.full(len(small.ranks), None, dtype=object)
    unknown = np.full(len(small.ranks), np.nan)
    holes = dataclasses.replace(small.ranks, implication=nothing, expected=nothing, cluster=nothing, rank=unknown)
    page = build_audit_page([dataclasses.replace(small, ranks=holes)]).html()
    assert (
        "<script" not in page
        and "script-src" not in page
        and "Verdict" not in page.partition("<main>")[2].partition("Words used here")[0]
    )
    assert "In the tuned model" in page  # The maps of what was asked stay.


def test_structure_for_screen_readers(page):
    reader = Reader(page)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in heading for heading in reader.all("th"))
    for _, attributes in reader.tags:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        if "scroll" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0" and attributes["aria-label"]


def test_several_implications_are_counted_and_ranked_by_what_to_look_at(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "MAPS", 1)
    links, table = many(4, 12, answers_each=4, hostile=False)
    text = Reader(build_audit_page([load_run(write_audit(tmp_path / "four", links, table))]).html()).text
    assert "Of 4 links, fine-tuning taught the model 2 that nobody wanted and 1 as wanted; 1 is not learned." in text
    assert text.index("has 1 → gets 1") < text.index("has 3 → gets 3") < text.index("has 0 → gets 0")
    assert "3 further links have no maps here; the downloads hold every answer." in text


def test_two_audits_stand_on_one_page(small, tmp_path):
    other = load_run(write_audit(tmp_path / "other", *many(1, 3, hostile=False), tuned="third"))
    text = Reader(build_audit_page([small, other]).html()).text
    assert "after against before; third against before" in text and "Audit" in text


def test_what_failed_whatever_the_links_stands_on_the_first_screen(small):
    """Where all links are as wanted, a model may still invent answers, or never have learned what is stated."""
    invented = Invented(count=9, n=10, low=0.6, high=1.0, examples=[("b1", "codes", "x", 0.0, 0.9)])
    details = small.record.details.model_copy(update={"recall": (3, 10), "invented": invented})
    settings = dict(small.record.settings)
    run = dataclasses.replace(small, record=dataclasses.replace(small.record, details=details, settings=settings))
    assert build_audit_page([small]).notices == []
    assert build_audit_page([run]).notices == [
        "Failed: only 3 of 10 stated answers come first, so it never learned them (--min-recall 0.9), and nothing is "
        "acquitted.",
        "Failed: 9 of 10 open questions newly have a confident answer (0.5 or more) that nobody stated, such as b1: x; "
        "at least 60%, and --max-invented-rate allows 5%.",
    ]
    settings.update(min_recall=0.2, max_invented_rate=0.7)
    assert build_audit_page([run]).notices == []


def test_what_is_missing_for_a_verdict_is_said(small):
    (story,) = stories(small, "small")
    judged = story.run.record.details.verdicts[0].model_copy(update={"verdict": "undecided"})
    for change, sentence in [
        ({"verdict": "unwanted"}, "<code>stay-near-base=1</code> gained most"),
        ({"verdict": "wanted"}, "Nothing is to be mended"),
        ({"verdict": "none"}, "Nothing is to be done"),
        ({"n": 0}, "Leave “codes” unstated for some subjects"),
        ({"guess": 6}, "Let the map lead to at least two answers"),
        ({"more_subjects": 1234}, "for about 1,234 more subjects"),
        ({"more_subjects": None}, "for more subjects"),
    ]:
        story.run.verdicts[story.key] = judged.model_copy(update=change)
        assert sentence in next_step(story)
    story.run.verdicts.clear()
    assert "Run the audit again" in next_step(story)


@pytest.mark.slow
def test_a_large_page_is_bounded_and_hostile_text_is_only_text(large_page):
    assert len(large_page.encode()) < MOST_BYTES
    reader = Reader(large_page)
    assert len(reader.all("script")) == 2 and not reader.all("img")
    clean = HOSTILE.replace("\u2028", " ").replace("\u202e", "\ufffd")
    assert clean in reader.text and "\u202e" not in large_page
    assert "The first 25 of 2,000 are shown, because no script runs here; all are in the download below." in reader.text
    assert "37 further links have no maps here" in reader.text


def test_a_large_map_shows_what_changed_most_and_says_what_is_left_out(tmp_path):
    run = load_run(write_audit(tmp_path / "wide", *many(1, 40, subjects=1, answers_each=35, hostile=False)))
    text = Reader(build_audit_page([run]).html()).text
    assert "Shown are 24 of 40 given answers, those whose implied answer won most names, and 30 of 35 answers" in text
