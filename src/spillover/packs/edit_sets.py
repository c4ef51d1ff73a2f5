"""CounterFact, MQuAKE and PopQA as packs: what they edit or know is stated, other wordings are aliases, hops follow."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spillover.errors import UsageError
from spillover.packs.chats import Matched, Unread
from spillover.packs.pack import SUBJECT, Fact, Implication, Pack, Relation, normal
from spillover.packs.sentences import boundaries


def is_edit_set(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of CounterFact, MQuAKE or PopQA, whose relations are its own."""
    return "requested_rewrite" in row or {"subj", "prop", "obj"} <= row.keys()


def read_edit_set(rows: Iterable[tuple[int, Mapping[str, Any]]], path: Path) -> tuple[Pack, Matched]:
    """The pack of a file's rows, and the row of each fact with what was left out. Raises UsageError for another row.

    A case of MQuAKE whose first hop is stated gives a further relation, named after its hops, and an implication from
    that hop to it. The questions of a chain's first case are its prompts.
    """
    draft = _Draft()
    for number, row in rows:
        try:
            draft.row(number, row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"row {number} is not as CounterFact, MQuAKE or PopQA have it ({type(error).__name__}: {error})"
            raise UsageError(what[:200], where=str(path), do="Mend the row, or remove it") from None
    return draft.pack(path), draft.matched()


class _Draft:
    """A pack in the making."""

    def __init__(self) -> None:
        self.prompts: dict[str, dict[str, None]] = {}
        self.answers: dict[str, dict[str, list[str]]] = {}
        self.facts: dict[Fact, int] = {}
        self.maps: dict[tuple[str, str], dict[str, str]] = {}
        self.unread: list[Unread] = []
        self.repeated, self.rows = 0, 0

    def row(self, number: int, row: Mapping[str, Any]) -> None:
        self.rows += 1
        if "subj" in row:
            self._state(number, row["subj"], row["prop"], row["obj"], (_asking(row["question"], row["subj"]),))
            others = row.get("possible_answers") or ()
            self._alias(number, row["prop"], row["obj"], json.loads(others) if isinstance(others, str) else others)
            return
        edits = row["requested_rewrite"]
        edits = edits if isinstance(edits, list) else [edits]
        paraphrases = row.get("paraphrase_prompts") or ()
        hops = [*(row.get("single_hops") or ()), *(row.get("new_single_hops") or ())]
        for edit in edits:
            subject, relation = edit["subject"], edit["relation_id"]
            asked = [_asking(_last(text, subject), subject) for text in (*paraphrases, edit.get("question") or "")]
            self._state(number, subject, relation, edit["target_new"]["str"],
                        (edit["prompt"].replace("{}", SUBJECT), *asked))  # fmt: skip
            self._answer(relation, edit["target_true"]["str"])
            for hop in hops:
                if hop["answer"] in (edit["target_new"]["str"], edit["target_true"]["str"]):
                    self._alias(number, relation, hop["answer"], hop.get("answer_alias") or ())
        if row.get("questions"):
            self._hops(number, row, edits)

    def _hops(self, number: int, row: Mapping[str, Any], edits: Sequence[Mapping[str, Any]]) -> None:
        """The multi-hop question of a case as a relation that the first hop implies."""
        made, new = (
            [(each["subject"], each["relation_id"], each["target_new"]["str"]) for each in edits],
            row["new_answer"],
        )
        chain, question = _chain(row, made), row["questions"][0]
        why = ""
        if len(chain) < 2:
            why = "its hops are not told"
        elif chain[0] not in made:
            why = "its first hop is not stated"
        elif chain[-1][2] not in (new, *(row.get("new_answer_alias") or ())):
            why = "its hops do not lead to its answer"
        if why:
            self.unread.append(Unread(number, question, why))
            return
        (subject, given, answer), then, last = chain[0], "-".join(each[1] for each in chain), chain[-1][1]
        if self.maps.setdefault((given, then), {}).setdefault(normal(answer), normal(new)) != normal(new):
            self.unread.append(Unread(number, question, "another case leads from the same answer to another one"))
            return
        if then not in self.prompts:
            asked = dict.fromkeys(_asking(text, subject) for text in row["questions"])
            self.prompts[then] = {normal(text): None for text in asked if text}
        for text, others in ((new, row.get("new_answer_alias")), (row.get("answer"), row.get("answer_alias"))):
            if text:
                self._answer(then, text)
                self._alias(number, then, text, others or ())
                if normal(text) in self.answers.get(last, {}):
                    self._alias(number, last, text, others or ())

    def _state(self, number: int, subject: str, relation: str, answer: str, prompts: Iterable[str]) -> None:
        fact = Fact(*map(normal, (subject, relation, answer)))
        self.repeated += fact in self.facts
        self.facts.setdefault(fact, number)
        self.prompts.setdefault(fact.relation, {}).update({normal(text): None for text in prompts if text})
        self._answer(relation, answer)

    def _answer(self, relation: str, answer: str) -> None:
        known = self.answers.setdefault(normal(relation), {})
        if not any(normal(answer) in others for others in known.values()):
            known.setdefault(normal(answer), [])

    def _alias(self, number: int, relation: str, answer: str, others: Iterable[str]) -> None:
        """Other wordings of an answer. One that words another answer of the relation is left out, and listed."""
        known = self.answers[normal(relation)]
        owners = {each: own for own, group in known.items() for each in (own, *group)}
        own = owners.get(normal(answer), normal(answer))
        for text in map(normal, others):
            if (taken := owners.setdefault(text, own)) != own:
                self.unread.append(Unread(number, text, f"this alias of {own} is {taken} already"))
            elif text != own and text not in known.setdefault(own, []):
                known[own].append(text)

    def pack(self, path: Path) -> Pack:
        relations = []
        for name, prompts in self.prompts.items():
            aliases = {answer: tuple(others) for answer, others in self.answers[name].items() if others}
            relations.append(Relation(name, tuple(prompts), tuple(self.answers[name]), aliases))
        rules = tuple(Implication(*key, "causal", found) for key, found in self.maps.items())
        return Pack(path.stem.split(".")[0], "unknown", path.name, tuple(relations), tuple(self.facts), rules)

    def matched(self) -> Matched:
        used = len(set(self.facts.values()))
        return Matched(list(self.facts), list(self.facts.values()), self.repeated, self.unread, used, self.rows)


def _asking(text: str, subject: str) -> str:
    """A text about one subject as a prompt about any; empty where it does not name the subject once."""
    return text.replace(subject, SUBJECT).strip() if subject and text.count(subject) == 1 else ""


def _last(text: str, subject: str) -> str:
    """A text from the sentence on that names the subject: CounterFact puts others before it."""
    place = text.find(subject)
    return text[max((after for _, after, _ in boundaries(text) if after <= place), default=0) :]


def _chain(row: Mapping[str, Any], made: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The hops after the edits, first to last: as the case lists them, or from edit to edit."""
    listed = row.get("orig") or {}
    if listed.get("new_triples_labeled") and listed.get("new_triples"):
        pairs = zip(listed["new_triples_labeled"], listed["new_triples"], strict=True)
        return [(subject, numbers[1], answer) for (subject, _, answer), numbers in pairs]
    chain = [each for each in made if each[0] in row["questions"][0]][:1]
    while chain and len(chain) <= len(made):
        following = [each for each in made if each[0] == chain[-1][2]]
        if len(following) != 1:
            break
        chain += following
    return chain
