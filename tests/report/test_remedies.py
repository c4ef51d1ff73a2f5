"""The page of a comparison: its advice, its groups, its commands, and that its text is only text."""

import base64
import csv
import io
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from spillover.cli import main
from spillover.details import Details
from spillover.errors import RunError
from spillover.record import Metric, Record
from spillover.report.remedies import (
    APART,
    IMPOSSIBLE,
    NOT_LEARNED,
    SAFE,
    UNSAFE,
    agreement,
    build_remedies_page,
    cards,
    comparison_of,
    costs,
    effects,
    exactly,
    faults,
    load_comparison,
    outcome,
    reason,
    steps,
    title,
)
from spillover.results import Comparison
from tests.report.synthetic_remedies import ENTRIES, EXACT, NONE, record
from tests.report.test_page import HOSTILE, Reader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found():
    return comparison_of(record())


@pytest.fixture(scope="module")
def page(found):
    return build_remedies_page(found).html()


@pytest.fixture(scope="module")
def none():
    """One seed, and only remedies of which none is safe."""
    kept = [each for each in ENTRIES if each[0] not in ("later-layers", "lazier=1.5+later-layers=0.5")]
    return comparison_of(record(kept, NONE, clusters=5, seeds=(0,)))


def test_the_page_says_what_is_advised_and_why(page):
    text = Reader(page).text
    assert "Train with later-layers=0.5: it removes 95% of what nobody wanted and keeps what is wanted." in text
    assert (
        "With later-layers=0.5 the answer that nobody wanted is given by 23% of the unstated subjects instead of 80% "
        "(20% without any association), the wanted one by 88% instead of 90%; it forgets 0.20 nats a token instead of "
        "0.40. 1 more is safe; this one forgets least." in text
    )
    assert "9 tries, 3 seeds" in text and "conclusions from “lives in” to “codes in”" in text
    assert "too few given answers" not in text


def test_without_a_safe_one_it_says_so_and_why(none):
    assert title(none) == (
        "None of the 7 remedies tried is safe. facts-first=3 comes nearest: it removes 97% of what nobody wanted."
    )
    assert reason(none).endswith("It is not safe, because it lets another answer take the place of the unwanted one.")
    text = Reader(build_remedies_page(none).html()).text
    # 0.8, 0.8 - 0.97 * 0.6 = 0.218 and 0.9 of 40.
    assert (
        "Of the models at hand: of the unstated subjects 32 of 40 get an unwanted answer untreated, 9 of 40 get an "
        "unwanted answer with facts-first=3, 36 of 40 a wanted one untreated, 36 of 40 a wanted one with facts-"
        "first=3. Whether it would happen again: too few given answers to tell (5 clusters of a pair and a seed, "
        "10 are needed)."
    ) in text


def test_every_entry_stands_in_its_group_the_one_that_removes_most_first(found):
    assert [(each.group, each.label) for each in found.tried] == [
        (SAFE, "later-layers=0.5"), (SAFE, "lazier=1.5+later-layers=0.5"),
        (UNSAFE, "lazier=4"), (UNSAFE, "facts-first=3"), (UNSAFE, "ignore-topk=0.1"), (UNSAFE, "abstention=4"),
        (NOT_LEARNED, "scale-back=0.3"), (APART, "fewer-bridging=2"), (IMPOSSIBLE, "attention-only=1"),
    ]  # fmt: skip
    assert [each.number for each in found.tried] == list(range(1, 10))
    assert found.advised is found.tried[0] and found.nearest is found.tried[3]


def test_outcomes_are_sentences(found):
    told = {each.label: outcome(found, each) for each in found.tried}
    assert told["later-layers=0.5"] == "safe, and advised"
    assert told["lazier=4"] == "lowers the wanted rate by 30 points"
    assert told["facts-first=3"] == "lets another answer take the place of the unwanted one"
    assert told["abstention=4"] == "removes less than 90% of the unwanted"
    assert told["scale-back=0.3"] == "stated implications at mean rank 0.40"
    assert told["fewer-bridging=2"] == "changes what is stated"
    assert told["attention-only=1"] == "attention-only: this model has no such part"
    assert not faults(found.tried[0])


def rows_of(table):
    """Remedy -> column -> (what stands there, the small print under it)."""
    found = {}
    for _, rows in table.groups:
        for head, *cells in rows:
            pairs = [(cell, "") if isinstance(cell, str) else (cell.text, cell.small or "") for cell in cells]
            names = [name if isinstance(name, str) else name.text for name in table.head[0][1:]]
            label = re.sub(r"^\d+ ", "", head.text.striptags()).replace("\u200b", "")
            found[label] = {**dict(zip(names, pairs, strict=True)), "texts": head.small}
    return found


