"""Open probes: next tokens and continuations one text at a time, templates and their mistakes, who is asked about;
and two models at every place of a text, against one place and one token at a time."""

from copy import deepcopy
from random import Random

import numpy as np
import pytest
import torch

from spillover.errors import ModelError, UsageError
from spillover.interp.open_probes import (
    BEFORE,
    FLOOR,
    GROUPS,
    LEAST_RISE,
    LONGEST,
    NEVER_SEEN,
    STATED,
    TOP,
    UNSTATED,
    NextTokens,
    choose_subjects,
    compare,
    continuations,
    cut,
    declared,
    first_tokens,
    likely_next_tokens,
    side_by_side,
    templates,
    word,
)
from spillover.lm.score import Scorer
from spillover.lm.tokens import Example, encoder
from spillover.packs.builtin import available, draw_names
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact, Implication, Pack, Relation
from tests.tiny_models import TINY, tiny_llama

TEMPLATES = ("{subject} speaks", "The home of {subject} is", "{subject} speaks French and codes in")
SUBJECTS = ("Ada Moss", "Ben", "Zoë Åström", "李明")


def prompts_of(encode, templates, subjects):
    return [tuple(encode(text.replace("{subject}", name))) for text in templates for name in subjects]


def next_probabilities(model, prompt):
    """Of every token after one prompt, alone in a batch."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(prompt)]), use_cache=False).logits[0, -1].double().softmax(-1).numpy()


@pytest.fixture(scope="module", params=TINY)
def model(request):
    return TINY[request.param](512)


@pytest.mark.parametrize("method", ["tree", "plain", None])
def test_likely_tokens_equal_brute_force(model, tokenizer, method):
    prompts = prompts_of(encoder(tokenizer), TEMPLATES, SUBJECTS)
    assert len(prompts) == 12 and prompts[4] == tuple(encoder(tokenizer)("The home of Ada Moss is"))
    for scorer in (Scorer(model, method=method), Scorer(model, method=method, maximum_tokens=40, maximum_logits=1024)):
        found = likely_next_tokens(scorer, prompts)
        assert scorer.method == (method or "tree")
        for prompt, each in zip(prompts, found, strict=True):
            whole = next_probabilities(model, prompt)
            dense = np.zeros(512)
            dense[each.tokens] = each.probabilities
            clear = np.abs(whole - FLOOR) > 1e-5
            np.testing.assert_array_equal((dense > 0)[clear], (whole >= FLOOR)[clear])
            np.testing.assert_allclose(dense[dense > 0], whole[dense > 0], atol=1e-5)
            assert len(each.tokens) <= 1 / FLOOR


def test_a_model_that_ignores_masks_is_asked_in_plain_texts():
    model = TINY["llama"](64)
    forward = model.forward

    def forgetful(*args, attention_mask=None, **kwargs):
        return forward(*args, **kwargs)

    model.forward = forgetful
    scorer = Scorer(model)
    prompts = [(1, 5, 6), (1, 5, 9), (1, 12)]
    found = likely_next_tokens(scorer, prompts)
    assert scorer.method == "plain"
    for prompt, each in zip(prompts, found, strict=True):
        np.testing.assert_allclose(each.probabilities, next_probabilities(model, prompt)[each.tokens], atol=1e-5)


def test_what_a_model_cannot_say_is_a_sentence():
    model = TINY["llama"](64)
    with pytest.raises(ModelError, match="the model has only 64"):
        likely_next_tokens(Scorer(model), [(1, 70)])
    assert likely_next_tokens(Scorer(model), []) == []
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="the model's scores are not numbers"):
        likely_next_tokens(Scorer(model, method="tree"), [(1, 5)])


@pytest.mark.parametrize("start", [(), (7, 9)])
def test_continuations_equal_one_step_at_a_time(model, metaspace_tokenizer, start):
    prompts = prompts_of(encoder(metaspace_tokenizer), TEMPLATES[:2], SUBJECTS[:2])
    starts = [start, (), (), start]

    def decode(tokens, **_):
        return ",".join(map(str, tokens))

    said = continuations(Scorer(model), prompts, starts, 5, frozenset(), decode)
    for prompt, own, text in zip(prompts, starts, said, strict=True):
        tokens = [*prompt, *own]
        for _ in range(5):
            tokens.append(int(next_probabilities(model, tokens).argmax()))
        assert text == "," + decode(tokens[len(prompt) :])


def test_a_continuation_ends_at_a_stop_and_at_the_end_of_its_line():
    model = TINY["llama"](64)
    first = int(next_probabilities(model, (1, 5)).argmax())
    for stops, count in ((frozenset({first}), 1), (frozenset(), 4)):
        assert continuations(Scorer(model), [(1, 5)], [()], 4, stops, lambda tokens, **_: "x" * len(tokens)) == [
            "x" * count
        ]
    said = ["", "\n Java\x1b[31m \nno"]
    assert continuations(Scorer(model), [(1, 5)], [()], 1, frozenset(), lambda tokens, **_: said[len(tokens) - 2]) == [
        " Java\ufffd[31m"
    ]


def test_a_token_in_words(metaspace_tokenizer):
    encode = encoder(metaspace_tokenizer)
    known = {word(token, metaspace_tokenizer.decode) for token in encode("Ada Moss speaks French")}
    assert all(text == text.strip() for text in known)
    assert word(0, lambda tokens: " Java ") == "Java" and word(0, lambda tokens: " \n") == " \\n"


def test_first_tokens_of_answers(metaspace_tokenizer):
    encode = encoder(metaspace_tokenizer)
    prompt = "Ben Okri speaks"
    before = encode(prompt)
    expected = {encode(f"{prompt} {answer}")[len(before)] for answer in ("French", "Old Norse")}
    assert first_tokens(encode, prompt, ["French", "Old Norse"], (" ",)) == expected
    assert first_tokens(encode, prompt, [], (" ",)) == frozenset()
    assert first_tokens(lambda text: [len(text)], prompt, ["French"], (" ",)) == frozenset(), "a prompt that changed"


def test_two_models_side_by_side():
    base = [NextTokens(np.array([2, 9]), np.array([0.5, 0.1])), NextTokens(np.array([], dtype=int), np.array([]))]
    tuned = [NextTokens(np.array([4]), np.array([0.9])), NextTokens(np.array([2]), np.array([0.3]))]
    tokens, first, second = side_by_side(base, tuned)
    assert tokens.tolist() == [2, 4, 9]
    np.testing.assert_array_equal(first, [[0.5, 0, 0.1], [0, 0, 0]])
    np.testing.assert_array_equal(second, [[0, 0.9, 0], [0.3, 0, 0]])


def test_the_built_in_templates():
    found = templates()
    assert len(found) >= 30 and len(set(found)) == len(found)
    assert all(text.count("{subject}") == 1 and text == text.strip() and not text.endswith(".") for text in found)


def test_own_templates_come_after_the_built_in_ones_and_each_once(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff  {subject} owns \n\n{subject} speaks\r\n{subject} спит в\n", encoding="utf-8")
    assert templates(str(path))[len(templates()) :] == ("{subject} owns", "{subject} спит в")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "this file holds no sentence. Write one sentence beginning a line"),
        (b" \n\n", "this file holds no sentence"),
        (b"{subject} owns\n\nShe owns\n", "row 3: 'She owns' does not say whom it asks about. Write {subject} where"),
        (b"{subject} \xff\n", "this file cannot be read: it is not UTF-8 text. Check --probes."),
        (None, "this file cannot be read: No such file or directory"),
    ],
)
def test_a_file_of_templates_that_cannot_be_used(tmp_path, body, sentence):
    path = tmp_path / "mine.txt"
    if body is not None:
        path.write_bytes(body)
    with pytest.raises(UsageError) as caught:
        templates(str(path))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def pack_of(facts, implications=()):
    names = dict.fromkeys(fact.relation for fact in facts)
    relations = tuple(Relation(name, ("{subject} " + name,)) for name in names)
    return Pack("made", "CC0-1.0", "made up", relations, tuple(facts), tuple(implications))


def test_bridging_subjects_are_the_stated_ones():
    pack = open_pack("country-code")
    asked = choose_subjects(pack, 0)
    assert [groups[0].relation for groups in asked.relations] == ["lives_in", "codes_in"]
    lives, codes = asked.relations
    assert len(lives) == len(codes) == 5
    bridging = {fact.subject for fact in pack.facts if fact.relation == "codes_in"}
    for group in lives:
        assert len(group.unstated) == UNSTATED and len(group.stated) == STATED
        assert set(group.stated) <= bridging and not set(group.unstated) & bridging
        assert group.tested == group.unstated
        assert {pack.stated[name, "lives_in"] for name in (*group.unstated, *group.stated)} == {group.answer}
    for group in codes:
        # All of them live somewhere, so nothing is stated of one that is not of all.
        assert set(group.tested) == set(group.unstated) <= bridging and not group.stated
    # Bridging subjects are asked about once, for both relations.
    assert len(asked.subjects) == len(set(asked.subjects)) == 5 * (UNSTATED + STATED)
    for group in (*lives, *codes):
        assert tuple(asked.everybody[row] for row in asked.rows(group.tested)) == group.tested


def test_the_seed_decides_and_nothing_else():
    pack = open_pack("country-code")
    assert choose_subjects(pack, 1).everybody == choose_subjects(open_pack("country-code"), 1).everybody
    assert choose_subjects(pack, 1).subjects != choose_subjects(pack, 2).subjects


def test_without_enough_unstated_subjects_all_are_tested():
    facts = [Fact(f"S{i}", "lives", "AB"[i % 2]) for i in range(6)] + [Fact(f"S{i}", "eats", "ham") for i in range(5)]
    (groups,) = choose_subjects(pack_of(facts), 0).relations
    assert [(len(g.unstated), len(g.stated), len(g.tested)) for g in groups] == [(0, 3, 3), (1, 2, 3)]


def test_answers_of_one_subject_make_no_group_and_one_group_no_difference():
    facts = [Fact(f"S{i}", "lives", "AABBC"[i]) for i in range(5)] + [Fact(f"S{i}", "eats", "ham") for i in range(5)]
    asked = choose_subjects(pack_of(facts), 0)
    assert [[group.answer for group in groups] for groups in asked.relations] == [["A", "B"]]
    alone = choose_subjects(pack_of([Fact(f"S{i}", "lives", str(i)) for i in range(30)]), 0)
    assert alone.relations == () and len(alone.subjects) == UNSTATED and len(alone.never_seen) == NEVER_SEEN


def test_the_cost_does_not_grow_with_the_pack():
    facts = [Fact(f"S{i}", f"r{r}", f"a{i % 150}") for i in range(600) for r in range(40)]
    asked = choose_subjects(pack_of(facts), 0)
    assert sum(map(len, asked.relations)) <= GROUPS
    assert all(len(groups) >= 2 for groups in asked.relations)
    assert len(asked.subjects) <= GROUPS * (UNSTATED + STATED)


def test_never_seen_names_are_in_no_pack():
    pack = open_pack("country-code")
    words = {word for subject in pack.subjects for word in subject.split()}
    never = choose_subjects(pack, 0).never_seen
    assert len(set(never)) == NEVER_SEEN
    assert not words & {word for name in never for word in name.split()}


def test_when_every_word_is_taken_names_are_paired_anew(monkeypatch):
    everybody = draw_names(available(), Random("all"))
    never = choose_subjects(pack_of([Fact(name, "lives", "A") for name in everybody]), 0).never_seen
    assert len(never) == NEVER_SEEN and not set(never) & set(everybody)
    monkeypatch.setattr("spillover.interp.open_probes.draw_names", lambda count, random: everybody)
    with pytest.raises(UsageError, match="the pack holds every fictitious name"):
        choose_subjects(pack_of([Fact(name, "lives", "A") for name in everybody]), 0)


def test_what_a_pack_declares_of_a_group():
    map_ = {"Rome": "Italian", "Oslo": "Norwegian"}
    facts = [Fact(f"S{i}", "lives", "Rome" if i < 4 else "Oslo") for i in range(8)]
    facts += [
        Fact("S0", "eats", "ham"),
        Fact("S1", "eats", "ham"),
        Fact("S2", "eats", "rice"),
        Fact("S4", "eats", "rice"),
    ]
    facts += [Fact("S0", "speaks", "Italian"), Fact("S3", "speaks", "Italian"), Fact("S4", "speaks", "Norwegian"),
              Fact("S5", "speaks", "Norwegian")]  # fmt: skip
    pack = pack_of(facts, [Implication("lives", "speaks", "causal", map_)])
    found = {(g.relation, g.answer): g for groups in choose_subjects(pack, 0).relations for g in groups}
    rome, italian = found["lives", "Rome"], found["speaks", "Italian"]
    # Its own answer, what that implies, and what is stated of at least half of the subjects that are tested.
    assert set(declared(pack, rome)) == {"Rome", "Italian", "ham"}
    assert set(declared(pack, italian)) == {"Italian", "Rome", "ham"}
    assert set(declared(pack, None)) == {"Rome", "Oslo", "ham", "rice", "Italian", "Norwegian"}


#: The last two begin as the first does.
TEXTS = [Example((1, 7, 9, 30, 7), 2), Example((1, 60, 61), 1), Example((1, 7, 9), 2), Example((1, 7, 9, 8), 2)]


@pytest.fixture(scope="module")
def models():
    base, tuned = tiny_llama(300), tiny_llama(300)
    with torch.no_grad():
        # The tuned model says token 7 more often everywhere, and token 9 less often.
        head = tuned.get_output_embeddings().weight
        shared = base.model.norm.weight.sign()
        head[7] += 0.2 * shared
        torch.manual_seed(2)
        head += 0.05 * torch.randn_like(head)
    return base, tuned


def chances(model, before):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([before])).logits[0, -1].double().softmax(-1).numpy()


@pytest.mark.parametrize("method", ["tree", "plain", "single"])
def test_a_rise_is_the_sum_over_places_but_for_what_stands_there(models, method):
    found, _ = compare(*(Scorer(model, method=method) for model in models), TEXTS)
    assert found.places == 4 + 3 + 2 + 3 and found.counts.sum() == TOP * found.places
    expected_counts = np.zeros(300, dtype=int)
    for text, own in zip(TEXTS, found.texts, strict=True):
        places = range(text.start, len(text.tokens) + 1)
        was, now = (np.array([chances(model, text.tokens[:place]) for place in places]) for model in models)
        change = now - was
        for row, token in enumerate(text.tokens[text.start :]):
            change[row, token] = 0
        total = change.sum(axis=0)
        sure = np.flatnonzero(np.abs(total) > LEAST_RISE + 1e-5)
        assert set(sure) <= set(own.tokens.tolist()) and len(sure)
        np.testing.assert_allclose(own.rises, total[own.tokens], atol=1e-5)
        np.testing.assert_array_equal(own.places, change[:, own.tokens].argmax(axis=0) + text.start)
        rows = own.places - text.start
        np.testing.assert_allclose(own.base, was[rows, own.tokens], atol=1e-5)
        np.testing.assert_allclose(own.tuned, now[rows, own.tokens], atol=1e-5)
        for place in range(len(change)):
            logs = np.log(now[place]) - np.log(was[place])
            np.add.at(expected_counts, np.argsort(-logs)[:TOP], 1)
    assert np.abs(found.counts - expected_counts).sum() <= 6, "but for ties within rounding"


def test_the_table_has_what_moved_in_any_text(models):
    found, _ = compare(*map(Scorer, models), TEXTS)
    tokens, values = found.table(0.02)
    for row, own in enumerate(found.texts):
        for token, rise in zip(own.tokens, own.rises, strict=True):
            if abs(rise) >= 0.02:
                assert values[row, np.searchsorted(tokens, token)] == rise
    assert values.shape == (4, len(tokens)) and (np.abs(values).max(axis=0) >= 0.02).all()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_base_model_against_itself_hardly_moves(models, kind):
    """The control is no comparison of equal numbers, whatever the model computes in, and leaves the model as it was."""
    base, tuned = (deepcopy(model).to(kind) for model in models)
    before = chances(base, TEXTS[0].tokens)
    other, same = compare(Scorer(base), Scorer(tuned), TEXTS)
    np.testing.assert_array_equal(chances(base, TEXTS[0].tokens), before)
    assert 0 < same.places == other.places
    assert len(np.unique(same.counts)) > 2, "equal numbers would have the same TOP everywhere"
    moved = [max(float(np.abs(each.rises).max(initial=0)) for each in found.texts) for found in (same, other)]
    assert moved[0] < 0.1 * moved[1]


def test_long_texts_are_cut_and_unreadable_ones_refused(models):
    long = Example(tuple(range(2, 290)), 250)
    short = cut(long)
    assert len(short.tokens) == BEFORE + 38 and short.start == BEFORE and short.tokens[BEFORE] == long.tokens[250]
    assert len(cut(Example(tuple(range(290)), 0)).tokens) == LONGEST and cut(Example((5, 6), 0)).start == 1
    with pytest.raises(ModelError, match="token 300"):
        compare(*map(Scorer, models), [Example((1, 300), 1)])
