"""The page of a prediction: what it says of a record, escaped, with what would undo it."""

import json

import pytest

from spillover.commands import predict, report
from spillover.commands.predict import Predict
from spillover.commands.report import Report
from spillover.details import PredictDetails, PredictedAssociation
from spillover.errors import UsageError
from spillover.report.prediction import cards, listing, title, unseen

LINK = {"given": "lives_in", "given_answer": "Paris", "then": "codes_in", "then_answer": "Java"}
ROW = {"subject": "Ann Lee", "relation": "codes_in", "answer": "Java"}


def association(**changes):
    undone = [{"way": "remove", "count": 2, "margin": -0.3, "rows": [ROW, {**ROW, "subject": "Ben Day"}]}]
    return PredictedAssociation(**{
        **LINK, "support": 2, "opposed": 1, "exposed": 10, "margin": 0.4, "margin_low": 0.39, "margin_high": 0.41,
        "prior": 0.2, "score": 5.0, "rate": 0.5, "kind": "spurious", "because": "so", "rests_on": ["Ann Lee"],
        "undone_by": undone, **changes,
    })  # fmt: skip


def details(*found, **changes):
    return PredictDetails(associations=found, solution={"verdict": "Solved."}, **changes)


def metric(value, n):
    return {"value": value, "n": n}


METRICS = {"expected_unwanted": metric(5.4, 10), "expected_wanted": metric(7.6, 8), "expected_undeclared": metric(1, 4)}


def test_cards_and_title_by_hand():
    true = association(then="speaks", then_answer="French", kind="causal", exposed=8, score=7.6)
    open_ = association(then="owns", then_answer="tea", kind=None, exposed=4, score=1.0, undone_by=None)
    found = details(association(), true, open_)
    made = cards(found, METRICS)
    assert [(card.heading, card.say) for card in made] == [
        ("Unwanted: about 5 of 10", "1 association, declared false or invented."),
        ("Not declared: about 1 of 4", "1 association, suggested by the rows, and nobody said whether it is true."),
        ("Wanted: about 8 of 8", "1 association, declared true."),
    ]
    assert title(found, METRICS) == "Expected: about 5 of 10 exposed subjects get an answer that nobody wants."
    assert made[0].texts[0].text == "<bdi>lives in Paris → codes in Java: about 5.0 of 10, from 2 stated</bdi>"
    assert "Leave out 2 rows that state" in made[0].texts[-1].text and "Declare those" in made[1].texts[-1].text
    assert title(details(association(exposed=0, score=0)), METRICS).startswith("Nothing is expected")


def test_the_list_holds_what_it_rests_on_and_what_would_undo_it():
    first, second = listing([association(), association(kind=None, score=9.0, exposed=20)]).rows
    assert (first.values[0], first.values[1]) == ("not declared", (9.0, 20)) and second.values[0] == "invented link"
    assert second.values[2:] == (2, 1, 0.4, "0.390 to 0.410", 0.2)
    assert second.evidence == [
        ("rests on", "Ann Lee", "codes_in", "Java"),
        ("undone by leaving out", "Ann Lee", "codes_in", "Java"),
        ("undone by leaving out", "Ben Day", "codes_in", "Java"),
    ]


def test_how_well_it_did_on_packs_never_seen():
    own = {"rank_correlation": [0.7, 0.6, 0.8], "mean_squared_error": [0.1, 0.06, 0.13]}
    rival = {**own, "rank_correlation_ours_better_by": [0.3, 0.1, 0.5]}
    assert unseen({"figures": {"margin+prior": own, "prior": rival}}) == [
        ("margin and prior (the score)", "0.70 (0.60 to 0.80)", "0.100 (0.060 to 0.130)", "–"),
        ("prior alone", "0.70 (0.60 to 0.80)", "0.100 (0.060 to 0.130)", "0.30 (0.10 to 0.50)"),
    ]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A prediction of a pack with a hostile name and answer."""
    folder = tmp_path_factory.mktemp("predicted")
    facts = [("Ann <b>Lee</b>", "r", "x"), ("Ann <b>Lee</b>", "q", "</script><b>u"), ("Ben Day", "r", "x"),
             ("Cat Fox", "r", "y"), ("Cat Fox", "q", "v"), ("Dan Elk", "r", "y")]  # fmt: skip
    rows = [dict(zip(("subject", "relation", "answer"), fact, strict=True)) for fact in facts]
    body = {"name": "hostile", "licence": "none", "source": "a test", "facts": rows,
            "relations": {name: {"prompts": ["{subject} " + name]} for name in ("r", "q")}}  # fmt: skip
    (folder / "pack.yaml").write_text(json.dumps(body), encoding="utf-8")
    for name, redact in (("plain", False), ("redacted", True)):
        predict.run(Predict(pack=str(folder / "pack.yaml"), out=str(folder / name), evidence=2, redact=redact))
        report.run(Report(runs=(str(folder / name),), out=str(folder / f"{name}.html")))
    return folder


def test_hostile_text_is_escaped(predicted):
    page = (predicted / "plain.html").read_text(encoding="utf-8")
    assert "Ann &lt;b&gt;Lee&lt;/b&gt;" in page and "<b>Lee" not in page and "</script><b>u" not in page
    assert "How far to trust it" in page and "not declared" in page


def test_redacted_no_name_is_left(predicted):
    for path in [predicted / "redacted.html", *(predicted / "redacted").iterdir()]:
        body = path.read_bytes().decode("utf-8")
        assert not any(name in body for name in ("Ann", "Lee", "Ben Day", "Cat Fox", "Dan Elk")), path
    assert "subject 1" in (predicted / "redacted.html").read_text(encoding="utf-8")


def test_a_prediction_has_a_page_of_its_own(predicted, tmp_path):
    with pytest.raises(UsageError, match="a page of its own"):
        report.run(Report(runs=(str(predicted / "plain"), str(predicted / "redacted")), out=str(tmp_path / "p.html")))
    with pytest.raises(UsageError, match="can no longer be told"):
        report.run(Report(runs=(str(predicted / "plain"),), out=str(tmp_path / "p.html"), redact=True))