def test_compute_is_a_multiple_of_the_untreated_run(found):
    rows = rows_of(costs(found))
    assert rows["fewer-bridging=2"]["epochs"] == ("20", "× 2")
    assert rows["ignore-topk=0.1"]["forward passes"] == ("0", "× 0")
    assert rows["untreated"]["seconds"] == ("120", "")
    assert "attention-only=1" not in rows


def test_what_the_exact_model_says_stands_beside_what_was_measured(found, page):
    rows = rows_of(exactly(found))
    assert {label: [row[name][0] for name in row if name != "texts"] for label, row in rows.items()} == {
        # 1 + 0.25 / 0.5 of the lead is gone in theory, a twentieth in the language model.
        "abstention=4": ["\N{MINUS SIGN}0.25", "0.35", "150%", "5%", "part"],
        "fewer-bridging=2": ["0.50", "0.50", "0%", "100%", "part"],
    }
    assert "Beside the exact model" in page


@pytest.mark.parametrize(
    ("lead", "removed", "said"),
    [(0.0, 0.9, "agree"), (0.5, 0.05, "agree"), (0.3, 0.7, "differ in size"), (0.5, 0.5, "part"), (0.1, 0.1, "part")],
)
def test_they_part_where_one_removes_half_and_the_other_next_to_nothing(lead, removed, said, monkeypatch):
    monkeypatch.setitem(EXACT, "abstention", (0.5, lead, None, None))
    tried = [ENTRIES[0], ("abstention", 4.0, removed, 0.9, 0.5, "learned", False)]
    (each,) = comparison_of(record(tried, NONE)).tried
    assert agreement(each) == said


def test_without_a_counterpart_the_page_has_no_such_table():
    tried = [entry for entry in ENTRIES if entry[0] not in EXACT]
    assert "Beside the exact model" not in build_remedies_page(comparison_of(record(tried))).html()


def test_the_table_tells_what_each_does(found):
    rows = rows_of(effects(found))
    assert rows["lazier=1.5+later-layers=0.5"]["texts"] == [
        "Trains with a lower learning rate. Its number: by how much more than 1 the rate is divided.",
        "Trains the later layers alone. Its number: the share of layers that stay as they are.",
    ]
    fields = rows["later-layers=0.5"]
    assert fields["removed"] == ("95%", "85 to 105%")
    assert fields["wanted, change in points"] == ("−2", "−12 to 8")
    failed = rows["attention-only=1"]
    assert failed["Outcome"] == ("attention-only: this model has no such part", "")
    assert {failed[name] for name in failed if name not in ("texts", "Outcome")} == {("–", "")}


def test_cards_have_the_baselines(found):
    first, second, third = cards(found)
    assert [bar.text for bar in first.bars] == ["80%", "23%"]
    assert first.tick == (0.2, "without any association: 20%")
    assert second.tick == (pytest.approx(0.85), "5 points below untreated: 85%")
    assert [bar.text for bar in third.bars] == ["0.40 nats", "0.20 nats"]


def commands(comparison):
    return [command for _, command in steps(comparison) if command]


def test_what_to_do_next_names_the_commands(found, none):
    assert commands(found) == [
        "spillover inject mixed --threads 1 --model gemma-3-270m --out remedied --epochs 30 --lr 1e-05 "
        "--until-nats 0.07 --remedy later-layers=0.5 --save weights",
        "spillover mitigate mixed --model gemma-3-270m --out all-more-seeds "
        "--remedies later-layers=0.5,lazier=1.5+later-layers=0.5,ignore-topk=0.1,abstention=4 --lr 1e-05 "
        "--seeds 0,1,2,3",
        "spillover repair TUNED_MODEL --base gemma-3-270m --pack mixed --remedy ignore-topk=0.1 --out repaired",
    ]
    first, second, third = commands(none)
    assert first.endswith("--remedies ignore-topk=0.1,abstention=4 --lr 1e-05 --seeds 0,1,2")
    assert second.endswith("--out all-joined --remedies ignore-topk=0.1+abstention=4 --lr 1e-05") and "repair" in third


def test_the_commands_are_ones_that_the_command_line_takes(found, none, capsys):
    for command in [*commands(found), *commands(none)]:
        # A model that is not there ends in 2 as well, but with another sentence than an option that is not.
        words = shlex.split(command.replace("mixed", "no-such-pack"))
        assert main(words[1:]) == 2
        said = capsys.readouterr().err
        assert "no-such-pack" in said or "TUNED_MODEL" in said, said


def test_downloads_hold_every_figure(page):
    links = {link["download"]: link["href"] for link in Reader(page).all("a") if "download" in link}
    names = ("spillover-frontier.csv", "spillover-metrics.json")
    table, metrics = (base64.b64decode(links[name].partition(",")[2]).decode() for name in names)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["remedy"] for row in rows][:2] == ["untreated", "later-layers=0.5"] and len(rows) == len(ENTRIES)
    assert rows[1]["removed"] == "0.95" and rows[1]["removed_low"] == "0.85" and rows[1]["removed_clusters"] == "15"
    assert rows[-1]["status"].startswith("failed") and rows[-1]["removed"] == ""
    (kept,) = json.loads(metrics)
    assert len(kept["details"]["frontier"]) == len(ENTRIES)
    assert {"remedy-frontier.svg", "remedy-ladder.csv"} <= set(links)


