"""Tree scores equal brute force: one forward a prompt and candidate, batch 1, no cache; memory stays bounded."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillover.lm import score as scoring
from spillover.lm.memory import Exhausted
from spillover.lm.score import PrefixTree, Scorer, cheaper_merged, collate, logits_only_at, width_for
from spillover.lm.tokens import Example, Request, encoder
from tests.tiny_models import TINY

WORDS = ["French", "Old Italian", "Old Norse", "Old", "Java", "JavaScript", "Common Lisp", "Emacs Lisp", "New York",
         "Norse code", "Åström", "北京", "العربية"]  # fmt: skip
SUBJECTS = ["Ada Moss", "Ben", "Cleo Park of Rome", "Zoë Åström", "李明", "مريم"]


def brute_force(model, ask):
    """Sum of the log-probabilities of each candidate's tokens, one text at a time."""
    scores = []
    for candidate in ask.candidates:
        tokens = torch.tensor([[*ask.prompt, *candidate]])
        with torch.no_grad():
            logs = model(input_ids=tokens, use_cache=False).logits[0].double().log_softmax(-1)
        start = len(ask.prompt)
        scores.append(sum(logs[start - 1 + step, token].item() for step, token in enumerate(candidate)))
    return np.array(scores)


def asks_for(encode, subjects, answers):
    found = []
    for subject in subjects:
        prompt = encode(f"{subject} speaks")
        candidates = tuple(tuple(encode(f"{subject} speaks {answer}."))[len(prompt) :] for answer in answers)
        found.append(Request(tuple(prompt), candidates))
    return found


@pytest.fixture(scope="module", params=TINY)
def model(request):
    return TINY[request.param](512)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    answers=st.lists(st.sampled_from(WORDS), min_size=2, max_size=6, unique=True),
    subjects=st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=4, unique=True),
    method=st.sampled_from(["tree", "plain", None]),
    tokens=st.sampled_from([1, 40, 4096]),
    multiple=st.sampled_from([1, 8]),
)
def test_equal_to_brute_force(model, tokenizer, answers, subjects, method, tokens, multiple):
    asks = asks_for(encoder(tokenizer), subjects, answers)
    scorer = Scorer(model, method=method, maximum_tokens=tokens)
    # Widths as they are on a GPU, too.
    with patch("spillover.lm.score.width_for", return_value=multiple):
        found = scorer.score(asks)
    for ask, scores in zip(asks, found, strict=True):
        np.testing.assert_allclose(scores, brute_force(model, ask), atol=1e-4)


def test_the_tree_is_chosen_on_an_ordinary_model(model, tokenizer):
    scorer = Scorer(model)
    scorer.score(asks_for(encoder(tokenizer), SUBJECTS[:1], WORDS))
    assert scorer.method == "tree"


def test_a_model_that_ignores_masks_is_scored_as_plain_texts():
    model = TINY["llama"](64)
    forward = model.forward

    def forgetful(*args, attention_mask=None, **kwargs):
        return forward(*args, **kwargs)

    model.forward = forgetful
    ask = Request((1, 5, 6), ((7, 8, 9), (7, 10, 11), (12, 13)))
    scorer = Scorer(model)
    scores = scorer.score([ask])
    assert scorer.method == "plain"
    np.testing.assert_allclose(scores[0], brute_force(model, ask), atol=1e-4)


def test_a_text_beyond_the_sliding_window_is_scored_as_a_plain_text():
    model = TINY["gemma3"](64)  # its window is 40
    ask = Request(tuple(range(2, 62)), ((7, 8, 9), (7, 10), (12,)))
    short = Request((1, 2, 3), ((7, 8, 9), (7, 10), (12,)))
    scorer = Scorer(model)
    scores = scorer.score([ask, short])
    np.testing.assert_allclose(scores[0], brute_force(model, ask), atol=1e-4)
    np.testing.assert_allclose(scores[1], brute_force(model, short), atol=1e-4)


