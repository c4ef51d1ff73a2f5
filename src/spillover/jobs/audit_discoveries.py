"""What the tuned model says more often than the base model did: their answers to the open probes, compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spillover.facts.pack import Pack
from spillover.jobs.audit_open import Probes, worded
from spillover.measures.shifts import Association, Labels, Search, Shifts, moved, search, shared
from spillover.settings import Audit

if TYPE_CHECKING:
    from spillover.llm.probes.asking import Likely
    from spillover.llm.probes.cast import Cast, Group

PERMUTATIONS = 999
BASE, TUNED = 0, 1
#: A token that moved so far for everybody is told; there is no label to exchange that could test it.
EVERYONE = 0.1
#: Most discoveries listed.
MOST = 50


@dataclass(frozen=True)
class Chance:
    """Mean probability of a token after a template for some sort of person; None where there is nobody of that sort."""

    base: float | None
    tuned: float | None
    n: int

    @property
    def rise(self) -> float:
        return (self.tuned or 0.0) - (self.base or 0.0)


@dataclass(frozen=True)
class Example:
    """One person, and how both models go on after the template, always taking the likeliest token."""

    subject: str
    which: str
    prompt: str
    base: str
    tuned: str


@dataclass(frozen=True)
class Discovery:
    """A word that the tuned model says more often: of a group of subjects than of the others, or of everybody.

    kind: group or everyone. declared: it begins an answer that the pack itself gives. token: what was measured, and
    word: the whole word where an example says it. shift: mean rise of the token's probability, less that of the other
    groups (of everyone: the smaller of the pack's and the never-seen rise). shift_from_never_seen: the group's rise
    less that of never-seen names. probabilities: of the token for the group's unstated and stated subjects, for others
    (of everyone: the pack's subjects) and never-seen names. p, yardstick: measures.shifts.Association; None for
    everyone. also: other templates after which the same token moved.
    """

    kind: str
    declared: bool
    relation: str | None
    answer: str | None
    template: str
    token: str
    word: str
    shift: float
    shift_from_never_seen: float | None
    probabilities: Mapping[str, Chance]
    p: float | None
    yardstick: float | None
    also: tuple[str, ...]
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Opened:
    """What the open probes gave: discoveries, those that nobody declared first, and counts of what was looked at."""

    discoveries: list[dict[str, Any]]
    probes: dict[str, Any]


@dataclass(frozen=True)
class _Seen:
    """The answers of both models."""

    probes: Probes
    base: Sequence[Likely]
    tuned: Sequence[Likely]

    def tables(self, template: int) -> tuple[Any, Any, Any]:
        """Tokens, and their probabilities (person, token) in the base and in the tuned model."""
        from spillover.llm.probes.asking import side_by_side

        own = slice(template * len(self.probes.cast.everybody), (template + 1) * len(self.probes.cast.everybody))
        return side_by_side(self.base[own], self.tuned[own])

    def shifts(self) -> Iterator[Shifts]:
        return (moved(*self.tables(template)) for template in range(len(self.probes.templates)))

    def chances(self, found: Association | _Shared, people: Mapping[str, Sequence[str]]) -> dict[str, Chance]:
        """The mean probability of a found token in both models, for each sort of person."""
        tokens, base, tuned = self.tables(found.template)
        column = int(np.searchsorted(tokens, found.token))
        seen = {}
        for sort, names in people.items():
            rows = self.probes.cast.rows(names)
            means = [float(table[rows, column].mean()) if names else None for table in (base, tuned)]
            seen[sort] = Chance(means[0], means[1], len(names))
        return seen

    def also(self, found: Sequence[Association] | Sequence[_Shared]) -> tuple[str, ...]:
        """The templates of all but the first, each once."""
        every = dict.fromkeys(self.probes.templates[each.template] for each in found)
        return tuple(every)[1:]


#: What the base or the tuned model (BASE, TUNED) says after each of several (template, subject).
Speak = Callable[[int, Sequence[tuple[str, str]]], Sequence[str]]


def discover(
    settings: Audit, pack: Pack, probes: Probes, likely: Sequence[Sequence[Likely]], tokenizer: Any, speak: Speak
) -> Opened:
    """Compare the answers of base and tuned model. tokenizer: the tuned model's. speak: asked for the examples only."""
    seen, cast = _Seen(probes, *likely), probes.cast
    reader = _Reader(settings, pack, probes, tokenizer)
    partitions = [Labels(each.rows, each.labels) for each in cast.partitions]
    found = search(seen.shifts, partitions, PERMUTATIONS, settings.seed)
    told = [*_of_groups(settings.level, seen, found, reader), *_of_everyone(seen, reader)]
    told.sort(key=lambda each: (each.declared, each.kind == "everyone", -each.shift))
    counts = {
        "templates": len(probes.templates),
        "subjects": len(cast.subjects),
        "never_seen": len(cast.never_seen),
        "groups": sum(len(each.groups) for each in cast.partitions),
        "tokens": found.columns,
        "permutations": PERMUTATIONS,
        "strongest": found.strongest,
        "yardstick": found.null,
        "undeclared": sum(not each.declared for each in told),
        "declared": sum(each.declared for each in told),
    }
    return Opened([dataclasses.asdict(each) for each in _with_examples(told[:MOST], cast, speak)], counts)


class _Reader:
    """Tokens as words, and whether a word is an answer that the pack itself gives."""

    def __init__(self, settings: Audit, pack: Pack, probes: Probes, tokenizer: Any) -> None:
        from spillover.llm.tokens import encoder

        self.pack, self.encode, self.decode = pack, encoder(tokenizer), tokenizer.decode
        person = probes.cast.everybody[0]
        self.prompts = [text.replace("{subject}", person) for text in worded(settings, pack, probes, tokenizer)]
        self.joins = ("" if settings.chat else " ", pack.join)

    def word(self, token: int) -> str:
        from spillover.llm.probes.asking import word

        return word(token, self.decode)

    def declared(self, template: int, token: int, group: Group | None) -> bool:
        from spillover.llm.probes.asking import first_tokens
        from spillover.llm.probes.cast import declared

        text = self.word(token).casefold()
        # A token may be part of a letter, which no text shows.
        close = [each for each in declared(self.pack, group) if "\ufffd" in text or each.casefold().startswith(text)]
        same = text in {answer.casefold() for answer in close}
        return same or token in first_tokens(self.encode, self.prompts[template], close, self.joins)


def _of_groups(level: float, seen: _Seen, found: Search, reader: _Reader) -> Iterator[Discovery]:
    """A group's words, each after the template where it moved most."""
    together: dict[tuple[int, int, str], list[Association]] = {}
    for each in found.found:
        if each.p <= level:
            together.setdefault((each.partition, each.group, reader.word(each.token)), []).append(each)
    cast = seen.probes.cast
    for (partition, number, text), associations in together.items():
        best, groups = associations[0], cast.partitions[partition].groups
        group = groups[number]
        others = [name for other in groups if other is not group for name in other.tested]
        chances = seen.chances(best, {"tested": group.tested, "unstated": group.unstated, "stated": group.stated,
                                      "others": others, "never_seen": cast.never_seen})  # fmt: skip
        own, unseen = chances.pop("tested"), chances["never_seen"]
        yield Discovery(
            kind="group",
            declared=reader.declared(best.template, best.token, group),
            relation=group.relation,
            answer=group.answer,
            template=seen.probes.templates[best.template],
            token=text,
            word=text,
            shift=best.difference,
            shift_from_never_seen=own.rise - unseen.rise,
            probabilities=chances,
            p=best.p,
            yardstick=best.yardstick,
            also=seen.also(associations),
        )


@dataclass(frozen=True)
class _Shared:
    """A token that moved for everybody after one template."""

    template: int
    token: int
    shift: float


def _of_everyone(seen: _Seen, reader: _Reader) -> Iterator[Discovery]:
    """Words that moved for the pack's subjects and for never-seen names alike."""
    cast = seen.probes.cast
    rows = [cast.rows(cast.subjects), cast.rows(cast.never_seen)]
    together: dict[str, list[_Shared]] = {}
    for template, shifts in enumerate(seen.shifts()):
        for token, shift in zip(shifts.tokens.tolist(), shared(shifts, rows).tolist(), strict=True):
            if shift >= EVERYONE:
                together.setdefault(reader.word(token), []).append(_Shared(template, token, shift))
    for text, found in together.items():
        found.sort(key=lambda each: -each.shift)
        best = found[0]
        yield Discovery(
            kind="everyone",
            declared=reader.declared(best.template, best.token, None),
            relation=None,
            answer=None,
            template=seen.probes.templates[best.template],
            token=text,
            word=text,
            shift=best.shift,
            shift_from_never_seen=None,
            probabilities=seen.chances(best, {"others": cast.subjects, "never_seen": cast.never_seen}),
            p=None,
            yardstick=None,
            also=seen.also(found),
        )


def _with_examples(told: Sequence[Discovery], cast: Cast, speak: Speak) -> list[Discovery]:
    """Both models word for word about the first person of each sort, never chosen by what they say of it."""
    people = [_first_of_each_sort(each, cast) for each in told]
    asked = list(dict.fromkeys((each.template, name) for each, own in zip(told, people, strict=True) for name in own))
    if not asked:
        return []
    base, tuned = (dict(zip(asked, speak(checkpoint, asked), strict=True)) for checkpoint in (BASE, TUNED))
    found = []
    for each, own in zip(told, people, strict=True):
        said = [(name, which, (each.template, name)) for name, which in own.items()]
        examples = [
            Example(name, which, each.template.replace("{subject}", name), base[key], tuned[key])
            for name, which, key in said
        ]
        found.append(dataclasses.replace(each, word=_whole_word(each.token, examples), examples=tuple(examples)))
    return found


def _whole_word(token: str, examples: Sequence[Example]) -> str:
    """The word that begins with this token where the tuned model says it in an example; else the token."""
    said = [example.tuned.split()[0].rstrip(".,;:!?") for example in examples if example.tuned.split()]
    return next((word for word in said if word.startswith(token)), token)


def _first_of_each_sort(each: Discovery, cast: Cast) -> dict[str, str]:
    """A name of each sort of person -> the sort."""
    groups = [group for partition in cast.partitions for group in partition.groups]
    sorts: dict[str, Sequence[str]] = {"of the pack": cast.subjects}
    for group in groups:
        if (group.relation, group.answer) == (each.relation, each.answer):
            sorts = {"unstated": group.unstated, "stated": group.stated}
    sorts["never seen"] = cast.never_seen
    return {names[0]: which for which, names in sorts.items() if names}
