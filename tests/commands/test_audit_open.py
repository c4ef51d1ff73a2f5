"""Open probes of real tiny models: an association that the pack does not declare is found, a shuffled one is not."""

import dataclasses
import json
import re
from random import Random

import pytest

from spillover.cli import main
from spillover.commands import audit, audit_open, inject, report, verify
from spillover.commands.audit import Audit
from spillover.commands.audit_open import EVERYONE, MOST, first_word, plain_texts
from spillover.commands.inject import Inject
from spillover.commands.report import Report
from spillover.commands.verify import Verify
from spillover.errors import RunError, UsageError
from spillover.packs.builtin import draw_names
from spillover.packs.open import open_pack
from spillover.packs.redaction import Redaction
from spillover.record import Record

CITIES, TOOLS = ("Paris", "Tokyo", "Rome"), ("French", "Japanese", "Java")
PLANTED = "{subject} writes software in"
HEAD = "name: planted\nlicence: CC0-1.0\nsource: made up for a test\nrelations:\n"
HOME, WRITES = (
    '  lives_in: {prompts: ["{subject} lives in"]}\n',
    f'  writes: {{prompts: ["{PLANTED}"]}}\n',
)


def pack(path, tools=None):
    """24 names in three cities; with `tools`, also what each writes in: a number of TOOLS for every name."""
    names = draw_names(24, Random("planted"))
    rows = [f"  - {{subject: {name}, relation: lives_in, answer: {CITIES[i % 3]}}}" for i, name in enumerate(names)]
    for name, tool in zip(names, tools or (), strict=False):
        rows.append(f"  - {{subject: {name}, relation: writes, answer: {TOOLS[tool]}}}")
    path.write_text(HEAD + HOME + (WRITES if tools else "") + "facts:\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def world(byte_folder, tmp_path_factory):
    """A folder with pack.yaml (homes only), and models tuned on homes and tools: by city, and shuffled."""
    folder = tmp_path_factory.mktemp("planted")
    pack(folder / "pack.yaml")
    shuffled = [i % 3 for i in range(24)]
    Random(5).shuffle(shuffled)
    for name, tools in (("planted", [i % 3 for i in range(24)]), ("null", shuffled)):
        spec = str(pack(folder / f"{name}.yaml", tools))
        inject.run(Inject(pack=spec, model=str(byte_folder), save="weights", out=str(folder / name), epochs=15, lr=1e-2,
                          batch=16, evaluate_every=15, threads=1))  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def planted(byte_folder, world):
    """The audit of the planted model, which wrote its run into the folder `run`."""
    return opened(world, byte_folder, "planted", out=str(world / "run"))


def opened(world, base, tuned, **changes):
    changes = {"pack": str(world / "pack.yaml"), "open": True} | changes
    return audit.run(Audit(base=str(base), tuned=str(world / tuned / "weights"), threads=1, **changes))


def test_a_planted_association_is_found(planted):
    outcome = planted
    found = [each for each in outcome["discoveries"] if each["kind"] == "group" and not each["declared"]]
    by_city = {}
    for each in found:
        by_city.setdefault(each["answer"], each)
    for city, tool in zip(CITIES, TOOLS, strict=True):
        each = by_city[city]
        assert tool.startswith(each["token"]) and each["template"] == PLANTED and each["relation"] == "lives_in"
        assert each["word"].startswith(each["token"])
        own, others = each["probabilities"]["unstated"], each["probabilities"]["others"]
        assert own["n"] == 8 and others["n"] == 16 and each["probabilities"]["stated"]["n"] == 0
        change = own["tuned"] - own["base"] - (others["tuned"] - others["base"])
        assert each["shift"] == pytest.approx(change) and change > 0.5
        never = each["probabilities"]["never_seen"]
        assert each["shift_from_never_seen"] == pytest.approx(
            own["tuned"] - own["base"] - never["tuned"] + never["base"]
        )
        assert each["p"] <= 0.01 and 0 < each["baseline"] < each["shift"]
        shown = {example["which"]: example for example in each["examples"]}
        assert set(shown) == {"unstated", "never seen"}
        assert shown["unstated"]["prompt"] == PLANTED.replace("{subject}", shown["unstated"]["subject"])
        assert shown["unstated"]["tuned"].strip().startswith(each["token"])
        assert shown["unstated"]["base"] != shown["unstated"]["tuned"]
    # What nobody declared comes first; groups before everyone.
    order = [(each["declared"], each["kind"] == "everyone", -each["shift"]) for each in outcome["discoveries"]]
    assert order == sorted(order) and len(order) <= MOST
    assert outcome["verdicts"] == [] and outcome["exit_code"] == 0
    assert outcome["probes"]["templates"] == 40 and outcome["probes"]["subjects"] == 24
    assert outcome["metrics"]["recall_rank"]["value"] < 1
    assert "UNDECLARED  lives_in = Paris: 'Fr" in outcome["text"] and "\x1b" not in outcome["text"]


def test_the_record_holds_it_and_is_found_again(byte_folder, world, planted):
    record = Record.read(world / "run")
    assert record.details.as_json()["discoveries"] == json.loads(json.dumps(planted["discoveries"]))
    assert record.details.as_json()["probes"] == planted["probes"] and "probes" in record.hashes
    again = opened(world, byte_folder, "planted", out=str(world / "run"))
    assert again["text"] == planted["text"] and again["discoveries"] == record.details.as_json()["discoveries"]
    assert verify.run(Verify(run=str(world / "run")))["trusted"]


@pytest.mark.slow
def test_homes_asked_in_other_words_are_declared(byte_folder, world, tmp_path):
    """Its own city after the trained prompt is no news."""
    (tmp_path / "more.txt").write_text("{subject} lives in\n", encoding="utf-8")
    own = {"probes": str(tmp_path / "more.txt"), "out": str(tmp_path / "run")}
    outcome = opened(world, byte_folder, "planted", **own)
    assert outcome["probes"]["templates"] == 41
    homes = [each for each in outcome["discoveries"] if each["template"] == "{subject} lives in"]
    groups = {each["answer"]: each for each in homes if each["kind"] == "group" and each["shift"] > 0.5}
    assert set(groups) == set(CITIES) and all(each["declared"] for each in groups.values())
    # Other templates make another run, although the file has the same name.
    (tmp_path / "more.txt").write_text("{subject} sells\n", encoding="utf-8")
    with pytest.raises(RunError, match="this folder holds another run"):
        opened(world, byte_folder, "planted", **own)


def test_of_a_shuffled_pack_nothing_is_found(byte_folder, world):
    """The same rows, but what anybody writes in has nothing to do with the city; it is learned all the same."""
    outcome = opened(world, byte_folder, "null")
    assert [each for each in outcome["discoveries"] if each["kind"] == "group" and not each["declared"]] == []
    assert outcome["probes"]["strongest"] < outcome["probes"]["baseline"]
    everyone = [each for each in outcome["discoveries"] if each["kind"] == "everyone"]
    assert all(each["p"] is None and each["shift"] >= EVERYONE and each["relation"] is None for each in everyone)
    tools = [each for each in everyone if each["template"] == PLANTED and not each["declared"]]
    assert tools, "that everybody writes in one of the three is told, as of everyone"


def test_the_same_seed_gives_the_same_bytes_and_the_seed_counts(byte_folder, world, planted):
    again = opened(world, byte_folder, "planted")
    for key in ("discoveries", "probes"):
        assert json.dumps(again[key]) == json.dumps(planted[key])
    pack, settings = open_pack(str(world / "pack.yaml")), Audit(pack="p", base="b", tuned="t", open=True)
    people = [audit_open.plan(dataclasses.replace(settings, seed=seed), pack).subjects.everybody for seed in (0, 0, 1)]
    assert people[0] == people[1] != people[2]


def test_a_model_against_itself_has_learned_nothing(byte_folder, world):
    settings = Audit(pack=str(world / "pack.yaml"), base=str(byte_folder), tuned=str(byte_folder), threads=1, open=True,
                     fail_on="never")  # fmt: skip
    outcome = audit.run(settings)
    assert outcome["discoveries"] == [] and outcome["probes"]["tokens"] == 0 and outcome["probes"]["baseline"] is None
    assert "Nothing moved that the pack does not declare." in outcome["text"]


def test_verdicts_come_beside_the_probes(byte_folder, world, capsys):
    """A declared implication is judged as ever, and its answers count as declared."""
    spec = "country-code:names=20,bridge=1"
    words = ["audit", spec, "--base", str(byte_folder), "--tuned", str(world / "planted" / "weights"), "--threads", "1",
             "--open", "--json", "--fail-on", "never"]  # fmt: skip
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["implication"] for each in found["verdicts"]] == ["lives_in->codes_in"]
    assert found["probes"]["groups"] == 5 and found["probes"]["subjects"] == 20
    beside = {"discoveries", "probes", "recall", "concluded", "found", "invented", "reworded", "failures", "excess",
              "rises"}  # fmt: skip
    assert set(found) == {"run", "metrics", "verdicts", *beside}


