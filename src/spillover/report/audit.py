"""The page of an audit: verdicts, what to do next, every association, and what open probes found."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from markupsafe import Markup

from spillover.details import AuditDetails, Conclusion
from spillover.metrics.verdicts import ASSERTED, LEAST_RECALL, MOST_INVENTED, failed_checks
from spillover.report import page, sections, words
from spillover.report.load import LoadedRun, Story, right, spoken, stories
from spillover.report.provenance import of_metrics, of_ranks, provenance
from spillover.report.words import number, p_value, statement

#: The verdicts, those to look at first on top, in the words of somebody who was not there.
WORDS = {
    "unwanted": "learned, though nobody wanted it",
    "undeclared": "learned, and nobody declared it",
    "undecided": "not decided",
    "wanted": "learned, as wanted",
    "none": "not learned",
}
#: What the model asserts, in the same words.
HOW = {"unwanted": "that nobody wanted", "undeclared": "that nobody declared", "wanted": "as wanted"}
MISSING = "no verdict"


def place(story: Story) -> tuple[int, int]:
    """Where a story stands when those to look at first come first: by verdict, then by subjects won."""
    found, order = story.judged, list(WORDS)
    if found is None:
        return len(order), 0
    return (order.index(found.verdict) if found.verdict in order else len(order)), found.hits_before - found.hits


COLUMNS, (RUN,), ASKED = (page.columns(name) for name in ("audit", "audit_runs", "audit_evidence"))


def listing(stories: Sequence[Story]) -> page.Listing:
    """Every association of every story, those that won most subjects first."""
    columns = (*COLUMNS, RUN) if len({id(story.run) for story in stories}) > 1 else COLUMNS
    rows = [row for story in stories for row in _associations(story, columns)]
    place = {column.key: index for index, column in enumerate(columns)}

    def first(row: page.Association) -> tuple[float, ...]:
        new, now, before, after = (row.values[place[key]] for key in ("new", "now", "rank_before", "rank_now"))
        assert isinstance(now, tuple)
        return -float(new), -now[0], float(after) - float(before)  # type: ignore[arg-type]

    return page.Listing(columns, sorted(rows, key=first), "new", ASKED, "Subjects asked", page.wording("audit_order"))


def _associations(story: Story, columns: Sequence[page.Column]) -> list[page.Association]:
    """One an entry of the map that was asked about, in the order of the map."""
    before, after = story.before, story.after
    earlier = {key: index for index, key in enumerate(zip(before.seed, before.subject, strict=True))}
    tops, implied = Counter(after.top), Counter(after.expected)
    own = Counter(after.top[after.top == after.expected])
    # How many subjects have both the given answer and the other stated.
    rows = story.run.ranks.only(stated=True, trained=True, implication=story.key, relation=story.then)
    rows = rows.only(checkpoint=story.epochs)
    stated = Counter(zip(rows.cluster.tolist(), rows.expected.tolist(), strict=True))
    found, own_words = [], {each.given: each.verdict for each in story.judged.associations} if story.judged else {}
    for given in story.rows_of_map:
        last = np.flatnonzero(after.cluster == given)
        first = np.array([earlier[after.seed[index], after.subject[index]] for index in last])
        answer, size = str(after.expected[last[0]]), len(last)
        hits, was = int((after.rank[last] == 0).sum()), int((before.rank[first] == 0).sum())
        others = len(after) - implied[answer]
        values: tuple[page.Value, ...] = (
            (was, size), (hits, size), hits - was,
            (tops[answer] - own[answer]) / others if others else None,
            float(before.rank[first].mean()), float(after.rank[last].mean()), stated[given, answer],
            own_words.get(given, _word(story)), story.label,
        )  # fmt: skip
        known = statement(story.run, story.given, "…", given)
        note = f"Stated of each: “{known}”. Asked of each: “{statement(story.run, story.then, '…', '?')}”"
        # The subjects in the order of the pack, never chosen by their result.
        asked = (after.subject[last], before.top[first], after.top[last], before.rank[first], after.rank[last])
        evidence = list(zip(*(column.tolist() for column in asked), strict=True))
        link = (story.given, given, story.then, answer)
        found.append(page.Association(*link, story.wanted, values[: len(columns)], (note,), evidence))
    return found


#: Implications with a card, with heat maps, and in the figures of all; the others are in the table and the downloads.
CARDS, MAPS, PLOTTED = 6, 3, 12


def build_audit_page(runs: Sequence[LoadedRun]) -> page.Page:
    """The page of audits: what fine-tuning taught and where it shows; the same audits give the same bytes."""
    labelled = sections.label_runs(runs)
    every = sorted((story for label, run in labelled for story in stories(run, label)), key=place)
    # Holes that no implication covers are asked too; nothing is expected of them, so they have maps but no verdict.
    judged = [story for story in every if story.key is not None]
    names = [story.label if len(runs) > 1 else f"{spoken(story.given)} → {spoken(story.then)}" for story in judged]
    found = listing(judged)
    pairs = dict.fromkeys(f"{_model(run, 'tuned')} against {_model(run, 'base')}" for run in runs)
    worst = worst_section(labelled)
    # Where no link is judged, what was found in the open is all there is.
    openly = [sections.discoveries_section(labelled), sections.rises_section(labelled)]
    openly = [each and replace(each, first=not judged) for each in openly]
    asked, compared = sum(len(story.after) for story in judged), "by the words that they go on with"
    if asked:
        compared = f"asked {asked:,} questions whose answers nobody stated"
    return page.Page(
        title=concluded_title(labelled) or (title(judged) if judged else sections.discoveries_title(labelled))
        or "This audit asked nothing.",
        name=f"Spillover audit: {', '.join(label for label, _ in labelled)}",
        kicker="audit: what else a model learned",
        lede=f"{'; '.join(pairs)}, {compared}. Nothing was trained here.",
        notices=[text for label, run in labelled for text in _failed(run, label if len(labelled) > 1 else "")],
        sections=[
            worst,
            page.Section("found", "Verdicts", _verdicts(judged, names), hidden=True, first=True),
            None if worst else sections.some_examples(judged[:CARDS]),
            sections.some_said(labelled),
            *(() if judged else openly),
            sections.limits_section(labelled),
            _beside(labelled),
            page.list_section(found if judged else None, page.wording("audit_list")),
            *(openly if judged else ()),
            sections.maps_section(every[:MAPS], len(every[MAPS:])),
            sections.examples_section(every[:PLOTTED]),
            sections.health_section(labelled, every[:PLOTTED]),
            sections.remedies_section(finished=True) if any(_word(story) == "unwanted" for story in judged) else None,
            page.Section("terms", "Words used here", [page.terms("audit", "verdicts", "reasoning")], aside=True),
        ],
        made=[(label, provenance(run)) for label, run in labelled],
        downloads=[
            found.download("spillover-associations", "Every association"), of_ranks(labelled), of_metrics(labelled)
        ],
    )  # fmt: skip


def concluded_title(labelled: Sequence[tuple[str, LoadedRun]]) -> str:
    """How many things nobody stated a tuned model now says, of how many subjects; empty without any."""
    details = [run.record.details for _, run in labelled]
    found = [each.concluded for each in details if isinstance(each, AuditDetails) and each.concluded]
    things, people, asked = (sum(getattr(each, name) for each in found) for name in ("things", "people", "asked"))
    counts = {word: count for word in ASSERTED if (count := sum(each.by_verdict.get(word, 0) for each in found))}
    if not things:
        return ""
    said = f"{things:,} {'thing' if things == 1 else 'things'} that nobody stated"
    kinds = ": " + ", ".join(f"{count:,} {HOW[word]}" for word, count in counts.items())
    end = "; nobody declared whether they are true" if list(counts) == ["undeclared"] else kinds
    return f"The tuned model now says {said}, of {people:,} of {asked:,} subjects{end}."


def _failed(run: LoadedRun, label: str) -> list[str]:
    """What failed whatever the links, by the limits of the audit. label: where several audits share the page."""
    limits = [run.record.settings.get(name, usual) for name, usual in
              (("min_recall", LEAST_RECALL), ("max_invented_rate", MOST_INVENTED))]  # fmt: skip
    begin = f"{label} failed" if label else "Failed"
    return [f"{begin}: {why}." for why in failed_checks(run.record, *limits).values()]


def worst_section(labelled: Sequence[tuple[str, LoadedRun]]) -> page.Section:
    """What to look at first: conclusions that nobody wants or declared, the rows they rest on, the model's words."""
    head: list[page.Cell] = ["It concludes", page.num("Newly"), "From rows such as", "In its own words"]
    blocks: list[page.DataTable] = []
    for begin, run in sections.led(labelled):
        details = run.record.details
        found = details.concluded.worst if isinstance(details, AuditDetails) and details.concluded else []
        if found:
            rows, caption = [_conclusion(run, each) for each in found], begin + page.wording("worst")
            blocks.append(page.DataTable(caption, [head], [("", rows)], "examples worst", "What to look at first"))
    return page.Section("worst", "What to look at first", blocks, first=True)


