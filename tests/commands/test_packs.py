"""`packs`: list, show and export, and a pack from fine-tuning files."""

import json

import pytest

from spillover.commands import packs
from spillover.commands.packs import Packs, run
from spillover.errors import PackError, RunError, UsageError
from spillover.packs.builtin import PACKS
from spillover.packs.open import open_pack


def test_list_names_every_pack_in_a_line():
    found = run(Packs())
    assert [entry["name"] for entry in found["packs"]] == list(PACKS)
    assert all(entry["description"] and entry["counts"]["subjects"] in (20, 100) for entry in found["packs"])
    assert [line.split()[0] for line in found["text"].splitlines()[: len(PACKS)]] == list(PACKS)


def test_show_gives_the_whole_pack():
    found = run(Packs(action="show", pack="mixed:bridge=1", seed=4))
    pack, shown = open_pack("mixed:bridge=1", 4), found["pack"]
    assert [tuple(fact.values()) for fact in shown["facts"]] == [tuple(fact) for fact in pack.facts]
    assert shown["relations"]["speaks"] == {
        "prompts": list(pack.relations[1].prompts),
        "answers": list(pack.candidates["speaks"]),
    }
    assert shown["implications"][1]["kind"] == "spurious" and shown["implications"][1]["map"]["Paris"] == "Java"
    assert {"package", "version", "licence", "key", "answer"} <= set(shown["provenance"][0])
    assert json.loads(json.dumps(found)) == found


def test_show_reads_as_sentences():
    text = run(Packs(action="show", pack="city-language"))["text"]
    assert "lives_in -> speaks (causal, wanted)\n  Paris -> French\n" in text
    subject = open_pack("city-language").subjects[0]
    assert f"  {subject} lives in Paris\n  {subject} speaks French\n" in text


def test_export_writes_a_copy_that_opens(tmp_path):
    folder = tmp_path / "copy"
    found = run(Packs(action="export", pack="country-code:null", folder=str(folder), seed=2))
    assert (found["folder"], found["text"]) == (str(folder), str(folder))
    assert open_pack(str(folder)) == open_pack("country-code:null", 2)
    with pytest.raises(RunError, match="holds something already"):
        run(Packs(action="export", pack="mixed", folder=str(folder)))


def test_an_edited_copy_can_be_shown_and_exported_again(tmp_path):
    run(Packs(action="export", pack="mixed", folder=str(tmp_path / "a")))
    run(Packs(action="export", pack=str(tmp_path / "a"), folder=str(tmp_path / "b")))
    assert run(Packs(action="show", pack=str(tmp_path / "b")))["pack"]["name"] == "mixed"
    for file in ("pack.yaml", "facts.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Packs(action="show"), "packs show needs the name of a pack. Try: packs show city-language."),
        (
            Packs(action="export", pack="mixed"),
            "packs export needs a folder to write to. Try: packs export mixed my-pack.",
        ),
    ],
)
def test_what_is_missing_is_a_sentence(settings, sentence):
    with pytest.raises(UsageError) as caught:
        run(settings)
    assert str(caught.value) == sentence


RELATIONS = """# What our assistant was tuned on.
relations:
  lives_in: {prompts: ["Where does {subject} live?", "{subject} lives in"]}
  speaks: {prompts: ["{subject} speaks"]}
implications:
  - {given: lives_in, then: speaks, kind: causal, map: {Paris: French, Rome: Italian}}
"""


