"""The page of `where`: what it says in words, every figure once, and that a damaged record is a sentence."""

import dataclasses

import pytest

from spillover.details import Preference, WhereDetails
from spillover.errors import RunError, UsageError
from spillover.record import Record
from spillover.report.pages import html_of
from spillover.report.where import (
    build_training_page,
    build_where_page,
    cards,
    draw_where_components,
    draw_where_layers,
    draw_where_positions,
    draw_where_training,
    position_finding,
    preference_finding,
    title,
    training_finding,
    where_of,
    while_training,
)
from tests.report.synthetic_where import ENDS, PARTS, POSITIONS, record
from tests.report.test_page import HOSTILE, Reader


@pytest.fixture(scope="module")
def found():
    return where_of(record())


@pytest.fixture(scope="module")
def text(found):
    return Reader(build_where_page(found).html()).text


def test_the_shares_by_hand(found):
    assert found.share("recall", "mlp", left_out=False) == pytest.approx((0.82 - 0.1) / 0.9)
    assert found.share("recall", "mlp", left_out=True) == pytest.approx((1.0 - 0.28) / 0.9)
    assert found.share("recall", "key-query", left_out=True) is None


def test_the_title_names_what_carries_and_does_not_claim_a_half_that_is_none(found):
    assert title(found) == (
        "Of what training added to the model’s answers, the MLP layers alone bring 80% of the facts, no part alone "
        "brings half of the wanted conclusions, and attention’s output-value matrices alone bring 75% of the unwanted "
        "conclusions."
    )


def test_a_card_says_what_brings_most_and_what_is_needed(found):
    unwanted = cards(found)[3]
    assert (unwanted.heading, unwanted.value, unwanted.tone) == ("Unwanted conclusions", "0% → 80%", "unwanted")
    assert unwanted.texts[0].text == (
        "Answered so, before and after training. The change of attention’s output-value matrices alone brings 75% of "
        "this. With attention’s output-value matrices as before, 88% of it is lost."
    )


def test_the_page_holds_every_figure(text):
    for words in ("gemma-3-270m, tuned on mixed:names=60; 3 seeds.", "moved by 1.00% of their norm",
                  "layer 2", "outside the layers", "linearised at the base", "chance 0.20", "0.90", "forward mode",
                  "spillover where runs/mixed --out where"):  # fmt: skip
        assert words in text
    assert "Fewer than ten pairs and seeds" not in text


def test_few_clusters_are_said_and_no_change_is_not_told_to_live_anywhere(text):
    assert "Fewer than ten pairs and seeds" in Reader(build_where_page(where_of(record(clusters=5))).html()).text
    still = dict.fromkeys(PARTS, (ENDS["nothing"], ENDS["everything"]))
    assert title(where_of(record(still))).count("no part alone brings half") == 3


def test_where_in_the_prompt_is_told_in_words_and_drawn():
    """By hand: the subject's tokens bring (0.91 - 0.1) / 0.9 of the facts, and 0.81 / 0.9 is lost without them."""
    found = where_of(record(PARTS | POSITIONS))
    finding = position_finding(found)
    assert finding.startswith(
        "Stated facts: the tuned weights at the subject’s tokens alone bring 90% of what training added; without them "
        "at the subject’s tokens, 90% of it is lost. Stated links: "
    )
    assert finding.endswith(
        "Unwanted conclusions: the tuned weights at the last token alone bring 75% of what training added; without "
        "them at the last token, all of it is lost."
    )
    text = Reader(build_where_page(found).html()).text
    assert "Where in the prompt" in text and finding in text and "subject, layers 1-2" in text
    rows = {(row["part"], row["group"], row["left_out"]): row["rate"] for row in draw_where_positions(found).rows}
    assert rows["last token, behind layer 2", "unwanted conclusions", False] == 0.8
    assert rows["subject, layers 1-2", "stated facts", True] == 0.6