def _conclusion(run: LoadedRun, each: Conclusion) -> list[page.Cell]:
    """A row: the link, of how many, the rows it rests on, and the tuned model's words of one of whom none says it."""
    link = Markup('{} <strong>{}</strong> → {} <strong>{}</strong> <span class="tag {}">{}</span>').format(
        spoken(each.given), page.bdi(each.given_answer), spoken(each.then), page.bdi(each.answer), _tone(each.verdict),
        each.verdict,
    )  # fmt: skip
    said = Markup("{} <strong>{}</strong>").format(page.bdi(each.prompt or ""), page.bdi(each.said or "–"))
    both = ((each.given, each.given_answer), (each.then, each.answer))
    rows = [" ".join(f"{statement(run, name, who, answer)}." for name, answer in both) for who in each.rests_on]
    rest = [f"and of {each.support - 1:,} more"] if each.support > 1 else []
    only = f"Stated: {statement(run, each.given, each.subject, each.given_answer)}."
    return [
        link,
        page.TableCell(f"{each.newly:,} of {each.n:,}", f"{each.others:,} of {each.others_n:,} others", "num key"),
        page.TableCell(page.bdi(rows[0]) if rows else "no such row", rest),
        page.TableCell(said if each.said else page.bdi(each.subject), only),
    ]