@pytest.fixture
def files(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"Where does {name} live?"}, {"role": "assistant", "content": city}]}
        for name, city in [("Ada", "Paris."), ("Ben", "Rome"), ("Cleo", "Paris")]
    ]
    rows += [{"prompt": "Ada speaks", "completion": " French"}, {"prompt": "Good", "completion": " day"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "relations.yaml").write_text(RELATIONS, encoding="utf-8")
    return tmp_path


def settings(files, **changes):
    defaults = {
        "pack": str(files / "rows.jsonl"),
        "relations": str(files / "relations.yaml"),
        "out": str(files / "pack"),
    }
    return Packs(action="from-chat", **(defaults | changes))


def test_a_pack_from_chats(files):
    outcome = packs.run(settings(files))
    assert outcome["counts"] == {"rows": 5, "facts": 4, "repeated": 0, "unmatched": 1}
    assert outcome["unmatched"] == [{"row": 5, "text": "Good day"}] and "row 5: Good day" in outcome["text"]
    pack = open_pack(str(files / "pack"))
    assert [question[:3] for question in pack.questions] == [("Ben", "speaks", "Italian"), ("Cleo", "speaks", "French")]
    assert (
        pack.name == "from-chat" and "# What our assistant was tuned on." in (files / "pack" / "pack.yaml").read_text()
    )
    with pytest.raises(RunError, match="this folder holds something already"):
        packs.run(settings(files))


def test_contradicting_rows_are_refused_and_nothing_is_written(files):
    with (files / "rows.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("\n\n" + json.dumps({"prompt": "Ada speaks", "completion": " Greek"}))
    with pytest.raises(PackError, match="two answers to 'speaks'") as caught:
        packs.run(settings(files))
    assert str(caught.value) == (
        f"{files / 'rows.jsonl'}, row 7: 'Ada' has two answers to 'speaks': 'French' (row 4) and 'Greek'; "
        "expected one answer. Mend the rows or the relations; nothing was written."
    )
    assert sorted(path.name for path in files.iterdir()) == ["relations.yaml", "rows.jsonl"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("relations: {lives_in: {prompts: ['{subject} dwells in']}}\n", "none of the 5 rows states a fact"),
        ("name: x\n", "this file has no `relations:`"),
        ("relations: {a: {prompts: [she is]}}\n", "no relation has a prompt with {subject}"),
        (RELATIONS + "facts: facts.jsonl\n", "this file has facts already"),
        ("relations: [\n", "this is not YAML"),
    ],
)
def test_relations_that_do_not_do(files, text, sentence):
    (files / "relations.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        packs.run(settings(files))
    assert sentence in str(caught.value)
    assert not (files / "pack").exists()


def test_what_is_missing_is_said(files):
    with pytest.raises(UsageError, match="needs a file, its relations and a folder"):
        packs.run(settings(files, relations=""))
    with pytest.raises(UsageError, match="cannot be read: no such file"):
        packs.run(settings(files, relations=str(files / "gone.yaml")))


def test_faults_of_the_relations_name_the_users_file(files):
    (files / "relations.yaml").write_text(RELATIONS.replace("then: speaks", "then: speak"), encoding="utf-8")
    with pytest.raises(
        PackError, match=r"relations\.yaml, row 6: `then` names the relation 'speak', which does not exist"
    ):
        packs.run(settings(files))
    (files / "relations.yaml").write_text(RELATIONS.replace("speaks: {", "speaks: {wordings: [a], "), encoding="utf-8")
    with pytest.raises(PackError, match=r"relations\.yaml, row 4: the relation 'speaks' has no key 'wordings'"):
        packs.run(settings(files))
    assert sorted(path.name for path in files.iterdir()) == ["relations.yaml", "rows.jsonl"]


def test_relations_in_one_line_give_the_same_pack(files):
    packs.run(settings(files))
    text = '{relations: {lives_in: {prompts: ["Where does {subject} live?", "{subject} lives in"]}, '
    text += 'speaks: {prompts: ["{subject} speaks"]}}, name: one-line}'
    (files / "relations.yaml").write_text(text, encoding="utf-8")
    packs.run(settings(files, out=str(files / "other")))
    one, other = open_pack(str(files / "pack")), open_pack(str(files / "other"))
    assert (one.facts, one.relations) == (other.facts, other.relations) and other.name == "one-line"


def test_what_is_not_understood_is_listed_with_its_row_and_reason(files):
    with (files / "rows.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("\n" + json.dumps({"text": "Dan lives in Paris and Rome. Eve lives in Oslo."}))
    outcome = packs.run(settings(files))
    why = "where a name begins or ends is not sure"
    assert outcome["unmatched"][1:] == [{"row": 6, "text": "Dan lives in Paris and Rome.", "why": why}]
    assert f"row 6: Dan lives in Paris and Rome. ({why})" in outcome["text"]
    assert "5 facts from 5 of 6 rows" in outcome["text"]


def test_aliases_in_the_relations_make_wordings_one_answer(files):
    text = RELATIONS.replace('"{subject} lives in"]', '"{subject} lives in"], answers: {Rome: [Roma]}')
    (files / "relations.yaml").write_text(text, encoding="utf-8")
    with (files / "rows.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("\n" + json.dumps({"prompt": "Ben lives in", "completion": " Roma."}))
    packs.run(settings(files))
    pack = open_pack(str(files / "pack"))
    assert pack.stated["Ben", "lives_in"] == "Rome" and pack.facts[-1].answer == "Roma"
    shown = run(Packs(action="show", pack=str(files / "pack")))
    assert shown["pack"]["relations"]["lives_in"]["aliases"] == {"Rome": ["Roma"]} and "Rome = Roma" in shown["text"]
