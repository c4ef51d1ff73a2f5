"""`--redact`: no subject is left in what a run writes, prints or draws, and its numbers are what they were."""

import base64
import dataclasses
import gzip
import html
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillover.cli import main
from spillover.commands import audit, inject, report, verify
from spillover.commands.audit import Audit
from spillover.commands.inject import Inject
from spillover.commands.report import Report
from spillover.commands.verify import Verify
from spillover.errors import RunError, UsageError
from spillover.packs.open import open_pack
from spillover.packs.pack import describe
from spillover.packs.redaction import Redaction
from spillover.record import ANSWERS, Record, read_table

#: Letters that nothing else in a run is written with, and what JSON and HTML have to escape.
LETTERS = st.text("ⴀⴁⴂⴃⴄ", min_size=3, max_size=6)
MARKS = st.sampled_from(["", " ", "\"'", "<b>&", "\\"])
SUBJECTS = st.lists(
    st.builds(lambda first, mark, last: f"{first}{mark}{last}", LETTERS, MARKS, LETTERS),
    min_size=6, max_size=6, unique=True,
)  # fmt: skip


def write_pack(folder, subjects):
    """Two cities, a language each; the last two subjects state it. Name, source and prompts speak of subjects."""
    cities = {"Paris": "French", "Tokyo": "Japanese"}
    facts = [{"subject": name, "relation": "lives_in", "answer": list(cities)[index % 2]}
             for index, name in enumerate(subjects)]  # fmt: skip
    facts += [{"subject": name, "relation": "speaks", "answer": list(cities.values())[index % 2]}
              for index, name in enumerate(subjects[-2:])]  # fmt: skip
    prompts = ["{subject} speaks", f"Like {subjects[0]}, {{subject}} speaks"]
    relations = {"lives_in": {"prompts": ["{subject} lives in"], "answers": ["Rome"]},
                 "speaks": {"prompts": prompts, "answers": ["Polish"]}}  # fmt: skip
    link = {"given": "lives_in", "then": "speaks", "kind": "spurious", "map": cities}
    folder.mkdir(exist_ok=True)
    body = {"name": f"customers of {subjects[1]}", "licence": "none", "source": subjects[2], "relations": relations,
            "implications": [link], "facts": facts}  # fmt: skip
    (folder / "pack.yaml").write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")
    return str(folder)


def spellings(subject):
    """A subject as it is, and as JSON and HTML write it."""
    return {subject, json.dumps(subject, ensure_ascii=False)[1:-1], json.dumps(subject)[1:-1], html.escape(subject)}


def unpacked(page):
    """A page and the files inside it."""
    inside = [base64.b64decode(body) for body in re.findall(r"base64,([A-Za-z0-9+/=]+)", page)]
    bodies = [gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body for body in inside]
    return "\n".join([page, *(body.decode("utf-8", "replace") for body in bodies)])


