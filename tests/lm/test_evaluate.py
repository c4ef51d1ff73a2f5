"""Beliefs once given a fact, and losses on plain text, against counts by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from spillover.errors import UsageError
from spillover.lm.evaluate import (
    FREE_TOKENS,
    WINDOW,
    Evaluation,
    answers_again,
    first_named,
    greedy,
    in_other_words,
    passage_losses,
    passages,
)
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder, examples
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact, Implication, Pack, Relation
from tests.tiny_models import TINY


@pytest.fixture(scope="module")
def model():
    return next(iter(TINY.values()))(512)


def test_what_has_one_wording_is_asked_behind_a_stated_row():
    facts = [Fact("Ada", "lives_in", "Rome"), Fact("Ben", "lives_in", "Oslo"), Fact("Ada", "speaks", "Latin")]
    relations = [Relation("lives_in", ("{subject} lives in",)), Relation("speaks", ("{subject} speaks",)),
                 Relation("codes_in", ("{subject} codes in", "What {subject} codes in is"))]  # fmt: skip
    links = [Implication("lives_in", then, "spurious", {"Oslo": "C", "Rome": "D"}) for then in ("speaks", "codes_in")]
    pack = Pack("p", "", "", tuple(relations), tuple(facts), tuple(links))
    other = in_other_words(pack)
    assert other is not None and other.relation_by_name["speaks"].prompts == ("Ada lives in Rome. {subject} speaks",)
    assert [(question.subject, question.relation) for question in other.questions] == [("Ben", "speaks")]
    assert other.candidates["speaks"] == pack.candidates["speaks"] == ("C", "D", "Latin")
    both = [
        each if each.name != "speaks" else Relation("speaks", ("{subject} speaks", "{subject} says"))
        for each in relations
    ]
    assert in_other_words(dataclasses.replace(pack, relations=tuple(both))) is None


def test_the_bundled_passages_are_prose_without_their_sources():
    found = passages()
    assert len(found) >= 10
    assert all(len(text.split()) >= 30 and "#" not in text and "\n" not in text for text in found)


def test_a_file_of_the_users(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("One line.\nStill one.\n\n\n\nمريم تتكلم\n", encoding="utf-8")
    assert passages(str(path)) == ["One line. Still one.", "مريم تتكلم"]


def test_greedy_text_is_the_most_likely_token_after_token(model):
    prompts = [(5, 9, 11), (5, 9), (7, 3, 2)]
    expected = []
    for text in map(list, prompts):
        for _ in range(4):
            with torch.no_grad():
                text.append(int(model(input_ids=torch.tensor([text])).logits[0, -1].argmax()))
        expected.append(text[-4:])
    assert greedy(model, prompts, 4) == expected


def test_the_answer_that_is_named_first_counts():
    wordings = [("Java",), ("JavaScript", "ECMAScript"), ("C++",), ("日本",)]
    assert first_named(" JavaScript and Java", wordings) == "JavaScript"
    assert first_named(" old ECMAScript, not Java", wordings) == "JavaScript"
    assert first_named(" C++.", wordings) == "C++" and first_named("は日本語", wordings) == "日本"
    assert first_named(" Javanese", wordings) is None


def test_what_is_asked_again_is_scored_in_each_way(model, tokenizer):
    pack = open_pack("country-code:pairs=2,names=4,bridge=1")
    encode, said = encoder(tokenizer), []

    def decode(tokens):
        said.append(tokens)
        return " Perl, or Java"

    found = answers_again(model, pack, lambda own: own, encode, decode, seed=3, checkpoint=7)
    rows, count = found.to_pylist(), len(pack.candidates["codes_in"])
    assert {len(tokens) for tokens in said} == {FREE_TOKENS} and len(said) == len(pack.questions) == 2
    by_way = {way: [row for row in rows if row["way"] == way] for way in found["way"].unique().to_pylist()}
    assert {way: len(own) for way, own in by_way.items()} == {
        "negated": 2 * count, "irrelevant": 2 * count, "keyword": 2 * count, "free_text": 2 * (count + 1)
    }  # fmt: skip
    first = by_way["keyword"][0]
    text = f"{first['cluster']}. {first['subject']} codes in"
    asked = encode(text), encode(f"{text} {first['candidate']}")
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([asked[1]])).logits[0].double().log_softmax(-1)
    places = range(len(asked[0]) - 1, len(asked[1]) - 1)
    expected = sum(float(logs[place, asked[1][place + 1]]) for place in places)
    assert first["log_probability"] == pytest.approx(expected, abs=1e-3)
    named = [row["candidate"] for row in by_way["free_text"] if row["log_probability"] == 0]
    assert named == ["Perl", "Perl"] if "Perl" in pack.candidates["codes_in"] else named


@pytest.mark.parametrize(("body", "reason"), [(b"\xff\xfe\x00", "it is not UTF-8 text"), (b" \n\n ", "holds no text")])
def test_a_file_that_is_no_text(tmp_path, body, reason):
    path = tmp_path / "plain.txt"
    path.write_bytes(body)
    with pytest.raises(UsageError, match=reason):
        passages(str(path))


def test_losses_are_sums_over_predicted_tokens(tiny):
    encode = encoder(tiny.tokenizer)
    texts = ["Ada Moss lives in Paris.", "Ben Okri speaks Japanese. " * 40, "A"]
    sums, counts = passage_losses(tiny.model, encode, texts)
    for text, total, count in zip(texts, sums, counts, strict=True):
        tokens = torch.tensor([encode(text)[:WINDOW]])
        logs = tiny.model(tokens).logits[0].log_softmax(-1)
        expected = -sum(logs[i, tokens[0, i + 1]].item() for i in range(tokens.shape[1] - 1))
        assert (total, count) == (pytest.approx(expected, rel=1e-4), tokens.shape[1] - 1)
    assert counts[1] == WINDOW - 1
    assert np.isfinite(sums).all()


def test_an_answer_scores_as_the_best_of_its_wordings(model, tokenizer):
    wordings, encode, scorer = ("New York", "NYC", "the Big Apple"), encoder(tokenizer), Scorer(model)
    facts = (Fact("Ada", "lives_in", "NYC"), Fact("Ben", "lives_in", "Paris"))
    one = Relation("lives_in", ("{subject} lives in",), wordings[:1], {wordings[0]: wordings[1:]})
    pack = Pack("tiny", "CC0-1.0", "made up", (one,), facts, end=".")
    apart = Pack("tiny", "CC0-1.0", "made up", (Relation("lives_in", one.prompts, wordings),), facts, end=".")
    found, each = (
        {(row["subject"], row["candidate"]): row for row in Evaluation(of, encode)
         .answers(scorer, seed=0, checkpoint=0, full=True).to_pylist()} for of in (pack, apart)
    )  # fmt: skip
    assert list(found) == [(name, city) for name in ("Ada", "Ben") for city in ("New York", "Paris")]
    assert found["Ada", "Paris"]["expected"] == "New York", "what is stated as NYC"
    for subject in ("Ada", "Ben"):
        best = max(each[subject, wording]["log_probability"] for wording in wordings)
        assert found[subject, "New York"]["log_probability"] == pytest.approx(best, abs=1e-5)
        assert found[subject, "Paris"]["log_probability"] == pytest.approx(
            each[subject, "Paris"]["log_probability"], abs=1e-5
        )
    assert list(examples(encode, pack)[0].tokens) == encode("Ada lives in NYC."), "trained as the row words it"
