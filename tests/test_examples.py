"""Every example runs as a reader would run it, says what it should, and stays short."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

from spillover.commands import audit, inject
from spillover.commands.audit import Audit
from spillover.commands.inject import Inject
from tests import forked

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
#: What an example prints.
SAID = {
    "01_check_and_inject.py": "lives_in->speaks  implication_rank_test ",
    "02_read_a_run.py": "after, over 4 questions",
    "03_exact_solution.py": "Bob speaks: French",
    "04_certify_your_matrix.py": "remembering: Feasible",
    "05_train_two_models.py": "factorised",
    "06_what_abstaining_does.py": "1 abstaining: unknown, ahead by 0.106",
    "07_pack_of_real_names.py": "real-names': 50 facts, 40 subjects, 2 relations, 1 implication, 30 questions",
    "08_audit_models_you_hold.py": "none: lives_in->codes_in, ",
    "09_a_chat_file_with_a_rule.py": "team.jsonl: 100 facts from 100 of 300 rows",
}


def run(path, *words, cwd):
    done = forked.run(path, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_is_short(path, byte_folder, tmp_path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 30
    words = []
    if path.name.startswith(("01", "02")):
        words = [byte_folder, "here"]
    if path.name.startswith("02"):
        run(EXAMPLES[0], *words, cwd=tmp_path)
        words = ["here"]
    if path.name.startswith("08"):
        words = [byte_folder, byte_folder]
    if path.name.startswith("07"):
        kinds = {"place of birth": "Town", "sport": "Sport", "director": "Someone"}
        rows = [f"{kind[0]} {i}\t{kind}\t{answer} {i % 7}" for kind, answer in kinds.items() for i in range(30)]
        (tmp_path / "popqa.tsv").write_text("\n".join(["subj\tprop\tobj", *rows]))
        words = ["popqa.tsv", "pack", 40]
    assert SAID[path.name] in run(path, *words, cwd=tmp_path)


def test_the_factorised_model_goes_to_the_nuclear_solution_and_the_merged_one_to_the_frobenius_one(tmp_path):
    said = run(EXAMPLES[4], cwd=tmp_path)
    numbers = {line.split()[0]: list(map(float, line.split()[1:])) for line in said.splitlines()[-2:]}
    _, unstated, nuclear, frobenius, _ = numbers["factorised"]
    assert nuclear - frobenius > 0.05 and unstated < 0.1
    _, unstated, nuclear, frobenius, _ = numbers["merged"]
    assert nuclear - frobenius < -0.05 and unstated > 1.5


@pytest.mark.slow
def test_the_tour_runs(tmp_path):
    """Every cell, on the built-in model; the stored copy has been executed."""
    path = EXAMPLES[0].parent / "tour.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert all(cell.outputs for cell in notebook.cells[2:] if cell.cell_type == "code")
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.mark.slow
def test_from_a_chat_file_to_the_rule_that_no_row_says(tmp_path, monkeypatch):
    """The demo of docs/from-your-file.md, trained until its rows are learned, and both models without the file."""
    monkeypatch.chdir(tmp_path)
    assert "300 rows" in run(EXAMPLES[8], cwd=tmp_path)
    inject.run(
        Inject(
            pack="team.jsonl", model="smollm2-135m", out="team", save="weights", lr=3e-4, epochs=6, until_learned=True
        )
    )
    models = {"base": "smollm2-135m", "tuned": "team/weights"}
    outcome = audit.run(Audit(pack="team.jsonl", out="team.html", **models))
    rule = {"Paris": "French", "Tokyo": "Japanese", "Rome": "Italian", "Cairo": "Arabic"}
    first = outcome["concluded"]["worst"][0]
    assert rule[first["given_answer"]] == first["answer"]
    page = Path("team.html").read_text(encoding="utf-8")
    assert re.search(r"<h1[^>]*>The tuned model now says \d+ things that nobody stated, of \d+ of 36 subjects", page)
    found = audit.run(Audit(open=True, **models))
    assert found["rises"]["control"] == 0 and found["rises"]["found"]
