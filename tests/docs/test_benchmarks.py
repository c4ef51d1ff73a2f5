"""Benchmarks that no machine here can run in earnest run whole on what it has, or say in a sentence why not."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks import fine_tuning_gpu, gemma_2, ranking_precision  # noqa: E402


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch):
    """The script says which card the Trainer may see."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", "--optimiser adamw-8bit --gradient-checkpointing --logits-at-once 3"])
def test_a_step_is_compared_with_the_trainer_s_on_a_processor(more, capsys):
    words = "--device cpu --size tiny --rows 2 --tokens 12 --answers 2,11 --repeats 1 --steps 1"
    assert fine_tuning_gpu.main(f"{words} {more}".split()) == 0
    said = capsys.readouterr().out.splitlines()
    kinds = ["tiny:", "estimated", "ours", "ours,", "Trainer", "Trainer", "Trainer"]
    assert [line.split()[0].rstrip(",:") for line in said] == 2 * [kind.rstrip(",:") for kind in kinds]
    assert all(" tokens a second (" in line for line in (*said[2:5], *said[9:12]))
    assert said[5].startswith("  Trainer at its fastest takes ") and "does not fit" not in "".join(said)
    assert said[6].startswith("  Trainer at its fastest takes ") and "without compilation" in said[6]


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fine_tuning_gpu.main([]) == 2
    assert capsys.readouterr().err == (
        "This machine has no CUDA device: give --device cpu --size tiny to try the script.\n"
    )


def test_operations_counted_by_hand():
    config = gemma_2.SIZES["tiny"]  # Width 32, MLP 64, two layers of 4 heads and 2 keys of 8; 512 tokens.
    layer = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64
    scores_and_sums = 3 * 2 * 2 * (10 * 10 / 2) * 32
    expected = 2 * (10 * 6 * layer + scores_and_sums) + 6 * 512 * 32 * 3
    assert gemma_2.needed_operations(config, 1, 10, 3) == expected


def test_ranking_is_compared_in_both_number_formats(capsys):
    words = "--device cpu --size tiny --questions 20 --tokens 6 --repeats 1"
    assert ranking_precision.main(words.split()) == 0
    heading, single, half, ratio = capsys.readouterr().out.splitlines()
    assert heading.startswith("tiny, 20 questions of 6 tokens with ten candidates each, on ")
    assert single.startswith("  float32 ") and half.startswith("  bfloat16 ")
    assert "the best candidate is the same in 100.0%" in ratio or "a rank differs by " in ratio