def test_a_pack_that_wants_nothing_has_a_page(none):
    made = record()
    for each in made.details.frontier:
        for name in ("wanted_rate", "wanted_rank", "wanted_change"):
            if each.metric(name):
                delattr(each, name)
    text = Reader(build_remedies_page(comparison_of(made)).html()).text
    assert "it removes 95% of what nobody wanted." in text and "Rightly concluded" not in text
    assert "The pack wants no link, so no wanted rate is drawn: up and down is what was forgotten instead." in text
    assert "dotted, 5 points below" not in text


def test_nothing_to_remove_is_said():
    made = record(advice=NONE)
    for each in made.details.frontier:
        each.removed = None
    text = Reader(build_remedies_page(comparison_of(made)).html()).text
    assert "Nothing to remove: untreated, 32 of 40 unstated subjects (70 to 90%) get an unwanted answer" in text
    # As much as a quarter above a guess is possible: that is not known to be nothing.
    assert "; up to 90% is possible, so more subjects or seeds may show a conclusion." in text


def test_of_a_kept_comparison_without_a_conclusion_the_page_says_that_there_is_nothing_to_remove():
    found = load_comparison(ROOT / "results" / "remedies-alive-mixed-state")
    said = "Nothing to remove: untreated, 26 of 120 unstated subjects (11 to 34%) get an unwanted answer, and a guess"
    assert title(found) == f"{said} gives 20%."
    assert found.advised is None and not found.promising and not steps(found)[0][1]
    rows = rows_of(effects(found))
    assert {row["removed"] for row in rows.values()} == {("nothing to remove", "")}
    assert outcome(found, found.tried[0]).startswith("has nothing to remove")
    kept = Comparison(ROOT / "results" / "remedies-alive-mixed-state")
    assert kept.recommendation.because.startswith("nothing to remove: ") and kept.table()[1][3] == "nothing to remove"


def test_a_remedy_that_only_moved_the_conclusion_is_not_safe_and_the_page_says_where_it_is_still_there():
    made = record(advice=NONE)
    for each in made.details.frontier[:3]:
        for way in ("negated", "free_text"):
            setattr(each, f"unwanted_rate_{way}", each.metric("unwanted_rate"))
            setattr(each, f"removed_{way}", each.metric("removed"))
    made.details.frontier[2].removed_negated = Metric(0.1, 0.0, 0.3, 40, 15, "share")
    found = comparison_of(made)
    (moved,) = [each for each in found.tried if each.label == "later-layers=0.5"]
    assert moved.group == UNSAFE and outcome(found, moved) == "leaves it when asked negated"
    text = Reader(build_remedies_page(found).html()).text
    assert "Removed when asked plainly (95%), still there when asked negated (10% removed)." in text, (
        "in words, in a fold"
    )
    assert "Not removed when asked plainly (5%), nor negated (5% removed) and in free text (5% removed)." in text


def test_same_record_same_bytes(found, page):
    assert build_remedies_page(found).html() == page


def test_the_page_asks_for_nothing_and_reads_well(page):
    reader = Reader(page)
    assert not {tag for tag, _ in reader.tags} & {"script", "img", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in reader.tags:
        assert attributes.get("href", "#").startswith(("#", "data:")), tag
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and ids.count("found") == 1
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in heading for heading in reader.all("th"))
    for _, attributes in reader.tags:
        if "scroll" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0" and attributes["aria-label"]


def test_hostile_text_is_only_text():
    entries = [*ENTRIES, (HOSTILE, 1.0, 0.5, 0.9, 0.4, "learned", False),
               ("x", 1.0, None, None, None, f"failed: {HOSTILE}", False)]  # fmt: skip
    told = {HOSTILE: (HOSTILE, HOSTILE, True)}
    made = record(entries, told=told, pack=HOSTILE, model=HOSTILE)
    made.details.pack.implications[1].then = HOSTILE
    reader = Reader(build_remedies_page(comparison_of(made)).html())
    assert not reader.all("script") and not reader.all("img")
    assert HOSTILE in reader.text


def test_a_record_of_something_else_is_refused():
    with pytest.raises(RunError, match="not one of `mitigate`"):
        comparison_of(Record("inject", {}, 0, "done"))
    broken = record()
    broken.details = Details.read("mitigate", broken.details.as_json() | {"frontier": [{"remedy": "untreated"}]})
    with pytest.raises(RunError, match=r"not one of `mitigate` \(frontier.0.cell: .*`mitigate` wrote"):
        comparison_of(broken)
