"""`spillover report` as a function: writes one page, refuses what is not a run; and the table of its numbers."""

import pytest

from spillover.commands.report import Report, run
from spillover.errors import RunError, UsageError
from spillover.record import Record
from spillover.report.load import stories
from spillover.report.pages import summary
from tests.report.synthetic_remedies import record


def test_it_writes_the_page(tmp_path, edit):
    folder = edit(lambda fields: None)
    page = tmp_path / "pages" / "one.html"
    outcome = run(Report(runs=(str(folder),), out=str(page)))
    assert outcome == {"page": str(page), "text": f"{page} shows 1 run."}
    assert page.read_text().startswith("<!doctype html>")


def test_it_says_that_a_run_did_not_finish(tmp_path, edit):
    folder = edit(lambda fields: None, status="interrupted")
    outcome = run(Report(runs=(str(folder), str(folder)), out=str(tmp_path / "page.html")))
    assert outcome["text"].endswith("shows 2 runs (2 of them did not finish).")


def test_it_refuses_a_folder_without_a_run(tmp_path):
    with pytest.raises(RunError, match="there is no finished run here"):
        run(Report(runs=(str(tmp_path),), out=str(tmp_path / "page.html")))
    assert not (tmp_path / "page.html").exists()


def test_it_refuses_to_write_over_a_folder(tmp_path, edit):
    folder = edit(lambda fields: None)
    with pytest.raises(UsageError, match="this is a folder"):
        run(Report(runs=(str(folder),), out=str(tmp_path)))


def test_it_wants_a_run():
    with pytest.raises(UsageError, match="no run was named"):
        run(Report(runs=()))


def test_a_comparison_of_remedies_has_a_page_of_its_own(tmp_path):
    folder = tmp_path / "all"
    # A record that does not say yet what its remedies do.
    record(told={}).write(folder)
    page = tmp_path / "page.html"
    outcome = run(Report(runs=(str(folder),), out=str(page)))
    assert outcome["text"] == f"{page} shows the comparison of remedies in {folder}."
    assert "Trains with a lower learning rate" in page.read_text()
    with pytest.raises(UsageError, match="a page of its own"):
        run(Report(runs=(str(folder), str(folder)), out=str(page)))
    with pytest.raises(UsageError, match="only pages of runs can be redacted"):
        run(Report(runs=(str(folder),), out=str(page), redact=True))


def test_a_comparison_that_is_not_finished_is_refused(tmp_path):
    Record("mitigate", {}, 0).write(tmp_path)
    with pytest.raises(RunError, match=r"this comparison is not finished.*it goes on where it stopped"):
        run(Report(runs=(str(tmp_path),), out=str(tmp_path / "page.html")))


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
    found = cells(stories(make(implications=False, bridge=0, metrics={"forgetting_nats": None}), "holes"))
    dashes = {words for (_, words), row in found.items() if row == [("–", "")]}
    assert dashes >= {"before training", "after training", "rise of the loss on plain text, nats a token", "links"}
