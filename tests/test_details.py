"""Details of records are read by type and written as they were, whatever other versions wrote there."""

import json
from pathlib import Path

import pytest

from spillover.details import Details, InjectDetails, Memory, MitigateDetails
from spillover.errors import RunError
from spillover.record import RECORD, Metric, Record, plain

KEPT = sorted((Path(__file__).parent.parent / "results").rglob(RECORD))


def test_every_kept_record_is_read_by_its_type_and_written_to_the_byte():
    assert len(KEPT) > 200
    for path in KEPT:
        record = Record.read(path.parent)
        assert type(record.details) is not Details, path
        body = json.dumps(vars(record), indent=1, ensure_ascii=False, sort_keys=True, default=plain)
        assert body + "\n" == path.read_text(encoding="utf-8"), path


def test_what_was_never_set_is_left_out_and_none_that_was_set_is_written():
    details = InjectDetails(seeds=[0], memory=Memory(micro_batches=[[1, 8]], forecast=None))
    assert details.as_json() == {"seeds": [0], "memory": {"micro_batches": [[1, 8]], "forecast": None}}


def test_unknown_keys_are_kept_and_metrics_found_by_name():
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10, "clusters": 5, "unit": "share"}
    entry = {"cell": "a", "remedy": "a", "strength": None, "status": "learned", "rate": rate}
    found = Details.read("mitigate", {"frontier": [entry], "newer": {"x": [1]}})
    assert isinstance(found, MitigateDetails) and found.as_json() == {"frontier": [entry], "newer": {"x": [1]}}
    assert found.frontier[0].metric("rate") == Metric(**rate) and found.frontier[0].metric("other") is None


def test_a_field_that_does_not_fit_is_named():
    record = Record("mitigate", {}, 0, details=Details.read("mitigate", {"frontier": [{"remedy": "a"}]}))
    with pytest.raises(RunError, match=r"not one of `mitigate` \(frontier.0.cell: field required\)"):
        record.details_of(MitigateDetails)
    with pytest.raises(RunError, match=r"not one of `inject` \(it is one of `mitigate`\)"):
        record.details_of(InjectDetails)
