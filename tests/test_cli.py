"""The command line as a user types it: help, mistakes, JSON, exit codes."""

import dataclasses
import json
import subprocess
import sys

import pytest

from spillover.cli import QUESTIONS, main, parse
from spillover.commands import settings_class, verbs
from spillover.commands.inject import Inject


def run(capsys, *words):
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_overview_names_every_verb(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    assert all(f"  {verb} " in out for verb in verbs())


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_people_come_with_is_answered_by_a_command_that_there_is(capsys, question):
    assert f"  {question}\n    {QUESTIONS[question]}\n" in run(capsys)[1]
    program, verb, *words = QUESTIONS[question].split()
    assert program == "spillover" and parse(settings_class(verb), verb, words) is not None


@pytest.mark.parametrize("verb", verbs())
def test_help_names_every_option_with_its_text(capsys, verb):
    code, out, err = run(capsys, verb, "--help")
    assert (code, err) == (0, "")
    assert "--json" in out


def test_an_option_is_there_only_where_it_acts():
    without = ("models", "report", "verify", "rerun", "where", "sweep", "lab")
    for verb in verbs():
        names = {item.name for item in dataclasses.fields(settings_class(verb))}
        assert ("seed" in names) == (verb not in without), verb
        assert ("dtype" in names) == (verb in ("predict", "inject", "mitigate", "repair", "audit", "where")), verb
        assert ("revision" in names) == ("dtype" in names or verb == "check"), verb
        assert ("device" in names) == ("dtype" in names or verb == "lab"), verb


def test_help_imports_neither_torch_nor_transformers():
    body = (
        "import sys\nfrom spillover.cli import main\n"
        f"for verb in {list(verbs())}:\n"
        "    assert main([verb, '--help']) == 0\n"
        "    assert not {'torch', 'transformers'} & set(sys.modules), verb"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["injct"], "spillover: there is no command 'injct'. Did you mean 'inject'?"),
        (["inject"], "spillover inject: missing PACK and --out. See spillover inject --help."),
        (["inject", "null", "--model", "x"], "spillover inject: missing --out. See spillover inject --help."),
        (["inject", "null", "--mdel", "x", "--out", "y"],
         "spillover inject: there is no option --mdel. Did you mean '--model'?"),
        (["inject", "null", "--model", "x", "--out", "y", "--epochs", "many"],
         "spillover inject: 'many' is not a number, which --epochs takes. See spillover inject --help."),
        (["inject", "null", "more", "--model", "x", "--out", "y"],
         "spillover inject: did not expect 'more'. See spillover inject --help."),
        (["inject", "null", "--model", "x", "--out", "y", "--save", "wights"],
         "spillover inject: 'wights' is no value of --save. Did you mean 'weights'?"),
        (["inject", "city-langage", "--model", "x", "--out", "y"],
         "spillover: there is no pack called 'city-langage'. Did you mean 'city-language'?"),
        (["packs", "shw"], "spillover packs: 'shw' is no value of action. Did you mean 'show'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_exit_code_2(capsys, words, sentence):
    code, out, err = run(capsys, *words)
    assert (code, out, err) == (2, "", sentence + "\n")


def test_a_mistake_as_json(capsys):
    code, out, err = run(capsys, "inject", "--json", "--mdel", "x")
    assert (code, err) == (2, "")
    error = json.loads(out)["error"]
    assert error == {
        "what": "there is no option --mdel", "where": "spillover inject", "do": "Did you mean '--model'?",
    }  # fmt: skip


def test_json_is_the_only_thing_on_standard_output(capsys):
    code, out, _ = run(capsys, "packs", "--json")
    assert code == 0
    assert {"city-language", "mixed"} <= {entry["name"] for entry in json.loads(out)["packs"]}


def test_an_interrupt_is_a_sentence_and_130(capsys, monkeypatch):
    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("spillover.commands.packs.run", interrupted)
    code, out, err = run(capsys, "packs")
    assert (code, out, err) == (130, "", "spillover: interrupted. Give the same command again to go on.\n")


def test_what_is_not_installed_is_named(capsys, monkeypatch):
    def light(settings):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("spillover.commands.packs.run", light)
    code, _, err = run(capsys, "packs")
    assert code == 2
    assert err == 'spillover: this needs torch, which is not installed here. Run `pip install "spillover[llm]"`.\n'


def test_an_error_of_ours_is_not_hidden(monkeypatch):
    def broken(settings):
        raise ZeroDivisionError

    monkeypatch.setattr("spillover.commands.packs.run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["packs"])


def test_flags_and_defaults():
    found = parse(Inject, "inject", ["p", "--model=m", "--out", "o", "--no-freeze-embeddings", "--lr", "1e-3"])
    assert (found.pack, found.model, found.freeze_embeddings, found.lr) == ("p", "m", False, 1e-3)


def test_the_version(capsys):
    assert run(capsys, "--version")[:2] == (0, "0.1.0\n")