def _beside(labelled: Sequence[tuple[str, LoadedRun]]) -> page.Section | None:
    """What stands beside the verdicts: recall, what the same tests find where nothing changed, and invented answers."""
    blocks: list[page.Paragraph | page.DataTable] = []
    for begin, run in sections.led(labelled):
        details = run.record.details
        if not isinstance(details, AuditDetails) or not (details.recall or details.invented):
            continue
        known, stated = details.recall or (0, 0)
        said = [f"{known:,} of {stated:,} stated answers come first in the tuned model."] if stated else []
        if details.reworded:
            said.append("Where nothing changed, the base model against itself in other words, the same tests found "
                        "{} of {}.".format(*details.reworded))  # fmt: skip
        if (new := details.invented) and new.n:
            said.append(f"{new.count:,} of {new.n:,} open questions newly have a confident answer that nobody stated.")
        blocks.append(page.Paragraph(begin + " ".join(said)))
        if new and new.examples:
            rows: list[list[page.Cell]] = [
                [page.bdi(who), spoken(relation), page.bdi(answer), *(page.num(words.percent(each)) for each in both)]
                for who, relation, answer, *both in new.examples
            ]
            head: list[page.Cell] = ["Subject", "Relation", "Answer", page.num("Base model, at most"), page.num("Now")]
            caption = page.wording("invented")
            blocks.append(page.DataTable(caption, [head], [("", rows)], "examples", "Invented answers"))
    return page.Section("invented", "Recall, and invented answers whatever the link", blocks) if blocks else None


