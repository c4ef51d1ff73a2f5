"""`spillover audit --open`: what the tuned model says more often than the base model in open probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spillover.errors import UsageError
from spillover.metrics.token_shifts import Association, Labels, Search, Shifts, moved, search, shared
from spillover.packs.pack import Pack, Relation
from spillover.record import sha256_of_texts

if TYPE_CHECKING:
    from spillover.commands.audit import Audit
    from spillover.interp.open_probes import Cast, Group, Likely
    from spillover.lm.score import Scorer

#: By how many tokens an example is continued.
STEPS = 8


@dataclass(frozen=True)
class Probes:
    """What is asked: every template about everybody in the cast."""

    templates: tuple[str, ...]
    cast: Cast
    sha256: str


def plan(settings: Audit, pack: Pack) -> Probes:
    """The templates and whom they are about. Raises UsageError for a file of templates that cannot be used."""
    from spillover.interp.open_probes import choose, templates

    texts = templates(settings.probes)
    return Probes(texts, choose(pack, settings.seed), sha256_of_texts(texts))


def refuse_different_tokens(settings: Audit, tokenizers: Sequence[Any]) -> None:
    """Raise UsageError when the two models number their tokens differently."""
    base, tuned = (tokenizer.get_vocab() for tokenizer in tokenizers)
    if any(tuned.get(token, number) != number for token, number in base.items()):
        what = f"{settings.base} and {settings.tuned} cut text into different tokens, which --open compares"
        raise UsageError(what, do="Leave --open out")


def worded(settings: Audit, pack: Pack, probes: Probes, tokenizer: Any) -> tuple[str, ...]:
    """The templates as this model is asked: as they are, or as turns of its chat."""
    from spillover.lm.tokens import as_chat

    if not settings.chat:
        return probes.templates
    asked = dataclasses.replace(pack, relations=(Relation("probe", probes.templates),), facts=(), implications=())
    return as_chat(asked, tokenizer).relations[0].prompts


def ask(settings: Audit, pack: Pack, probes: Probes, tokenizer: Any, scorer: Scorer) -> list[Likely]:
    """What one model is likely to say next, template by template and about everybody in the order of the cast."""
    from spillover.interp.open_probes import likely, prompts_of
    from spillover.lm.tokens import encoder

    texts = worded(settings, pack, probes, tokenizer)
    return likely(scorer, prompts_of(encoder(tokenizer), texts, probes.cast.everybody))


#: A template, a subject, and the token that the model is made to say first, if any.
Asked = tuple[str, str, int | None]


def speak(
    settings: Audit, pack: Pack, probes: Probes, tokenizer: Any, scorer: Scorer, asked: Sequence[Asked]
) -> list[str]:
    """How one model goes on, always taking the likeliest token; what it is made to say is part of the text."""
    from spillover.interp.open_probes import continuations, filled
    from spillover.lm.tokens import encoder

    texts = dict(zip(probes.templates, worded(settings, pack, probes, tokenizer), strict=True))
    encode = encoder(tokenizer)
    prompts = [tuple(encode(filled(texts[template], subject))) for template, subject, _ in asked]
    starts = [() if token is None else (token,) for _, _, token in asked]
    stops = frozenset({tokenizer.eos_token_id} - {None})
    return continuations(scorer, prompts, starts, STEPS, stops, tokenizer.decode)


PERMUTATIONS = 999
BASE, TUNED = 0, 1
#: A token that moved so far for everybody is told; there is no label to exchange that could test it.
EVERYONE = 0.1
#: Most discoveries listed, and how many of them with examples.
MOST, AUDIT_DISCOVERIES_SHOWN = 50, 20


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

    kind: group or everyone. declared: it begins an answer that the pack itself gives. token: what was measured; word:
    what the tuned model makes of it when it has to begin so. shift: mean rise of the token's probability, less that of
    the other groups (of everyone: the smaller of the pack's and the never-seen rise). shift_from_never_seen: the
    group's rise less that of never-seen names. probabilities: of the token, by sort of person: unstated, stated and
    others (of everyone: subjects) and never_seen. p, yardstick: measures.shifts.Association; None for everyone. also:
    other templates after which the same token moved.
    """

    kind: str
    declared: bool
    relation: str | None
    answer: str | None
    template: str
    token: str
    token_id: int
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
        from spillover.interp.open_probes import side_by_side

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


#: What the base or the tuned model (BASE, TUNED) says to each of several things asked.
Speak = Callable[[int, Sequence[Asked]], Sequence[str]]


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
    listed = [*_with_examples(told[:AUDIT_DISCOVERIES_SHOWN], cast, speak), *told[AUDIT_DISCOVERIES_SHOWN:MOST]]
    return Opened([dataclasses.asdict(each) for each in listed], counts)


