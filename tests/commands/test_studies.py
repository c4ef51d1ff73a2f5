"""A study file becomes cells with lasting names, or one sentence that says what is wrong with it."""

from pathlib import Path

import pytest

from spillover.commands import sweep
from spillover.commands.inject import Inject
from spillover.commands.sweep import builtin_studies, expand, read_study, with_model
from spillover.errors import UsageError
from spillover.lm.built_in import training_of
from spillover.packs.open import open_pack
from spillover.report.study_sets import MODELS, RANKS

HEAD = "name: trial\nverb: inject\noptions: {model: tiny, pack: city-language}\ngroups:\n"


TAGS = [tag for tag, _ in MODELS.values()]


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


def test_a_cell_is_called_after_what_sets_it_apart_even_if_that_is_the_default(tmp_path):
    cells, _ = expand(read_study("adapters"))
    assert [cell.name for cell in cells] == ["lora=1", "lora=4", "lora=16", "lora=64", "lr=5e-05"]
    assert cells[-1].settings.lora == 0 and cells[-1].settings.lr == 5e-5


def test_the_built_in_study_is_the_issues():
    own = ["paper", "paper-270m", "paper-rates"]
    assert builtin_studies() == ["adapters", "dial", "families", "hops", "margins", *own, "theorem", "told-in-prompt"]
    cells, groups = expand(read_study("paper-270m"))
    by_name = {cell.name: cell for cell in cells}
    assert len(groups["The five sets"]) == len(groups["The embeddings trained too"]) == 5
    assert len(by_name["null"].seeds) == 10
    assert len(groups["How many bridging names?"]) == 10
    assert {by_name[name].settings.lr for name in groups["Which learning rate?"]} == {1e-5, 2e-5, 5e-5, 1e-4}


def test_three_families_at_their_own_rates_and_at_four():
    cells, _ = expand(read_study("families"))
    families = {"smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b"}
    packs = {*RANKS, "null", "city-language:bridge=0"}
    assert {(cell.settings.model, cell.settings.pack) for cell in cells} == {(m, p) for m in families for p in packs}
    assert all((cell.settings.lr, cell.settings.epochs) == training_of(cell.settings.model) for cell in cells)
    dial, groups = expand(read_study("dial"))
    by_name = {cell.name: cell.settings for cell in dial}
    own = [by_name[name] for name in groups["By rate"]]
    assert {model: len({each.lr for each in own if each.model == model}) for model in families} == dict.fromkeys(
        families, 4
    )
    assert all("lr=" in name for name in by_name) and all(each.until_learned for each in by_name.values())


def test_margins_vary_both_numbers_of_names():
    cells, _ = expand(read_study("margins"))
    found = set()
    for cell in cells:
        pack = open_pack(cell.settings.pack)
        stated = [fact for fact in pack.facts if fact.relation == pack.implications[0].then]
        found.add((len(stated) // 5, (len(pack.subjects) - len(stated)) // 5, pack.name.partition(":")[0]))
    sets = ("city-language", "country-code")
    assert found == {(m, n, name) for m in (1, 2, 4, 8) for n in (4, 16, 36) for name in sets}


def test_layers_are_left_out_of_training_or_set_back_in_the_same_shares():
    cells, _ = expand(read_study("hops"))
    ways = {"", "later-layers=0.75", "keep-later=0.75", "earlier-layers=0.25", "keep-earlier=0.25"}
    found = {(cell.settings.model, cell.settings.pack.partition(":")[0], cell.settings.remedy) for cell in cells}
    models, packs = {model for model, _, _ in found}, {"city-language", "second-hop"}
    assert len(models) == 3 and found == {(m, pack, way) for m in models for pack in packs for way in ways}
    for cell in cells:
        pack = open_pack(cell.settings.pack)
        assert len(pack.facts) == len(pack.questions) == 20, "each subject's own answer is stated, no implication is"


def test_the_papers_table_is_five_models_on_five_sets():
    cells, groups = expand(read_study("paper"))
    assert groups == {"The paper's table": [cell.name for cell in cells]} and len(cells) == 25
    assert sum(len(cell.seeds) for cell in cells) == 75
    assert {(cell.settings.model, cell.settings.pack) for cell in cells} == {(m, p) for m in TAGS for p in RANKS}
    assert {(cell.settings.dtype, cell.settings.freeze_embeddings) for cell in cells} == {("bfloat16", False)}
    assert "city-language_lr=3e-06_model=gemma-2-9b" in [cell.name for cell in cells]
    rates, _ = expand(read_study("paper-rates"))
    assert {(cell.settings.model, cell.settings.lr) for cell in rates} == {
        (model, rate) for model in TAGS for rate in (1e-6, 3e-6, 1e-5, 3e-5)
    }
    assert not {seed for cell in rates for seed in cell.seeds} & {0, 1, 2}, (
        "a rate is not chosen on the names it is for"
    )


def test_one_model_in_place_of_all():
    cells, _ = expand(with_model(read_study("paper"), "gemma-3-270m"))
    assert len(cells) == 5 and {cell.settings.pack for cell in cells} == set(RANKS)
    # It has a rate and a number format of its own in the study.
    assert {(cell.settings.lr, cell.settings.dtype, cell.settings.model) for cell in cells} == {
        (5e-5, "float32", "gemma-3-270m")
    }
    other, _ = expand(with_model(read_study("paper-270m"), "some/model"))
    assert {cell.settings.model for cell in other} == {"some/model"}
    assert [cell.name for cell in other] == [cell.name for cell in expand(read_study("paper-270m"))[0]]


def test_a_study_without_models_has_none_to_replace(tmp_path):
    text = 'name: gaps\nverb: solve\ngroups: [{name: a, grid: {symbolic: ["n=4"]}}]\n'
    with pytest.raises(UsageError, match="this study names no model that --model could replace"):
        with_model(read_study(write(tmp_path, text)), "gemma-3-270m")


def test_what_a_study_says_of_a_model_is_between_its_own_and_a_groups(tmp_path):
    cells, _ = cells_of(
        tmp_path,
        "name: trial\noptions: {pack: city-language, lr: 1.0e-3, epochs: 9}\nmodels: {big: {lr: 1.0e-6, epochs: 2}}\n"
        "groups: [{name: a, grid: {model: [big, small]}}, {name: b, options: {epochs: 3}, cells: [{model: big}]}]\n",
    )
    told = {(cell.settings.model, cell.settings.lr, cell.settings.epochs) for cell in cells}
    assert told == {("big", 1e-6, 2), ("small", 1e-3, 9), ("big", 1e-6, 3)}


def test_studies_at_the_root_are_those_of_the_package():
    """Links, so that there is one copy."""
    folder = Path(__file__).parents[2] / "studies"
    assert sorted(path.stem for path in folder.iterdir()) == builtin_studies()
    for path in folder.iterdir():
        assert path.resolve() == Path(sweep.__file__).parent / "built_in_studies" / path.name
        assert read_study(str(path)) == read_study(path.stem)


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
