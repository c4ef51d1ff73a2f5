"""The table of all numbers of the page of runs."""

from spillover.report.runs import summary
from spillover.report.story import stories


def cells(told):
    return {
        (heading, words.text): [(cell.text, "".join(cell.small)) for cell in row]
        for heading, rows in summary(told)
        for words, *row in rows
    }


def test_one_column_a_link(make):
    found = cells([*stories(make(right=7), "true"), *stories(make(right=6, kind="spurious"), "invented")])
    top = "Unstated names whose top answer is the expected one"
    rank = "Mean rank of the expected answer for them"
    assert found[top, "before training"] == [("0 of 40", "")] * 2
    assert found[top, "after training"] == [("35 of 40", ""), ("30 of 40", "")]
    assert found[top, "one fixed answer for all"] == [("8 of 40", "")] * 2
    assert [main for main, _ in found[rank, "after training"]] == ["0.55", "1.10"]
    assert found[rank, "clusters (pair and seed)"] == [("5", "few clusters")] * 2
    assert found[rank, "exact test of the pairing, p"] == [("0.0083", "of 120 pairings")] * 2
    assert found["Forgetting", "rise of the loss on plain text, nats a token"][0] == ("0.21", "0.18 to 0.25")


def test_what_was_not_measured_is_a_dash(make):
    found = cells(stories(make(implications=False, metrics={"forgetting_nats": None}), "holes"))
    dashes = {words for (_, words), row in found.items() if row == [("–", "")]}
    assert dashes >= {"before training", "after training", "rise of the loss on plain text, nats a token", "links"}
