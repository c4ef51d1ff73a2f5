"""`spillover packs` as a function."""

import json

import pytest

from spillover.commands.packs import Packs, run
from spillover.errors import RunError, UsageError
from spillover.packs.builtin import PACKS
from spillover.packs.open import open_pack


def test_list_names_every_pack_in_a_line():
    found = run(Packs())
    assert [entry["name"] for entry in found["packs"]] == list(PACKS)
    assert all(entry["description"] and entry["counts"]["subjects"] == 100 for entry in found["packs"])
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
