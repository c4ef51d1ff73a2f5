"""Reading run folders: whole, unfinished, damaged, absent."""

import pytest

from spillover.errors import RunError
from spillover.record import ANSWERS
from spillover.report.load import labels, load_run


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="there is no finished run here"):
        load_run(tmp_path)


def test_a_finished_run_must_have_its_answers(edit):
    folder = edit(lambda fields: None)
    (folder / ANSWERS).unlink()
    with pytest.raises(RunError, match="this run has no answers"):
        load_run(folder)


def test_damaged_answers_are_refused(edit):
    folder = edit(lambda fields: None)
    (folder / ANSWERS).write_bytes(b"PAR1 not really")
    with pytest.raises(RunError):
        load_run(folder)


def test_a_table_of_other_columns_is_refused(edit):
    folder = edit(lambda fields: None)
    (folder / "trajectory.parquet").replace(folder / ANSWERS)
    with pytest.raises(RunError, match="column 'checkpoint' is missing"):
        load_run(folder)


def test_an_unfinished_run_is_measured_as_far_as_it_got(make):
    run = make(status="interrupted")
    assert not run.finished
    assert run.metric("implication_rank_test", "lives_in->speaks").value == pytest.approx(4.4 / 8)


def test_an_unfinished_run_without_answers_is_empty(edit):
    folder = edit(lambda fields: None, status="running")
    (folder / ANSWERS).unlink()
    run = load_run(folder)
    assert len(run.ranks) == 0 and run.metrics == {}


def test_labels_name_the_settings_that_differ(make, edit):
    def slower(fields):
        fields["settings"]["lr"] = 1e-5

    def faster(fields):
        fields["settings"]["lr"] = 5e-5

    first, second = load_run(edit(slower)), load_run(edit(faster))
    other = make(name="mixed")
    assert labels([first, second, other]) == ["city-language, lr 1e-05", "city-language, lr 5e-05", "mixed"]
    assert labels([first, first]) == ["city-language (1)", "city-language (2)"]
    assert labels([other]) == ["mixed"]


def test_options_tell_packs_apart_only_where_needed(make):
    five, ten = make(name="city-language:names=60"), make(name="city-language:pairs=10")
    null = make(name="city-language:null")
    assert labels([five, null]) == ["city-language", "city-language:null"]
    assert labels([five, ten]) == ["city-language:names=60", "city-language:pairs=10"]
    assert ten.pack_name == "city-language:pairs=10"


def test_what_was_trained(make, edit):
    assert make().trained_part == "all weights but the embeddings trained"
    assert make(freeze=False).trained_part == "all weights trained"

    def adapter(fields):
        fields["settings"]["lora"] = 8

    assert load_run(edit(adapter)).trained_part == "a LoRA adapter of rank 8 trained"

    def known(fields):
        fields["settings"]["facts_known"] = True

    run, old = load_run(edit(known)), make()
    assert run.trained_part == "all weights but the embeddings trained on the stated implications alone"
    assert labels([run, old])[0] == "city-language, facts known True"


def test_an_option_that_an_older_record_has_not_tells_no_runs_apart(make, edit):
    old, new = make(), load_run(edit(lambda fields: fields["settings"].update(facts_known=False)))
    assert "facts_known" not in old.record.settings
    assert labels([old, new]) == ["city-language (1)", "city-language (2)"]
