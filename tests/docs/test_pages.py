"""The pages of docs: their commands and programs run, their tables name what there is, and the made ones are fresh."""

import contextlib
import dataclasses
import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from spillover.cli import main
from spillover.commands import settings_class, verbs
from spillover.metrics.implications import MEASURES, TRAJECTORY_SCHEMA
from spillover.record import ANSWER_SCHEMA, Record

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS.parent))
from tools import make_docs  # noqa: E402

from tests import quick  # noqa: E402

#: docs/theory.md has a test of its own.
PAGES = sorted(path for path in [*DOCS.glob("*.md"), *(DOCS / "verbs").glob("*.md")] if path.name != "theory.md")
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<kind>\w+)\n(?P<body>.*?)```", re.DOTALL)


def commands(body, model, ends=0):
    """Run each line of a bash block; gives what they print. ends: the exit code of each."""
    printed = io.StringIO()
    for line in body.splitlines():
        words = shlex.split(re.sub("gemma-3-270m|(?<=--model )smollm2-135m", str(model), line))
        assert words[0] == "spillover", line
        # Tests share the cores.
        words += ["--threads", "1"] if words[1] in ("inject", "audit", "predict", "repair", "where") else []
        # The tiny model learns its rows at this rate, and not before.
        words += ["--lr", "1e-2", "--epochs", "16", "--untreated-epochs", "16"] if words[1] == "mitigate" else []
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()) as said:
            code = main(words[1:])
        assert code == ends, f"{line}: {said.getvalue()}"
    return printed.getvalue()


#: Pages whose commands take longest are tried by `make test-all`.
LONG = (
    "tutorial.md",
    "hallucinates-from-my-facts.md",
    "about-to-tune.md",
    "sweep.md",
    "mitigate.md",
    "already-tuned.md",
)


@pytest.mark.parametrize(
    "page", quick.first(sorted(PAGES, key=lambda page: page.name in LONG), len(PAGES) - len(LONG)),
    ids=lambda page: str(page.relative_to(DOCS)),
)  # fmt: skip
def test_what_a_page_shows_runs(page, byte_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    printed = None
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        mark, kind, body = block["mark"] or "", block["kind"], block["body"]
        if mark.startswith("not run: "):
            assert len(mark) > 30, "a reason why it is not run"
        elif mark.startswith("file: "):
            target = tmp_path / mark.removeprefix("file: ")
            target.parent.mkdir(exist_ok=True)
            target.write_text(body, encoding="utf-8")
        elif kind == "bash":
            printed = commands(body, byte_folder, int(mark[10:11]) if mark.startswith("ends with ") else 0)
        elif kind == "python":
            assert "assert" in body or "def " in body or "table(" in body
            exec(compile(body, f"{page.name}", "exec"), names)
        else:
            assert (kind, body) == ("text", printed), "a block is a command, a program, a file, or what was printed"


def test_the_pages_of_the_verbs_are_fresh():
    made = make_docs.pages()
    assert set(made) == {f"{verb}.md" for verb in verbs()} | {"index.md"}
    assert {path.name for path in (DOCS / "verbs").glob("*.md")} == set(made)
    for name, body in made.items():
        assert (DOCS / "verbs" / name).read_text(encoding="utf-8") == body, f"{name}: run python tools/make_docs.py"


def test_every_verb_has_an_introduction():
    assert {path.stem for path in make_docs.INTRODUCTIONS.glob("*.md")} == set(verbs())


def test_a_card_of_the_gallery_says_what_its_finding_rests_on():
    """Question, answer, seeds, a model that is said to be alive or not, and a command with options that there are."""
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    cards = re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    assert len(cards) > 40
    for question, card in cards:
        assert question.endswith("?")
        said = dict(re.findall(r"^- \*\*(.+?):\*\* (\S.*)", card, re.MULTILINE))
        assert list(said) == ["Rests on", "Model", "Command"], question
        state = "alive|wrecked|untrained|random weights|tiny|simulated|none|no language model"
        assert re.search(state, said["Model"]), question
        for verb, options in re.findall(r"`spillover (\w+)(.*?)`", said["Command"]):
            names = {item.name.replace("_", "-") for item in dataclasses.fields(settings_class(verb))}
            assert set(re.findall(r" --([\w-]+)", options)) <= names, question


def test_the_log_has_dated_sections_of_short_bullets():
    """From the newest day to the oldest; no bullet is over 120 characters, its lines joined."""
    first, *sections = re.split("^## ", (DOCS.parent / "LOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    days = [re.match(r"\d{4}-\d\d-\d\d (?=\S)", section) for section in sections]
    assert len(days) > 40 and all(days), "a heading is a date and a title"
    assert [day[0] for day in days] == sorted((day[0] for day in days), reverse=True)
    # A bullet and the lines that go on with it, joined.
    bullets = re.findall(r"^ *[-*] .*(?:\n(?! *[-*] |[|#]|```).+)*", "\n".join([first, *sections]), re.MULTILINE)
    joined = [" ".join(bullet.split()) for bullet in bullets]
    assert len(joined) > 500
    assert not [bullet for bullet in joined if len(bullet) > 120]


def first_column(page, heading):
    """The names in the first column of the table under a heading."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[1]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_the_columns_of_a_run_are_all_told_in_their_order():
    page = (DOCS / "run.md").read_text(encoding="utf-8")
    assert first_column(page, "answers.parquet") == ANSWER_SCHEMA.names
    assert first_column(page, "trajectory.parquet") == TRAJECTORY_SCHEMA.names
    assert first_column(page, "record.json") == list(Record.__dataclass_fields__)


def test_every_measure_is_told():
    page = (DOCS / "scores.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### (\w+)$", page, re.MULTILINE)) == {*MEASURES, "forgetting_nats"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"], ids=str)
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"\b(?:src|tests|tools|benchmarks|examples)/[\w/]+\.\w+", page.read_text(encoding="utf-8"))
    # CONTRIBUTING adds one.
    assert not [name for name in named if not (DOCS.parent / name).exists() and not name.endswith("/count.py")]


def test_the_workflow_runs_the_commands_that_it_shows(byte_folder, tmp_path, monkeypatch):
    """Every `spillover` step of the workflow, in its order, on the pack that the page exports."""
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "gate-in-ci.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load(next(block["body"] for block in BLOCK.finditer(page) if block["kind"] == "yaml"))
    steps = [step.get("run", "") for step in workflow["jobs"]["audit"]["steps"]]
    shown = [step for step in steps if step.startswith("spillover ")]
    assert [step.split()[1] for step in shown] == ["check", "audit", "report"]
    commands("spillover packs export country-code:names=10,bridge=1 facts", byte_folder)
    commands("spillover inject facts --model gemma-3-270m --epochs 2 --save weights --out made", byte_folder)
    shutil.copytree("made/weights", "models/tuned")
    for step in shown:
        # Two passes teach too little, and such a model is not let through.
        commands(step, byte_folder, ends=int(step.split()[1] == "audit"))
    assert {path.name for path in Path("runs").iterdir()} == {"audit", "audit.html", "spillover.xml"}
