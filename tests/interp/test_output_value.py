"""Spectra of heads and what their changes share, against dense matrices and values worked out by hand."""

import math

import pytest
import torch

from spillover.interp.output_value import BaseProducts, overlaps, prompt, prompts, read_by_values, shared, spectrum
from spillover.lm.output_value import Factored
from spillover.lm.tokens import encoder
from spillover.packs.open import open_pack
from spillover.record import INSIDE_SCHEMA, SHARED_SCHEMA
from tests.lm.test_architectures import built
from tests.tiny_models import byte_level, wrapped

FAMILIES = ["gemma3", "gpt2", "gpt-neox"]


@pytest.mark.parametrize(
    ("values", "ratio", "rank", "share"),
    [([2, 0, 0], 1, 1, 1), ([3, 3, 3, 3], 2, 4, 0.25), ([3, 1], 4 / math.sqrt(10), 4 / 3**0.75, 0.75)],
)
def test_a_spectrum_by_hand(values, ratio, rank, share):
    found = spectrum(torch.tensor(values, dtype=torch.float64))
    assert found == pytest.approx({
        "frobenius": math.hypot(*values), "nuclear_to_frobenius": ratio, "effective_rank": rank, "top_share": share
    })  # fmt: skip


def test_nothing_is_told_of_no_change():
    assert spectrum(torch.zeros(3, dtype=torch.float64)) == {"frobenius": 0}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_tells_of_the_dense_matrices(family):
    model = built(family, 60).double()
    before = BaseProducts(model, copied=True)
    assert {row["matrix"] for row in before.spectra(model, seed=0, checkpoint=0, full=True).to_pylist()} == {"product"}
    old = [before.places[5].product({k: v.clone() for k, v in before.weights.items()})]
    torch.manual_seed(0)
    with torch.no_grad():
        for name in before.weights:
            model.get_parameter(name).add_(0.01 * torch.randn_like(model.get_parameter(name)))
    table = before.spectra(model, seed=7, checkpoint=3, full=True)
    norms = before.spectra(model, seed=7, checkpoint=3, full=False)
    assert table.schema.equals(INSIDE_SCHEMA) and table.num_rows == 2 * 2 * 4
    now = before.places[5].product({name: value.detach() for name, value in model.named_parameters()})
    dense = {"product": now.left @ now.right, "change": now.left @ now.right - old[0].left @ old[0].right}
    changes = [row for row in table.to_pylist() if row["matrix"] == "change"]
    for row, norm in zip(changes, norms.to_pylist(), strict=True):
        assert norm == {**row, "nuclear_to_frobenius": None, "effective_rank": None, "top_share": None,
                        "frobenius": pytest.approx(row["frobenius"])}  # fmt: skip
    for row in table.to_pylist():
        if (row["layer"], row["head"]) == (1, 1):
            values = torch.linalg.svdvals(dense[row["matrix"]])
            shares = values / values.sum()
            shares = shares[shares > 0]
            assert row["rank"] == (8 if row["matrix"] == "product" else 16)
            assert row["nuclear_to_frobenius"] == pytest.approx(float(values.sum() / dense[row["matrix"]].norm()))
            assert row["effective_rank"] == pytest.approx(float((-shares * shares.log()).sum().exp()), rel=1e-6)
            assert row["top_share"] == pytest.approx(float(shares[0]))


def test_overlap_by_hand():
    """The change copies its first four of five inputs; the stated differ in two of those, the unstated in three."""
    change = Factored(torch.eye(5)[:, :4], torch.eye(5)[:4])
    stated = torch.tensor([[1.0, 0, 0, 0, 9], [-1, 0, 0, 0, 1], [0, 1, 0, 0, 3], [0, -1, 0, 0, -7]])
    unstated = torch.tensor([[2.0, 0, 1, 0, 0], [-2, 0, -1, 0, 5]]) + 10
    strangers = torch.tensor([[0.0, 0, 0, 1, 0], [0, 0, 0, -1, 0]])
    assert overlaps(change, stated, unstated, strangers) == pytest.approx(
        {"directions": 2, "overlap": 4 / 5, "overlap_never_seen": 0, "chance": 2 / 4}
    )
    assert overlaps(change, stated, unstated[:1], strangers) is None, "one subject differs from nobody"


def test_random_directions_overlap_as_chance_says():
    torch.manual_seed(0)
    found = []
    for _ in range(60):
        change = Factored(torch.eye(12), torch.eye(12))
        told = overlaps(change, torch.randn(4, 12), torch.randn(8, 12), torch.randn(8, 12))
        found.append((told["overlap"], told["chance"]))
    overlap, chance = (sum(column) / 60 for column in zip(*found, strict=True))
    assert overlap == pytest.approx(chance, abs=0.03)


@pytest.fixture(scope="module")
def tokenizer():
    return wrapped(byte_level(), bos=True)


def test_the_place_is_the_last_token_of_the_name(tokenizer):
    encode, pack = encoder(tokenizer), open_pack("city-language:names=10,bridge=1", 0)
    found = prompt(pack, "speaks", "Ada Moss", encode)
    assert tokenizer.decode(found, skip_special_tokens=True) == "Ada Moss"
    asked = prompts(pack, pack.implications[0], encode, 0)
    assert {sort: len(each) for sort, each in asked.items()} == {"stated": 5, "unstated": 5, "never_seen": 20}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_values_read_does_not_depend_on_the_other_prompts(family, tokenizer):
    model, encode, pack = (
        built(family, len(tokenizer)),
        encoder(tokenizer),
        open_pack("city-language:names=10,bridge=1", 0),
    )
    before = BaseProducts(model, copied=False)
    asked = [prompt(pack, "speaks", name, encode) for name in ("Ada Moss", "Ben", "Maximilian Featherstonehaugh")]
    together = read_by_values(model, before, asked)
    for number, each in enumerate(asked):
        alone = read_by_values(model, before, [each])
        for layer in (0, 1):
            torch.testing.assert_close(together[layer][number], alone[layer][0], atol=1e-5, rtol=1e-4)
    module = model.get_submodule(before.places[0].value.weight.removesuffix(".weight"))
    assert not module._forward_pre_hooks


def test_shared_has_a_row_an_implication_and_head_that_changed(tokenizer):
    model = built("llama", len(tokenizer))
    encode, pack = encoder(tokenizer), open_pack("mixed:names=10,bridge=1", 0)
    before = BaseProducts(model, copied=True)
    assert shared(before, model, pack, encode, seed=0, checkpoint=2).num_rows == 0, "nothing changed"
    with torch.no_grad():
        for place in before.places:
            if (place.layer, place.head) != (1, 3):
                place.output.of(dict(model.named_parameters())).add_(0.1)
    table = shared(before, model, pack, encode, seed=0, checkpoint=2)
    assert table.schema.equals(SHARED_SCHEMA)
    rows = table.to_pylist()
    assert {row["implication"] for row in rows} == {each.name for each in pack.implications}
    assert len(rows) == 2 * 7 and (1, 3) not in {(row["layer"], row["head"]) for row in rows}
    assert all(0 <= row["overlap"] <= 1.0001 and row["directions"] == 1 for row in rows), "all outputs rise alike"
