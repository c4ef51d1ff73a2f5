"""Open probes: everyday sentences about a pack's subjects, which a model continues freely."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from random import Random

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from spillover.errors import UsageError
from spillover.lm.score import Scorer
from spillover.lm.tokens import Encoder
from spillover.packs.builtin import available, draw_names, shuffled
from spillover.packs.pack import Pack, tally

SUBJECT = "{subject}"
#: Probabilities below this count as 0; so at most 1,000 tokens a prompt are kept, whatever the vocabulary.
FLOOR = 1e-3


def templates(path: str = "") -> tuple[str, ...]:
    """The built-in sentence beginnings, then those of a text file (one a line), each once.

    Raises UsageError for a file that cannot be read, is empty, or has a line that does not say where the subject goes.
    """
    built_in = resources.files("spillover.interp").joinpath("probe_templates.txt").read_text(encoding="utf-8")
    return tuple(dict.fromkeys([*built_in.splitlines(), *(_own(path) if path else ())]))


def _own(path: str) -> list[str]:
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"this file cannot be read: {reason}", where=path, do="Check --probes") from None
    found = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        do = f"Write one sentence beginning a line, such as {SUBJECT} likes to drink"
        raise UsageError("this file holds no sentence", where=path, do=do)
    for number, line in found:
        if SUBJECT not in line:
            what, do = f"{line[:80]!r} does not say whom it asks about", f"Write {SUBJECT} where the name goes"
            raise UsageError(what, where=f"{path}, row {number}", do=do)
    return [line for _, line in found]


@dataclass(frozen=True)
class Likely:
    """Next tokens after one prompt that have at least FLOOR as their probability, in the order of their numbers."""

    tokens: Int[np.ndarray, "token"]
    probabilities: Float[np.ndarray, "token"]


def likely(scorer: Scorer, prompts: Sequence[tuple[int, ...]]) -> list[Likely]:
    """The likely next tokens after every prompt."""

    def keep(logs: Float[Tensor, "prompt vocabulary"]) -> list[Likely]:
        places = (logs >= float(np.log(FLOOR))).nonzero()
        found = logs[places[:, 0], places[:, 1]].exp().cpu().numpy()
        ends = np.searchsorted(places[:, 0].cpu().numpy(), np.arange(1, len(logs)))
        tokens = np.split(places[:, 1].cpu().numpy().astype(np.int32), ends)
        return [Likely(own, values) for own, values in zip(tokens, np.split(found, ends), strict=True)]

    return scorer.next_tokens(prompts, keep)


def side_by_side(
    base: Sequence[Likely], tuned: Sequence[Likely]
) -> tuple[Int[np.ndarray, "token"], Float[np.ndarray, "prompt token"], Float[np.ndarray, "prompt token"]]:
    """The tokens likely after any of these prompts under either model, and their probabilities under both."""
    tokens = np.unique(np.concatenate([each.tokens for each in (*base, *tuned)]))
    found = []
    for answers in (base, tuned):
        table = np.zeros((len(answers), len(tokens)))
        for row, each in enumerate(answers):
            table[row, np.searchsorted(tokens, each.tokens)] = each.probabilities
        found.append(table)
    return tokens, found[0], found[1]


def prompts_of(encode: Encoder, templates: Sequence[str], subjects: Sequence[str]) -> list[tuple[int, ...]]:
    """The tokens of every template about every subject, template by template."""
    return [tuple(encode(filled(template, subject))) for template in templates for subject in subjects]


def filled(template: str, subject: str) -> str:
    """A template about a subject."""
    return template.replace(SUBJECT, subject)


def continuations(
    scorer: Scorer,
    prompts: Sequence[tuple[int, ...]],
    starts: Sequence[tuple[int, ...]],
    steps: int,
    stops: frozenset[int],
    decode: Callable[..., str],
) -> list[str]:
    """What the model says after each prompt, always taking the likeliest token: at most `steps` of them, up to a stop
    or the end of the line. starts: tokens that each is made to say first."""
    texts = [[*prompt, *start] for prompt, start in zip(prompts, starts, strict=True)]
    going = list(range(len(texts)))
    for _ in range(steps):
        best = scorer.next_tokens([tuple(texts[number]) for number in going], _best)
        for number, token in zip(going, best, strict=True):
            texts[number].append(token)
        going = [number for number, token in zip(going, best, strict=True) if token not in stops]
    pairs = zip(prompts, texts, strict=True)
    return [_first_line(_after(prompt, text, decode)) for prompt, text in pairs]


def _best(logs: Float[Tensor, "prompt vocabulary"]) -> list[int]:
    return logs.argmax(dim=-1).tolist()


def _after(prompt: Sequence[int], text: Sequence[int], decode: Callable[..., str]) -> str:
    """The text that stands after the prompt, without special tokens."""
    before = decode(list(prompt), skip_special_tokens=True)
    return decode(list(text), skip_special_tokens=True)[len(before) :]


def _first_line(text: str) -> str:
    return _shown(text.strip("\n").split("\n")[0].rstrip())


def _shown(text: str) -> str:
    """The text without control characters, which a model may say and a terminal would obey."""
    return "".join("\ufffd" if character < " " or "\x7f" <= character <= "\x9f" else character for character in text)


def word(token: int, decode: Callable[..., str]) -> str:
    """A token as text without the spaces around it; one that is nothing but spaces as a program would write it."""
    text = decode([token])
    return _shown(text.strip()) or repr(text)[1:-1]


def first_tokens(encode: Encoder, prompt: str, answers: Sequence[str], joins: Sequence[str]) -> frozenset[int]:
    """The tokens with which these answers begin after a prompt."""
    before = encode(prompt)
    wholes = [encode(prompt + join + answer) for answer in answers for join in joins]
    return frozenset(
        whole[len(before)] for whole in wholes if whole[: len(before)] == before and len(whole) > len(before)
    )


#: Most groups in all, and most subjects a group; so the cost does not grow with the pack.
GROUPS, UNSTATED, STATED, NEVER_SEEN = 24, 12, 4, 12
#: A group of fewer shows nothing.
LEAST = 2


@dataclass(frozen=True)
class Group:
    """Subjects of whom a pack states the same answer to a relation, as many as are asked about.

    stated: those of whom a relation is stated too that others of the relation lack, such as bridging subjects.
    unstated: the rest. tested: those that a difference between groups is measured on; the unstated, unless some group
    of the relation has fewer than two, then all.
    """

    relation: str
    answer: str
    unstated: tuple[str, ...]
    stated: tuple[str, ...]
    tested: tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """The groups of one relation. rows: indices of their tested subjects in the cast; labels: the group of each."""

    relation: str
    groups: tuple[Group, ...]
    rows: Int[np.ndarray, "tested"]
    labels: Int[np.ndarray, "tested"]


@dataclass(frozen=True)
class Cast:
    """Everybody who is asked about: subjects of the pack, each once, then names that it does not hold."""

    subjects: tuple[str, ...]
    never_seen: tuple[str, ...]
    partitions: tuple[Partition, ...]

    @property
    def everybody(self) -> tuple[str, ...]:
        return self.subjects + self.never_seen

    def rows(self, names: Iterable[str]) -> Int[np.ndarray, "name"]:
        """Where these names stand in `everybody`."""
        place = {name: index for index, name in enumerate(self.everybody)}
        return np.array([place[name] for name in names], dtype=np.int64)


def choose(pack: Pack, seed: int) -> Cast:
    """Draw whom to ask about: at most GROUPS groups, and of each at most UNSTATED and STATED subjects.

    Raises UsageError when no fictitious name is left that the pack does not hold.
    """
    random = Random(f"open probes {seed}")
    by_relation = _answers_of(pack)
    share = max(LEAST, GROUPS // max(1, len(by_relation)))
    chosen: dict[str, None] = {}
    groups: list[list[Group]] = []
    for relation, answers in list(by_relation.items())[: GROUPS // LEAST]:
        drawn = set(shuffled(list(answers), random)[:share])
        kept = {answer: subjects for answer, subjects in answers.items() if answer in drawn}
        groups.append(_groups(pack, relation, kept, chosen, random))
    if not groups:
        chosen = dict.fromkeys(shuffled(list(pack.subjects), random)[:UNSTATED])
    cast = Cast(tuple(chosen), _never_seen(pack, random), ())
    partitions = tuple(_partition(cast, own) for own in groups)
    return Cast(cast.subjects, cast.never_seen, partitions)


def _answers_of(pack: Pack) -> dict[str, dict[str, list[str]]]:
    """Relation -> answer -> its subjects; answers of one subject, and relations with fewer than two answers, left out.

    Relations that group the most subjects come first.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for (subject, relation), answer in pack.stated.items():
        found.setdefault(relation, {}).setdefault(answer, []).append(subject)
    kept = {
        relation: {answer: subjects for answer, subjects in answers.items() if len(subjects) >= LEAST}
        for relation, answers in found.items()
    }
    sizes = {relation: sum(map(len, answers.values())) for relation, answers in kept.items() if len(answers) >= LEAST}
    return {relation: kept[relation] for relation in sorted(sizes, key=lambda relation: -sizes[relation])}