def test_a_long_text_is_scored_alike_whatever_is_asked_beside_it():
    """A batch of a text beyond the window and a merged tree once had the tree's mask, which knows no window."""
    model = TINY["gemma3"](64)
    long = Request((1, *range(2, 62)), ((7, 8, 9), (7, 10), (12,)))
    beside = [Request((1, *range(2, 12), number), ((7, 8, 9), (7, 10), (12, 13))) for number in range(20, 30)]
    alone, among = Scorer(model).score([long])[0], Scorer(model).score([*beside, long])
    np.testing.assert_allclose(alone, brute_force(model, long), atol=1e-4)
    for ask, scores in zip([*beside, long], among, strict=True):
        np.testing.assert_allclose(scores, brute_force(model, ask), atol=1e-4)


def test_a_window_that_no_setting_names_is_found_out(monkeypatch):
    monkeypatch.setattr(scoring, "window_of", lambda model: float("inf"))
    model = TINY["gemma3"](64)
    short, long = asks(3), Request(tuple(range(2, 62)), ((7, 8, 9), (7, 10), (12,)))
    scorer = Scorer(model)
    scorer.score(short)
    assert scorer.method == "tree"
    np.testing.assert_allclose(scorer.score([long])[0], brute_force(model, long), atol=1e-4)
    assert scorer.method == "plain"


def test_a_model_that_reads_the_batch_is_asked_one_text_at_a_time():
    model = TINY["llama"](64)
    forward = model.forward

    def by_the_batch(input_ids=None, attention_mask=None, position_ids=None, **kwargs):
        places = torch.arange(input_ids.shape[1])[None].expand_as(input_ids)
        return forward(input_ids=input_ids, position_ids=places * len(input_ids), **kwargs)

    model.forward = by_the_batch
    scorer, asked = Scorer(model), [Request((1, 5, 6), ((7, 8, 9), (12,))), Request((1, 6, 2, 3, 9), ((7, 8), (12,)))]
    found = scorer.score(asked)
    assert scorer.method == "single"
    for ask, scores in zip(asked, found, strict=True):
        np.testing.assert_allclose(scores, brute_force(model, ask), atol=1e-4)
    prompts = [ask.prompt for ask in asked]
    told = Scorer(model).next_tokens(prompts, lambda logs: logs.argmax(-1).tolist())
    assert told == [model(torch.tensor([prompt])).logits[0, -1].argmax().item() for prompt in prompts]


def test_logits_are_computed_only_where_asked():
    model = TINY["llama"](64)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    whole = model(input_ids=tokens).logits.reshape(6, -1)
    with logits_only_at(model, torch.tensor([1, 5])):
        part = model(input_ids=tokens).logits
    assert part.shape == (1, 2, 64)
    torch.testing.assert_close(part[0], whole[[1, 5]])
    assert model(input_ids=tokens).logits.shape == (2, 3, 64)


def test_scores_do_not_depend_on_what_is_asked_beside_them(model, tokenizer):
    asks = asks_for(encoder(tokenizer), SUBJECTS, WORDS)
    alone = np.concatenate([Scorer(model).score([ask])[0] for ask in asks])
    np.testing.assert_allclose(np.concatenate(Scorer(model).score(asks)), alone, atol=1e-4)


def test_nothing_asked_nothing_scored():
    assert Scorer(TINY["llama"](64)).score([]) == []


# ab, abc and ad after the prompt 5, 6 share a; abc also needs b; x needs nothing. Another prompt shares the 5.
TEXTS = [
    Example((5, 6, 1, 2), 2),
    Example((5, 6, 1, 2, 3), 2),
    Example((5, 6, 1, 4), 2),
    Example((5, 6, 9), 2),
    Example((5, 7, 9), 2),
]


