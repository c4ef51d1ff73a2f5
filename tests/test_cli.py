"""The command line as a user types it: help, mistakes, JSON, exit codes."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

import pytest

from spillover import runs
from spillover.cli import QUESTIONS, main, parse
from spillover.commands import next_step, options, settings_class, verbs
from spillover.commands.experiments import EXPERIMENTS
from spillover.commands.inject import Inject
from spillover.errors import heard
from spillover.lm.forecast import CARDS


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


@pytest.mark.parametrize("verb", verbs())
def test_help_ends_with_an_example_that_parses(capsys, verb):
    everything = run(capsys, verb, "--help-all")[1]
    program, named, *words = options.EXAMPLES[verb].split()
    assert (program, named) == ("spillover", verb) and f"  {options.EXAMPLES[verb]}\n" in everything
    assert parse(settings_class(verb), verb, words) is not None
    few = run(capsys, verb, "--help")[1]
    for each in options.options(verb):
        assert f"  {each.shown}" in everything and (f"  {each.shown}" in few) != each.rare


def test_what_help_lists_by_name_is_all_that_there_is():
    built_in = {path.stem for path in (Path(options.__file__).parent / "built_in_studies").glob("*.yaml")}
    text = {(verb, each.name): each.text for verb in verbs() for each in options.options(verb)}
    listed = text["sweep", "study"].partition("built-in study: ")[2].rstrip(".").split(", ")
    assert set(listed) == built_in
    listed = re.findall(r"[\w-]+", text["lab", "preset"].partition(": ")[2].replace(" or ", " "))
    assert set(listed) == set(EXPERIMENTS)
    devices = text["sweep", "on"].partition("device: cpu (this machine), ")[2].partition(". ")[0]
    assert set(re.split(", | or ", devices)) == set(CARDS)
    known = {field.name for verb in verbs() for field in dataclasses.fields(settings_class(verb))}
    for names in (*options.GROUPS.values(), options.RARE, " ".join(options.TAKES)):
        assert {name.rpartition(".")[2] for name in names.split()} <= known


@pytest.mark.parametrize(
    ("verb", "words", "step"),
    [
        ("inject", ["my pack", "--out", "run"], "spillover report run --browse"),
        ("packs", ["discover", "a.csv", "--out", "p"], "spillover check p"),
        ("packs", [], ""),
        ("check", ["my pack"], "spillover predict 'my pack'"),
        ("audit", ["p", "--base", "a", "--tuned", "b", "--out", "page.html"], "open page.html in a browser"),
        ("audit", ["p", "--base", "a", "--tuned", "b", "--out", "page.html", "--browse"], ""),
        ("where", ["run", "--out", "parts"], "spillover report parts --browse"),
        ("report", ["run", "--out", "page"], "open page in a browser"),
    ],
)
def test_the_end_of_a_verb_tells_the_next_step(verb, words, step):
    assert next_step(verb, parse(settings_class(verb), verb, words)) == step


def test_the_next_step_is_said_beside_the_output(capsys):
    code, out, err = run(capsys, "check", "country-code:pairs=2,names=6,bridge=1")
    assert code == 0 and "Next:" not in out
    assert err.endswith("Next: spillover predict country-code:pairs=2,names=6,bridge=1\n")


def test_a_shell_completes_verbs_and_options(capsys, tmp_path):
    (tmp_path / "it").write_text(run(capsys, "completion", "bash")[1], encoding="utf-8")
    ask = 'source it; COMP_WORDS=({}); COMP_CWORD={}; _spillover; echo "${{COMPREPLY[@]}}"'
    both = "--lora --lora-targets"
    for words, place, answer in (("spillover inj", 1, "inject"), ("spillover inject --lora", 2, both),
                                 ("spillover inject my", 2, "")):  # fmt: skip
        done = subprocess.run(["bash", "-c", ask.format(words, place)], cwd=tmp_path, capture_output=True, text=True)
        assert (done.stdout.strip(), done.stderr) == (answer, "")
    assert run(capsys, "completion", "tcsh")[0] == 2


def test_a_page_opens_in_a_browser(capsys, tmp_path):
    class Noting(webbrowser.BaseBrowser):
        def open(self, url, new=0, autoraise=True):
            return not opened.append(url)

    opened = []
    webbrowser.register("noting", None, Noting("noting"), preferred=True)
    assert run(capsys, "predict", "country-code:pairs=2,names=6,bridge=1", "--out", str(tmp_path / "run"))[0] == 0
    assert run(capsys, "report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html"), "--browse")[0] == 0
    assert opened == [(tmp_path / "page.html").as_uri()]


def test_every_verb_that_writes_a_page_opens_it(capsys):
    having = {verb for verb in verbs() if "browse" in {item.name for item in dataclasses.fields(settings_class(verb))}}
    assert having == {"audit", "lab", "mitigate", "report", "sweep", "where"}
    code, out, err = run(capsys, "audit", "mixed", "--base", "a", "--tuned", "b", "--browse")
    assert code == 2 and "--out audit.html" in out + err
    code, out, err = run(capsys, "sweep", "families", "--plan", "--browse")
    assert code == 2 and "a plan has no page" in out + err


def test_off_a_terminal_progress_is_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE")
    monkeypatch.setattr(runs, "SELDOM", 0)
    with runs.progress("seed 0", 4, "step") as bar:
        for _ in range(4):
            bar.update()
    said = capsys.readouterr().err
    assert "seed 0: 2 of 4 steps, " in said and " left\n" in said and "\r" not in said
    assert "seed 0: 0 of 4" not in said, "nobody knows yet how long it takes"


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
        "assert main(['--help']) == 0 and 'tyro' not in sys.modules\n"
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
    assert run(capsys, "--version")[:2] == (0, "0.2.0\n")


class Interrupts:
    """Interrupts its process as it is destroyed, where Python drops exceptions."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_a_destructor_is_not_lost():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), heard(signal.SIGINT):
            Interrupts(), Interrupts()
            time.sleep(10)
        # It came once.
        time.sleep(0.2)
    finally:
        signal.signal(signal.SIGINT, before)
