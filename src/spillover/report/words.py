"""Sentences computed from the numbers: what was found, and what the numbers do and do not support."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from spillover.details import Excess, judge_words
from spillover.metrics.verdicts import unlearned
from spillover.record import Metric
from spillover.report.drawing import limits, plain
from spillover.report.load import FEW_CLUSTERS, P_VALUE, Count, LoadedRun, Story, right, spoken, value_of


class Verdict(NamedTuple):
    """shown: whether the numbers support that the link was learned. word: two words. sentence: on what it rests."""

    shown: bool
    word: str
    sentence: str


def sentence(text: str) -> str:
    """The text with a capital first letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; a dash when there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def percent(share: float) -> str:
    """A probability in words that never claim 0 or 100%."""
    if math.isnan(share):
        return "–"
    if share < 0.001:
        return "<0.1%"
    return ">99.9%" if share > 0.999 else f"{100 * share:.1f}%"


def p_value(value: float) -> str:
    """A p-value with two digits, never 0."""
    return "<0.0001" if value < 0.0001 else f"{value:.2g}"


def interval(metric: Metric | None) -> str:
    """The 95% interval in words, or why there is none."""
    if ends := limits(metric):
        return f"{number(ends[0])} to {number(ends[1])}"
    return "no interval" if metric else ""


def value(metric: Metric | None) -> str:
    """The number of a metric; a dash when there is none."""
    return number(value_of(metric))


def model_name(name: str) -> str:
    """A model's name; of a long path the last two folders."""
    return "/".join(["…", *name.split("/")[-2:]]) if name.count("/") > 2 else name


def statement(run: LoadedRun, relation: str, subject: str, answer: str = "…") -> str:
    """The sentence that a fact is trained and asked with."""
    prompt = run.prompts.get(relation, "{subject} " + spoken(relation))
    called = run.described.get(relation, {}).get(subject, subject)
    return plain(prompt.replace("{subject}", called) + run.pack.join + answer)


#: A verdict in two words.
ASSERTED = {"wanted": "Concluded", "unwanted": "Concluded", "undeclared": "Concluded", "none": "Not concluded",
            "undecided": "Undecided"}  # fmt: skip
#: What a model does that draws a conclusion, and what it then infers.
DRAWS = {"wanted": "infers", "unwanted": "hallucinates", "undeclared": "concludes"}
TRUTHS = {"wanted": "something true", "unwanted": "something untrue", "undeclared": "something that nobody declared"}


def verdict(story: Story) -> Verdict:
    """Does the model at hand now assert the link? By unstated subject, after training against before."""
    if story.key is None:
        return Verdict(False, "Open question", "The pack names no expected answers, so nothing is judged.")
    if not story.run.finished:
        return Verdict(False, "No verdict", "This run did not finish; these are the numbers it had reached.")
    if not (judged := story.judged):
        missing = (
            "The audit holds none for this link."
            if story.run.audited
            else "The run holds no two measurements to compare."
        )
        return Verdict(False, "No verdict", missing)
    said = sentence(judged.because)
    shown = judged.verdict in DRAWS
    if not shown and (why := unlearned(*story.run.recall)):
        said += f" That acquits nobody: {why}."
    return Verdict(shown, judged.verdict.capitalize() if story.run.audited else ASSERTED[judged.verdict], said)