def test_a_tree_shares_what_texts_share():
    tree = PrefixTree(TEXTS)
    assert tree.tokens == [5, 6, 1, 2, 7]
    assert tree.parents == [-1, 0, 1, 2, 0]
    assert tree.positions == [0, 1, 2, 3, 1]
    assert tree.paths == [((1, 1), (2, 2)), ((1, 1), (2, 2), (3, 3)), ((1, 1), (2, 4)), ((1, 9),), ((4, 9),)]
    assert tree.scored == [1, 2, 3, 4]
    assert not tree.chain and PrefixTree(TEXTS[:2]).chain


def test_a_token_sees_itself_and_its_ancestors():
    assert PrefixTree(TEXTS).visible().astype(int).tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 0, 0, 0, 1]
    ]  # fmt: skip


def test_a_batch_says_where_everything_is():
    batch = collate([PrefixTree(TEXTS[3:]), PrefixTree(TEXTS[:1])], torch.float32)
    assert batch.tokens.tolist() == [[5, 6, 7], [5, 6, 1]]
    assert batch.positions.tolist() == [[0, 1, 1], [0, 1, 2]]
    assert batch.scored.tolist() == [1, 2, 4, 5]
    assert (batch.place.tolist(), batch.token.tolist(), batch.text.tolist()) == (
        [0, 1, 2, 3],
        [9, 9, 1, 2],
        [0, 1, 2, 2],
    )
    assert (batch.mask[0, 0] == 0).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


def test_ordinary_texts_get_an_ordinary_mask():
    batch = collate([PrefixTree([Example((1, 2, 3), 1)]), PrefixTree([Example((1, 2), 1)])], torch.float32)
    assert batch.mask.tolist() == [[1, 1], [1, 0]]
    assert batch.tokens.tolist() == [[1, 2], [1, 0]]
    assert (batch.scored.tolist(), batch.token.tolist()) == ([0, 1, 2], [2, 3, 2])


def test_a_width_that_a_gpu_s_kernels_take():
    assert [width_for(torch.device(name)) for name in ("cpu", "cuda", "cuda:1")] == [1, 8, 8]
    rows = [Example((1, 2, 3), 1), Example((1, 2), 1)]
    batch = collate([PrefixTree([row]) for row in rows], torch.float32, multiple=4)
    assert batch.tokens.tolist() == [[1, 2, 0, 0], [1, 0, 0, 0]]
    # What stands behind a text is seen by nothing in it, so that no mask is needed; no position is beyond the texts'.
    assert batch.mask.tolist() == [[1, 1, 1, 1]] * 2 and batch.positions.tolist() == [[0, 1, 1, 1]] * 2
    assert (batch.scored.tolist(), batch.token.tolist()) == ([0, 1, 4], [2, 3, 2])
    merged = collate([PrefixTree([Example((1, 2, 3), 1), Example((1, 4, 5), 1)])], torch.float32, multiple=4)
    assert (merged.mask[0, 0] == 0).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


def test_predictions_with_logits_of_their_own_need_no_picking():
    alone = collate([PrefixTree([Example((1, 2, 3), 1)]), PrefixTree([Example((1, 2), 1)])], torch.float32)
    assert alone.places is None
    merged = collate([PrefixTree([Example((1, 2, 3), 1), Example((1, 4), 1)])], torch.float32)
    assert merged.places.tolist() == merged.place.tolist() == [0, 1, 0]


@given(st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=6), min_size=1, max_size=6))
def test_every_path_spells_its_text(texts):
    rows = [Example(tuple(text), 1) for text in texts]
    tree = PrefixTree(rows)
    for row, path in zip(rows, tree.paths, strict=True):
        assert tuple(token for _, token in path) == row.tokens[1:]
        for place, (index, _) in enumerate(path):
            seen = [token for token, here in zip(tree.tokens, tree.visible()[index], strict=True) if here]
            assert tuple(seen) == row.tokens[: place + 1]
    assert len(tree) <= sum(len(row.tokens) - 1 for row in rows)


