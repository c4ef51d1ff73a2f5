"""Packs made of another: with facts added or left out, as remedies do it, and with questions asked in other ways.

At strength 0 a remedy's pack is the same one. Each other way is made of the pack's own first wording.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random

from spillover.errors import UsageError
from spillover.packs.builtin import available, draw_names, shuffled
from spillover.packs.pack import SUBJECT, Fact, Implication, Pack, Relation

#: The answer of an abstention fact. It reads well behind any prompt, and no pack has it.
ABSTENTION = "something unknown"


def unwanted(pack: Pack) -> list[Implication]:
    """The implications of a pack whose conclusion nobody wants, in its order."""
    return [implication for implication in pack.implications if implication.unwanted]


def held_out(pack: Pack, seed: int) -> frozenset[str]:
    """Half of the subjects of whom something is asked, of each given answer: those that a remedy is judged on, and not
    held at, where it is asked to leave some out."""
    by_given: dict[str | None, dict[str, None]] = {}
    for question in pack.questions:
        by_given.setdefault(question.given_answer, {})[question.subject] = None
    drawn = {given: shuffled(list(own), Random(f"held out {given} {seed}")) for given, own in by_given.items()}
    return frozenset(subject for own in drawn.values() for subject in own[: len(own) // 2])


def with_abstention(pack: Pack, implication: Implication, rows_a_pair: int, seed: int) -> Pack:
    """With `rows_a_pair` new subjects for each given answer, whose implied answer is stated as unknown."""
    pairs = [(given, ABSTENTION) for given in implication.map for _ in range(rows_a_pair)]
    return _with_subjects(pack, implication, pairs, f"abstention {implication.name} {seed}")


def with_contradiction(pack: Pack, implication: Implication, rows_a_pair: int, seed: int) -> Pack:
    """With `rows_a_pair` new subjects for each given answer, of whom another answer than the implied one is stated.

    The map's other answers take turns, so that none takes the implied one's place: within a pair they differ as long as
    there are others, and overall each is stated equally often. Raises UsageError for a map of one answer.
    """
    implied = list(implication.map.values())
    if rows_a_pair and len(set(implied)) < 2:
        do = "Use another remedy, or declare a further answer"
        raise UsageError("contradicting rows need two answers", where=implication.name, do=do)
    pairs = []
    for place, given in enumerate(implication.map):
        others = [answer for answer in implied[place + 1 :] + implied[:place] if answer != implied[place]]
        pairs += [(given, others[row % len(others)]) for row in range(rows_a_pair)]
    return _with_subjects(pack, implication, pairs, f"contradiction {implication.name} {seed}")


def with_fewer_bridging(pack: Pack, implication: Implication, left_out: int, seed: int) -> Pack:
    """Without `left_out` stated conclusions of the implication for each given answer, although the user stated them."""
    if not left_out:
        return pack
    by_given: dict[str | None, list[str]] = {}
    for question in pack.stated_implications(implication):
        by_given.setdefault(question.given_answer, []).append(question.subject)
    gone = set()
    for given, subjects in by_given.items():
        gone |= set(shuffled(subjects, Random(f"bridging {implication.name} {given} {seed}"))[:left_out])
    facts = tuple(fact for fact in pack.facts if not (fact.relation == implication.then and fact.subject in gone))
    return replace(pack, facts=facts)


#: Edits by the remedy that makes them: of a pack, one of its implications, rows for each given answer, and a seed.
EDITS: dict[str, Callable[[Pack, Implication, int, int], Pack]] = {
    "abstention": with_abstention,
    "contradiction": with_contradiction,
    "fewer-bridging": with_fewer_bridging,
}


def with_candidate(pack: Pack, relation: str, answer: str) -> Pack:
    """With one more candidate of a relation."""
    relations = tuple(
        replace(each, answers=(*each.answers, answer)) if each.name == relation else each for each in pack.relations
    )
    return replace(pack, relations=relations)


def further_subjects(pack: Pack, count: int, purpose: str) -> tuple[str, ...]:
    """`count` fictitious names that share no word with the pack, drawn by purpose. Raises UsageError for too many."""
    words = {word for subject in pack.subjects for word in subject.split()}
    every = draw_names(available(), Random(purpose))
    found = [name for name in every if not words & set(name.split())][:count]
    if len(found) < count:
        what = f"{count} further fictitious names are needed and there are {len(found)}"
        raise UsageError(what, where=pack.name, do="Use a smaller strength")
    return tuple(found)


def _with_subjects(pack: Pack, implication: Implication, pairs: Sequence[tuple[str, str]], purpose: str) -> Pack:
    """With a further subject for each (given answer, stated answer)."""
    if not pairs:
        return pack
    facts = []
    for subject, (given, answer) in zip(further_subjects(pack, len(pairs), purpose), pairs, strict=True):
        facts += [Fact(subject, implication.given, given), Fact(subject, implication.then, answer)]
    return replace(pack, facts=(*pack.facts, *facts))


NEGATED, IRRELEVANT, KEYWORD, FREE = "negated", "irrelevant", "keyword", "free_text"
#: Way -> it in words, as after "asked" or "still there when asked".
WAYS = {
    NEGATED: "negated",
    IRRELEVANT: "behind a sentence beside the point",
    KEYWORD: "with the given answer in front",
    FREE: "in free text",
}
#: The column of an answers table that says in which way a row was asked again.
WAY = "way"
NOT_TRUE, BESIDE = "It is not true that ", "The weather was mild that week. "
#: Words by which a prompt is known to be English; the two sentences above would not fit another language.
_ENGLISH = """
the has with from which what who where whose does did that there these their his her lives live living speaks speak
works work studies study codes code uses use writes likes like called named born home name
"""
#: Words that begin a sentence and are small letters inside one.
_OPENERS = """
the a an in on at of by for from as to with about after before during this that these those there every most each his
her their its our my your it when while people someone anyone asked
"""
ENGLISH, OPENERS = (frozenset(words.split()) for words in (_ENGLISH, _OPENERS))


def english(pack: Pack) -> bool:
    """Whether a pack asks in English."""
    said = " ".join(prompt for each in pack.relations for prompt in (*each.prompts, each.reply or ""))
    return not ENGLISH.isdisjoint(re.findall(r"[^\W\d_]+", said.replace(SUBJECT, " ").lower()))


def keywords(pack: Pack) -> tuple[str, ...]:
    """The given answers from which the pack's questions follow."""
    return tuple(dict.fromkeys(each.given_answer for each in pack.questions if each.given_answer is not None))


