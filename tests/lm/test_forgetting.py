"""Plain text: which passages are read, and that their loss is what a straightforward sum gives."""

import numpy as np
import pytest
import torch

from spillover.errors import UsageError
from spillover.lm.forgetting import WINDOW, passage_losses, passages
from spillover.lm.tokens import encoder


def test_the_bundled_passages_are_prose_without_their_sources():
    found = passages()
    assert len(found) >= 10
    assert all(len(text.split()) >= 30 and "#" not in text and "\n" not in text for text in found)


def test_a_file_of_the_users(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("One line.\nStill one.\n\n\n\nمريم تتكلم\n", encoding="utf-8")
    assert passages(str(path)) == ["One line. Still one.", "مريم تتكلم"]


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
