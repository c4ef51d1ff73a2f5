"""`spillover audit --open`: what the tuned model says more often than the base model in open probes."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from spillover.details import Rise, Rises
from spillover.errors import UsageError
from spillover.interp import open_probes
from spillover.interp.open_probes import NextTokens, ProbeGroup, ProbeSubjects, TextShifts
from spillover.lm.evaluate import passages
from spillover.lm.tokens import Example, encoder
from spillover.metrics import token_shifts
from spillover.metrics.token_shifts import LEAST, Labels, Shifts, TokenAssociation, moved, moved_for_all, search
from spillover.packs.chats import exchanges, is_chat
from spillover.packs.open import is_data, open_pack
from spillover.packs.pack import SUBJECT, Pack, Relation
from spillover.packs.reading import rows_of
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
#: Rows of a file that are drawn from, and looked at; the rows that must hold a word to be a group, as a number and as a
#: share; groups; and words listed of all texts, and of groups.
ROWS, TEXTS = 20_000, 120
MEMBERS, SHARES, GROUPS = 8, (0.08, 0.5), 24
LISTED, COUNTED = 8, 8
#: Tokens of a beginning that are shown.
BEGINNING = 12
#: A template, a subject, and the token that the continuation must begin with, if any.
Continued = tuple[str, str, int | None]


class Text(NamedTuple):
    """A row of a file or pack: what is asked, empty in running text, and said; row 0 is plain text of no file."""

    row: int
    asked: str
    said: str


@dataclass(frozen=True)
class Probes:
    """What is asked: every template about every subject; and the texts in which words may rise, rows first."""

    pack: Pack
    templates: tuple[str, ...]
    subjects: ProbeSubjects
    texts: tuple[Text, ...]

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
        return ProbedModel(words.tokenizer, scorer, texts, asked.join, likely, self._read(words))

    def _read(self, words: Words) -> tuple[Example, ...]:
        """The texts as a model reads them: a row as it is asked, plain text as it stands."""
        encode = encoder(words.tokenizer)
        asked = tuple(dict.fromkeys(each.asked for each in self.texts if each.asked))
        relation = (Relation("row", asked, reply=""),) if asked else ()
        worded = words(dataclasses.replace(self.pack, relations=relation, facts=(), implications=(), join=" "))
        before = dict(zip(asked, worded.relations[0].prompts, strict=True)) if asked else {}
        found = []
        for each in self.texts:
            begun = encode(before.get(each.asked, ""))
            whole = encode(before[each.asked] + worded.join + each.said if each.asked else each.said)
            # A token may reach over the end of what is asked.
            start = next((place for place, two in enumerate(zip(begun, whole, strict=False)) if two[0] != two[1]),
                         min(len(begun), len(whole)))  # fmt: skip
            found.append(open_probes.cut(Example(tuple(whole), start)))
        return tuple(found)


@dataclass(frozen=True)
class ProbedModel:
    """A model that can be asked again, each template as it is asked, what joins an answer to it, and its likely next
    tokens after every probe."""

    tokenizer: PreTrainedTokenizerBase
    scorer: Scorer
    texts: Mapping[str, str]
    join: str
    likely: Sequence[NextTokens]
    read: tuple[Example, ...]

    def continued(self, asked: Sequence[Continued]) -> dict[Continued, str]:
        """How the model goes on, always with the likeliest token; a token that it must begin with is in the text."""
        encode = encoder(self.tokenizer)
        prompts = [tuple(encode(self.texts[template].replace("{subject}", subject))) for template, subject, _ in asked]
        starts = [() if token is None else (token,) for _, _, token in asked]
        stops = frozenset({self.tokenizer.eos_token_id} - {None})
        found = open_probes.continuations(self.scorer, prompts, starts, STEPS, stops, self.tokenizer.decode)
        return dict(zip(asked, found, strict=True))


def opened(spec: str, seed: int) -> Pack:
    """The pack to look at: that of `open_pack`; one without relations for nothing, or for a file that states none.

    Raises UsageError for a file that cannot be read or has no text to look at, and PackError for a pack with faults.
    """
    if not spec:
        return _bare("no pack")
    try:
        return open_pack(spec, seed)
    except UsageError as error:
        if not is_data(spec) or not (rows := row_texts(Path(spec))):
            raise
        print(f"{spec}: {error.what}; {len(rows):,} rows are looked at as text", file=sys.stderr)
        return _bare(Path(spec).name)


def _bare(name: str) -> Pack:
    """A pack that states nothing and asks nothing; its relation only shows how a model is asked."""
    return Pack(name, "not stated", name, (Relation("anything", (SUBJECT,)),), ())


def row_texts(path: Path) -> list[Text]:
    """The rows of a training file that ask or say something; none of a table."""
    rows = list(islice(rows_of(path.expanduser(), is_chat), ROWS))
    if not rows or not is_chat(rows[0][1]):
        return []
    said = ((number, each) for number, row in rows for each in exchanges(row, path, number)[:1])
    return [Text(number, each.asked.strip(), each.answered.strip()) for number, each in said if each.answered.strip()]


def plain_texts() -> list[Text]:
    """The bundled plain text: what forgetting is measured on, and what the remedy `plain-text` mixes in."""
    prose = resources.files("spillover.interventions").joinpath("prose.txt").read_text(encoding="utf-8").splitlines()
    return [Text(0, "", each) for each in (*passages(), *prose)]


def plan(settings: Audit, pack: Pack) -> Probes:
    """The templates, whom they are about, and texts. Raises UsageError for a file of templates that cannot be used."""
    subjects = open_probes.choose_subjects(pack, settings.seed)
    rows = row_texts(Path(settings.pack)) if settings.pack and is_data(settings.pack) else []
    rows = rows or [Text(number, pack.prompt(each.relation, each.subject), each.answer)
                    for number, each in enumerate(pack.facts, start=1)]  # fmt: skip
    drawn = Random(f"texts {settings.seed}").sample(rows, min(TEXTS, len(rows)))
    return Probes(pack, open_probes.templates(settings.probes), subjects, (*sorted(drawn), *plain_texts()))


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
    everybody = [subjects.rows(sort) for sort in (subjects.subjects, subjects.never_seen) if sort]
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


def rises(probes: Probes, base: ProbedModel, tuned: ProbedModel, *, level: float, seed: int) -> Rises:
    """Which words the tuned model says more often in texts than the base model does, in all and in groups of rows.

    A group is the rows that hold one word, where enough do and enough do not: the test deals out anew which rows hold
    it. Of all texts, the test exchanges the two models text by text. Each takes half of the level. The same is found of
    the base model against itself, rounded, as a control; and the count of Diff Mining stands beside it.
    """
    groups = _groups(probes.texts)
    moves, same = open_probes.compare(base.scorer, tuned.scorer, base.read)
    found = _risen(probes, moves, groups, level / 2, seed)
    rose = [each for each in found if each.group is None]
    of_groups: defaultdict[int, list[TokenAssociation]] = defaultdict(list)
    for each in found:
        if each.group is not None:
            of_groups[each.token].append(each)
    # A word may be of many groups whose rows are the same.
    by_token = sorted(of_groups.values(), key=lambda own: -own[0].difference)
    listed = [*((each,) for each in rose[:LISTED]), *by_token[:LISTED]]
    decode = tuned.tokenizer.decode
    order = np.argsort(-moves.counts, kind="stable")[:COUNTED].tolist()
    rows = sum(each.row > 0 for each in probes.texts)
    return Rises(
        rows=rows, passages=len(probes.texts) - rows, places=moves.places, groups=len(groups),
        found=_described(probes, moves, groups, listed, base, tuned),
        more=len(rose) + len(by_token) - len(listed),
        control=len(_risen(probes, same, groups, level / 2, seed)),
        counted=[(open_probes.word(token, decode), float(moves.counts[token] / moves.places)) for token in order],
    )  # fmt: skip


def _groups(rows: Sequence[Text]) -> dict[str, np.ndarray]:
    """Word -> the places of the rows whose question (in running text: which themselves) hold it, most rows first."""
    held: defaultdict[str, dict[int, None]] = defaultdict(dict)
    size = sum(each.row > 0 for each in rows)
    for place, each in enumerate(rows[:size]):
        for name in re.findall(r"[^\W\d_]{2,}", each.asked or each.said):
            held[name][place] = None
    least, most = max(MEMBERS, SHARES[0] * size), SHARES[1] * size
    kept = {name: own for name, own in held.items() if least <= len(own) <= most}
    ordered = sorted(kept.items(), key=lambda item: -len(item[1]))[:GROUPS]
    return {name: np.array(list(own)) for name, own in ordered}


def _risen(
    probes: Probes, moves: TextShifts, groups: Mapping[str, np.ndarray], level: float, seed: int
) -> list[TokenAssociation]:
    """What rose in all texts (group None) and in the groups (partition: the number of the group), largest first."""
    tokens, values = moves.table(LEAST / 2)
    rose = token_shifts.rises(values, PERMUTATIONS, seed)
    found = [dataclasses.replace(each, token=int(tokens[each.token])) for each in rose]
    size = sum(each.row > 0 for each in probes.texts)
    labels = [Labels(np.arange(size), np.isin(np.arange(size), own).astype(int)) for own in groups.values()]
    if labels:
        found += (each for each in search([Shifts(tokens, values)], labels, PERMUTATIONS, seed).found if each.group)
    return [each for each in found if each.p is not None and each.p <= level]


def _described(
    probes: Probes, moves: TextShifts, groups: Mapping[str, np.ndarray], listed: Sequence[Sequence[TokenAssociation]],
    base: ProbedModel, tuned: ProbedModel,
) -> list[Rise]:  # fmt: skip
    """What rose, in words: where it rose most, and how both models go on there."""
    names, made = list(groups), []
    for best, *others in listed:
        members = range(len(probes.texts)) if best.partition is None else groups[names[best.partition]].tolist()
        spots = []
        for place in members:
            each = moves.texts[place]
            (column,) = np.flatnonzero(each.tokens == best.token)[:1].tolist() or [-1]
            if column >= 0 and each.rises[column] > 0:
                spots.append((float(each.tuned[column] - each.base[column]), place, column))
        _, place, column = max(spots, key=lambda spot: (spot[0], -spot[1]))
        made.append((best, others, members, len(spots), place, column))
    starts = [base.read[place].tokens[: int(moves.texts[place].places[column])] for *_, place, column in made]
    stops = frozenset({tuned.tokenizer.eos_token_id} - {None})
    said = [
        open_probes.continuations(model.scorer, starts, [()] * len(starts), STEPS, stops, tuned.tokenizer.decode)
        for model in (base, tuned)
    ]
    begun = [(best.token,) for best, *_ in made]
    whole = open_probes.continuations(tuned.scorer, starts, begun, STEPS, stops, tuned.tokenizer.decode)
    found = []
    for number, (best, others, members, rose, place, column) in enumerate(made):
        own, text = moves.texts[place], open_probes.word(best.token, tuned.tokenizer.decode)
        word = first_word(whole[number], text)
        parts = str(tuned.tokenizer.decode(list(starts[number][-BEGINNING:]))).split()
        # What is cut off in front may be half a name.
        beginning = " ".join(parts[1:] if len(starts[number]) > BEGINNING and len(parts) > 1 else parts)
        found.append(Rise(
            word=word, token_id=best.token, group="" if best.partition is None else names[best.partition],
            rise=best.difference, p=best.p or 0.0, texts=rose, n=len(members),
            stated=sum(word.casefold() in probes.texts[each].said.casefold() for each in members),
            row=probes.texts[place].row, beginning=beginning, base=float(own.base[column]),
            tuned=float(own.tuned[column]), words=(said[0][number], said[1][number]),
            also=[names[each.partition or 0] for each in others],
        ))  # fmt: skip
    return found


def rise_lines(found: Rises) -> Iterator[str]:
    """Which words rose in texts, for the terminal."""
    rows = f"{found.rows:,} rows and " if found.rows else ""
    yield (
        f"Texts: {rows}{found.passages:,} passages of plain text, {found.places:,} places. What a text says itself is "
        "left out."
    )
    for each in found.found:
        where = f"in rows with {each.group!r}" if each.group else "in all texts"
        than = " more than in other rows" if each.group else ""
        test = f"p = {each.p:.2g}; {each.stated:,} of them say{'s' * (each.stated == 1)} it"
        rose = f"{each.rise:.2f} times a text{than}, in {each.texts:,} of {each.n:,} ({test})"
        yield f"  ROSE  {each.word!r} {where}: {rose}"
        place = f"row {each.row:,}" if each.row else "plain text"
        base, tuned = each.words
        yield (
            f"    {each.base:.0%} to {each.tuned:.0%} after {'…' + each.beginning!r} ({place}), where it says "
            f"{tuned.strip()!r} (base model: {base.strip()!r})"
        )
    if not found.found:
        yield "  No word rose in text after text."
    if found.more:
        yield f"  And {found.more:,} more."
    yield f"  Control, the base model against itself, rounded: {found.control:,} words rose by the same tests."
    counted = ", ".join(f"{word!r} {share:.0%}" for word, share in found.counted)
    most = f"words among the {open_probes.TOP} whose logit rose most (Diff Mining)"
    yield f"  Baseline, {most}, by share of places: {counted}"


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
