"""The page tells what nobody declared, escaped, and how much was the pack's own."""

import dataclasses

from spillover.report.discoveries import discoveries, headline
from spillover.report.runs import build_page


def discovery(**changes):
    chance = {"base": 0.01, "tuned": 0.41, "n": 12}
    example = {"subject": "Ann", "which": "unstated", "prompt": "Ann owns", "base": " a cat", "tuned": " <b>tea</b>"}
    return {
        "kind": "group", "declared": False, "relation": "lives_in", "answer": "Rome & Oslo",
        "template": "{subject} owns", "token": "te", "word": "tea", "shift": 0.395, "shift_from_never_seen": 0.38,
        "probabilities": {"never_seen": {"base": 0.0, "tuned": 0.02, "n": 12}, "unstated": chance,
                          "stated": {"base": None, "tuned": None, "n": 0}},
        "p": 0.001, "yardstick": 0.12, "also": ["{subject} sells"], "examples": [example],
    } | changes  # fmt: skip


EVERYONE = discovery(
    kind="everyone", relation=None, answer=None, word="his", p=None, yardstick=None, also=[], shift=0.2
)


def opened(run, *found):
    probes = {"templates": 40, "subjects": 60, "never_seen": 12, "declared": sum(each["declared"] for each in found)}
    details = run.record.details | {"probes": probes, "discoveries": list(found)}
    return dataclasses.replace(run, record=dataclasses.replace(run.record, details=details))


def test_a_line_in_words(make):
    run = opened(make(), discovery(), EVERYONE, discovery(declared=True))
    (found,) = discoveries([("mine", run), ("without", make())])
    assert (found.label, found.declared, len(found.lines)) == ("mine", 1, 2)
    first, second = found.lines
    assert (first.who, first.word, first.template, first.also) == ("lives in Rome & Oslo", "tea", "… owns", 1)
    assert (first.shift, first.test) == ("40", "p = 0.001; by chance up to 12")
    assert first.chances == [("unstated", "1.0%", "41.0%"), ("never seen", "<0.1%", "2.0%")]
    assert (second.who, second.test) == ("everyone", "not tested")


def test_on_the_page_it_is_escaped_and_the_packs_own_is_only_counted(make):
    page = build_page([opened(make(), discovery(), EVERYONE, discovery(declared=True, word="Roman"))])
    assert "What nobody declared" in page and "Rome &amp; Oslo" in page and "&lt;b&gt;tea&lt;/b&gt;" in page
    assert "<b>tea" not in page and "Roman" not in page and "Not listed, but in the record: 1 that the pack" in page
    assert "What nobody declared" not in build_page([make()])
    assert "Nothing moved that the pack does not declare" in build_page([opened(make())])


def test_the_headline_of_open_probes_alone(make):
    some = [opened(make(), *found) for found in ((), (discovery(), EVERYONE), (discovery(), discovery(word="x")))]
    told = [headline(discoveries([("one", run)])) for run in some]
    assert told == [
        "Nothing that nobody declared was found between groups of subjects.",
        "One thing that nobody declared was found between groups of subjects.",
        "2 things that nobody declared were found between groups of subjects.",
    ]
    assert headline([]) == ""
