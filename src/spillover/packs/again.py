"""A question asked again in other ways, each made of the pack's own first wording: negated, behind other words."""

import re
from dataclasses import replace

from spillover.packs.pack import SUBJECT, Pack, Relation

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
    ways = {FREE: pack, KEYWORD: _with(pack, _behind_keywords(pack))}
    if english(pack):
        ways[IRRELEVANT] = _with(pack, {name: replace(each, prompts=(BESIDE + each.prompts[0],))
                                        for name, each in _concluded(pack).items()})  # fmt: skip
        ways[NEGATED] = _with(pack, {name: denied for name, each in _concluded(pack).items()
                                     if (denied := _negated(each))})  # fmt: skip
    return {way: ways[way] for way in WAYS if way in ways and ways[way].questions}


def _concluded(pack: Pack) -> dict[str, Relation]:
    return {each.name: each for each in pack.relations if each.name in pack.then_relations}


def _with(pack: Pack, relations: dict[str, Relation]) -> Pack:
    """The pack with other relations of the same names; what none of them concludes is not asked."""
    kept = tuple(each for each in pack.implications if each.then in relations)
    candidates = {name: replace(each, answers=pack.candidates[name]) for name, each in relations.items()}
    made = replace(pack, relations=tuple(candidates.get(each.name, each) for each in pack.relations))
    # Without implications every hole would be a question.
    return replace(made, implications=kept) if kept else replace(made, facts=())


def _behind_keywords(pack: Pack) -> dict[str, Relation]:
    return {name: replace(each, prompts=tuple(f"{given}. {each.prompts[0]}" for given in keywords(pack)))
            for name, each in _concluded(pack).items()}  # fmt: skip


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
