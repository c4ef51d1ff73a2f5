"""The form of a Trainer's rows is learned from the stated facts in them, or it is said what was not found."""

import copy
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spillover.errors import UsageError
from spillover.lm.chat import as_in_rows
from spillover.packs.pack import Fact, Pack, Relation
from tests.lm.test_chat import CHATML, INST, QWEN3, TEMPLATE
from tests.tiny_models import byte_level, wrapped

PEOPLE = {"Ada Moss": ("Paris", "French"), "Ben Okri": ("Tokyo", "Japanese"), "Cleo Park": ("Rome", "Italian")}
PACK = Pack(
    "homes", "none", "here",
    (Relation("lives_in", ("Where does {subject} live?",)), Relation("speaks", ("What does {subject} speak?",))),
    tuple(Fact(name, relation, answer) for name, answers in PEOPLE.items()
          for relation, answer in zip(("lives_in", "speaks"), answers, strict=True)),
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return wrapped(byte_level(), bos=True)


def chat(tokenizer, template, reply=lambda fact: fact.answer, **more):
    """A row a fact as TRL tokenises chats: the turns alone, and which of their tokens are the completion."""
    made = copy.deepcopy(tokenizer)
    made.chat_template = template
    rows = []
    for fact in PACK.facts:
        user = [{"role": "user", "content": PACK.prompt(fact.relation, fact.subject)}]
        whole = [*user, {"role": "assistant", "content": reply(fact)}]
        ids, before = (made(made.apply_chat_template(turns, tokenize=False, add_generation_prompt=turns is user),
                            add_special_tokens=False)["input_ids"] for turns in (whole, user))  # fmt: skip
        rows.append({"input_ids": ids, "completion_mask": [0] * len(before) + [1] * (len(ids) - len(before))})
    return rows


def learned(rows, tokenizer, pack=PACK, **loader):
    words, encode = as_in_rows(pack, SimpleNamespace(dataset=rows, **loader), tokenizer)
    return words(pack), encode


@pytest.mark.parametrize(("template", "before", "join"), [
    (TEMPLATE, "<user>Where does Ada Moss live?\n<model>", ""),
    (CHATML, "<|im_start|>user\nWhere does Ada Moss live?<|im_end|>\n<|im_start|>assistant\n", ""),
    (QWEN3, "<|im_start|>user\nWhere does Ada Moss live?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
     ""),
    (INST, "[INST] Where does Ada Moss live? [/INST]", " "),
])  # fmt: skip
def test_chat_rows_are_asked_as_they_are_written(tokenizer, template, before, join):
    rows = chat(tokenizer, template)
    asked, encode = learned(rows, tokenizer)
    assert (asked.prompt("lives_in", "Ada Moss"), asked.join) == (before, join)
    ids = encode(before + join + "Paris")
    assert rows[0]["input_ids"][: len(ids)] == ids, "with a start token exactly where the rows have one"


def test_plain_rows_are_asked_as_the_pack_says(tokenizer):
    rows = [{"input_ids": tokenizer(PACK.prompt(*fact[1::-1]) + " " + fact.answer)["input_ids"]} for fact in PACK.facts]
    for row in rows:
        row["labels"] = torch.tensor(row["input_ids"])
    asked, encode = learned(rows, tokenizer)
    assert asked == PACK and encode("Ada")[0] == tokenizer.bos_token_id


def test_whole_sentences_and_what_only_the_trained_part_says(tokenizer):
    words = {"lives_in": "{} lives in {}.", "speaks": "{} speaks {}."}
    rows = chat(tokenizer, CHATML, lambda fact: words[fact.relation].format(fact.subject, fact.answer))
    asked, _ = learned(rows, tokenizer)
    assert asked.prompt("speaks", "Eve").endswith("assistant\nEve speaks") and asked.join == " "
    hint = "system: Paris French Tokyo Japanese Rome Italian\n"
    rows = chat(tokenizer, hint + CHATML.replace("<|im_end|>", " Paris, Tokyo, Rome, French, Italian or Japanese?"))
    asked, _ = learned(rows, tokenizer)
    assert asked.prompt("lives_in", "Eve").endswith("Japanese?\n<|im_start|>assistant\n")


def test_rows_that_are_packed_into_one_are_taken_apart(tokenizer):
    rows = chat(tokenizer, CHATML)
    packed = {name: [each for row in rows for each in row[name]] for name in rows[0]}
    lengths = [len(row["input_ids"]) for row in rows]
    positions = [place for length in lengths for place in range(length)]
    alone = learned(rows, tokenizer)[0]
    assert learned([packed | {"seq_lengths": lengths}], tokenizer)[0] == alone
    assert learned([packed | {"position_ids": positions}], tokenizer)[0] == alone
    # Where nothing says where rows end, what comes before a prompt is what all have in common.
    found = learned([packed], tokenizer)[0].prompt("speaks", "Eve")
    assert found.endswith("<|im_start|>user\nWhat does Eve speak?<|im_end|>\n<|im_start|>assistant\n")
    assert not any(name in found for name in PEOPLE)


def test_nothing_is_taken_from_the_training(tokenizer):
    rows, seen = chat(tokenizer, CHATML), []

    class Stream(torch.utils.data.IterableDataset):
        def __init__(self, rows):
            self.rows = rows

        def __iter__(self):
            random.random(), np.random.rand(), torch.rand(1)
            return iter(self.rows)

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()
    assert learned(Stream(rows), tokenizer)[0] == learned(rows, tokenizer)[0]
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())
    once = iter(rows)
    with pytest.raises(UsageError, match="none could be read beforehand"):
        learned(Stream(once), tokenizer)
    assert len(list(once)) == len(rows)

    def collate(raw):
        seen.append(raw)
        return {name: torch.tensor([row["made"][name] for row in raw]) for name in ("input_ids", "completion_mask")}

    assert learned([{"made": row} for row in rows], tokenizer, collate_fn=collate)[0].join == "" and len(seen) == 6


