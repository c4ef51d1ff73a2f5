"""`spillover.ask`: the answers before any training."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import spillover
from spillover.commands import inject
from spillover.errors import ModelError
from spillover.lm.load import load_model
from spillover.packs.open import open_pack
from spillover.record import ANSWERS, WARRANTED
from tests import forked


def test_it_answers_as_a_run_does_before_training(settings, tmp_path):
    run = inject.run(settings)
    answers = pq.read_table(tmp_path / "run" / ANSWERS)
    before = answers.filter(pc.equal(answers["checkpoint"], 0))
    named = spillover.ask(settings.model, pack=settings.pack, threads=1)
    loaded = load_model(settings.model, device="cpu")
    held = spillover.ask(loaded.model, loaded.tokenizer, open_pack(settings.pack), threads=1)
    # To ask is not to judge, so what is warranted is not said.
    asked = before.set_column(before.column_names.index(WARRANTED), WARRANTED, pa.nulls(before.num_rows, pa.float64()))
    assert named.table.equals(asked) and held.table.equals(asked)
    expected = run["metrics"]["implication_rank_test_before"]["value"]
    assert named.metrics["implication_rank_test_before"].value == expected


def test_a_model_that_is_not_there_is_one_sentence(settings):
    with pytest.raises(ModelError, match="there is no model called 'nowhere'"):
        spillover.ask("nowhere", pack=settings.pack)


#: Calls with arguments that do not fit -> the sentence they end in; run in a process of its own, without type checks.
MISTAKES = {
    "so.ask(pack, (model, tokenizer))": "no pack was given. Call ask(model, tokenizer, pack)",
    "so.ask(model, pack=pack)": "a model was given without its tokenizer. Give (model, tokenizer)",
    "so.ask(model, pack, tokenizer)": "is no type of pack. Give a Pack",
    "so.ask(tokenizer, model, pack)": "does not continue texts. Give a causal language model",
    "so.inject(pack, model)": "a model was given without its tokenizer. Give (model, tokenizer)",
    "so.inject(pack, (model, tokenizer), epochs='two')": "inject: epochs is 'two'. It should be a valid integer",
    "so.inject(pack, (model, tokenizer), save='all')": "save is 'all'. It should be 'weights', 'delta' or 'none'",
    "so.audit(pack, (model, tokenizer), 5)": "int is no type of pack, model or run. Give a name or a path",
    "so.where(5)": "int is no type of pack, model or run. Give a name or a path",
    "so.predict(5)": "int is no type of pack",
    "so.solve(5)": "int is no type of pack. Give a Pack",
}
CALLS = """
import sys
import spillover as so
from spillover.errors import SpilloverError
from spillover.lm.load import load_model
loaded = load_model(sys.argv[1], device="cpu")
pack, model, tokenizer = sys.argv[2], loaded.model, loaded.tokenizer
for call in sys.argv[3:]:
    try:
        eval(call)
    except SpilloverError as error:
        print(error)
"""


def test_arguments_that_do_not_fit_are_one_sentence(settings):
    done = forked.run(CALLS, settings.model, settings.pack, *MISTAKES)
    assert done.returncode == 0, done.stderr
    sentences = done.stdout.splitlines()
    assert len(sentences) == len(MISTAKES)
    for sentence, expected in zip(sentences, MISTAKES.values(), strict=True):
        assert expected in sentence
