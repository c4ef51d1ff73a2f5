"""A kind that nobody declared, through every verb that asks a model: the same everywhere, with its evidence."""

import dataclasses

import pytest

import spillover
from spillover.commands import audit, check, inject, predict, verify
from spillover.packs.pack import AUTO
from spillover.packs.write import write_pack


@pytest.fixture(scope="module")
def undeclared(tmp_path_factory):
    """A pack whose implications have no kind."""
    pack = spillover.open_pack("mixed:pairs=2,names=8,bridge=1")
    rules = tuple(dataclasses.replace(each, kind=AUTO) for each in pack.implications)
    return str(write_pack(dataclasses.replace(pack, implications=rules), tmp_path_factory.mktemp("packs") / "own"))


@pytest.fixture(scope="module")
def known(undeclared, byte_folder):
    """What `check` says of each implication."""
    return check.run(check.Check(pack=undeclared, model=str(byte_folder)))["kinds"]


def test_check_judges_with_a_model_and_says_that_it_needs_one_without(undeclared, known):
    without = check.run(check.Check(pack=undeclared))
    assert {each["kind"] for each in without["kinds"].values()} == {AUTO} and "name it with --model" in without["text"]
    assert set(known) == {"lives_in->speaks", "lives_in->codes_in"}
    assert all(each["kind"].startswith("auto: ") and "known links" in each["because"] for each in known.values())


def test_a_run_and_its_audit_judge_alike_and_the_run_stays_trusted(undeclared, known, byte_folder, tmp_path):
    settings = inject.Inject(pack=undeclared, model=str(byte_folder), out=str(tmp_path / "run"), epochs=2, threads=1,
                             save="weights")  # fmt: skip
    outcome = inject.run(settings)
    run = spillover.load_run(tmp_path / "run")
    outlines = run.record.details.pack.implications
    assert {f"{each.given}->{each.then}": (each.kind, each.because) for each in outlines} == {
        name: (each["kind"], each["because"]) for name, each in known.items()
    }
    assert {each["kind"] for each in outcome["verdicts"]} == {each["kind"] for each in known.values()}
    assert outcome["excess"]["n"] == run.record.details.judge.questions == 12
    assert verify.run(verify.Verify(run=str(tmp_path / "run")))["trusted"]
    found = audit.run(audit.Audit(pack=undeclared, base=str(byte_folder), tuned=str(tmp_path / "run" / "weights"),
                                  threads=1, fail_on="never"))  # fmt: skip
    assert [each["kind_because"] for each in found["verdicts"]] == [each["because"] for each in known.values()]
    assert found["excess"] == outcome["excess"], "what is warranted is what the base model says, in both"
    held = spillover.audit(undeclared, run, run)
    assert [each.kind for each in held.verdicts] == [each["kind"] for each in known.values()]


def test_what_rows_suggest_has_one_kind_in_a_run_and_in_its_audit(byte_folder, tmp_path):
    """A pack that declares nothing, as a training file is."""
    pack = dataclasses.replace(spillover.open_pack("mixed:pairs=2,names=12,bridge=3"), implications=())
    folder = str(write_pack(pack, tmp_path / "pack"))
    settings = inject.Inject(pack=folder, model=str(byte_folder), out=str(tmp_path / "run"), epochs=1, threads=1,
                             seeds="0,1")  # fmt: skip
    outcome, run = inject.run(settings), spillover.load_run(tmp_path / "run")
    kinds = {each["implication"]: (each["kind"], each["kind_because"]) for each in outcome["verdicts"]}
    assert kinds and all(kind.startswith("auto: ") and "known links" in because for kind, because in kinds.values())
    assert {each.implication: (each.kind, each.kind_because) for each in run.verdicts} == kinds
    audited = spillover.audit(pack, run, run)
    assert {each.implication: (each.kind, each.kind_because) for each in audited.verdicts} == kinds
    assert verify.run(verify.Verify(run=str(tmp_path / "run")))["trusted"]


def test_a_prediction_has_the_judged_kind_and_its_evidence(undeclared, known, byte_folder):
    found = predict.run(predict.Predict(pack=undeclared, model=str(byte_folder), evidence=0))["associations"]
    for each in found:
        if each["exposed"]:
            own = known[f"{each['given']}->{each['then']}"]
            assert each["kind"] == own["kind"] and own["because"] in each["because"]
