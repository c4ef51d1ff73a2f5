"""What a user may type for a pack, and the sentence for what they may not."""

import dataclasses

import pytest

from spillover.errors import PackError, SpilloverError, UsageError
from spillover.packs.open import is_built_in, open_pack
from spillover.packs.pack import Fact
from spillover.packs.write import write_pack

KNOWN = (
    "Known names: city-language, city-language-counterfactual, city-talisman, country-code, mixed, mixed-currency, "
    "mixed-state, profession-color, sport-music."
)


def test_names_options_and_the_name_of_the_pack():
    assert open_pack("city-language:pairs=10,names=80,bridge=2").name == "city-language:pairs=10,names=80,bridge=2"
    assert open_pack("city-language: bridge=2 , pairs=10 ,names=80,").name == "city-language:pairs=10,names=80,bridge=2"
    assert open_pack("city-language:pairs=5").name == "city-language"
    assert open_pack("null") == open_pack("profession-color:null")
    assert open_pack("null:pairs=10") == open_pack("profession-color:null,pairs=10")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("city-langage", "there is no pack called 'city-langage'. Did you mean 'city-language'?"),
        ("xyzzy", f"there is no pack called 'xyzzy'. {KNOWN}"),
        ("", f"there is no pack called ''. {KNOWN}"),
        ("mixed:pair=7", "mixed:pair=7: a built-in pack has no option 'pair'. Did you mean 'pairs'?"),
        (
            "mixed:seed=7",
            "mixed:seed=7: a built-in pack has no option 'seed'. Known names: bridge, names, null, pairs.",
        ),
        ("mixed:pairs=x", "mixed:pairs=x: pairs=x is not a whole number. Write for instance pairs=5."),
        ("mixed:pairs=5.0", "mixed:pairs=5.0: pairs=5.0 is not a whole number. Write for instance pairs=5."),
        ("mixed:pairs=٥", "mixed:pairs=٥: pairs=٥ is not a whole number. Write for instance pairs=5."),
        ("mixed:bridge=-1", "mixed:bridge=-1: bridge=-1 is not a whole number. Write for instance bridge=4."),
        ("mixed:pairs", "mixed:pairs: pairs= is not a whole number. Write for instance pairs=5."),
        ("mixed:null=no", "mixed:null=no: the option 'null' takes no value. Write null, or leave it out."),
        ("mixed:pairs=5,pairs=6", "mixed:pairs=5,pairs=6: the option 'pairs' is given twice. Give it once."),
        ("null:null", "null:null: the option 'null' is given twice. Give it once."),
        ("mixed:pairs=0", "mixed:pairs=0: pairs=0 is not between 1 and 28. Use pairs=1."),
        ("sport-music:pairs=50", "sport-music:pairs=50: pairs=50 is not between 1 and 21. Use pairs=21."),
        ("mixed:pairs=7", "mixed:pairs=7: names=100 cannot be shared out evenly over 7 pairs. Use names=98."),
        ("mixed:names=0", "mixed:names=0: names=0 cannot be shared out evenly over 5 pairs. Use names=5."),
        (
            "mixed:names=900",
            "mixed:names=900: names=900 is more than the 655 fictitious names there are. Use names=655 or fewer.",
        ),
        ("mixed:bridge=21", "mixed:bridge=21: bridge=21 is not between 0 and the 20 names a pair has. Use bridge=20."),
        ("mixed:names=10", "mixed:names=10: bridge=4 is not between 0 and the 2 names a pair has. Use bridge=2."),
        (
            "mixed:null,bridge=6",
            "mixed:null,bridge=6: bridge=6 bridging names cannot state different answers when there are 5 pairs. "
            "Use bridge=5 or fewer, or more pairs.",
        ),
        (
            "city-language-counterfactual:pairs=1",
            "city-language-counterfactual:pairs=1: pairs=1 is not between 2 and 38. Use pairs=2.",
        ),
        ("./nowhere", "nowhere: there is no such pack. Name a built-in pack, a folder or a YAML file that exists."),
        ("gone.yaml", "gone.yaml: there is no such pack. Name a built-in pack, a folder or a YAML file that exists."),
    ],
)
def test_what_is_typed_wrong_is_a_sentence(spec, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        open_pack(spec)
    assert str(caught.value) == sentence


def test_one_pair_is_enough_without_a_null():
    assert len(open_pack("city-language:pairs=1,names=3,bridge=1").questions) == 2


def test_a_path_opens_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pack = open_pack("mixed:pairs=2,names=8,bridge=1")
    write_pack(pack, "mine")
    assert open_pack("mine") == open_pack("mine/pack.yaml") == open_pack(str(tmp_path / "mine")) == pack


def test_a_built_in_name_wins_over_a_folder_unless_it_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pack(open_pack("mixed:pairs=2,names=8,bridge=1"), "mixed")
    assert len(open_pack("mixed").subjects) == 100
    assert len(open_pack("./mixed").subjects) == 8


def test_a_broken_pack_raises_with_every_fault(tmp_path):
    (tmp_path / "pack.yaml").write_text("name: x\nlicense: y\n")
    with pytest.raises(PackError) as caught:
        open_pack(str(tmp_path))
    assert [fault.code for fault in caught.value.faults] == ["unknown-key", *["missing-key"] * 4]


@pytest.mark.parametrize(
    "spec", ["\0", "a\0b", "mixed:\0", "/" + "x" * 5000, "x" * 5000, "~", "//", "mixed:" + "pairs=1" * 99]
)
def test_no_spec_ends_in_a_traceback(spec):
    with pytest.raises(SpilloverError):
        open_pack(spec)


def test_options_make_a_name_built_in():
    assert is_built_in("nope:pairs=3") and is_built_in("mixed:null") and not is_built_in("nope/pack.yaml")


def test_a_pack_that_one_holds_is_checked_and_returned_as_it_is(tmp_path):
    pack = open_pack("mixed:pairs=2,names=8,bridge=1")
    assert open_pack(pack) is pack
    assert open_pack(write_pack(pack, tmp_path / "mine")) == pack
    with pytest.raises(PackError, match="there is no relation"):
        open_pack(dataclasses.replace(pack, facts=(*pack.facts, Fact("Ann", "owns", "a dog"))))


def test_a_pack_shows_its_name_and_counts():
    pack = dataclasses.replace(open_pack("mixed:pairs=2,names=8,bridge=1"), name="a & b")
    assert repr(pack) == "Pack('a & b': 12 facts, 8 subjects, 3 relations, 2 implications, 12 questions)"
    assert "<caption>a &amp; b</caption>" in pack._repr_html_() and "<td>spurious, 2 pairs</td>" in pack._repr_html_()