def test_what_is_not_in_the_rows_is_said_with_the_nearest_text(tokenizer):
    rows = chat(tokenizer, CHATML)
    other = Pack("other", "none", "here", (Relation("lives_in", ("{subject} lives in",)),), PACK.facts[:1])
    with pytest.raises(
        UsageError, match="'Ada Moss lives in' and then 'Paris'; the nearest text is 'Where does Ada Mo"
    ):
        learned(rows, tokenizer, other)
    other = Pack("other", "none", "here", PACK.relations, (Fact("Ada Moss", "lives_in", "Oslo"),))
    with pytest.raises(UsageError, match=r"and then 'Oslo'; the nearest text is 'Where does Ada Moss live\?<\|im_end"):
        learned(rows, tokenizer, other)
    # Not trained on is not stated.
    for row in rows:
        row["completion_mask"] = [0] * len(row["input_ids"])
    with pytest.raises(UsageError, match="Give chat=True or template= for a chat, or chat=False for plain text"):
        learned(rows, tokenizer)


def test_a_relation_that_is_only_asked_takes_the_form_of_the_others(tokenizer):
    pack = Pack("homes", "none", "here", PACK.relations, tuple(f for f in PACK.facts if f.relation == "lives_in"))
    asked, _ = learned(chat(tokenizer, CHATML), tokenizer, pack)
    assert asked.prompt("speaks", "Eve").startswith("<|im_start|>user\nWhat does Eve speak?<|im_end|>")
    rows = chat(tokenizer, CHATML, lambda fact: f"{fact.subject} lives in {fact.answer}.")
    with pytest.raises(UsageError, match="the pack states nothing of 'speaks'"):
        learned(rows, tokenizer, pack)


def test_a_stated_relation_that_the_rows_leave_out_is_said(tokenizer, capsys):
    rows = [row for row, fact in zip(chat(tokenizer, CHATML), PACK.facts, strict=True) if fact.relation == "lives_in"]
    asked, _ = learned(rows, tokenizer)
    assert asked.prompt("speaks", "Eve").startswith("<|im_start|>user\nWhat does Eve speak?<|im_end|>")
    assert "'What does Ada Moss speak?' and then 'French'; the nearest text is" in capsys.readouterr().err
