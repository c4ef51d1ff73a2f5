"""Texts share what they have in common, each token sees its own text only, and a batch says where everything is."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from spillover.lm.score import PrefixTree, cheaper_merged, collate, width_for
from spillover.lm.tokens import Example

# ab, abc and ad after the prompt 5, 6 share a; abc also needs b; x needs nothing. Another prompt shares the 5.
TEXTS = [
    Example((5, 6, 1, 2), 2),
    Example((5, 6, 1, 2, 3), 2),
    Example((5, 6, 1, 4), 2),
    Example((5, 6, 9), 2),
    Example((5, 7, 9), 2),
]


def test_a_forest_shares_what_texts_share():
    forest = PrefixTree(TEXTS)
    assert forest.tokens == [5, 6, 1, 2, 7]
    assert forest.parents == [-1, 0, 1, 2, 0]
    assert forest.positions == [0, 1, 2, 3, 1]
    assert forest.paths == [((1, 1), (2, 2)), ((1, 1), (2, 2), (3, 3)), ((1, 1), (2, 4)), ((1, 9),), ((4, 9),)]
    assert forest.scored == [1, 2, 3, 4]
    assert not forest.chain and PrefixTree(TEXTS[:2]).chain


def test_a_token_sees_itself_and_its_ancestors():
    assert PrefixTree(TEXTS).visible().astype(int).tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 0, 0, 0, 1]
    ]  # fmt: skip


def test_a_batch_says_where_everything_is():
    batch = collate([PrefixTree(TEXTS[3:]), PrefixTree(TEXTS[:1])], torch.float32, side="left")
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
    before = collate([PrefixTree([row]) for row in rows], torch.float32, side="left", multiple=4)
    assert before.mask.tolist() == [[0, 0, 1, 1], [0, 0, 0, 1]]
    merged = collate([PrefixTree([Example((1, 2, 3), 1), Example((1, 4, 5), 1)])], torch.float32, multiple=4)
    assert (merged.mask[0, 0] == 0).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


def test_steps_with_logits_of_their_own_need_no_picking():
    alone = collate([PrefixTree([Example((1, 2, 3), 1)]), PrefixTree([Example((1, 2), 1)])], torch.float32)
    assert alone.places is None
    merged = collate([PrefixTree([Example((1, 2, 3), 1), Example((1, 4), 1)])], torch.float32)
    assert merged.places.tolist() == merged.place.tolist() == [0, 1, 0]


@given(st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=6), min_size=1, max_size=6))
def test_every_path_spells_its_text(texts):
    rows = [Example(tuple(text), 1) for text in texts]
    forest = PrefixTree(rows)
    for row, path in zip(rows, forest.paths, strict=True):
        assert tuple(token for _, token in path) == row.tokens[1:]
        for place, (index, _) in enumerate(path):
            seen = [token for token, here in zip(forest.tokens, forest.visible()[index], strict=True) if here]
            assert tuple(seen) == row.tokens[: place + 1]
    assert len(forest) <= sum(len(row.tokens) - 1 for row in rows)


def test_rows_are_merged_where_that_feeds_less():
    assert len(cheaper_merged([Example((1, 2, 3), 2), Example((1, 4, 5), 2)])) == 1
    long = [Example((number, *range(100, 400)), 2) for number in range(8)]
    assert len(cheaper_merged(long)) == 8, "nothing is shared, and attention would compare all pairs"