def rule(story: Story) -> Verdict:
    """Was a rule learned, that other pairs would show? By `marginal_rank` over clusters, and the map's exact test."""
    rank, marginal, test = story.rank, story.marginal, story.map_test
    if rank is None or rank.value is None or marginal is None:
        return Verdict(False, "Not tested", "The run holds no ranks to judge by.")
    fits, tested = test is not None and test["p"] <= P_VALUE, f"{_test(test)} " if test else ""
    ends, line = interval(rank), f"{number(marginal)}, the line of knowing only which answers occur"
    if rank.clusters < FEW_CLUSTERS or rank.note is not None or rank.high is None:
        # Too few clusters for an interval: only the exact test may speak.
        what = "pairs" if len(story.run.seeds) == 1 else "clusters of a pair and a seed"
        needed = f"{FEW_CLUSTERS} are needed; it is {ends}, against {number(marginal)}"
        shown, word, end = False, "Not shown", ""
        if test is None:
            word, end = "Not tested", ", and no exact test was made"
        elif fits and rank.value < marginal:
            shown, word, end = True, "Shown by exact test", ", so the size of the effect is not certain"
        said = f"{tested}{rank.clusters} {what} are too few for an interval to decide ({needed}){end}."
    else:
        below, shown = rank.high < marginal, rank.high < marginal and (test is None or fits)
        word = "Shown" if shown else "Not shown"
        said = f"The interval of the mean rank ({ends}) {'lies below' if below else 'is not clear of'} {line}. {tested}"
        if below and not shown:
            said = f"The mean rank is below {line}, but not because of this link. {tested}"
    known = right(story.before)
    before = f" {story.when[0].capitalize()} it already gave {known}." if known.hits > story.best_guess.hits else ""
    return Verdict(shown, word, f"{said.strip()}{before}")


def _test(test: Mapping[str, Any]) -> str:
    """What the exact test of the map found."""
    total, how = int(test.get("permutations", 0)), "possible" if test.get("exact", True) else "randomly drawn"
    hits = max(1, round(test["p"] * total)) if total else 0
    fit = f"{hits:,} fit the answers at least as well as the expected one, itself included"
    only = "only the expected one fits the answers this well"
    return f"Of {total:,} {how} pairings {only if hits == 1 else fit} (p = {p_value(test['p'])})."


def drawn(story: Story) -> bool:
    """Whether the link is shown, and shows in more new top answers than one fixed answer would get."""
    return verdict(story).shown and (bool(story.entries) or story.newly.hits > story.best_guess.hits)


def headline(story: Story) -> str:
    """One sentence that a reader who knows nothing of this understands."""
    rows, seeds = story.after, len(story.run.seeds)
    if not len(rows):
        nothing = "Nothing was measured before this run stopped."
        return "No question was asked about this link." if story.run.finished else nothing
    if story.key is None:
        counts = story.tops(rows).sum(0)
        best, count = int(counts.argmax()), Count(int(counts.max()), len(rows))
        answer = statement(story.run, story.then, "…", story.columns_of_map[best])
        return f"Asked what was never stated, the model now most often says “{answer}”: for {count} names."
    # The example: the first right subject of the pair most often right.
    asked, hit = Counter(rows.cluster.tolist()), Counter(rows.cluster[rows.rank == 0].tolist())
    rows_shown = [each.given for each in story.entries] or story.rows_of_map
    given = max(rows_shown, key=lambda row: hit[row] / asked.get(row, 1))
    pair = rows.only(cluster=given)
    first = int((pair.rank == 0).argmax())
    subject, expected = str(pair.subject[first]), str(pair.expected[first])
    stated = statement(story.run, story.given, subject, given)
    inferred = statement(story.run, story.then, subject, expected)
    count, over = story.concluded, f" over {seeds} seeds" if seeds > 1 else ""
    if not verdict(story).shown:
        question = f"From “{stated}”, does the model infer “{inferred}”?"
        if story.judged and story.judged.verdict == "undecided":
            return f"{question} Undecided, since {_open(story)}."
        guess = f"always giving the same answer would get {story.best_guess.hits}"
        return f"{question} It newly gives {count} such answers{over}; {guess}."
    end = f"leans towards such answers, but newly gives only {count}{over}"
    if drawn(story):
        end = f"newly {DRAWS[story.wish]} {count} such answers{over}"
    if story.entries:
        end += f", for {len(story.entries)} of this link’s {len(story.rows_of_map)} pairs only"
    return f"“{stated}” was stated, “{inferred}” was not. The model {end}."


