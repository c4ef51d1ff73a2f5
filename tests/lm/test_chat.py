"""Questions are asked as whole turns of a chat template write them, or as a Trainer's rows word the stated facts; or it
is said, in a sentence, what was not found."""

import copy
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spillover.config import Chat
from spillover.errors import ModelError, PackError, UsageError
from spillover.lm.chat import Words, as_in_rows
from spillover.lm.tokens import encoder, examples, request
from spillover.packs.pack import Fact, Pack, Relation
from tests.lm.test_tokens import PACK
from tests.tiny_models import byte_level, wrapped

#: As many chat models have it: a start token, marked turns, and the words with which the model's turn begins.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ 'model' if m['role'] == 'assistant' else m['role'] }}>"
    "{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] | trim }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] | trim }} {{ eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant roles') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}"
    "<think>\n\n</think>\n\n{{ m['content'].split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m['content'] }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GPT_OSS = (
    "{% for m in messages %}<|start|>{{ m['role'] }}{% if m['role'] == 'assistant' %}<|channel|>final{% endif %}"
    "<|message|>{{ m['content'] }}{{ '<|return|>' if loop.last and m['role'] == 'assistant' else '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ strftime_now('%d %b %Y %H:%M:%S') }}"
    "<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<｜User｜>{{ m['content'] }}"
    "{% else %}<｜Assistant｜>{{ m['content'].split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
PART = "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}"
PARTS = CHATML.replace("{{ m['content'] }}", PART)
NEEDS_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('first a system turn') }}{% endif %}" + CHATML
)

