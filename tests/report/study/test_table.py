"""Tables of the study's page hold the study's numbers."""

from spillover.report.study_data import MODELS, cells_table, rate_points, rates_table, sets_of, sets_table


def columns(table, row):
    return dict(zip(table.columns, next(fields for name, _, fields in table.rows if name == row), strict=True))


def test_a_set_in_one_line(study):
    found = sets_table(sets_of(study.done[:5]))
    line = columns(found, "city-language")
    assert line["before"][0] == "4.40" and line["after, embeddings frozen"][0] == "0.55"
    assert line["after, all weights trained"] == ("0.00", "0.00 to 0.00")
    assert (line["yardstick"][0], line["exact map test, p"][0], line["clusters"]) == ("2.00", "0.0083", ("15", ""))
    assert (line["OLMo-7B"], line["stated facts"]) == (("0.07", ""), ("0.00", ""))
    assert found.heads == [("here: gemma-3-270m", 9), ("the paper, all weights trained", 5)]
    assert "the true ones, which no training row states" in found.notes[0]
    assert columns(found, "profession-color:null")["OLMo-7B"] == ("–", "")
    assert "over 3 shuffles the mean rank is 4.40 ± 0.6" in found.notes[-1] and "not within two" in found.notes[-1]
    assert columns(found, "city-language:bridge=0")["clusters"] == ("5", "few")


def test_without_published_or_whole_there_are_no_such_columns(study):
    found = sets_table([row for row in sets_of(study.done) if row.null])
    assert not set(MODELS) & set(found.columns) and "after, all weights trained" not in found.columns
    assert sets_table([]) is None


def test_rates(study):
    found = rates_table(rate_points(study.done))
    assert columns(found, "city-language, 1e−5")["passes"] == ("2", "")
    assert ("city-language, 1e−4", "3 of 3 seeds never learned") in [(name, small) for name, small, _ in found.rows]


def test_any_cells(study):
    found = cells_table(study.cells)
    assert columns(found, "city-language")["implication rank test"] == ("0.55", "0.40 to 0.71")
    assert columns(found, "city-language")["map test p"] == ("0.0083", "")
    assert set(columns(found, "broken").values()) == {("–", "")}