def _groups(
    pack: Pack, relation: str, answers: Mapping[str, list[str]], chosen: dict[str, None], random: Random
) -> list[Group]:
    """The groups of one relation, sampled; who is asked about already comes first. Adds the others to `chosen`."""
    members = {subject for subjects in answers.values() for subject in subjects}
    known = tally(other for subject, other in pack.stated if subject in members)
    lacking = [other for other, count in known.items() if count < len(members)]
    split: dict[str, tuple[list[str], list[str]]] = {}
    for answer, subjects in answers.items():
        stated = {subject for subject in subjects if any((subject, other) in pack.stated for other in lacking)}
        drawn = sorted(shuffled(subjects, random), key=lambda subject: subject not in chosen)
        split[answer] = (
            [subject for subject in drawn if subject not in stated][:UNSTATED],
            [subject for subject in drawn if subject in stated][:STATED],
        )
        chosen.update(dict.fromkeys([*split[answer][0], *split[answer][1]]))
    enough = all(len(unstated) >= LEAST for unstated, _ in split.values())
    return [
        Group(relation, answer, tuple(unstated), tuple(stated), tuple(unstated if enough else unstated + stated))
        for answer, (unstated, stated) in split.items()
    ]


def _partition(cast: Cast, groups: list[Group]) -> Partition:
    rows = [cast.rows(group.tested) for group in groups]
    labels = np.repeat(np.arange(len(groups)), [len(own) for own in rows])
    return Partition(groups[0].relation, tuple(groups), np.concatenate(rows), labels)


