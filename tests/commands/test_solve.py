"""The verbs solve and certify as the command line runs them."""

import json

import numpy as np
import pytest

from spillover.cli import main

XOR = """
name: xor
licence: CC0-1.0
source: test
relations:
  r1: {prompts: ["{subject} one"]}
  r2: {prompts: ["{subject} two"]}
facts:
  - {subject: s, relation: r1, answer: a}
  - {subject: s, relation: r2, answer: b}
  - {subject: t, relation: r1, answer: b}
  - {subject: t, relation: r2, answer: %s}
"""
KEYS = {"norm", "objective", "lower_bound", "gap", "status", "seconds", "signatures", "questions"}
QUESTION = {"subject", "relation", "predicted", "margin", "expected", "ocr_margin", "count"}


def told(capsys, *words):
    """Exit code and the one JSON object on standard output."""
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def pack(tmp_path):
    def write(answer):
        path = tmp_path / "pack.yaml"
        path.write_text(XOR % answer)
        return str(path)

    return write


def test_a_symbolic_task(capsys):
    code, found = told(capsys, "solve", "--symbolic", "n=20,train=1,test=3")
    assert code == 0
    assert set(found) >= KEYS
    assert abs(found["objective"] - 56.3811) < 1e-4
    assert set(found["questions"][0]) == QUESTION
    assert len(found["questions"]) == 20


def test_a_deeper_product_concludes_by_the_fourth_root(capsys, tmp_path):
    code, found = told(
        capsys, "solve", "--symbolic", "n=20,train=1,test=3", "--depth", "3", "--out", str(tmp_path / "r")
    )
    assert (code, found["status"], len(found["questions"])) == (0, "symmetric", 20)
    assert round(found["questions"][0]["margin"], 4) == 0.7824
    assert found["metrics"]["objective"]["unit"] == "sum of singular values to 2/3"
    assert found["gap"] < 0.002
    assert np.load(tmp_path / "r" / "matrix.npy").shape == (40, 82)


def test_a_pack_and_its_ranges(capsys):
    code, found = told(capsys, "solve", "city-language:pairs=2,names=8,bridge=1", "--ranges")
    assert (code, found["status"]) == (0, "optimal")
    assert found["gap"] <= 1e-4
    assert set(found["questions"][0]) == QUESTION | {"margin_low", "margin_high"}
    assert all(q["margin_low"] <= q["margin"] <= q["margin_high"] for q in found["questions"])
    assert {q["predicted"] == q["expected"] for q in found["questions"]} == {True}


def test_an_infeasible_pack_ends_in_two_and_names_its_rows(capsys, pack):
    code, found = told(capsys, "solve", pack("a"))
    assert (code, found["status"], len(found["rows"])) == (2, "infeasible", 4)
    assert found["error"]["what"].startswith("Infeasible")


def test_a_contradiction_is_proven_and_named(capsys, tmp_path):
    path = tmp_path / "pack.yaml"
    path.write_text((XOR % "c") + "  - {subject: t, relation: r2, answer: d}\n")
    code, found = told(capsys, "solve", str(path))
    assert (code, found["status"]) == (2, "infeasible")
    assert [tuple(row.values()) for row in found["rows"]] == [("t", "r2", "c"), ("t", "r2", "d")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["solve"], "nothing to solve"),
        (["solve", "mixed", "--symbolic", "n=3,train=1,test=1"], "at once"),
        (["solve", "mixed", "--depth", "3"], "for the symbolic task"),
        (["solve", "--symbolic", "n=3,train=1,test=1", "--depth", "1"], "has no depth"),
        (["solve", "--symbolic", "n=1,train=1,test=1"], "at least 2 classes"),
        (["solve", "--symbolic", "n=3,train=1,test=-2"], "cannot be negative"),
        (["solve", "--symbolic", "three"], "not a symbolic task"),
        (["solve", "mixed", "--gap", "0"], "cannot be certified"),
        (["solve", "--symbolic", "n=3,train=1,test=1", "--seed", "1"], "--seed does nothing with --symbolic"),
        (["solve", "--symbolic", "n=3,train=1,test=1", "--max-iterations", "9"], "--max-iterations does nothing"),
        (["certify", "mixed", "--matrix", "none.npy"], "no such file"),
        (["certify", "mixed", "--matrix", "weights.pkl"], "cannot be read from"),
    ],
)
def test_bad_input_is_one_sentence_and_ends_in_two(capsys, words, said):
    code, found = told(capsys, *words)
    assert code == 2
    assert said in found["error"]["what"]


def test_a_written_solution_certifies_itself(capsys, tmp_path):
    name, out = "country-code:pairs=2,names=8,bridge=1", tmp_path / "run"
    code, solved = told(capsys, "solve", name, "--out", str(out))
    assert code == 0
    assert json.loads((out / "record.json").read_text())["status"] == "done"
    for file in ("matrix.npy", "matrix.parquet"):
        code, found = told(capsys, "certify", name, "--matrix", str(out / file))
        assert (code, found["status"]) == (0, "feasible")
        assert abs(found["objective"] - solved["objective"]) < 1e-9
        assert found["gap"] <= 2e-4
        assert len(found["questions"]) == len(solved["questions"])


@pytest.mark.parametrize("ending", [".npy", ".csv", ".safetensors", ".parquet"])
def test_a_matrix_may_come_in_any_of_four_files(capsys, tmp_path, pack, ending):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    matrix, path = np.zeros((3, 4)), tmp_path / f"w{ending}"
    matrix[[0, 1, 1, 2], [0, 0, 1, 1]] = 2
    matrix[[0, 1], 2] = matrix[[1, 2], 3] = 1
    if ending == ".npy":
        np.save(path, matrix)
    elif ending == ".csv":
        np.savetxt(path, matrix, delimiter=",")
    elif ending == ".safetensors":
        save_file({"w": matrix}, path)
    else:
        pq.write_table(pa.table({f"column {i}": matrix[:, i] for i in range(4)}), path)
    code, found = told(capsys, "certify", pack("c"), "--matrix", str(path))
    # s to r1: a 3, b 3 and c 0, a tie, so nothing is feasible; the same number from every file.
    assert (code, found["status"], found["margin"], found["objective"]) == (0, "not feasible", 0, None)


def test_a_pickle_is_never_opened(capsys, tmp_path):
    path = tmp_path / "w.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    code, found = told(capsys, "certify", "mixed", "--matrix", str(path))
    assert code == 2
    assert "no matrix can be read" in found["error"]["what"]


def test_a_person_reads_a_verdict(capsys):
    assert main(["solve", "--symbolic", "n=3,train=1,test=3"]) == 0
    text = capsys.readouterr().out
    assert "Optimal" in text
    assert "norm 7.196152" in text
