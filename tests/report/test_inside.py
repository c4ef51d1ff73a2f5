"""The look inside in words and figures, against numbers counted by hand."""

import dataclasses

from spillover.details import InjectDetails, LookInside
from spillover.report.load import stories
from spillover.report.pages import (
    build_runs_page,
    draw_inside_change,
    draw_inside_shared,
    heads_of,
    inside_rows,
    shared_of,
)
from tests.report.inside_tables import looked


def test_rows_by_hand(make):
    run = looked(make())
    run = dataclasses.replace(
        run, record=dataclasses.replace(run.record, details=InjectDetails(inside=LookInside(seconds=3.0, share=0.0312)))
    )
    assert inside_rows(make()) == []
    # The change: sqrt(16) of sqrt(400). Shares 9, 1, 4, 2 of 16: one head, or the first layer with 10, has half.
    # Effective rank: 2.5 in the first layer and 3.5 in the second. Overlap: 0.9 and 0.5, likewise 10 to 6.
    assert inside_rows(run) == [
        ("Size of the change", "20.0%", "of W_OV, over all heads"),
        ("Half of it lies in", "1 of 4 heads", "squared Frobenius norm"),
        ("or in", "1 of 2 layers", "layer 1"),
        ("Effective rank of the change", "2.9", "at most 8"),
        ("and of W_OV itself", "3.0", "at most 4"),
        ("Its first direction", "25%", "of the sum of its singular values"),
        ("Shared with the unstated, lives in → speaks", "0.75", "names never seen 0.30, chance 0.25"),
        ("What looking took", "3.0 s", "3.1% of the run"),
    ]


def test_seeds_are_averaged_at_their_ends(make):
    first, *_ = heads_of(looked(make()))
    assert (first["change"], first["effective_rank"], first["share"]) == (3.0, 2.5, 9 / 16)
    assert shared_of(looked(make()))["lives_in->speaks"][3] == {
        "layer": 1, "head": 1, "directions": 2, "overlap": 0.5, "overlap_never_seen": 0.3, "chance": 0.25
    }  # fmt: skip


def test_nothing_is_told_of_a_model_that_did_not_change(make):
    run = looked(make(), changed=False)
    assert heads_of(run) == [] and inside_rows(run) == []


def test_the_page_has_a_section_only_for_who_looked(make):
    run = looked(make())
    page = build_runs_page([run]).html()
    assert "A look inside" in page and "Half of it lies in" in page
    assert page.count("inside-change-1-title") and page.count("inside-shared-1-title")
    assert "A look inside" not in build_runs_page([make()]).html()
    assert build_runs_page([run]).html() == page


def test_a_dot_a_head(make):
    drawing = draw_inside_change([("a run", looked(make()))])
    assert [(row["layer"], row["head"], row["relative"], row["effective_rank"]) for row in drawing.rows] == [
        (0, 0, 0.3, 2.5), (0, 1, 0.1, 2.5), (1, 0, 0.2, 3.5), (1, 1, 2**0.5 / 10, 3.5)
    ]  # fmt: skip
    said = "The largest change is in layer 1, head 1: 30.0% of W_OV, effective rank 2.5 of at most 8."
    assert drawing.description == f"4 heads. {said}"


def test_nothing_to_show_for_who_did_not_look(make):
    assert draw_inside_change([("a run", make())]) is None


def test_a_mark_a_head(make):
    drawing = draw_inside_shared(stories(looked(make()), "a run"))
    assert [(row["layer"], row["overlap"]) for row in drawing.rows] == [(0, 0.9), (0, 0.9), (1, 0.5), (1, 0.5)]
    assert drawing.description == "Mean over 4 heads: unstated 0.70, never seen 0.30, chance 0.25."


def test_nothing_to_show_of_another_implication(make):
    assert draw_inside_shared(stories(looked(make(), name="a->b"), "a run")) is None
    assert draw_inside_shared(stories(make(), "a run")) is None