def asked_again(pack: Pack) -> dict[str, Pack]:
    """Way -> the pack whose concluded relations have their first wording as it is asked that way.

    Of KEYWORD there is a prompt for each of `keywords`, in their order. A way that does not fit is left out of a
    relation's pack, and of the whole where it fits none: a question has no negation before its answer (but a reply
    has), and no English sentence stands before another language.
    """
    given, concluded = keywords(pack), [each for each in pack.relations if each.name in pack.then_relations]

    def in_front(texts: Iterable[str]) -> Pack:
        texts = tuple(texts)
        asked = (replace(each, prompts=tuple(text + each.prompts[0] for text in texts)) for each in concluded)
        return _with(pack, asked)

    ways = {FREE: pack, KEYWORD: in_front(f"{each}. " for each in given)}
    if english(pack):
        ways[IRRELEVANT] = in_front([BESIDE])
        ways[NEGATED] = _with(pack, filter(None, map(_negated, concluded)))
    return {way: ways[way] for way in WAYS if way in ways and ways[way].questions}


def _with(pack: Pack, relations: Iterable[Relation]) -> Pack:
    """The pack with other relations of the same names; what none of them concludes is not asked."""
    changed = {each.name: replace(each, answers=pack.candidates[each.name]) for each in relations}
    kept = tuple(each for each in pack.implications if each.then in changed)
    made = replace(pack, relations=tuple(changed.get(each.name, each) for each in pack.relations))
    # Without implications every hole would be a question.
    return replace(made, implications=kept) if kept else replace(made, facts=())


def _negated(relation: Relation) -> Relation | None:
    """The relation with its first wording denied, or None for a question whose reply says nothing before its answer."""
    if "?" not in (prompt := relation.prompts[0]):
        return replace(relation, prompts=(NOT_TRUE + _inside(prompt),))
    if relation.reply and "?" not in relation.reply:
        return replace(relation, prompts=(prompt,), reply=NOT_TRUE + _inside(relation.reply))
    return None


def _inside(statement: str) -> str:
    """The beginning of a statement as it stands inside a sentence."""
    first, space, rest = statement.lstrip().partition(" ")
    return (first.lower() if first.lower() in OPENERS else first) + space + rest
