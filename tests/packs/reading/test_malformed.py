"""Packs with one part broken, typed as a command: the exit code, the file and the row, and never a silent repair."""

import contextlib
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillover.cli import main
from spillover.errors import PackError
from spillover.packs.open import read_pack
from tests.packs.reading.drafts import FORMATS, drafts, facts_of
from tests.packs.reading.malformed import FOLLOWED, cases

CASES = cases()
#: Generated packs for each case.
EXAMPLES = 3
GENERATED = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def typed(*words):
    """Exit code, standard output and standard error of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return code, out.getvalue(), err.getvalue()


def written(folder, files):
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return folder


def test_there_are_two_hundred_of_them():
    assert len(CASES) * EXAMPLES >= 200


@pytest.mark.parametrize("case", CASES)
@GENERATED
@given(data=st.data())
def test_a_broken_pack_is_refused_at_the_row_that_is_broken(tmp_path, case, data):
    kind, edit = CASES[case]
    broken = edit(data.draw(drafts(kind)))
    folder = written(tmp_path, broken.files)
    code, out, err = typed("check", folder, "--json")
    told = json.loads(out)
    assert (code, err, told["counts"]) == (1, "", {})
    faults = [(fault["code"], fault["file"], fault["row"]) for fault in told["faults"]]
    expected = (broken.code, str(folder / broken.file), broken.row)
    assert expected in faults
    assert case in FOLLOWED or {fault[1:] for fault in faults} == {expected[1:]}, "elsewhere nothing is wrong"
    what = next(fault["what"] for fault in told["faults"] if (fault["code"], fault["row"]) == expected[::2])
    assert broken.said in what and what.isprintable() and len(what) < 1000
    code, out, err = typed("check", folder)
    where = str(folder / broken.file) + ("" if broken.row is None else f", row {broken.row}")
    assert (code, err) == (1, "") and f"fault: {where}: {what}" in out
    assert all(line.isprintable() for line in out.splitlines())
    code, out, _ = typed("solve", folder, "--json")
    assert code == 2 and set(json.loads(out)["error"]) == {"what", "where", "do"}
    with pytest.raises(PackError) as caught:
        read_pack(folder)
    assert [fault.as_json() for fault in caught.value.faults] == told["faults"]


@pytest.mark.parametrize("kind", FORMATS)
@settings(GENERATED, max_examples=15)
@given(data=st.data())
def test_a_sound_pack_is_read_as_it_was_written(tmp_path, kind, data):
    draft = data.draw(drafts(kind))
    folder = written(tmp_path, draft.files())
    code, out, _ = typed("check", folder, "--json")
    assert code == 0 and json.loads(out)["counts"]["facts"] == len(draft.rows)
    assert [tuple(fact) for fact in read_pack(folder).facts] == facts_of(draft)
