"""Next tokens and continuations equal one text at a time, whatever is asked beside it; templates and their mistakes."""

import numpy as np
import pytest
import torch

from spillover.errors import ModelError, UsageError
from spillover.interp.open_probes import (
    FLOOR,
    Likely,
    continuations,
    first_tokens,
    likely,
    prompts_of,
    side_by_side,
    templates,
    word,
)
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder
from tests.tiny_models import TINY

TEMPLATES = ("{subject} speaks", "The home of {subject} is", "{subject} speaks French and codes in")
SUBJECTS = ("Ada Moss", "Ben", "Zoë Åström", "李明")


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
        found = likely(scorer, prompts)
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
    found = likely(scorer, prompts)
    assert scorer.method == "plain"
    for prompt, each in zip(prompts, found, strict=True):
        np.testing.assert_allclose(each.probabilities, next_probabilities(model, prompt)[each.tokens], atol=1e-5)


def test_what_a_model_cannot_say_is_a_sentence():
    model = TINY["llama"](64)
    with pytest.raises(ModelError, match="the model has only 64"):
        likely(Scorer(model), [(1, 70)])
    assert likely(Scorer(model), []) == []
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="the model's scores are not numbers"):
        likely(Scorer(model, method="tree"), [(1, 5)])


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
    base = [Likely(np.array([2, 9]), np.array([0.5, 0.1])), Likely(np.array([], dtype=int), np.array([]))]
    tuned = [Likely(np.array([4]), np.array([0.9])), Likely(np.array([2]), np.array([0.3]))]
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
