"""The symbolic task: rows and bags, and the identity that lets bags stand for sequences."""

import numpy as np
import pytest
import torch

from spillover.errors import UsageError
from spillover.theory.models import Ensemble, Model
from spillover.theory.symbolic import Bags, Task, exact_bags, sampled_bags, training_batches
from spillover.theory.training import stacked_bags


def token_level_logits(ensemble, sequence, size):
    """One model of the ensemble with sequences, positions and an attention matrix; logits at the last place."""
    weights = {name: value[0] for name, value in ensemble.weights.items()}
    matrix = weights["W_OV^T"].T if "W_OV^T" in weights else weights["W_O"] @ weights["W_V"].T
    key_query = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    key_query[:, ensemble.tasks[0].end] = weights["k"]
    one_hot = torch.nn.functional.one_hot(torch.as_tensor(sequence), size).double()
    scores = one_hot @ key_query @ one_hot.T  # scores[t, u]: how much place u attends to place t
    if ensemble.attention == "softmax":
        scores = scores.softmax(0)
    return (matrix @ one_hot.T @ scores)[:, -1]


@pytest.mark.parametrize("attention", ["linear", "softmax"])
@pytest.mark.parametrize("parameters", ["factorised", "merged"])
def test_a_bag_stands_for_its_sequence(attention, parameters):
    task = Task(classes=3, train=1, test=2)
    ensemble = Ensemble([task], [Model(parameters=parameters, attention=attention, seed=4)], dtype=torch.float64)
    generator = np.random.default_rng(0)
    for _ in range(20):
        row = generator.integers(len(task.stated))
        places = np.sort(generator.permutation(task.noise_places + 2)[:2])
        sequence = generator.integers(task.noise.start, task.noise.stop, size=task.noise_places + 3)
        sequence[places] = task.stated.subject[row], task.stated.relation[row]
        sequence[-1] = task.end
        counts = np.bincount(sequence, minlength=task.vocabulary)
        subject = task.stated.subject[[row]]
        bags = Bags(subject, counts[None, : task.context].astype(float), task.stated.answer[[row]], np.ones(1))
        logits = ensemble.logits(stacked_bags(ensemble, [bags]))[0, 0]
        expected = token_level_logits(ensemble, sequence, task.vocabulary)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


def test_the_papers_size():
    task = Task()
    assert task.vocabulary == 128
    assert len(task.stated) == 20 + 20 + 60
    assert len(task.questions) == 60
    context = sampled_bags(task, task.questions, np.random.default_rng(0)).context
    assert (context.sum(-1) + 1).tolist() == [16.0] * 60


def test_every_class_has_its_own_answers():
    task = Task(classes=2, train=1, test=1, noise_tokens=0, noise_places=0)
    b0, b1, c0, c1 = range(task.answers.start, task.answers.stop)
    subjects = list(range(task.context, task.inputs))
    stated = list(zip(task.stated.subject, task.stated.relation, task.stated.answer, strict=True))
    assert stated == [
        *((subjects[0], 0, b0), (subjects[2], 0, b1)),
        *((subjects[0], 1, c0), (subjects[2], 1, c1)),
        *((subjects[1], 0, b0), (subjects[3], 0, b1)),
    ]
    assert list(zip(task.questions.subject, task.questions.answer, strict=True)) == [
        (subjects[1], c0),
        (subjects[3], c1),
    ]


def test_batches_hold_a_third_of_each_kind_and_uniform_noise():
    task = Task()
    bags = training_batches(task, 252, 40, np.random.default_rng(3))
    kinds = np.where(bags.context[..., 1] == 1, 1, np.where(np.isin(bags.subject, task.questions.subject), 2, 0))
    assert [(kinds == kind).sum(1).tolist() for kind in range(3)] == [[84] * 40] * 3
    noise = bags.context[..., task.noise]
    assert (noise.sum(-1) == 13).all()
    # A multinomial count: mean 13/5 and variance 13 * 1/5 * 4/5, within five standard errors over 10080 draws.
    assert abs(noise.mean((0, 1)) - 2.6).max() < 5 * np.sqrt(2.08 / 10080)
    assert abs(noise.var((0, 1)) - 2.08).max() < 0.2


def test_exact_bags_share_the_loss_among_the_kinds():
    task = Task(classes=3, train=2, test=1)
    bags = exact_bags(task, task.stated)
    assert np.bincount(task.stated.group, weights=bags.weight) == pytest.approx([1 / 3] * 3)
    silent = Task(classes=3, train=2, test=0)
    assert exact_bags(silent, silent.stated).weight.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"classes": 1}, "n is 1, but at least 2 classes are needed"),
        ({"train": -1}, "train is -1"),
        ({"train": 0, "test": 0}, "train and test are both 0"),
        ({"noise_tokens": 0}, "noise_places needs noise tokens"),
        ({"vocabulary": 100}, "vocabulary is 100, but must be at least 128"),
    ],
)
def test_impossible_sizes_are_refused(fields, says):
    with pytest.raises(UsageError, match=says):
        Task(**fields)


def test_sizes_can_be_written():
    assert Task.parse("n=4, train=2,test=0") == Task(4, 2, 0)
    assert Task.parse("", noise_places=0) == Task(noise_places=0)
    for text in ("m=3", "n=four", "n", "n=1"):
        with pytest.raises(UsageError):
            Task.parse(text)


def test_a_batch_too_small_for_every_kind_is_refused():
    with pytest.raises(UsageError, match="cannot hold every kind"):
        training_batches(Task(), 2, 1, np.random.default_rng(0))