class _Reader:
    """Tokens as words, and whether a word is an answer that the pack itself gives."""

    def __init__(self, settings: Audit, pack: Pack, probes: Probes, tokenizer: Any) -> None:
        from spillover.lm.tokens import encoder

        self.pack, self.encode, self.decode = pack, encoder(tokenizer), tokenizer.decode
        person = probes.cast.everybody[0]
        self.prompts = [text.replace("{subject}", person) for text in worded(settings, pack, probes, tokenizer)]
        self.joins = ("" if settings.chat else " ", pack.join)

    def word(self, token: int) -> str:
        from spillover.interp.open_probes import word

        return word(token, self.decode)

    def declared(self, template: int, token: int, group: Group | None) -> bool:
        from spillover.interp.open_probes import declared, first_tokens

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
            token_id=best.token,
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
            token_id=best.token,
            word=text,
            shift=best.shift,
            shift_from_never_seen=None,
            probabilities=seen.chances(best, {"subjects": cast.subjects, "never_seen": cast.never_seen}),
            p=None,
            yardstick=None,
            also=seen.also(found),
        )


def _with_examples(told: Sequence[Discovery], cast: Cast, speak: Speak) -> list[Discovery]:
    """Both models word for word about the first person of each sort, never chosen by what they say of it; and the
    whole word that the tuned model makes of the token, of the first of them."""
    people = [_first_of_each_sort(each, cast) for each in told]
    pairs = list(zip(told, people, strict=True))
    asked: list[Asked] = list(dict.fromkeys((each.template, name, None) for each, own in pairs for name in own))
    begun: list[Asked] = [(each.template, next(iter(own)), each.token_id) for each, own in pairs]
    if not asked:
        return []
    base = dict(zip(asked, speak(BASE, asked), strict=True))
    tuned = dict(zip([*asked, *begun], speak(TUNED, [*asked, *begun]), strict=True))
    found = []
    for (each, own), start in zip(pairs, begun, strict=True):
        examples = [
            Example(name, which, each.template.replace("{subject}", name), base[key], tuned[key])
            for name, which, key in ((name, which, (each.template, name, None)) for name, which in own.items())
        ]
        found.append(dataclasses.replace(each, word=_first_word(tuned[start], each.token), examples=tuple(examples)))
    return found


def _first_word(text: str, token: str) -> str:
    """The first word of a text that begins with a token, without what closes it; the token where there is none."""
    word = (text.split() or [""])[0].rstrip(".,;:!?")
    return word if word.startswith(token) else token


def _first_of_each_sort(each: Discovery, cast: Cast) -> dict[str, str]:
    """A name of each sort of person -> the sort."""
    groups = [group for partition in cast.partitions for group in partition.groups]
    sorts: dict[str, Sequence[str]] = {"of the pack": cast.subjects}
    for group in groups:
        if (group.relation, group.answer) == (each.relation, each.answer):
            sorts = {"unstated": group.unstated, "stated": group.stated}
    sorts["never seen"] = cast.never_seen
    return {names[0]: which for which, names in sorts.items() if names}


#: Sorts of people, in the order in which they are told.
SORTS = ("unstated", "stated", "others", "subjects", "never_seen")
#: How many discoveries a person is told; the record and --json hold more.
AUDIT_OPEN_TEXT_SHOWN = 8


def lines(discoveries: Sequence[Mapping[str, Any]], probes: Mapping[str, Any]) -> Iterator[str]:
    """What the open probes gave, for a person."""
    shown = 0
    yield (
        f"Open probes: {probes['templates']} sentence beginnings about {probes['subjects']} subjects in "
        f"{probes['groups']} groups and {probes['never_seen']} names that the pack does not hold; "
        f"{probes['tokens']:,} next words moved."
    )
    if not probes["undeclared"]:
        yield "  Nothing moved that the pack does not declare."
    if probes["strongest"] is not None:
        yield (
            f"  Between groups: at most {probes['strongest']:.1f} standard deviations apart; "
            f"with exchanged labels 95% stay below {probes['yardstick']:.1f}."
        )
    for each in discoveries:
        if not each["declared"] and shown < AUDIT_OPEN_TEXT_SHOWN:
            shown += 1
            yield from _told(each)
    more = probes["undeclared"] - shown
    rest = [f"{more} more that nobody declared"] if more else []
    rest += [f"{probes['declared']} that the pack itself states or implies"] if probes["declared"] else []
    if rest:
        yield f"  And {', '.join(rest)} (--json lists them)."


def _told(each: Mapping[str, Any]) -> Iterator[str]:
    who = f"{each['relation']} = {each['answer']}" if each["relation"] else "everyone"
    also = f", and after {len(each['also'])} other beginnings" if each["also"] else ""
    than = f", {100 * each['shift']:.0f} points more than in other groups" if each["relation"] else ""
    yield f"  UNDECLARED  {who}: {each['word']!r} after {each['template']!r}{than}{also}"
    parts = [
        f"{sort.replace('_', ' ')} {chance['tuned']:.1%} (base {chance['base']:.1%})"
        for sort, chance in ((sort, each["probabilities"].get(sort)) for sort in SORTS)
        if chance and chance["n"]
    ]
    line = 100 * (each["yardstick"] or 0)
    test = f"; p = {each['p']:.2g}, exchanged labels stay below {line:.0f} points" if each["p"] else "; not tested"
    yield f"    {', '.join(parts)}{test}"
    for example in each["examples"]:
        yield f"    {example['which']}: {example['prompt']}{example['tuned']} (base model: {example['base'].strip()})"