def test_rows_are_merged_where_that_feeds_less():
    assert len(cheaper_merged([Example((1, 2, 3), 2), Example((1, 4, 5), 2)])) == 1
    long = [Example((number, *range(100, 400)), 2) for number in range(8)]
    assert len(cheaper_merged(long)) == 8, "nothing is shared, and attention would compare all pairs"


VOCABULARY = 64
CANDIDATES = ((7, 8), (9,), (10, 11, 12), (13,))


def asks(count):
    """Prompts of five to eight tokens, no two alike."""
    prompts = [(1, *(2 + (n // 50**digit) % 50 for digit in range(3)), *range(50, 51 + n % 4)) for n in range(count)]
    return [Request(prompt, CANDIDATES) for prompt in prompts]


@pytest.fixture(scope="module", params=TINY)
def model_ranking(request):
    return TINY[request.param](VOCABULARY)


def watched(monkeypatch, room=None):
    """The tokens and logits of every pass from now on; passes of more tokens than there is room for fail."""
    real, passes = Scorer.logits, []

    def logits(self, fed):
        size = self.size(fed)
        passes.append(size)
        if room is not None and size[1] > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, fed)

    monkeypatch.setattr(Scorer, "logits", logits)
    return passes


def test_no_pass_grows_with_the_number_of_questions(model_ranking, monkeypatch):
    passes = watched(monkeypatch)
    monkeypatch.setattr(scoring, "PROMPTS_AT_ONCE", 100)
    most = []
    for count in (40, 400):
        passes.clear()
        Scorer(model_ranking, method="tree", maximum_tokens=300, maximum_logits=150 * VOCABULARY).score(asks(count))
        most.append((max(logits for logits, _ in passes), max(tokens for _, tokens in passes)))
    assert all(logits <= 150 * VOCABULARY and tokens <= 300 for logits, tokens in most)


def test_prompts_in_pieces_score_as_all_together(model_ranking, monkeypatch):
    together = Scorer(model_ranking).score(asks(60))
    monkeypatch.setattr(scoring, "PROMPTS_AT_ONCE", 7)
    for first, second in zip(together, Scorer(model_ranking).score(asks(60)), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)


def test_memory_that_runs_out_ends_as_if_the_passes_had_been_small(model_ranking, monkeypatch):
    with monkeypatch.context() as patch:
        passes = watched(patch, room=100)
        scorer = Scorer(model_ranking, method="tree")
        found = scorer.score(asks(60))
        assert max(tokens for _, tokens in passes) > 100, "memory did run out"
    assert scorer.maximum_tokens <= 200
    small = Scorer(
        model_ranking, method="tree", maximum_tokens=scorer.maximum_tokens, maximum_logits=scorer.maximum_logits
    )
    assert all(np.array_equal(*pair) for pair in zip(found, small.score(asks(60)), strict=True))
    prompts = [ask.prompt for ask in asks(60)]
    with monkeypatch.context() as patch:
        watched(patch, room=100)
        told = Scorer(model_ranking).next_tokens(prompts, lambda logs: [row.argmax().item() for row in logs])
    assert told == Scorer(model_ranking).next_tokens(prompts, lambda logs: [row.argmax().item() for row in logs])


def test_running_out_while_the_mask_is_tried_does_not_count_against_the_mask(model_ranking, monkeypatch):
    with monkeypatch.context() as patch:
        watched(patch, room=30)
        scorer = Scorer(model_ranking)
        scorer.score(asks(20))
    assert scorer.method == "tree"


def test_no_memory_for_one_prompt_is_a_sentence(model_ranking, monkeypatch):
    watched(monkeypatch, room=3)
    sentence = r"^memory ran out while a single prompt was being ranked\. Use --lora 8, --dtype bfloat16, a smaller"
    with pytest.raises(Exhausted, match=sentence):
        Scorer(model_ranking, method="tree").score(asks(5))