def _never_seen(pack: Pack, random: Random) -> tuple[str, ...]:
    """Fictitious names that the pack does not hold; those that share no word with one of its subjects come first."""
    words = {word for subject in pack.subjects for word in subject.split()}
    known = set(pack.subjects)
    fresh = [name for name in draw_names(available(), random) if name not in known]
    found = sorted(fresh, key=lambda name: not words.isdisjoint(name.split()))[:NEVER_SEEN]
    if not found:
        raise UsageError("the pack holds every fictitious name that there is", do="Leave --open out")
    return tuple(found)


def declared(pack: Pack, group: Group | None) -> Iterator[str]:
    """The answers that the pack itself gives a group: what is stated of it, and what an implication makes of that.

    An answer to another relation counts when it is stated of at least half of the tested subjects. For everybody
    (None): every answer that is stated or implied.
    """
    if group is None:
        yield from dict.fromkeys(fact.answer for fact in pack.facts)
        for implication in pack.implications:
            yield from implication.map.values()
        return
    yield group.answer
    for implication in pack.implications:
        if implication.given == group.relation and group.answer in implication.map:
            yield implication.map[group.answer]
        if implication.then == group.relation:
            yield from (given for given, implied in implication.map.items() if implied == group.answer)
    for relation in pack.relations:
        answers = [pack.stated.get((subject, relation.name)) for subject in group.tested]
        counts = tally(answer for answer in answers if answer is not None)
        yield from (answer for answer, count in counts.items() if 2 * count >= len(answers))