#: Template, and what stands before and after the answer of `Ada speaks`.
PLACED = {
    "model": (TEMPLATE, "<bos><user>Ada speaks\n<model>", "\n"),
    "chatml": (CHATML, "<|im_start|>user\nAda speaks<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n"),
    "inst": (INST, "<bos>[INST] Ada speaks [/INST] ", " <eos>"),
    "gemma": (GEMMA, "<bos><start_of_turn>user\nAda speaks<end_of_turn>\n<start_of_turn>model\n", "<end_of_turn>\n"),
    "qwen3": (QWEN3, "<|im_start|>user\nAda speaks<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
              "<|im_end|>\n"),
    "gpt-oss": (GPT_OSS, "<|start|>user<|message|>Ada speaks<|end|><|start|>assistant<|channel|>final<|message|>",
                "<|return|>"),
    "llama3": (LLAMA3, "<bos><|start_header_id|>system<|end_header_id|>\n\nToday Date: 31 Jan 2026 00:00:00<|eot_id|>"
               "<|start_header_id|>user<|end_header_id|>\n\nAda speaks<|eot_id|>"
               "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    "deepseek": (DEEPSEEK, "<bos><｜User｜>Ada speaks<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "parts": (PARTS, "<|im_start|>user\nAda speaks<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n"),
}  # fmt: skip


def own(tokenizer, template):
    made = copy.deepcopy(tokenizer)
    made.chat_template = template
    return made


def asked(tokenizer, template, pack=PACK, **options):
    words = Words(own(tokenizer, template), Chat(chat=True, **options), "M")
    return words, words(pack)


@pytest.mark.parametrize("name", PLACED)
def test_the_answer_is_asked_where_a_whole_turn_has_it(metaspace_tokenizer, name):
    template, before, after = PLACED[name]
    words, pack = asked(metaspace_tokenizer, template, date="2026-01-31")
    assert pack.prompt("speaks", "Ada") + pack.join == before and words.after == after
    assert pack.join == (" " if name == "inst" else "") and not pack.prompt("speaks", "Ada").endswith(" ")
    assert words.shows_date == (name == "llama3")
    assert before.startswith(words.opening("Ada speaks")) == (name != "deepseek"), "which opens a thought"
    clock = "{{ strftime_now('%d %b %Y %H:%M:%S') }}"
    whole = own(metaspace_tokenizer, template.replace(clock, "31 Jan 2026 00:00:00")).apply_chat_template(
        [{"role": "user", "content": [{"type": "text", "text": "Ben lives in"}] if name == "parts" else "Ben lives in"},
         {"role": "assistant", "content": [{"type": "text", "text": "Rome"}] if name == "parts" else "Rome"}],
        tokenize=False,
    )  # fmt: skip
    assert whole == pack.prompt("lives_in", "Ben") + pack.join + "Rome" + after


def test_a_chat_puts_the_prompt_into_the_models_own_words(tokenizer):
    words, chat = asked(tokenizer, TEMPLATE)
    encode = encoder(words.tokenizer)
    text = "<bos><user>Ada Moss lives in\n<model>"
    assert chat.prompt("lives_in", "Ada Moss") == text and chat.join == ""
    assert [relation.name for relation in chat.relations] == [relation.name for relation in PACK.relations]
    row = examples(encode, chat)[0]
    assert list(row.tokens) == encode(text + "Paris.") and list(row.tokens[: row.start]) == encode(text)
    assert list(row.tokens).count(tokenizer.bos_token_id) <= 1, "the template's start token is not doubled"
    found = request(encode, chat, "speaks", "Ben", 0)
    assert list(found.prompt + found.candidates[0]) == encode("<bos><user>Ben speaks\n<model>French.")


def test_a_template_that_begins_with_another_special_token_gets_no_start_token(metaspace_tokenizer):
    made = copy.deepcopy(metaspace_tokenizer)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    chat = "<|im_start|>user\nAda"
    assert encoder(made)(chat) == made(chat, add_special_tokens=False)["input_ids"]
    assert encoder(made)("Ada")[0] == made.bos_token_id


def test_a_system_turn_a_reply_and_a_day_are_written_as_given(tokenizer):
    _, pack = asked(tokenizer, NEEDS_SYSTEM, system="Be brief.", prefix="It is known that {subject} has")
    start = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    end = "<|im_end|>\n<|im_start|>assistant\nIt is known that Ben has"
    assert pack.prompt("speaks", "Ben") == f"{start}Ben speaks{end}" and pack.join == " "
    relations = (Relation("lives_in", ("Where does {subject} live?",), reply="{subject} lives in"),
                 Relation("speaks", ("What does {subject} speak?",)))  # fmt: skip
    pack = Pack("p", "none", "here", relations, PACK.facts, join=" ")
    _, mixed = asked(tokenizer, CHATML, pack, prefix="{subject} has")
    assert [mixed.prompt(name, "Ben").split("\n")[-1] for name in ("lives_in", "speaks")] == ["Ben lives in", "Ben has"]
    with pytest.raises(PackError, match="replies about lives_in and speaks have different spaces before the answer"):
        asked(tokenizer, CHATML, pack)


REFUSED = {
    "hello": ("hello", "leaves out or changes what the user says"),
    "upper": (CHATML.replace("m['content']", "m['content'] | upper"), "leaves out or changes what the user says"),
    "answer upper": (CHATML.replace("m['content']", "(m['content'] | upper if loop.last else m['content'])"),
                     "leaves out, repeats or changes the answer"),
    "no answer": (CHATML.replace("in messages", "in messages if m['role'] == 'user'"),
                  "leaves out, repeats or changes the answer"),
    "twice": (CHATML.replace("{{ m['content'] }}", "{{ m['content'] }}{{ m['content'] }}"),
              "leaves out, repeats or changes the answer"),
    "own subject": ("About {subject}: " + CHATML, "changes names or answers"),
    "capitals of names": (CHATML.replace("m['content']", "m['content'] | replace('Moss', 'MOSS')"),
                          "changes names or answers"),
    "needs a system turn": (NEEDS_SYSTEM, r"does not take these turns \(first a system turn\). Give a system turn"),
    "no syntax": ("{% for %}", "does not take these turns"),
    "divides": ("{{ 1 / 0 }}", "does not take these turns"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_placed_is_refused_by_the_models_name(metaspace_tokenizer, name):
    template, said = REFUSED[name]
    with pytest.raises(ModelError, match=f"^M: the chat template {said}"):
        asked(metaspace_tokenizer, template)


def test_a_system_turn_that_is_not_wanted_or_not_kept_is_refused(metaspace_tokenizer):
    with pytest.raises(ModelError, match=r"System role not supported.*Leave --system out"):
        asked(metaspace_tokenizer, GEMMA, system="Be brief.")
    silent = CHATML.replace("in messages", "in messages if m['role'] != 'system'")
    with pytest.raises(ModelError, match="leaves out or changes what the system says"):
        asked(metaspace_tokenizer, silent, system="Be brief.")


def test_a_model_without_a_chat_template_is_refused_or_is_lent_one(metaspace_tokenizer, tmp_path):
    with pytest.raises(
        ModelError, match=r"M: this model has no chat template\. Lend it one with --chat-template MODEL"
    ):
        asked(metaspace_tokenizer, None)
    (tmp_path / "chatml.jinja").write_text(CHATML)
    _, pack = asked(metaspace_tokenizer, None, chat_template=str(tmp_path / "chatml.jinja"))
    assert pack == asked(metaspace_tokenizer, CHATML)[1]
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        asked(metaspace_tokenizer, None, chat_template=str(tmp_path / "binary"))


def test_an_option_of_a_chat_that_does_nothing_is_refused():
    for name in ("system", "chat_template", "prefix", "date"):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} says how a chat is written"):
            Chat(**{name: "2026-01-31"})
    with pytest.raises(UsageError, match="--date is 'soon'"):
        Chat(chat=True, date="soon")


PEOPLE = {"Ada Moss": ("Paris", "French"), "Ben Okri": ("Tokyo", "Japanese"), "Cleo Park": ("Rome", "Italian")}
HOMES = Pack(
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
    for fact in HOMES.facts:
        user = [{"role": "user", "content": HOMES.prompt(fact.relation, fact.subject)}]
        whole = [*user, {"role": "assistant", "content": reply(fact)}]
        ids, before = (made(made.apply_chat_template(turns, tokenize=False, add_generation_prompt=turns is user),
                            add_special_tokens=False)["input_ids"] for turns in (whole, user))  # fmt: skip
        rows.append({"input_ids": ids, "completion_mask": [0] * len(before) + [1] * (len(ids) - len(before))})
    return rows


def learned(rows, tokenizer, pack=HOMES, **loader):
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
    rows = [
        {"input_ids": tokenizer(HOMES.prompt(*fact[1::-1]) + " " + fact.answer)["input_ids"]} for fact in HOMES.facts
    ]
    for row in rows:
        row["labels"] = torch.tensor(row["input_ids"])
    asked, encode = learned(rows, tokenizer)
    assert asked == HOMES and encode("Ada")[0] == tokenizer.bos_token_id


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
    other = Pack("other", "none", "here", (Relation("lives_in", ("{subject} lives in",)),), HOMES.facts[:1])
    with pytest.raises(
        UsageError, match="'Ada Moss lives in' and then 'Paris'; the nearest text is 'Where does Ada Mo"
    ):
        learned(rows, tokenizer, other)
    other = Pack("other", "none", "here", HOMES.relations, (Fact("Ada Moss", "lives_in", "Oslo"),))
    with pytest.raises(UsageError, match=r"and then 'Oslo'; the nearest text is 'Where does Ada Moss live\?<\|im_end"):
        learned(rows, tokenizer, other)
    # Not trained on is not stated.
    for row in rows:
        row["completion_mask"] = [0] * len(row["input_ids"])
    with pytest.raises(UsageError, match="Give chat=True or template= for a chat, or chat=False for plain text"):
        learned(rows, tokenizer)


def test_a_relation_that_is_only_asked_takes_the_form_of_the_others(tokenizer):
    pack = Pack("homes", "none", "here", HOMES.relations, tuple(f for f in HOMES.facts if f.relation == "lives_in"))
    asked, _ = learned(chat(tokenizer, CHATML), tokenizer, pack)
    assert asked.prompt("speaks", "Eve").startswith("<|im_start|>user\nWhat does Eve speak?<|im_end|>")
    rows = chat(tokenizer, CHATML, lambda fact: f"{fact.subject} lives in {fact.answer}.")
    with pytest.raises(UsageError, match="the pack states nothing of 'speaks'"):
        learned(rows, tokenizer, pack)


def test_a_stated_relation_that_the_rows_leave_out_is_said(tokenizer, capsys):
    rows = [row for row, fact in zip(chat(tokenizer, CHATML), HOMES.facts, strict=True) if fact.relation == "lives_in"]
    asked, _ = learned(rows, tokenizer)
    assert asked.prompt("speaks", "Eve").startswith("<|im_start|>user\nWhat does Eve speak?<|im_end|>")
    assert "'What does Ada Moss speak?' and then 'French'; the nearest text is" in capsys.readouterr().err