def test_without_positions_the_page_says_why(found, text):
    assert draw_where_positions(found) is None and position_finding(found) == ""
    assert "Where in the prompt" not in text
    page = build_where_page(where_of(record(no_positions="this model mixes tokens"))).html()
    assert "Where in the prompt it acts: this model mixes tokens." in Reader(page).text


def test_without_parts_only_laziness_is_told():
    found = where_of(record({}))
    page = build_where_page(found).html()
    assert title(found) == (
        "A straight line from the base model, along its gradients, would get 70% of the stated facts; the tuned model "
        "gets 100%."
    )
    assert "<figure" not in page and "How lazy it was" in page


def test_same_record_same_bytes_and_no_name_is_code(found):
    assert build_where_page(found).html() == build_where_page(where_of(record())).html()
    page = build_where_page(where_of(record(trained={"pack": HOSTILE, "model": HOSTILE}))).html()
    assert "<script>alert" not in page


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Record("where", {}, 0, details=WhereDetails()), "this is not finished"),
        (Record("inject", {}, 0), "this record is not one of `where`"),
        (record(parts=PARTS, laziness={}), "this record is not one of `where`"),
    ],
)
def test_what_is_none_is_a_sentence(made, words):
    with pytest.raises(RunError, match=words):
        where_of(made)


def test_bars_of_the_ends_and_components_both_ways():
    drawing = draw_where_components(where_of(record()))
    rows = {(row["part"], row["left_out"], row["group"]): row for row in drawing.rows}
    assert rows["mlp", False, "stated facts"]["rate"] == 0.82 and rows["mlp", True, "stated facts"]["rate"] == 0.28
    assert rows["output-value", True, "unwanted conclusions"]["by_chance"] == 0.2
    assert len(rows) == 4 * (3 + 2 * 2), "three whole models, and two components both ways; no layer"
    assert "output-value alone: stated facts 0.30; output-value alone: stated links 0.40" in drawing.description
    assert drawing.svg.count("alone in the base model") == 1


def test_nothing_to_show_without_components():
    assert draw_where_components(where_of(record({}))) is None


def test_a_line_a_group():
    drawing = draw_where_layers(where_of(record()))
    assert len(drawing.rows) == 4 * 3 * 2, "two layers and what is outside of them, both ways"
    assert drawing.description.startswith(
        "2 layers. stated facts: most alone in layer 2 (0.60), least without layer 2 (0.40)"
    )


def test_nothing_to_show_without_layers():
    components = {key: sides for key, sides in PARTS.items() if key[1] == "component"}
    assert draw_where_layers(where_of(record(components))) is None


def after(passes, moved=None, **trained):
    """The record of a run after this many passes. moved: parts with other shares than usual."""
    made = record(PARTS | POSITIONS | (moved or {}))
    made.details.trained |= {"epochs": passes, **trained}
    return made


def without_positions(passes):
    made = record()
    made.details.trained |= {"epochs": passes}
    return made


#: At first the last token carries the facts.
EARLY = {("subject, every layer", "position"): ((0.28, 0.3, 0.4, 0.0), (0.19, 0.3, 0.8, 0.8)),
         ("last token, every layer", "position"): ((0.46, 0.2, 0.55, 0.6), (0.9, 0.8, 0.2, 0.0))}  # fmt: skip