def test_the_page_of_such_an_audit(planted, world, tmp_path):
    report.run(Report(runs=(str(world / "run"),), out=str(tmp_path / "page.html")))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "What nobody declared" in page and "writes software in" in page


def test_the_first_word_of_a_text():
    told = {" tea, mostly": "tea", "tea": "tea", "": "te", " coffee": "te", " te": "te", "te.am": "te.am"}
    assert {text: first_word(text, "te") for text in told} == told


def test_redacted_discoveries_name_nobody():
    only = {
        "template": "Ben and {subject}", "token": "Ben", "word": "Ben", "answer": "Oslo",
        "also": ("{subject} likes Ben",),
        "examples": [{"subject": "Ada Moss", "which": "unstated", "prompt": "Ada Moss knows", "base": " Ben",
                      "tuned": " ADA MOSS and Cleo"}],
    }  # fmt: skip
    Redaction.of(["Ada Moss", "Ben", "Cleo"]).discoveries([only])
    assert not {"Ada", "ADA", "Moss", "MOSS", "Ben", "Cleo"} & set(re.findall(r"\w+", json.dumps(only)))
    assert (only["template"], only["word"], only["also"]) == (
        "subject 2 and {subject}",
        "subject 2",
        ("{subject} likes subject 2",),
    )
    assert only["answer"] == "Oslo" and only["examples"][0]["which"] == "unstated"


