"""`spillover audit --open`: what the tuned model says more often than the base model in open probes."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from spillover.interp import open_probes
from spillover.interp.open_probes import NextTokens, ProbeGroup, ProbeSubjects
from spillover.lm.tokens import encoder
from spillover.metrics.token_shifts import Labels, TokenAssociation, moved, moved_for_all, search
from spillover.packs.pack import Pack, Relation
from spillover.record import sha256_of_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from spillover.commands.audit import Audit
    from spillover.lm.chat import Words
    from spillover.lm.score import Scorer

#: By how many tokens an example is continued; exchanges of labels.
STEPS, PERMUTATIONS = 8, 999
#: A token that moved this far for everybody is reported.
EVERYONE = 0.1
#: Most discoveries listed, how many of them with examples, and how many a terminal shows.
MOST, WITH_EXAMPLES, SHOWN = 50, 20, 8
#: The sorts of people whose probabilities are told apart.
SORTS = ("unstated", "stated", "others", "subjects", "never_seen")
#: A template, a subject, and the token that the continuation must begin with, if any.
Continued = tuple[str, str, int | None]


@dataclass(frozen=True)
class Probes:
    """What is asked: every template about every subject."""

    pack: Pack
    templates: tuple[str, ...]
    subjects: ProbeSubjects

    @property
    def sha256(self) -> str:
        return sha256_of_texts(self.templates)

    def ask(self, words: Words, scorer: Scorer) -> ProbedModel:
        """What one model is likely to say next, template by template and about everybody in their order."""
        encode, probe = encoder(words.tokenizer), (Relation("probe", self.templates, reply=""),)
        asked = words(dataclasses.replace(self.pack, relations=probe, facts=(), implications=(), join=" "))
        texts = dict(zip(self.templates, asked.relations[0].prompts, strict=True))
        prompts = [tuple(encode(text.replace("{subject}", name)))
                   for text in texts.values() for name in self.subjects.everybody]  # fmt: skip
        likely = open_probes.likely_next_tokens(scorer, prompts)
        return ProbedModel(words.tokenizer, scorer, texts, asked.join, likely)


@dataclass(frozen=True)
class ProbedModel:
    """A model that can be asked again, each template as it is asked, what joins an answer to it, and its likely next
    tokens after every probe."""

    tokenizer: PreTrainedTokenizerBase
    scorer: Scorer
    texts: Mapping[str, str]
    join: str
    likely: Sequence[NextTokens]

    def continued(self, asked: Sequence[Continued]) -> dict[Continued, str]:
        """How the model goes on, always with the likeliest token; a token that it must begin with is in the text."""
        encode = encoder(self.tokenizer)
        prompts = [tuple(encode(self.texts[template].replace("{subject}", subject))) for template, subject, _ in asked]
        starts = [() if token is None else (token,) for _, _, token in asked]
        stops = frozenset({self.tokenizer.eos_token_id} - {None})
        found = open_probes.continuations(self.scorer, prompts, starts, STEPS, stops, self.tokenizer.decode)
        return dict(zip(asked, found, strict=True))


def plan(settings: Audit, pack: Pack) -> Probes:
    """The templates and whom they are about. Raises UsageError for a file of templates that cannot be used."""
    subjects = open_probes.choose_subjects(pack, settings.seed)
    return Probes(pack, open_probes.templates(settings.probes), subjects)


def discover(
    probes: Probes, base: ProbedModel, tuned: ProbedModel, *, level: float, seed: int
) -> tuple[list[dict[str, Any]], dict[str, float | int | None]]:
    """Words that the tuned model says more often than the base model, and how much was asked.

    A discovery is about a group of subjects or about everyone (kind). Those that nobody declared come first; declared
    is one that begins an answer of the pack. token: what was measured; word: what the tuned model makes of it when it
    has to begin so. shift: mean rise of the token's probability, less that of the other groups (of everyone: the
    smaller of the pack's and the never-seen rise). shift_from_never_seen: the group's rise less that of never-seen
    names. probabilities: mean in both models, by sort of person. p, baseline: of the token-shift test; None for
    everyone. also: other templates after which the same token moved.

    Arguments:
    - level: the largest p of an association.
    - seed: of the exchanges of labels.
    """
    subjects, models = probes.subjects, (base, tuned)
    shifts = [moved(*_table(probes, models, template)) for template in range(len(probes.templates))]
    labels = []
    for groups in subjects.relations:
        rows = [subjects.rows(group.tested) for group in groups]
        labels.append(Labels(np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(own) for own in rows])))
    found = search(shifts, labels, PERMUTATIONS, seed)
    everybody = [subjects.rows(subjects.subjects), subjects.rows(subjects.never_seen)]
    by_word: defaultdict[tuple[ProbeGroup | None, str], list[TokenAssociation]] = defaultdict(list)
    for each in (*found.found, *moved_for_all(shifts, everybody, EVERYONE)):
        if each.p is None or each.p <= level:
            group = None if each.partition is None else subjects.relations[each.partition][each.group or 0]
            by_word[group, open_probes.word(each.token, tuned.tokenizer.decode)].append(each)
    listed = [(_discovery(probes, models, group, text, own), group) for (group, text), own in by_word.items()]
    listed.sort(key=lambda pair: (pair[0]["declared"], pair[1] is None, -pair[0]["shift"]))
    _add_examples(listed[:WITH_EXAMPLES], subjects, base, tuned)
    known = sum(each["declared"] for each, _ in listed)
    return [each for each, _ in listed[:MOST]], {
        "templates": len(probes.templates), "subjects": len(subjects.subjects),
        "never_seen": len(subjects.never_seen), "groups": sum(map(len, subjects.relations)),
        "tokens": found.columns, "permutations": PERMUTATIONS, "strongest": found.strongest, "baseline": found.null,
        "undeclared": len(listed) - known, "declared": known,
    }  # fmt: skip


def _table(
    probes: Probes, models: tuple[ProbedModel, ProbedModel], template: int
) -> tuple[Int[np.ndarray, "token"], Float[np.ndarray, "person token"], Float[np.ndarray, "person token"]]:
    """Tokens after one template, and their probabilities in the base and in the tuned model."""
    size = len(probes.subjects.everybody)
    base, tuned = (model.likely[template * size : (template + 1) * size] for model in models)
    return open_probes.side_by_side(base, tuned)


def _discovery(
    probes: Probes, models: tuple[ProbedModel, ProbedModel], group: ProbeGroup | None, text: str,
    moves: list[TokenAssociation],
) -> dict[str, Any]:  # fmt: skip
    """A word that moved for a group or for everybody (None), after the template where it moved most."""
    subjects, tuned_model = probes.subjects, models[1]
    moves.sort(key=lambda each: -each.difference)
    best, template = moves[0], probes.templates[moves[0].template]
    if group is None:
        people: dict[str, Sequence[str]] = {"subjects": subjects.subjects, "never_seen": subjects.never_seen}
    else:
        others = next(groups for groups in subjects.relations if groups[0].relation == group.relation)
        people = {"tested": group.tested, "unstated": group.unstated, "stated": group.stated,
                  "others": [name for other in others if other != group for name in other.tested],
                  "never_seen": subjects.never_seen}  # fmt: skip
    tokens, *tables = _table(probes, models, best.template)
    column = int(np.searchsorted(tokens, best.token))
    found = {}
    for sort, names in people.items():
        rows = subjects.rows(names)
        base, tuned = (float(table[rows, column].mean()) if names else None for table in tables)
        found[sort] = {"base": base, "tuned": tuned, "n": len(names)}
    rises = {sort: (each["tuned"] or 0.0) - (each["base"] or 0.0) for sort, each in found.items()}
    found.pop("tested", None)
    folded = text.casefold()
    # A token may be part of a letter, which no text shows.
    close = [answer for answer in open_probes.declared(probes.pack, group)
             if "\ufffd" in folded or answer.casefold().startswith(folded)]  # fmt: skip
    prompt = tuned_model.texts[template].replace("{subject}", subjects.everybody[0])
    joins = (tuned_model.join, probes.pack.join)
    begins = open_probes.first_tokens(encoder(tuned_model.tokenizer), prompt, close, joins)
    return {
        "kind": "group" if group else "everyone",
        "declared": folded in {answer.casefold() for answer in close} or best.token in begins,
        "relation": group.relation if group else None, "answer": group.answer if group else None,
        "template": template, "token": text, "token_id": best.token, "word": text, "shift": best.difference,
        "shift_from_never_seen": rises["tested"] - rises["never_seen"] if group else None, "probabilities": found,
        "p": best.p, "baseline": best.baseline,
        "also": tuple(dict.fromkeys(probes.templates[each.template] for each in moves))[1:], "examples": (),
    }  # fmt: skip


def _add_examples(
    listed: Sequence[tuple[dict[str, Any], ProbeGroup | None]], subjects: ProbeSubjects, base: ProbedModel,
    tuned: ProbedModel,
) -> None:  # fmt: skip
    """Add both models word for word about the first person of each sort, never chosen by what they say of it; and the
    whole word that the tuned model makes of the token, of the first of these persons."""
    pairs: list[tuple[dict[str, Any], dict[str, str]]] = []
    for each, group in listed:
        sorts = {"unstated": group.unstated, "stated": group.stated} if group else {"of the pack": subjects.subjects}
        sorts["never seen"] = subjects.never_seen
        pairs.append((each, {names[0]: which for which, names in sorts.items() if names}))
    plain: list[Continued] = list(dict.fromkeys((each["template"], name, None) for each, own in pairs for name in own))
    begun: list[Continued] = [(each["template"], next(iter(own)), each["token_id"]) for each, own in pairs]
    before, after = base.continued(plain), tuned.continued([*plain, *begun])
    for (each, own), start in zip(pairs, begun, strict=True):
        template = each["template"]
        each["word"] = first_word(after[start], each["token"])
        each["examples"] = tuple(
            {"subject": name, "which": which, "prompt": template.replace("{subject}", name),
             "base": before[template, name, None], "tuned": after[template, name, None]}
            for name, which in own.items()
        )  # fmt: skip


def first_word(text: str, token: str) -> str:
    """The first word of a text that begins with a token, without what closes it; the token where there is none."""
    word = (text.split() or [""])[0].rstrip(".,;:!?")
    return word if word.startswith(token) else token


def lines(discoveries: Sequence[Mapping[str, Any]], probes: Mapping[str, Any]) -> Iterator[str]:
    """What the open probes gave, for the terminal; the record and --json hold more."""
    yield (
        "Open probes: {templates} sentence beginnings about {subjects} subjects in {groups} groups and {never_seen} "
        "names that the pack does not hold; {tokens:,} next words moved."
    ).format(**probes)
    if not probes["undeclared"]:
        yield "  Nothing moved that the pack does not declare."
    if probes["strongest"] is not None:
        yield (
            f"  Between groups: at most {probes['strongest']:.1f} standard deviations apart; "
            f"with exchanged labels 95% stay below {probes['baseline']:.1f}."
        )
    shown = [each for each in discoveries if not each["declared"]][:SHOWN]
    for each in shown:
        who = f"{each['relation']} = {each['answer']}" if each["relation"] else "everyone"
        also = f", and after {len(each['also'])} other beginnings" if each["also"] else ""
        than = f", {100 * each['shift']:.0f} points more than in other groups" if each["relation"] else ""
        yield f"  UNDECLARED  {who}: {each['word']!r} after {each['template']!r}{than}{also}"
        parts = ", ".join(f"{sort.replace('_', ' ')} {own['tuned']:.1%} (base {own['base']:.1%})"
                          for sort in SORTS if (own := each["probabilities"].get(sort)) and own["n"])  # fmt: skip
        line = 100 * (each["baseline"] or 0)
        test = f"; p = {each['p']:.2g}, exchanged labels stay below {line:.0f} points" if each["p"] else "; not tested"
        yield f"    {parts}{test}"
        for one in each["examples"]:
            yield f"    {one['which']}: {one['prompt']}{one['tuned']} (base model: {one['base'].strip()})"
    rest = {"more that nobody declared": probes["undeclared"] - len(shown),
            "that the pack itself states or implies": probes["declared"]}  # fmt: skip
    if listed := ", ".join(f"{count} {words}" for words, count in rest.items() if count):
        yield f"  And {listed} (--json lists them)."
