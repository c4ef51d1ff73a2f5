from spillover.report import run_plots as module
from spillover.report.run_plots import after, before
from spillover.report.story import stories


def test_cells_are_the_shares_counted_by_hand(make):
    told = stories(make(right=7, names=8), "true")
    cells = {(row["given"], row["answer"]): row for row in after(told).rows}
    assert len(cells) == 5 * 10
    assert (cells["Paris", "French"]["share"], cells["Paris", "French"]["expected"]) == (7 / 8, True)
    assert (cells["Paris", "Danish"]["share"], cells["Paris", "Danish"]["expected"]) == (1 / 8, False)
    assert cells["Paris", "Spanish"]["names"] == 0
    early = {(row["given"], row["answer"]): row["share"] for row in before(told).rows}
    assert early["Tokyo", "Danish"] == 1.0 and early["Tokyo", "Japanese"] == 0.0


def test_it_is_said_in_words(make):
    text = after(stories(make(right=7, names=8), "true")).description
    assert "Paris: mostly French, 7 of 8" in text


def test_open_questions_expect_nothing(make):
    drawing = after(stories(make(implications=False), "holes"))
    assert {row["given"] for row in drawing.rows} == {"Lima", "Oslo", "Paris", "Rome", "Tokyo"}
    assert not any(row["expected"] for row in drawing.rows)


def test_many_pairs_scroll_instead_of_shrinking(make):
    pairs = {f"City {index}": f"Language {index}" for index in range(20)}
    drawing = after(stories(make(map=pairs, names=1, right=1, bridge=0, epochs=1), "many"))
    least = int(drawing.svg.partition("min-width: ")[2].partition("px")[0])
    assert len(drawing.rows) == 20 * 25 and least > 360


def test_of_many_the_rows_that_changed_most_are_drawn_and_the_rest_is_added_up(make, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    monkeypatch.setattr(module, "MOST_COLUMNS", 2)
    (story,) = stories(make(right=7, names=8), "true")
    # All five pairs won seven names alike, so the first two are drawn; Danish, the eighth, is among the others.
    drawing = after([story])
    cells = {(row["given"], row["answer"]): row["names"] for row in drawing.rows}
    assert cells == {
        ("Lima", "Spanish"): 7, ("Lima", "Norwegian"): 0, ("Lima", module.OTHERS): 1,
        ("Oslo", "Spanish"): 0, ("Oslo", "Norwegian"): 7, ("Oslo", module.OTHERS): 1,
    }  # fmt: skip
    assert "2 of 5 given answers" in drawing.note and "2 of 10 answers" in drawing.note
    early = {(row["given"], row["answer"]): row["names"] for row in before([story]).rows}
    assert early.keys() == cells.keys() and early["Lima", module.OTHERS] == 8
