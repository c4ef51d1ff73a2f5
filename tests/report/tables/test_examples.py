"""The examples are spread over links and pairs, and never chosen by result."""

from spillover.report.sections import examples
from spillover.report.story import stories


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
    item = flat(told(make(implications=False)))[0]
    assert (item.expected, item.before, item.stated, item.hit) == ("", "–", "", False)
