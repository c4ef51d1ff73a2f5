"""The page of a repair: both models side by side, whether it was worth it, and what to do next."""

import re
import shlex

import pytest

from spillover.cli import main
from spillover.details import RepairDetails
from spillover.errors import RunError
from spillover.record import Record
from spillover.report.repair import build_repair_page, load_repair, steps
from tests.metrics.test_remedies import side
from tests.report.test_page import HOSTILE, Reader


def write(folder, after, remedy="scale-back=0.2", pack="mixed"):
    """A repair of a model with 10 unwanted conclusions of 26 asked, as `repair` writes it."""
    settings = {"model": "runs/tuned/weights", "base": "m", "pack": pack, "remedy": remedy, "out": str(folder)}
    judged = {"implication": "lives_in->codes_in", "kind": "spurious", "hits": 10, "hits_before": 1, "n": 26,
              "guess": 6, "verdict": "unwanted", "rank": None, "rank_before": None, "marginal_rank": None, "p": 0.01,
              "more_subjects": None, "because": ""}  # fmt: skip
    sides = {"before": side().as_json() | {"verdicts": [judged]},
             "after": after.as_json() | {"verdicts": [judged | {"verdict": "none", "hits": 2}]}}  # fmt: skip
    details = RepairDetails.model_validate({"pack": {"name": pack}, "model": {"name": settings["model"]}, **sides})
    Record("repair", settings, 0, "done", details=details).write(folder)
    return load_repair(folder)


@pytest.fixture
def dear(tmp_path):
    return write(tmp_path / "dear", side(9, links=0.75))


def test_the_page_says_whether_it_was_worth_it_and_what_was_given_up(dear):
    text = Reader(build_repair_page(dear).html()).text
    assert "Not worth it: 1 of 10 unwanted conclusions is gone (10 to 9 of 26 asked)" in text
    rows = re.sub(r"\s+", " ", text)
    assert "10 of 26" in rows and "9 of 26" in rows and "given up" in rows
    assert "0.06" in rows and "0.75" in rows and "+0.69" in rows
    assert "lives_in->codes_in" in text and "2 of 26, 1 in the base model" in text


def test_what_to_do_next_depends_on_the_verdict(dear, tmp_path, capsys):
    folder = str(tmp_path / "dear")
    common = "spillover repair runs/tuned/weights --base m --pack mixed --remedy"
    assert [command.replace(folder, "F") for _, command in steps(dear)] == [
        "", f"{common} off-groups=1 --out F-off-groups=1", f"{common} scale-back=0.1 --out F-scale-back=0.1",
        "spillover mitigate mixed --model m --out remedies",
    ]  # fmt: skip
    good = write(tmp_path / "good", side(2), remedy="off-groups=1")
    first, *others = [command for _, command in steps(good)]
    assert first == f"spillover report {tmp_path / 'good'}/after --out after.html" and len(others) == 1
    for command in (each for _, each in steps(dear) if each):
        assert main(shlex.split(command.replace("mixed", "no-such-pack"))[1:]) == 2
        assert "no-such-pack" in capsys.readouterr().err


def test_names_are_only_text_and_what_is_not_finished_is_refused(tmp_path):
    reader = Reader(build_repair_page(write(tmp_path / "h", side(2), pack=HOSTILE)).html())
    assert HOSTILE in reader.text and not reader.all("script") and not reader.all("img")
    Record("repair", {}, 0, "running").write(tmp_path / "cut")
    with pytest.raises(RunError):
        load_repair(tmp_path / "cut")
