"""Records of schema 1 get the identity of schema 2, and only those of runs that verify."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from spillover.commands import settings_class
from spillover.commands.rerun import settings_of
from spillover.record import RECORD, Record

sys.path.insert(0, str(Path(__file__).parents[2]))
from tools import make_results, migrate_records

KEPT = make_results.ROOT / "results" / "adapters" / "cells" / "lora=1" / "seed-0"


@pytest.fixture
def earlier(tmp_path):
    """A kept run as schema 1 recorded it."""
    folder = tmp_path / "run"
    shutil.copytree(KEPT, folder)
    record = Record.read(folder)
    *_, settings = migrate_records.asked(settings_of(settings_class("inject"), record, folder))
    fields = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    fields |= {"schema": 1, "identity": migrate_records.old_identity(settings, "track")}
    (folder / RECORD).write_text(json.dumps(fields), encoding="utf-8")
    return folder


def test_a_run_that_verifies_gets_the_identity_that_finds_it(earlier):
    assert migrate_records.migrate(earlier) == []
    assert Record.read(earlier) == Record.read(KEPT)


def test_a_run_whose_table_was_changed_is_left_as_it_is(earlier):
    before = (earlier / RECORD).read_bytes()
    (earlier / "answers.parquet").write_bytes(b"another table")
    assert len(migrate_records.migrate(earlier)) == 1
    assert (earlier / RECORD).read_bytes() == before


def test_a_record_whose_identity_is_not_that_of_its_settings_is_left_as_it_is(earlier):
    fields = json.loads((earlier / RECORD).read_text(encoding="utf-8")) | {"identity": "0" * 16}
    (earlier / RECORD).write_text(json.dumps(fields), encoding="utf-8")
    assert len(migrate_records.migrate(earlier)) == 1