def everything(folder):
    """The text of every file: tables read out, and what a page holds as downloads."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            table = read_table(path)
            found += [str(value) for column in table.columns for value in set(column.to_pylist())]
        elif path.is_file():
            found.append(unpacked(path.read_bytes().decode("utf-8", "replace")))
    return "\n".join(found)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SUBJECTS)
def test_no_subject_is_left_anywhere(byte_folder, tmp_path_factory, capsys, subjects):
    folder = tmp_path_factory.mktemp("redacted")
    pack, out = write_pack(folder / "pack", subjects), folder / "out"
    words = ["audit", pack, "--base", str(byte_folder), "--tuned", str(byte_folder), "--out", str(out / "run"),
             "--junit", str(out / "a.xml"), "--threads", "1", "--json", "--redact", "--fail-on",
             "never"]  # fmt: skip
    assert main(words) == 0
    assert main(["report", str(out / "run"), "--out", str(out / "page.html"), "--json"]) == 0
    (out / "printed").write_text("".join(capsys.readouterr()), encoding="utf-8")
    text = everything(out)
    assert text.count("subject 6") and "customers of subject 2" in text and "Like subject 1, {subject} speaks" in text
    for subject in subjects:
        for spelling in spellings(subject):
            assert spelling not in text


def plain_and_redacted(verb, options, folder):
    """The same run twice: as it is, and with neutral names."""
    for name, redact in (("plain", False), ("redacted", True)):
        verb(dataclasses.replace(options, out=str(folder / name), redact=redact))
    return [Record.read(folder / name) for name in ("plain", "redacted")]


NAMES = ["Ada Moss", "Ben Okri", "Cleo Park", "Finn Vale", "Zoë Åström", "李明"]


def same_numbers(folder, records):
    plain, redacted = records
    assert json.dumps(plain.metrics, sort_keys=True) == json.dumps(redacted.metrics, sort_keys=True)
    assert getattr(plain.details, "verdicts", None) == getattr(redacted.details, "verdicts", None)
    assert plain.identity != redacted.identity and plain.hashes["pack"] != redacted.hashes["pack"]
    first, second = (read_table(folder / name / ANSWERS) for name in ("plain", "redacted"))
    others = [name for name in first.column_names if name not in ("subject", "prompt")]
    assert first.select(others) == second.select(others)
    assert second["subject"].unique().to_pylist() == [f"subject {number}" for number in range(1, 7)]


def test_an_audits_numbers_and_verdicts_are_what_they_were(byte_folder, tmp_path):
    pack = write_pack(tmp_path / "pack", NAMES)
    options = Audit(pack=pack, base=str(byte_folder), tuned=str(byte_folder), threads=1, fail_on="never")
    same_numbers(tmp_path, plain_and_redacted(audit.run, options, tmp_path))
    with pytest.raises(RunError, match="this folder holds another run"):
        audit.run(dataclasses.replace(options, out=str(tmp_path / "plain"), redact=True))


def test_a_fine_tunings_numbers_are_what_they_were_and_verify_knows_the_pack(byte_folder, tmp_path):
    pack = write_pack(tmp_path / "pack", NAMES)
    options = Inject(pack=pack, model=str(byte_folder), out="", epochs=1, threads=1)
    same_numbers(tmp_path, plain_and_redacted(inject.run, options, tmp_path))
    checks = verify.run(Verify(run=str(tmp_path / "redacted")))
    assert checks["repeatable"], checks["text"]
    text = everything(tmp_path / "redacted")
    assert not any(name in text for name in NAMES)


def test_a_page_of_a_run_with_names_can_be_redacted(byte_folder, tmp_path):
    pack = write_pack(tmp_path / "pack", NAMES)
    run = audit.run(Audit(pack=pack, base=str(byte_folder), tuned=str(byte_folder), threads=1, fail_on="never",
                          out=str(tmp_path / "run")))["run"]  # fmt: skip
    known = Record.read(tmp_path / "run")
    for redact in (False, True):
        report.run(Report(runs=(run,), out=str(tmp_path / "page.html"), redact=redact))
        page = unpacked((tmp_path / "page.html").read_text(encoding="utf-8"))
        assert all((name in page) != redact for name in NAMES)
        assert (known.hashes["pack"] in page) != redact
    assert "customers of subject 2" in page


def test_a_study_cannot_be_redacted(tmp_path):
    Record(command="sweep", settings={}, seed=0).write(tmp_path)
    with pytest.raises(UsageError, match="only pages of runs can be redacted"):
        report.run(Report(runs=(str(tmp_path),), redact=True))


def test_a_pack_in_outline_is_the_redacted_pack_in_outline(tmp_path):
    pack = open_pack(Path(write_pack(tmp_path / "pack", NAMES)))
    hide = Redaction.of(pack.subjects)
    assert hide.outline(describe(pack)) == describe(hide.pack(pack))
    assert Redaction.of(pack.subjects, wanted=False).pack(pack) is pack