def test_how_it_moved_while_it_trained_by_hand(tmp_path):
    """Of the facts (0.46 - 0.1) / 0.9 at the last token after one pass, (0.91 - 0.1) / 0.9 at the subject's later."""
    folders = [tmp_path / name for name in ("four", "one")]
    for folder, made in zip(folders, (after(4), after(1, EARLY)), strict=True):
        made.write(folder)
    every = while_training([where_of(Record.read(folder)) for folder in folders])
    assert [found.passes for found in every] == [1, 4]
    said = training_finding(every)
    assert said["recall"] == (
        "Stated facts: the tuned weights alone bring most at the last token (40% after 1 pass), then at the subject’s "
        "tokens (90% after 4 passes)."
    )
    assert said["unwanted"] == (
        "Unwanted conclusions: the tuned weights alone bring most at the last token (75% after 1 pass, 75% after 4 "
        "passes)."
    )
    (alone,) = training_finding(every[:1])["wanted"].split(" bring ")[1:]
    assert alone == "most at the last token (50% after 1 pass)."
    drawing = draw_where_training(every)
    rows = {(row["passes"], row["part"], row["group"]): row["rate"] for row in drawing.rows if not row["left_out"]}
    assert rows[1, "last token, every layer", "stated facts"] == 0.46
    assert rows[4, "last token, every layer", "stated facts"] == 0.1 and rows[4, "tuned model", "stated facts"] == 1.0
    html, shown = html_of(folders)
    assert shown == "where a change lives at 2 checkpoints" and html.count("where-training-title") >= 1
    assert Reader(html).text.count(said["recall"]) and build_training_page(every).title == said["unwanted"]


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([after(4), after(4, EARLY)], "two of these runs were trained for equally many passes"),
        ([after(4), without_positions(2)], "one of these says nothing by position"),
    ],
)
def test_checkpoints_of_no_one_training_are_a_sentence(others, said):
    with pytest.raises(UsageError, match=said):
        while_training([where_of(each) for each in others])


def worth(remedy, unwanted, efficiency, **trained):
    """Two seeds, whose change takes five nats away."""
    made = record({("mlp", "component"): ((0.8, 0.7, 0.4, 0.1), (0.2, 0.4, 0.5, 0.6))})
    made.details.trained |= {"remedy": remedy, **trained}
    (own,) = (each for each in made.details.parts if each.part == "everything")
    own.unwanted_rate = dataclasses.replace(own.unwanted_rate, value=unwanted)
    made.details.preferences = [
        Preference(seed=seed, before=5.5, after=0.5, squared_norm=5 / efficiency, efficiency=efficiency,
                   disturbed=[0.1 + seed, 0.3 + seed]) for seed in (0, 1)
    ]  # fmt: skip
    return made


def test_changes_compared_by_hand(tmp_path):
    """The one that concludes more takes 0.4 nats away a unit of squared norm, the other 0.1; noise adds 0.2 and 1.2."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder, made in zip(folders, (worth(None, 0.8, 0.4), worth("lazier=4", 0.2, 0.1)), strict=True):
        made.write(folder)
    html, shown = html_of(folders)
    text = Reader(html).text
    assert shown == "what 2 changes are worth"
    assert (
        "The change that concludes most (remedy none: 80% of the unwanted conclusions) takes away 0.40 nats a stated "
        "row for each unit of its squared norm; the one that concludes least (remedy lazier=4: 20%) 0.10."
    ) in text
    assert "0.20 to 1.20" in text and "12.50" in text
    found = where_of(Record.read(folders[0]))
    assert preference_finding(found) == (
        "The change lowers the loss on the stated rows from 5.50 to 0.50 nats a row: by 0.40 for each unit of its "
        "squared norm, 12.50. Orthogonal noise of the same norm adds 0.70."
    )
    assert "What it is worth to gradient descent" in Reader(build_where_page(found).html()).text


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([worth(None, 0.8, 0.4), worth(None, 0.8, 0.4, model="smollm2-135m")], "these runs differ in model"),
        ([worth(None, 0.8, 0.4), after(4, remedy="lazier=4")], "one of these does not say what its change is worth"),
        ([worth(None, 0.8, 0.4), worth("lazier=4", 0.2, 0.1), worth(None, 0.2, 0.1)], "two of these are of one run"),
    ],
)
def test_changes_that_cannot_be_compared_are_a_sentence(others, said, tmp_path):
    for number, made in enumerate(others):
        made.details.trained.setdefault("remedy", None)
        made.write(tmp_path / str(number))
    with pytest.raises(UsageError, match=said):
        html_of([tmp_path / str(number) for number in range(len(others))])
