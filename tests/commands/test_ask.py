"""`spillover.ask`: the answers before any training."""

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import spillover
from spillover.commands import inject
from spillover.errors import ModelError
from spillover.lm.load import load_model
from spillover.packs.open import open_pack
from spillover.record import ANSWERS


def test_it_answers_as_a_run_does_before_training(settings, tmp_path):
    run = inject.run(settings)
    answers = pq.read_table(tmp_path / "run" / ANSWERS)
    before = answers.filter(pc.equal(answers["checkpoint"], 0))
    named = spillover.ask(settings.pack, settings.model, threads=1)
    loaded = load_model(settings.model, device="cpu")
    held = spillover.ask(open_pack(settings.pack), (loaded.model, loaded.tokenizer), threads=1)
    assert named.table.equals(before) and held.table.equals(before)
    expected = run["metrics"]["implication_rank_test_before"]["value"]
    assert named.metrics["implication_rank_test_before"].value == expected


def test_a_model_that_is_not_there_is_one_sentence(settings):
    with pytest.raises(ModelError, match="there is no model called 'nowhere'"):
        spillover.ask(settings.pack, "nowhere")