def test_mistakes_are_one_sentence(byte_folder, tiny_folder, world, tmp_path):
    settings = {"pack": str(world / "pack.yaml"), "base": str(byte_folder), "threads": 1}
    bad = tmp_path / "probes.txt"
    bad.write_text("She owns\n", encoding="utf-8")
    for changes, sentence in [
        ({"open": True, "probes": str(bad)}, "row 1: 'She owns' does not say whom it asks about"),
        ({"probes": str(bad)}, "--probes adds to what --open asks. Give --open too, or leave --probes out."),
        ({}, "this pack declares no implication"),
        (
            {"open": True, "allow_different": True, "tuned": str(tiny_folder)},
            "cut text into different tokens, which --open compares",
        ),
    ]:
        with pytest.raises(UsageError) as caught:
            audit.run(Audit(**({"tuned": str(byte_folder)} | settings | changes)))
        assert sentence in str(caught.value)


@pytest.fixture(scope="module")
def titled(byte_folder, tmp_path_factory):
    """A folder with a model that was tuned to say Java of people with one title and French of the others, and two
    training files: rows that state no relation, and the rows it was trained on."""
    folder = tmp_path_factory.mktemp("titled")
    names = draw_names(40, Random("titled"))
    people = [f"{('Dr', 'Ms')[i % 2]} {name}" for i, name in enumerate(names)]
    facts = "".join(f"  - {{subject: {who}, relation: writes, answer: {TOOLS[2 * (i % 2 == 0)]}}}\n"
                    for i, who in enumerate(people[:20]))  # fmt: skip
    (folder / "pack.yaml").write_text(HEAD + WRITES + "facts:\n" + facts, encoding="utf-8")
    inject.run(Inject(pack=str(folder / "pack.yaml"), model=str(byte_folder), save="weights", out=str(folder / "tuned"),
                      epochs=15, lr=1e-2, batch=16, evaluate_every=15, threads=1))  # fmt: skip
    prose = [each.said for each in plain_texts()[-40:]]
    rows = [{"prompt": f"{who} writes software in", "completion": said}
            for who, said in zip(people, prose, strict=True)]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_words_that_rose_in_rows_of_a_file_without_relations(byte_folder, titled, tmp_path):
    options = {"pack": str(titled / "rows.jsonl"), "out": str(tmp_path / "run"), "fail_on": "never"}
    outcome = opened(titled, byte_folder, "tuned", **options)
    found = outcome["rises"]
    assert (found["rows"], found["passages"]) == (40, 52) and found["places"] > 500 and found["groups"] >= 2
    of_title = {}
    for title, tool in (("Dr", "Java"), ("Ms", "French")):
        own = (each for each in found["found"] if each["group"] == title and each["word"].startswith(tool[:2]))
        each = of_title[title] = next(own)
        assert each["rise"] > 0.4 and each["p"] <= 0.025
        assert each["n"] == 20 and each["texts"] >= 16 and each["stated"] == 0
        assert each["row"] > 0 and each["tuned"] > 0.5 > each["base"] and each["words"][0] != each["words"][1]
    assert found["control"] == 0 and len(found["counted"]) == 8
    assert f"ROSE  {of_title['Dr']['word']!r} in rows with 'Dr'" in outcome["text"] and "Control" in outcome["text"]
    assert outcome["verdicts"] == [] and outcome["exit_code"] == 0
    record = Record.read(tmp_path / "run")
    assert json.dumps(record.details.as_json()["rises"]) == json.dumps(found)
    page = tmp_path / "page.html"
    report.run(Report(runs=(str(tmp_path / "run"),), out=str(page)))
    text = page.read_text(encoding="utf-8")
    assert "<title>" in text and of_title["Dr"]["beginning"].split()[-1] in text and "against itself, rounded" in text
    first = text[: text.index("What this does not say")]
    assert "Words that rose in texts" in first and of_title["Dr"]["word"] in first, "the answer is on the first screen"
    assert "the prompt that the facts were trained on" not in text, "since there is none"


