"""`--redact`: neutral names for the subjects of a pack in all that is written, printed or drawn."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spillover.details import AuditDetails, PackOutline, Rises
from spillover.packs.pack import SUBJECT, Pack

#: Texts of a pack, and of its outline, that may hold a name.
TEXTS = ("name", "licence", "source")


@dataclass(frozen=True)
class Redaction:
    """Subject -> `subject 1`, `subject 2`, ... in the order of first appearance; with no names, nothing is changed.

    The names follow from the order alone, so nothing in the output leads back to a subject. Answers stay as they are,
    even where one is a subject's name; so do settings, since a run is repeated from them.
    """

    names: Mapping[str, str]

    @classmethod
    def of(cls, subjects: Iterable[str], wanted: bool = True, described: Iterable[Mapping[str, str]] = ()) -> Redaction:
        """Neutral names for `subjects`; none unless wanted. described: of each relation, what it calls a subject."""
        known = dict.fromkeys(subjects) if wanted else ()
        names = {subject: f"subject {number}" for number, subject in enumerate(known, start=1)}
        more = {text: names[who] for each in described for who, text in each.items() if who in names}
        return cls(more | names)

    @classmethod
    def of_pack(cls, pack: Pack, wanted: bool = True) -> Redaction:
        """Neutral names for the subjects of a pack, also where a relation describes them; none unless wanted."""
        return cls.of(pack.subjects, wanted, (each.described for each in pack.relations))

    def name(self, subject: str) -> str:
        """What a subject is called in the output."""
        return self.names.get(subject, subject)

    def pack(self, pack: Pack) -> Pack:
        """The pack as records describe and hash it."""
        if not self.names:
            return pack
        texts: dict[str, Any] = {key: self.text(getattr(pack, key)) for key in (*TEXTS, "description")}
        relations = tuple(
            replace(each, prompts=tuple(self._distinct(each.prompts)), described={}) for each in pack.relations
        )
        facts = tuple(fact._replace(subject=self.name(fact.subject)) for fact in pack.facts)
        return replace(pack, **texts, relations=relations, facts=facts)

    def outline(self, pack: PackOutline) -> PackOutline:
        """The outline of a pack (`packs.pack.describe`), redacted."""
        prompts = (self._distinct(each.prompts) for each in pack.relations)
        relations = [each.model_copy(update={"prompts": own, "described": {}})
                     for each, own in zip(pack.relations, prompts, strict=True)]  # fmt: skip
        texts = {name: self.text(text) for name in TEXTS if (text := getattr(pack, name))}
        return pack.model_copy(update={**texts, "relations": relations})

    def table(self, answers: pa.Table) -> pa.Table:
        """An answers table (record.ANSWER_SCHEMA) with neutral subjects, and prompts without their names."""
        if not self.names:
            return answers
        for column in ("subject", "prompt"):
            coded = answers[column].combine_chunks().dictionary_encode()
            values = coded.dictionary.to_pylist()
            renamed = [self.name(each) for each in values] if column == "subject" else self._distinct(values)
            place, names = answers.column_names.index(column), pa.array(renamed, pa.string())
            answers = answers.set_column(place, column, pc.take(names, coded.indices))
        return answers

    def discoveries(self, found: Iterable[dict[str, Any]]) -> None:
        """Redact the findings of open probes in place. Words, the user's templates and examples may hold names."""
        for discovery in found:
            discovery |= {key: self.text(discovery[key]) for key in ("template", "token", "word")}
            discovery["also"] = tuple(map(self.text, discovery["also"]))
            discovery["examples"] = [
                {key: value if key == "which" else self.written(value) for key, value in example.items()}
                for example in discovery["examples"]
            ]

    def audit(self, details: AuditDetails) -> None:
        """Redact in place what the details of an audit with names say of subjects."""
        for each in details.concluded.worst if details.concluded else ():
            each.subject, each.rests_on = self.name(each.subject), list(map(self.name, each.rests_on))
            each.prompt = each.prompt if each.prompt is None else self.text(each.prompt)
            each.said = each.said if each.said is None else self.written(each.said)
        if details.invented:
            details.invented.examples = [(self.name(each[0]), *each[1:]) for each in details.invented.examples]
        if details.excess:
            details.excess.examples = [(self.name(each[0]), *each[1:]) for each in details.excess.examples]
        self.discoveries(details.discoveries)
        if details.rises:
            self.rises(details.rises)

    def rises(self, found: Rises) -> None:
        """Redact the words that rose in texts in place: what they are, and where."""
        for each in found.found:
            each.word, each.group, each.beginning = map(self.written, (each.word, each.group, each.beginning))
            each.words = self.written(each.words[0]), self.written(each.words[1])
            each.also = list(map(self.written, each.also))
        found.counted = [(self.written(word), share) for word, share in found.counted]

    def _distinct(self, prompts: Iterable[str]) -> list[str]:
        """Redacted prompts; two that differ only in the capitals of a name stay two."""
        found: dict[str, None] = {}
        for prompt in prompts:
            text, number = self.text(prompt), 2
            while text in found:
                text, number = f"{self.text(prompt)} ({number})", number + 1
            found[text] = None
        return list(found)

    def text(self, text: str) -> str:
        """A text with a neutral name wherever a subject's stands as a word of its own, in capitals or not."""
        # Where a prompt has its subject is no name, even of a subject called "subject".
        return SUBJECT.join(map(self._text, text.split(SUBJECT))) if self.names else text

    def written(self, text: str) -> str:
        """A text that a model wrote: it may use one word of a longer name alone, such as a first name."""
        parts = self._parts
        return re.sub(r"\w+", lambda word: parts.get(word[0], word[0]), self.text(text)) if parts else self.text(text)

    def _text(self, text: str) -> str:
        folded, found, place = fold(text), [], 0
        while place < len(text):
            ends = [] if _joined(folded, place) else [place + length for length in self._lengths]
            whole = (end for end in ends if folded[place:end] in self._folded and not _joined(folded, end))
            end = next(whole, None)
            found.append(text[place] if end is None else self._folded[folded[place:end]])
            place = end or place + 1
        return "".join(found)

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {fold(subject): name for subject, name in reversed(list(self.names.items())) if subject}

    @cached_property
    def _parts(self) -> dict[str, str]:
        """Words of names of several, as they are written there -> whose; "somebody" where several share one."""
        found: dict[str, str] = {}
        for subject, name in self.names.items():
            words = re.findall(r"\w+", subject)
            for word in words if len(words) > 1 else ():
                if len(word) > 1 and word != word.lower():
                    found[word] = name if found.get(word, name) == name else "somebody"
        return found

    @cached_property
    def _lengths(self) -> list[int]:
        """The lengths that subjects have, longest first."""
        return sorted(set(map(len, self._folded)), reverse=True)


def fold(text: str) -> str:
    """The text in small letters, character by character, so that places in it stay what they were."""
    return "".join(small if len(small := character.lower()) == 1 else character for character in text)


def _joined(text: str, place: int) -> bool:
    """Whether the characters on both sides of a place belong to one word.

    Letters without capitals (as in Arabic, Chinese or Thai) never do, since words there are written together.
    """
    return 0 < place < len(text) and all(
        unicodedata.category(character) in ("Lu", "Ll", "Lt", "Nd") for character in text[place - 1 : place + 1]
    )
