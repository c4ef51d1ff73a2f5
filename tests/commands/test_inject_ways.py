"""Other ways to train and ask: facts that the model knew before, and a chat model in its own template."""

import json

import pyarrow.parquet as pq
import pytest

from spillover.commands import inject
from spillover.errors import ModelError, RunError, UsageError
from spillover.record import ANSWERS, TRAJECTORY, Record
from tests.commands.test_inject import elsewhere


def test_facts_that_are_known_are_asked_and_not_trained(settings, tmp_path):
    """The same questions, three rows an epoch where there were twelve; and without implications, nothing to train."""
    inject.run(settings)
    found = inject.run(elsewhere(settings, tmp_path, "known", facts_known=True))
    tables = [pq.read_table(tmp_path / name / ANSWERS) for name in ("run", "known")]
    asked = [table.drop_columns(["log_probability", "checkpoint"]).to_pylist() for table in tables]
    assert asked[0] == asked[1]
    steps = [max(pq.read_table(tmp_path / name / TRAJECTORY)["step"].to_pylist()) for name in ("run", "known")]
    assert steps == [6, 3], "twelve rows and three, eight a step, three epochs"
    assert found["metrics"]["implication_rank_train"]["value"] < found["metrics"]["recall_rank"]["value"]
    assert "facts taken as known: mean rank" in found["text"]
    body = json.loads((tmp_path / "pack.yaml").read_text())
    body["facts"] = [fact for fact in body["facts"] if fact["relation"] == "lives_in"]
    (tmp_path / "pack.yaml").write_text(json.dumps(body))
    with pytest.raises(UsageError) as caught:
        inject.run(elsewhere(settings, tmp_path, "nothing", facts_known=True))
    do = "Leave --facts-known out, or state what follows of some subjects."
    assert str(caught.value) == f"tiny: no implication is stated, so there is nothing to train on. {do}"


def test_a_chat_model_is_trained_and_asked_in_its_own_template(settings, tiny, tmp_path):
    import copy

    from spillover.commands import check
    from spillover.commands.check import Check
    from tests.lm.test_tokens import TEMPLATE

    folder = tmp_path / "chat"
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.chat_template = TEMPLATE
    tiny.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    changes = {"model": str(folder), "epochs": 12, "evaluate_every": 12}
    run = inject.run(elsewhere(settings, tmp_path, "chat-run", chat=True, **changes))
    assert run["metrics"]["recall_rank"]["value"] < run["metrics"]["recall_rank_before"]["value"]
    words = set(pq.read_table(tmp_path / "chat-run" / ANSWERS)["prompt"].to_pylist())
    assert "<bos><user>{subject} lives in\n<model>" in words
    assert Record.read(tmp_path / "chat-run").details["pack"]["relations"][0]["prompts"][0] == "{subject} lives in"
    assert check.run(Check(pack=settings.pack, model=str(folder), chat=True))["exit_code"] == 0
    with pytest.raises(RunError, match="another run"):
        inject.run(elsewhere(settings, tmp_path, "chat-run", **changes))
    with pytest.raises(ModelError, match="no chat template"):
        inject.run(elsewhere(settings, tmp_path, "plain", chat=True))
