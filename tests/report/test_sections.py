"""What several pages share: examples, and what open probes found."""

import dataclasses

from spillover.details import AuditDetails
from spillover.report.load import stories
from spillover.report.pages import build_runs_page
from spillover.report.sections import discoveries_section, discoveries_title, examples


def flat(stories):
    return [item for group in examples(stories) for item in group]


def told(*runs):
    return [story for index, run in enumerate(runs) for story in stories(run, f"run {index}")]


def test_ten_examples_take_two_names_of_each_of_five_pairs(make):
    (found,) = examples(told(make()))
    assert [item.subject for item in found] == [
        f"Name {city} {index}" for index in (0, 1) for city in ("Lima", "Oslo", "Paris", "Rome", "Tokyo")
    ]


def test_two_links_share_the_ten(make):
    found = examples(told(make(), make(kind="spurious", right=0)))
    assert [[item.hit for item in group] for group in found] == [[True] * 5, [False] * 5]


def test_an_example_in_full(make):
    item = flat(told(make()))[2]
    assert (item.stated, item.prompt) == ("Name Paris 0 lives in Paris", "Name Paris 0 speaks …")
    assert (item.expected, item.top_before, item.top_after) == ("French", "Danish", "French")
    # log 0.6 for the first place, 1.5 nats less for the second.
    assert (item.before, item.after) == ("13.4%", "60.0%")


def test_every_link_has_an_example_when_there_are_many(make):
    runs = [make(names=1, right=1, epochs=1) for _ in range(12)]
    assert [len(group) for group in examples(told(*runs))] == [1] * 12


def test_few_questions_give_few_examples(make):
    assert len(flat(told(make(names=1, right=1)))) == 5


def test_open_questions_have_no_expected_answer(make):
    item = flat(told(make(implications=False, bridge=0)))[0]
    assert (item.expected, item.before, item.stated, item.hit) == ("", "–", "", False)


def discovery(**changes):
    chance = {"base": 0.01, "tuned": 0.41, "n": 12}
    example = {"subject": "Ann", "which": "unstated", "prompt": "Ann owns", "base": " a cat", "tuned": " <b>tea</b>"}
    return {
        "kind": "group", "declared": False, "relation": "lives_in", "answer": "Rome & Oslo",
        "template": "{subject} owns", "token": "te", "word": "tea", "shift": 0.395, "shift_from_never_seen": 0.38,
        "probabilities": {"never_seen": {"base": 0.0, "tuned": 0.02, "n": 12}, "unstated": chance,
                          "stated": {"base": None, "tuned": None, "n": 0}},
        "p": 0.001, "baseline": 0.12, "also": ["{subject} sells"], "examples": [example],
    } | changes  # fmt: skip


EVERYONE = discovery(kind="everyone", relation=None, answer=None, word="his", p=None, baseline=None, also=[], shift=0.2)


def opened(run, *found):
    probes = {"templates": 40, "subjects": 60, "never_seen": 12, "declared": sum(each["declared"] for each in found)}
    details = run.record.details.as_json() | {"scoring": None, "verdicts": [], "probes": probes, "discoveries": found}
    details = AuditDetails.model_validate(details)
    return dataclasses.replace(run, record=dataclasses.replace(run.record, details=details))


def test_a_row_in_words(make):
    run = opened(make(), discovery(), EVERYONE, discovery(declared=True))
    table, note = (block for block in discoveries_section([("mine", run), ("without", make())]).blocks if block)
    assert note.text == "Not listed, but in the record: 1 that the pack itself states or implies."
    first, second = table.groups[0][1]
    who, word, template, shift, test, chances, said = first
    assert (who, word.text) == ("<bdi>lives in Rome &amp; Oslo</bdi>", "<bdi>tea</bdi>")
    assert (template.text, template.small, shift.text) == ("<bdi>… owns</bdi>", "and 1 more", "40")
    assert test == "p = 0.001; by chance up to 12"
    assert chances == "unstated: 1.0% to 41.0%<br>never seen: &lt;0.1% to 2.0%<br>"
    assert said.text.blocks[0].text == (
        "unstated: <bdi>Ann owns <strong>&lt;b&gt;tea&lt;/b&gt;</strong></bdi> (base model: <bdi>a cat</bdi>)"
    )
    assert (second[0], second[4]) == ("<bdi>everyone</bdi>", "not tested")


def test_on_the_page_it_is_escaped_and_the_packs_own_is_only_counted(make):
    page = build_runs_page([opened(make(), discovery(), EVERYONE, discovery(declared=True, word="Roman"))]).html()
    assert "What nobody declared" in page and "Rome &amp; Oslo" in page and "&lt;b&gt;tea&lt;/b&gt;" in page
    assert "<b>tea" not in page and "Roman" not in page and "Not listed, but in the record: 1 that the pack" in page
    assert "What nobody declared" not in build_runs_page([make()]).html()
    assert "Nothing moved that the pack does not declare" in build_runs_page([opened(make())]).html()


def test_the_headline_of_open_probes_alone(make):
    some = [opened(make(), *found) for found in ((), (discovery(), EVERYONE), (discovery(), discovery(word="x")))]
    told = [discoveries_title([("one", run)]) for run in some]
    assert told == [
        "Nothing that nobody declared was found between groups of subjects.",
        "One thing that nobody declared was found between groups of subjects.",
        "2 things that nobody declared were found between groups of subjects.",
    ]
    assert discoveries_title([]) == ""