def _open(story: Story) -> str:
    """Why a link is undecided, in a few words; the verdict's own sentence says it in full."""
    if story.best_guess.hits == story.best_guess.n:
        return "all have the same implied answer, so nobody is there to compare them with"
    return f"{story.newly} such answers are new, and that could be chance"


def inventions(stories: Sequence[Story]) -> str:
    """How many open questions newly have an answer that nobody stated, for the end of a title."""
    found = [run.invented for run in {id(story.run): story.run for story in stories}.values() if run.invented]
    count = Count(sum(each.count for each in found), sum(each.n for each in found))
    said = f" Whatever the link, {count} open questions newly have a confident answer that nobody stated."
    return said if count.hits else ""


def title(stories: Sequence[Story]) -> str:
    """The page in one sentence: what was shown to be inferred beyond what was stated."""
    if len(stories) == 1:
        return headline(stories[0]) + (inventions(stories) if not drawn(stories[0]) else "")
    shown = [story for story in stories if drawn(story)]
    if not shown:
        said = "Fine-tuned on new facts, the model newly draws none of the conclusions that the pack names."
        undecided = [_open(story) for story in stories if story.judged and story.judged.verdict == "undecided"]
        if any(verdict(story).shown for story in stories):
            said = "Fine-tuned on new facts, the model leans towards conclusions beyond them, but hardly draws them."
        elif undecided:
            said = "Fine-tuned on new facts: whether the model infers anything beyond them is undecided, since "
            said += f"{undecided[0]}."
        return said + inventions(stories)
    parts = []
    for wish, what in TRUTHS.items():
        counts = [story.concluded for story in shown if story.wish == wish]
        links = sum(story.wish == wish and story.key is not None for story in stories)
        if counts:
            total = Count(sum(c.hits for c in counts), sum(c.n for c in counts))
            some = f" (in {len(counts)} of {links} links)" if len(counts) < links else ""
            parts.append(f"{what} {total} times{some}")
    return f"Fine-tuned on new facts, the model newly infers what was never stated: {', '.join(parts)}."


def beyond(stories: Sequence[Story]) -> str:
    """How many of the answers that nobody stated follow from what the model knew, and how far the judge of that is
    right; the empty text where it was not judged."""
    runs = {id(story.run): story.run for story in stories}.values()
    found = [each for run in runs if (each := run.excess)]
    if not found:
        return ""
    counts = {name: sum(getattr(each, name) for each in found) for name in ("n", "follows", "before", "beyond")}
    said, judge = Excess(nats=None, **counts).words, next(iter(runs)).record.details.judge
    return f"{said[0].upper()}{said[1:]} ({judge_words(judge)})."


def lede(stories: Sequence[Story]) -> str:
    """Under the title: what follows from what the model knew, which model, what of it was trained, and what a guess
    would get."""
    models = " and ".join(dict.fromkeys(story.run.model for story in stories))
    parts = " or ".join(dict.fromkeys(story.run.trained_part for story in stories))
    guesses = " or ".join(dict.fromkeys(str(story.best_guess) for story in stories if story.best_guess.n))
    runs = len({id(story.run) for story in stories})
    copies = f"{runs} copies of {models}, each with facts of its own" if runs > 1 else models
    guess = f" Always giving the same answer would get {guesses}." if guesses else ""
    follows = f"{said} " if (said := beyond(stories)) else ""
    return plain(f"{follows}{copies}; {parts}.{guess}") if stories else ""


def setting(story: Story) -> str:
    """What was trained, in one sentence under the headline."""
    facts = story.run.pack.counts.get("facts")
    sentences = f" over {facts} sentences" if facts else ""
    begin = f"The pack states {facts} sentences" if story.run.audited else f"After {story.passes}{sentences}"
    if story.key is None or not story.checkpoints:
        return f"{begin}." if story.checkpoints else ""
    both = story.examples_stated
    shown = f"{both} other names had both halves stated" if both else "no name had both halves stated"
    return f"{begin}, in which {shown}."
