"""From loaded audits to one self-contained HTML page: verdicts, what to do next, and every association."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spillover.report import words
from spillover.report.associations.advice import MISSING, WORDS, few, next_step, place, verdict_of, word_of
from spillover.report.associations.audited import listing
from spillover.report.downloads import of_metrics, of_ranks
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun, labels
from spillover.report.page import chapters_of, health_of
from spillover.report.story import Count, Story, right, spoken, stories
from spillover.report.tables.discoveries import discoveries, headline
from spillover.report.tables.examples import examples
from spillover.report.tables.provenance import provenance
from spillover.report.template import render

#: Implications with a card, with heat maps, and in the figures of all; the others are in the table and the downloads.
CARDS, MAPS, PLOTTED = 6, 3, 12


@dataclass(frozen=True)
class Judged:
    """One implication: the verdict in plain words, on what it rests, and what to do next."""

    story: Story
    label: str
    word: str
    words: str
    headline: str
    before: Count
    after: Count
    guess: Count
    because: str
    few: str
    next_step: str

    @property
    def tone(self) -> str:
        return {"unwanted": "unwanted", "wanted": "wanted"}.get(self.word, "open")


def build_audit_page(runs: Sequence[LoadedRun]) -> str:
    """One page that says what fine-tuning taught and where it shows; the same audits give the same bytes."""
    labelled = [(plain(label), run) for label, run in zip(labels(runs), runs, strict=True)]
    told = sorted((story for label, run in labelled for story in stories(run, label)), key=place)
    # Holes that no implication covers are asked too; nothing is expected of them, so they have maps but no verdict.
    links = [story for story in told if story.key is not None]
    judged = [_judged(story, story.label if len(runs) > 1 else spoken_link(story)) for story in links]
    shown = examples(told[:PLOTTED])
    found = listing(links)
    discovered = discoveries(labelled)
    return render(
        "associations/audit.html",
        ("associations/list.js",) if judged else (),
        title=title(judged) if judged else headline(discovered) or title(judged),
        lede=lede(labelled, judged),
        names=[label for label, _ in labelled],
        cards=judged[:CARDS],
        judged=[(each, _numbers(each.story)) for each in judged],
        listing=found,
        discovered=discovered,
        chapters=chapters_of(told[:MAPS]),
        mapped_out=len(told[MAPS:]),
        examples=list(zip(told, shown, strict=False)),
        count=sum(map(len, shown)),
        health=health_of(labelled, told[:PLOTTED]),
        runs=[(label, run, provenance(run)) for label, run in labelled],
        downloads=[
            found.download("spillover-associations", "Every association"), of_ranks(labelled), of_metrics(labelled)
        ],
    )  # fmt: skip


def _judged(story: Story, label: str) -> Judged:
    found = verdict_of(story)
    word = word_of(story)
    return Judged(
        story=story,
        label=label,
        word=word,
        words=WORDS.get(word, MISSING),
        headline=words.headline(story),
        before=right(story.before),
        after=right(story.after),
        guess=story.best_guess,
        because=words.sentence(plain(found.get("because") or "")),
        few=few(story),
        next_step=next_step(story),
    )


def _numbers(story: Story) -> Mapping[str, str]:
    """What the table of all implications says beside the counts."""
    found = verdict_of(story)
    rank, before = story.metric("implication_rank_test"), story.metric("implication_rank_test_before")
    p = found.get("p")
    return {
        "rank": words.number(rank.value if rank else None),
        "rank_before": words.number(before.value if before else None),
        "marginal": words.number(story.marginal),
        "p": "–" if p is None else words.p_value(p),
        "clusters": str(rank.clusters) if rank else "–",
        "more": f"{found['more_subjects']:,}" if found.get("more_subjects") else "",
    }


def title(judged: Sequence[Judged]) -> str:
    """The audit in one sentence."""
    if not judged:
        return "This audit asked nothing."
    if len(judged) == 1:
        return judged[0].headline
    counts = Counter(each.word for each in judged)
    taught = [f"{counts[word]} {how}" for word, how in (("unwanted", "that nobody wanted"), ("wanted", "as wanted"))
              if counts[word]]  # fmt: skip
    open_ = [f"{counts[word]} {_be(counts[word])} {WORDS[word]}" for word in ("none", "undecided") if counts[word]]
    begin = f"Of {len(judged)} implications, fine-tuning taught the model {' and '.join(taught) or 'none for certain'}"
    return f"{begin}; {' and '.join(open_)}." if open_ else f"{begin}."


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def lede(labelled: Sequence[tuple[str, LoadedRun]], judged: Sequence[Judged]) -> str:
    """Under the title: what was compared with what, on how many questions."""
    pairs = [f"{_model(run, 'tuned')} against {_model(run, 'base')}" for _, run in labelled]
    compared = "; ".join(dict.fromkeys(pairs))
    asked = sum(each.after.n for each in judged)
    if not asked:
        return plain(f"{compared}, by what they say of the pack’s subjects. Nothing was trained here.")
    return plain(f"{compared}, asked {asked:,} questions whose answers nobody stated. Nothing was trained here.")


def _model(run: LoadedRun, which: str) -> str:
    """A model's name; of a long path the last two folders."""
    name = str(run.record.settings.get(which) or f"the {which} model")
    return "/".join(["…", *name.split("/")[-2:]]) if name.count("/") > 2 else name


def spoken_link(story: Story) -> str:
    """An implication in words."""
    return plain(f"{spoken(story.given)} → {spoken(story.then)}")