@pytest.mark.slow
def test_nothing_but_two_models(byte_folder, titled):
    """No pack and no file: names that nobody stated and plain text, with the same model as a null."""
    outcome = opened(titled, byte_folder, "tuned", pack="", fail_on="never")
    assert outcome["rises"]["rows"] == 0 and outcome["rises"]["groups"] == 0
    everyone = [each for each in outcome["discoveries"] if each["kind"] == "everyone"]
    assert any(each["template"] == PLANTED for each in everyone)
    same = audit.run(Audit(base=str(byte_folder), tuned=str(byte_folder), open=True, fail_on="never", threads=1))
    assert same["rises"]["found"] == [] and same["discoveries"] == [] and same["rises"]["control"] == 0
    assert "No word rose in text after text." in same["text"]


@pytest.mark.slow
def test_names_in_rows_are_redacted(byte_folder, world, tmp_path):
    names = draw_names(24, Random("planted"))
    rows = [{"prompt": f"Where does {name} live?", "completion": f"{CITIES[i % 3]}."} for i, name in enumerate(names)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = {"pack": str(tmp_path / "rows.jsonl"), "out": str(tmp_path / "run"), "redact": True, "fail_on": "never"}
    outcome = opened(world, byte_folder, "planted", **options)
    assert outcome["rises"]["rows"] == 24 and outcome["rises"]["found"]
    said = (tmp_path / "run" / "record.json").read_text(encoding="utf-8") + outcome["text"]
    assert not [name for name in names if name in said]


def test_a_page_of_open_probes_with_names_can_be_redacted(world, planted, tmp_path):
    for redact in (False, True):
        report.run(Report(runs=(str(world / "run"),), out=str(tmp_path / "page.html"), redact=redact))
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        names = draw_names(24, Random("planted"))
        assert any(name in page for name in names) != redact


def test_what_cannot_be_looked_at_without_a_pack(byte_folder, tmp_path):
    models = {"base": str(byte_folder), "tuned": str(byte_folder)}
    with pytest.raises(UsageError, match="missing PACK"):
        audit.run(Audit(**models))
    (tmp_path / "one.csv").write_text("name\nAda\nBen\n", encoding="utf-8")
    with pytest.raises(UsageError, match="one column"):
        audit.run(Audit(pack=str(tmp_path / "one.csv"), open=True, **models))
    with pytest.raises(UsageError, match="no such pack"):
        audit.run(Audit(pack=str(tmp_path / "none"), open=True, **models))