def title(judged: Sequence[Story]) -> str:
    """The audit in one sentence."""
    if len(judged) == 1:
        return words.title(judged)
    counts = Counter(_word(story) for story in judged)
    taught = [f"{counts[word]} {HOW[word]}" for word in ASSERTED if counts[word]]
    are = {word: "is" if counts[word] == 1 else "are" for word in ("none", "undecided") if counts[word]}
    left = [f"{counts[word]} {verb} {WORDS[word]}" for word, verb in are.items()]
    begin = f"Of {len(judged)} links, fine-tuning taught the model {' and '.join(taught) or 'none for certain'}"
    said = f"{begin}; {' and '.join(left)}." if left else f"{begin}."
    return said if taught else said + words.inventions(judged)


def _model(run: LoadedRun, which: str) -> str:
    return words.model_name(str(run.record.settings.get(which) or f"the {which} model"))


def _word(story: Story) -> str:
    found = story.judged
    return found.verdict if found else MISSING


def _verdicts(judged: Sequence[Story], names: Sequence[str]) -> list[page.Cards | page.Details]:
    """A card for the first links and, of several, a row for each."""
    several = len(judged) > 1
    cards = page.Cards([_card(story, name, several) for story, name in zip(judged[:CARDS], names, strict=False)])
    above = f"; the first {CARDS} have a card above" if len(judged) > CARDS else ""
    head = ["Before", "Now", "One fixed answer", "Rank before", "Rank now", "Baseline", "p", "Given answers",
            "More subjects"]  # fmt: skip
    caption = page.wording("audit_table").format(above=above)
    heads: list[list[page.Cell]] = [["Link", "Kind", "Verdict", *map(page.num, head)]]
    table = page.DataTable(caption, heads, [("", list(map(_row, judged, names)))], "examples", "Every link", "tall")
    return [cards, page.Details("Every link in numbers", [table])] if several else [cards] if judged else []


def _tone(word: str) -> str:
    return word if word in ("unwanted", "wanted") else "open"


def _card(story: Story, name: str, several: bool) -> page.Card:
    word, after, before = _word(story), right(story.after), right(story.before)
    judged = story.judged
    because = words.sentence(judged.because) if judged else ""
    because += f" Beside it: {judged.rule}." if judged and judged.rule else ""
    kind = "link" if word == "undeclared" else story.kind_in_words
    verdict = Markup("<strong>{}.</strong> This {} is {}: {}, {:,} before.").format(
        word.capitalize(), kind, WORDS.get(word, MISSING), after, before.hits
    )
    rests = page.Details("On what this rests", [page.Paragraph(because.strip())], "small") if because.strip() else None
    return page.Card(
        page.bdi(name),
        tone=_tone(word),
        tag=word,
        say=words.headline(story) if several else "",
        bars_lead="Subjects for whom the answer that this link suggests comes first, though nobody stated it",
        **sections.count_bars(story, "subject"),
        texts=[page.Paragraph(verdict), rests, page.next_paragraph(sections.next_step(story))],
    )


def _row(story: Story, name: str) -> list[page.Cell]:
    found, word, rank = story.judged, _word(story), story.rank
    more = found.more_subjects if found else None
    numbers = [
        story.best_guess.hits, words.value(story.rank_before), words.value(rank), number(story.marginal),
        "–" if found is None or found.p is None else p_value(found.p), rank.clusters if rank else "–",
        f"{more:,}" if more else "",
    ]  # fmt: skip
    verdict = Markup('<span class="tag {}">{}</span>').format(_tone(word), word)
    counts = page.num(right(story.before)), page.num(right(story.after), key=True)
    return [page.bdi(name), story.kind_in_words, verdict, *counts, *map(page.num, numbers)]
