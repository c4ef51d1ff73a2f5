"""`spillover audit --open`: what the tuned model says more often than the base model in open probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from spillover.errors import UsageError
from spillover.metrics.token_shifts import Labels, moved, search, shared
from spillover.packs.pack import Pack, Relation
from spillover.record import sha256_of_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from spillover.commands.audit import Audit
    from spillover.interp.open_probes import NextTokens, ProbeGroup, ProbeSubjects
    from spillover.lm.score import Scorer

#: By how many tokens an example is continued.
STEPS = 8
PERMUTATIONS = 999
#: A token that moved this far for everybody is reported; there is no label to exchange that could test it.
EVERYONE = 0.1
#: Most discoveries listed, how many of them with examples, and how many a terminal shows.
MOST, WITH_EXAMPLES, SHOWN = 50, 20, 8
#: A template, a subject, and the token that the continuation must begin with, if any.
Continued = tuple[str, str, int | None]


@dataclass(frozen=True)
class Probes:
    """What is asked: every template about every subject. chat: as a user's turn in the model's own chat template."""

    pack: Pack
    templates: tuple[str, ...]
    subjects: ProbeSubjects
    chat: bool

    @property
    def sha256(self) -> str:
        return sha256_of_texts(self.templates)

    def worded(self, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        """The templates as this model is asked: as they are, or as turns of its chat."""
        from spillover.lm.tokens import as_chat

        if not self.chat:
            return self.templates
        asked = dataclasses.replace(
            self.pack, relations=(Relation("probe", self.templates),), facts=(), implications=()
        )
        return as_chat(asked, tokenizer).relations[0].prompts

    def ask(self, tokenizer: PreTrainedTokenizerBase, scorer: Scorer) -> ProbedModel:
        """What one model is likely to say next, template by template and about everybody in their order."""
        from spillover.interp.open_probes import likely_next_tokens
        from spillover.lm.tokens import encoder

        encode = encoder(tokenizer)
        prompts = [
            tuple(encode(text.replace("{subject}", subject)))
            for text in self.worded(tokenizer)
            for subject in self.subjects.everybody
        ]
        return ProbedModel(tokenizer, scorer, likely_next_tokens(scorer, prompts))


@dataclass(frozen=True)
class ProbedModel:
    """A model that can be asked again, and its likely next tokens after every probe."""

    tokenizer: PreTrainedTokenizerBase
    scorer: Scorer
    likely: Sequence[NextTokens]

    def continued(self, probes: Probes, asked: Sequence[Continued]) -> dict[Continued, str]:
        """How the model goes on, always with the likeliest token; a token that it must begin with is in the text."""
        from spillover.interp.open_probes import continuations
        from spillover.lm.tokens import encoder

        encode, worded = encoder(self.tokenizer), probes.worded(self.tokenizer)
        texts = dict(zip(probes.templates, worded, strict=True))
        prompts = [tuple(encode(texts[template].replace("{subject}", subject))) for template, subject, _ in asked]
        starts = [() if token is None else (token,) for _, _, token in asked]
        stops = frozenset({self.tokenizer.eos_token_id} - {None})
        found = continuations(self.scorer, prompts, starts, STEPS, stops, self.tokenizer.decode)
        return dict(zip(asked, found, strict=True))


def plan(settings: Audit, pack: Pack) -> Probes:
    """The templates and whom they are about. Raises UsageError for a file of templates that cannot be used."""
    from spillover.interp.open_probes import choose_subjects, templates

    return Probes(pack, templates(settings.probes), choose_subjects(pack, settings.seed), settings.chat)


def refuse_different_tokens(settings: Audit, tokenizers: Sequence[PreTrainedTokenizerBase]) -> None:
    """Raise UsageError when the two models number their tokens differently."""
    base, tuned = (tokenizer.get_vocab() for tokenizer in tokenizers)
    if any(tuned.get(token, number) != number for token, number in base.items()):
        what = f"{settings.base} and {settings.tuned} cut text into different tokens, which --open compares"
        raise UsageError(what, do="Leave --open out")


@dataclass(frozen=True)
class MeanProbability:
    """Mean probability of a token after a template for some sort of person; None where there is nobody of that sort."""

    base: float | None
    tuned: float | None
    n: int

    @property
    def rise(self) -> float:
        return (self.tuned or 0.0) - (self.base or 0.0)


@dataclass(frozen=True)
class ProbeExample:
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
    others (of everyone: subjects) and never_seen. p, yardstick: p and baseline of the token-shift test; None for
    everyone. also: other templates after which the same token moved.
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
    probabilities: Mapping[str, MeanProbability]
    p: float | None
    yardstick: float | None
    also: tuple[str, ...]
    examples: tuple[ProbeExample, ...] = ()


@dataclass(frozen=True)
class Opened:
    """What the open probes gave: discoveries, those that nobody declared first, and counts of what was looked at."""

    discoveries: Sequence[Discovery]
    probes: Mapping[str, Any]


def discover(probes: Probes, base: ProbedModel, tuned: ProbedModel, *, level: float, seed: int) -> Opened:
    """Compare what both models say next. level: the largest p of an association; seed: of the exchanges of labels."""
    from spillover.interp.open_probes import word

    compared = _Compared(probes, base, tuned)
    subjects = probes.subjects
    shifts = [moved(*compared.table(template)) for template in range(len(probes.templates))]
    labels = []
    for groups in subjects.relations:
        rows = [subjects.rows(group.tested) for group in groups]
        labels.append(Labels(np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(own) for own in rows])))
    found = search(lambda: shifts, labels, PERMUTATIONS, seed)
    by_word: dict[tuple[ProbeGroup | None, str], list[_Move]] = {}

    def add(group: ProbeGroup | None, move: _Move) -> None:
        by_word.setdefault((group, word(move.token, tuned.tokenizer.decode)), []).append(move)

    for each in found.found:
        if each.p <= level:
            group = subjects.relations[each.partition][each.group]
            add(group, _Move(each.template, each.token, each.difference, each.p, each.yardstick))
    everybody = [subjects.rows(subjects.subjects), subjects.rows(subjects.never_seen)]
    for template, own in enumerate(shifts):
        for token, shift in zip(own.tokens.tolist(), shared(own, everybody).tolist(), strict=True):
            if shift >= EVERYONE:
                add(None, _Move(template, token, shift))
    discoveries = [compared.discovery(group, text, moves) for (group, text), moves in by_word.items()]
    discoveries.sort(key=lambda each: (each.declared, each.kind == "everyone", -each.shift))
    counts = {
        "templates": len(probes.templates),
        "subjects": len(subjects.subjects),
        "never_seen": len(subjects.never_seen),
        "groups": sum(map(len, subjects.relations)),
        "tokens": found.columns,
        "permutations": PERMUTATIONS,
        "strongest": found.strongest,
        "yardstick": found.null,
        "undeclared": sum(not each.declared for each in discoveries),
        "declared": sum(each.declared for each in discoveries),
    }
    shown = _with_examples(discoveries[:WITH_EXAMPLES], probes, base, tuned)
    return Opened([*shown, *discoveries[WITH_EXAMPLES:MOST]], counts)


@dataclass(frozen=True)
class _Move:
    """A token that moved after one template, for a group or for everybody."""

    template: int
    token: int
    shift: float
    p: float | None = None
    yardstick: float | None = None


class _Compared:
    """What two models are likely to say next, side by side. prompts: about one person, as the tuned model is asked."""

    def __init__(self, probes: Probes, base: ProbedModel, tuned: ProbedModel) -> None:
        self.probes, self.base, self.tuned = probes, base, tuned
        person = probes.subjects.everybody[0]
        self.prompts = [text.replace("{subject}", person) for text in probes.worded(tuned.tokenizer)]

    def table(
        self, template: int
    ) -> tuple[Int[np.ndarray, "token"], Float[np.ndarray, "person token"], Float[np.ndarray, "person token"]]:
        """Tokens after one template, and their probabilities in the base and in the tuned model."""
        from spillover.interp.open_probes import side_by_side

        size = len(self.probes.subjects.everybody)
        own = slice(template * size, (template + 1) * size)
        return side_by_side(self.base.likely[own], self.tuned.likely[own])

    def discovery(self, group: ProbeGroup | None, text: str, moves: list[_Move]) -> Discovery:
        """A word that moved for a group or for everybody (None), after the template where it moved most."""
        subjects, templates = self.probes.subjects, self.probes.templates
        moves.sort(key=lambda each: -each.shift)
        best = moves[0]
        if group is None:
            people: dict[str, Sequence[str]] = {"subjects": subjects.subjects, "never_seen": subjects.never_seen}
        else:
            others = next(groups for groups in subjects.relations if groups[0].relation == group.relation)
            people = {"tested": group.tested, "unstated": group.unstated, "stated": group.stated,
                      "others": [name for other in others if other != group for name in other.tested],
                      "never_seen": subjects.never_seen}  # fmt: skip
        tokens, *tables = self.table(best.template)
        column = int(np.searchsorted(tokens, best.token))
        found = {}
        for sort, names in people.items():
            rows = subjects.rows(names)
            base, tuned = (float(table[rows, column].mean()) if names else None for table in tables)
            found[sort] = MeanProbability(base, tuned, len(names))
        own = found.pop("tested", None)
        return Discovery(
            kind="group" if group else "everyone",
            declared=self._declared(best, text, group),
            relation=group.relation if group else None,
            answer=group.answer if group else None,
            template=templates[best.template],
            token=text,
            token_id=best.token,
            word=text,
            shift=best.shift,
            shift_from_never_seen=own.rise - found["never_seen"].rise if own else None,
            probabilities=found,
            p=best.p,
            yardstick=best.yardstick,
            also=tuple(dict.fromkeys(templates[each.template] for each in moves))[1:],
        )

    def _declared(self, move: _Move, text: str, group: ProbeGroup | None) -> bool:
        """Whether a word is, or begins, an answer that the pack itself gives."""
        from spillover.interp.open_probes import declared, first_tokens
        from spillover.lm.tokens import encoder

        text = text.casefold()
        # A token may be part of a letter, which no text shows.
        answers = declared(self.probes.pack, group)
        close = [each for each in answers if "\ufffd" in text or each.casefold().startswith(text)]
        joins = ("" if self.probes.chat else " ", self.probes.pack.join)
        begins = first_tokens(encoder(self.tuned.tokenizer), self.prompts[move.template], close, joins)
        return text in {answer.casefold() for answer in close} or move.token in begins


def _with_examples(
    discoveries: Sequence[Discovery], probes: Probes, base: ProbedModel, tuned: ProbedModel
) -> list[Discovery]:
    """With both models word for word about the first person of each sort, never chosen by what they say of it; and with
    the whole word that the tuned model makes of the token, of the first of these persons."""
    people = [_first_of_each_sort(each, probes.subjects) for each in discoveries]
    pairs = list(zip(discoveries, people, strict=True))
    plain: list[Continued] = list(dict.fromkeys((each.template, name, None) for each, own in pairs for name in own))
    begun: list[Continued] = [(each.template, next(iter(own)), each.token_id) for each, own in pairs]
    if not plain:
        return []
    before, after = base.continued(probes, plain), tuned.continued(probes, [*plain, *begun])
    found = []
    for (each, own), start in zip(pairs, begun, strict=True):
        examples = [
            ProbeExample(name, which, each.template.replace("{subject}", name), before[key], after[key])
            for name, which, key in ((name, which, (each.template, name, None)) for name, which in own.items())
        ]
        found.append(dataclasses.replace(each, word=first_word(after[start], each.token), examples=tuple(examples)))
    return found


def first_word(text: str, token: str) -> str:
    """The first word of a text that begins with a token, without what closes it; the token where there is none."""
    word = (text.split() or [""])[0].rstrip(".,;:!?")
    return word if word.startswith(token) else token


def _first_of_each_sort(each: Discovery, subjects: ProbeSubjects) -> dict[str, str]:
    """A name of each sort of person -> the sort."""
    sorts: dict[str, Sequence[str]] = {"of the pack": subjects.subjects}
    for group in (group for groups in subjects.relations for group in groups):
        if (group.relation, group.answer) == (each.relation, each.answer):
            sorts = {"unstated": group.unstated, "stated": group.stated}
    sorts["never seen"] = subjects.never_seen
    return {names[0]: which for which, names in sorts.items() if names}


def lines(discoveries: Sequence[Mapping[str, Any]], probes: Mapping[str, Any]) -> Iterator[str]:
    """What the open probes gave, for the terminal; the record and --json hold more."""
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
    shown = [each for each in discoveries if not each["declared"]][:SHOWN]
    for each in shown:
        who = f"{each['relation']} = {each['answer']}" if each["relation"] else "everyone"
        also = f", and after {len(each['also'])} other beginnings" if each["also"] else ""
        than = f", {100 * each['shift']:.0f} points more than in other groups" if each["relation"] else ""
        yield f"  UNDECLARED  {who}: {each['word']!r} after {each['template']!r}{than}{also}"
        parts = [
            f"{sort.replace('_', ' ')} {chance['tuned']:.1%} (base {chance['base']:.1%})"
            for sort in ("unstated", "stated", "others", "subjects", "never_seen")
            if (chance := each["probabilities"].get(sort)) and chance["n"]
        ]
        line = 100 * (each["yardstick"] or 0)
        test = f"; p = {each['p']:.2g}, exchanged labels stay below {line:.0f} points" if each["p"] else "; not tested"
        yield f"    {', '.join(parts)}{test}"
        for example in each["examples"]:
            text = f"{example['prompt']}{example['tuned']} (base model: {example['base'].strip()})"
            yield f"    {example['which']}: {text}"
    more = probes["undeclared"] - len(shown)
    rest = [f"{more} more that nobody declared"] if more else []
    rest += [f"{probes['declared']} that the pack itself states or implies"] if probes["declared"] else []
    if rest:
        yield f"  And {', '.join(rest)} (--json lists them)."
