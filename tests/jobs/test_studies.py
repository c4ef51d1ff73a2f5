"""A study file becomes cells with lasting names, or one sentence that says what is wrong with it."""

import pytest

from spillover.errors import UsageError
from spillover.jobs.studies import builtin_studies, expand, read_study
from spillover.settings import Inject

HEAD = "name: trial\nverb: inject\noptions: {model: tiny, pack: city-language}\ngroups:\n"


def write(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def cells_of(tmp_path, text):
    return expand(read_study(write(tmp_path, text)))


def test_a_list_times_a_grid(tmp_path):
    cells, groups = cells_of(
        tmp_path,
        HEAD + "  - {name: a, cells: [{}, {lora: 4}], grid: {lr: [1e-5, 5e-5], epochs: [2]}, seeds: [3, 1]}\n"
        "  - {name: b, cells: [{lr: 1.0e-5, epochs: 2}], seeds: [3, 1]}\n",
    )
    assert [cell.name for cell in cells] == [
        "lr=1e-05_epochs=2",
        "epochs=2",
        "lora=4_lr=1e-05_epochs=2",
        "lora=4_epochs=2",
    ]
    assert groups == {"a": [cell.name for cell in cells], "b": ["lr=1e-05_epochs=2"]}, "an equal cell is the same cell"
    assert cells[0].settings == Inject(pack="city-language", model="tiny", out="", lr=1e-5, epochs=2)
    assert cells[0].seeds == (3, 1)


def test_names_do_not_depend_on_the_rest_of_the_study(tmp_path):
    first, _ = cells_of(tmp_path, HEAD + "  - {name: a, cells: [{pack: 'null', freeze_embeddings: false}]}\n")
    more, _ = cells_of(
        tmp_path,
        HEAD
        + "  - {name: a, cells: [{pack: 'null', freeze_embeddings: false}, {pack: 'mixed:bridge=2'}, {lr: 1e-3}]}\n",
    )
    assert [cell.name for cell in more] == [first[0].name, "mixed-bridge=2", "lr=0.001"]
    assert first[0].name == "null_no-freeze-embeddings"


def test_cells_that_only_quiet_options_tell_apart_get_names_of_their_own(tmp_path):
    cells, _ = cells_of(tmp_path, HEAD + "  - {name: a, cells: [{evaluate_every: 1}, {evaluate_every: 2}]}\n")
    names = [cell.name for cell in cells]
    assert names[0] == "cell" and names[1].startswith("cell-") and len(set(names)) == 2


def test_the_built_in_study_is_the_issues():
    assert builtin_studies() == ["paper-270m"]
    cells, groups = expand(read_study("paper-270m"))
    by_name = {cell.name: cell for cell in cells}
    assert len(groups["The five sets"]) == len(groups["The embeddings trained too"]) == 5
    assert len(by_name["null"].seeds) == 10
    assert len(groups["How many bridging names?"]) == 10
    assert {by_name[name].settings.lr for name in groups["Which learning rate?"]} == {1e-5, 2e-5, 5e-5, 1e-4}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the study: input should be a valid dictionary"),
        ("name: [a", "this is not YAML"),
        ("name: trial\ngroups: []\n", "groups: list should have at least 1 item"),
        ("name: trial\ngrops: []\n", "groups: field required"),
        (HEAD + "  - {name: a, grid: {lr: []}}\n", "groups.0.grid.lr: list should have at least 1 item"),
        (HEAD + "  - {name: a, grid: {rl: [1]}}\n", "'rl' is no option that a study sets. Did you mean 'lr'?"),
        (HEAD + "  - {name: a, grid: {epochs: [many]}}\n", "epochs: 'many' does not fit"),
        (HEAD + "  - {name: a, cells: [{out: here}]}\n", "'out' is no option that a study sets"),
        (HEAD + "  - {name: a, cells: [&x {lora: 1}, *x]}\n", "aliases (*) are not read"),
        (HEAD.replace("inject", "injekt") + "  - {name: a}\n", "there is no command 'injekt'. Did you mean 'inject'?"),
        (HEAD.replace(", pack: city-language", "") + "  - {name: a}\n", "no pack is given. Add `pack:` to its"),
        (HEAD + "  - {name: a, grid: {lora: %s, batch: %s, lr: %s}}" % ((list(range(1, 90)),) * 3), "100,000 cells"),
        ("name: trial\nseeds: [-1]\ngroups: [{name: a}]\n", "seeds.0: input should be greater than or equal to 0"),
        ("name: !!python/object/apply:os.system [ls]\n", "this is not YAML (could not determine a constructor"),
        ("[" * 5000, "this is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(UsageError) as caught:
        cells_of(tmp_path, text)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UsageError, match=r"there is no such study file\. Did you mean 'paper-270m'"):
        read_study("paper-270n")
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="this study is not UTF-8 text"):
        read_study(str(tmp_path / "study.yaml"))
    with pytest.raises(UsageError, match="more than a million bytes"):
        read_study(write(tmp_path, "#" * 1_000_001))
    with pytest.raises(UsageError, match="this study cannot be read: file name too long"):
        read_study("x" * 5000)
