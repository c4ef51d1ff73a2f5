"""The page of a prediction: what it says of a record, escaped, with what would undo it."""

import json

import pytest

from spillover.commands import predict, report
from spillover.commands.predict import Predict
from spillover.commands.report import Report
from spillover.details import PredictDetails, PredictedAssociation
from spillover.errors import UsageError
from spillover.metrics.associations import calibrated_on
from spillover.record import Record
from spillover.report.load import LoadedRun
from spillover.report.prediction import build_outcomes_page, cards, listing, mismatches, outcomes, title, unseen
from tests.report.test_page import Reader

LINK = {"given": "lives_in", "given_answer": "Paris", "then": "codes_in", "then_answer": "Java"}
ROW = {"subject": "Ann Lee", "relation": "codes_in", "answer": "Java"}


def association(**changes):
    undone = [{"way": "remove", "count": 2, "margin": -0.3, "rows": [ROW, {**ROW, "subject": "Ben Day"}]}]
    return PredictedAssociation(**{
        **LINK, "support": 2, "opposed": 1, "exposed": 10, "margin": 0.4, "margin_low": 0.39, "margin_high": 0.41,
        "prior": 0.2, "lift": 1.5, "score": 5.0, "rate": 0.5, "kind": "spurious", "because": "so",
        "rests_on": ["Ann Lee"], "undone_by": undone, **changes,
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
    said = "Of 10 subjects with only the first half stated, about 5 will get an answer that nobody wants."
    assert title(found, METRICS) == said
    assert made[0].texts[0].text == "<bdi>lives in Paris → codes in Java: about 5.0 of 10, from 2 stated</bdi>"
    advice = made[0].texts[-2].text
    assert "when 2 rows that state it are left out" in advice and "no forecast" in advice
    assert "Declare those" in made[1].texts[-2].text
    measured = "(fewer-bridging=2): unwanted 0.80 → 0.35", "(abstention=4): unwanted 0.67 → 0.30"
    assert all(words in made[0].texts[-1].blocks[0].text for words in measured)
    *_, do, elsewhere = cards(details(association(undone_by=None)), METRICS)[0].texts
    assert "left out" not in do.text and "stay-near-base=1 gained most" in elsewhere.blocks[0].text
    assert title(details(association(exposed=0, score=0)), METRICS).startswith("Nothing is expected")


def test_the_list_holds_what_it_rests_on_and_what_would_undo_it():
    first, second = listing([association(), association(kind=None, score=9.0, exposed=20)]).rows
    assert (first.values[0], first.values[1]) == ("not declared", (9.0, 20)) and second.values[0] == "invented link"
    assert second.values[2:] == (2, 1, 0.4, "0.390 to 0.410", 0.2, 1.5)
    assert second.evidence == [
        ("rests on", "Ann Lee", "codes_in", "Java"),
        ("undone by leaving out", "Ann Lee", "codes_in", "Java"),
        ("undone by leaving out", "Ben Day", "codes_in", "Java"),
    ]


def test_how_well_it_did_on_packs_never_seen():
    own = {"rank_correlation": [0.7, 0.6, 0.8], "mean_squared_error": [0.1, 0.06, 0.13]}
    rival = {**own, "rank_correlation_ours_better_by": [0.3, 0.1, 0.5]}
    assert unseen({"figures": {"margin+prior+lift": own, "prior": rival}}) == [
        ("margin and prior and lift (the score)", "0.70 (0.60 to 0.80)", "0.100 (0.060 to 0.130)", "–"),
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


def foretold(*found, pack="made-up", model="before", hashes=None):
    """A prediction of these associations, as a run."""
    body = details(*found, pack={"name": pack}, model={"name": model}, calibrated_on=calibrated_on("gpt2"))
    settings = {"pack": pack, "model": model}
    return LoadedRun.of_record(Record("predict", settings, 0, "done", hashes=hashes or {}, details=body))


def link(given, then, rate, exposed=3, **changes):
    names = {"given": "lives", "given_answer": given, "then": "codes", "then_answer": then}
    return association(**names, rate=rate, exposed=exposed, score=rate * exposed, **changes)


#: What `small` measured: of A's three subjects two say x, one of them newly; of B's three one says y, as before.
BOTH = (link("A", "x", 0.5), link("B", "y", 0.9))


def test_foretold_and_measured_meet_in_one_unit_the_most_surprising_first(small):
    first, second = outcomes(foretold(*BOTH), small)
    # 2.7 of 3 against 1, at a deviation of the root of 3 * 0.9 * 0.1; 1.5 of 3 against 2, of the root of 3 / 4.
    assert first.link == ("lives", "B", "codes", "y") and second.link == ("lives", "A", "codes", "x")
    assert first.row().values == (
        (pytest.approx(2.7), 3), (1, 3), 0, pytest.approx(-1.7), pytest.approx(1.7 / 0.27**0.5), "invented link", "none"
    )  # fmt: skip
    shown = second.row().values
    assert shown[:4] == ((1.5, 3), (2, 3), 1, 0.5) and shown[4] == pytest.approx(0.5 / 0.75**0.5)
    assert first.notes[0] == "Foretold: so." and first.notes[1].startswith("Measured: 0 of 3 unstated subjects newly")
    assert second.row().evidence[0] == ("a1", "z", "x", 1.0, 0.0)


def test_the_share_that_was_foretold_is_taken_of_those_who_were_measured(small):
    (found, _) = outcomes(foretold(link("B", "y", 0.9, exposed=30)), small)
    assert found.row().values[0] == (pytest.approx(2.7), 3)


def test_what_only_one_side_knows_comes_last(small):
    silent, idle = link("C", "z", 0.5, exposed=4, kind="causal"), link("D", "z", 0.5, exposed=0)
    found = outcomes(foretold(BOTH[1], silent, idle), small)
    assert [each.link[1] for each in found] == ["B", "A", "C"]
    measured, expected = (each.row() for each in found[1:])
    # One exchange of the given answers would give as many: b3 newly says x, too.
    assert measured.values == (None, (2, 3), 1, None, None, "invented link", "none")
    assert measured.notes[0] == "Not foretold."
    assert expected.values == ((2.0, 4), None, None, None, None, "true link", "not asked")
    text = Reader(build_outcomes_page(foretold(BOTH[1], silent, idle), small).html()).text
    assert "1 measured but not foretold; 1 foretold but not asked; 1 left out of the list" in text


def test_the_page_says_both_totals_and_what_was_calibrated(small):
    text = Reader(build_outcomes_page(foretold(*BOTH), small).html()).text
    assert "Foretold: about 4 of 6 unstated subjects in all draw the conclusion. Measured: 3, 1 of them newly." in text
    assert "Foretold for before, before any training; measured in after, audited against before." in text
    assert (
        "calibrated on smollm2-135m, gemma-3-270m only" in text
        and "for other models read the order, not the number" in text
    )
    assert "in standard deviations of a binomial count" in text and "The prediction was made" not in text


def test_the_page_says_when_prediction_and_run_are_of_two_models_or_packs(small):
    assert mismatches(foretold(), small) == []
    assert mismatches(foretold(model="gpt2"), small) == ["The prediction was made for gpt2, the run is of before."]
    assert mismatches(foretold(model=None), small) == []
    (said,) = mismatches(foretold(pack="other"), small)
    assert said.startswith("The prediction was made of other, the run is of made-up")
    small.record.hashes.update(pack="one", base="two")
    # Hashes decide: the same pack and model under other names, and other rows under the same name.
    assert mismatches(foretold(pack="copied", model="copy", hashes={"pack": "one", "model": "two"}), small) == []
    (rows, models) = mismatches(foretold(hashes={"pack": "three", "model": "four"}), small)
    assert rows.startswith("Both are of made-up, but not of the same rows") and models.endswith("the run is of before.")
    text = Reader(build_outcomes_page(foretold(*BOTH, model="gpt2"), small).html()).text
    assert "The prediction was made for gpt2, the run is of before." in text


def test_nothing_in_common_is_a_mistake(small):
    with pytest.raises(UsageError, match="measured no association of this prediction of other"):
        build_outcomes_page(foretold(link("E", "x", 0.5), pack="other"), small)


def test_the_command_takes_both_in_any_order(small, predicted, tmp_path):
    foretold(*BOTH).record.write(tmp_path / "prediction")
    pages = []
    for order in (("prediction", "small"), ("small", "prediction")):
        runs = tuple(str(tmp_path / name) for name in order)
        outcome = report.run(Report(runs=runs, out=str(tmp_path / "page.html")))
        assert outcome["text"].endswith("shows a prediction beside what a run measured.")
        pages.append((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert pages[0] == pages[1] and "about 4 of 6" in pages[0]
    with pytest.raises(UsageError, match="can no longer be told"):
        report.run(Report(runs=runs, out=str(tmp_path / "page.html"), redact=True))
    with pytest.raises(UsageError, match="or beside one run of its pack"):
        report.run(Report(runs=(*runs, str(tmp_path / "small")), out=str(tmp_path / "page.html")))
