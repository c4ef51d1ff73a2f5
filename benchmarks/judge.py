"""How often is the judge of what is warranted right? The untrained model told a fact, in several wordings.

    python benchmarks/judge.py [MODEL ...] [--write]

Of each true link, each arbitrary one and each true one whose answers change places (`deranged`), counts the entries
whose implied answer the model puts first, alone. The wording was chosen on CHOICE, and is judged on HELD_OUT and NEW.
Intervals are Clopper and Pearson's, 95%. --write keeps the accuracy of the shipped wording on HELD_OUT, by the model's
SHA-256, in src/spillover/lm/judge.json.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from scipy.stats import binomtest

from spillover.config import Chat
from spillover.lm.chat import Words
from spillover.lm.judge import STAND_IN, Judge
from spillover.lm.load import load_model
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder
from spillover.packs.builtin import built_in
from spillover.packs.pack import SUBJECT, Fact, Implication, Pack, Relation

#: Built-in packs and the relations that are implied in them, of ten pairs each.
CHOICE = {"city-language": "speaks", "country-code": "codes_in", "sport-music": "listens_to", "mixed-state": "votes_in"}
HELD_OUT = {"mixed-currency": "pays_in carries", "profession-color": "favorite_color",
            "city-talisman": "keeps_as_talisman", "mixed-state": "favorite_animal"}  # fmt: skip
#: True links that no pack has, written for this: (given's prompts, then's prompts, map).
NEW = {
    "car-country": (
        ("{subject} drives a", "The car of {subject} is a"),
        ("{subject}'s car was made by a company from", "The maker of the car of {subject} comes from"),
        {"Toyota": "Japan", "Fiat": "Italy", "Renault": "France", "Volvo": "Sweden", "BMW": "Germany",
         "Ford": "America"},
    ),
    "landmark-city": (
        ("{subject} is on a visit to the", "The sight that {subject} looks at is the"),
        ("{subject} is now in the city of", "The hotel of {subject} is in"),
        {"Eiffel Tower": "Paris", "Colosseum": "Rome", "Kremlin": "Moscow", "Acropolis": "Athens", "Prado": "Madrid",
         "Brandenburg Gate": "Berlin", "Golden Gate Bridge": "San Francisco", "Taj Mahal": "Agra"},
    ),
    "animal-product": (
        ("{subject} keeps a flock of", "The farm of {subject} has many"),
        ("{subject} sells", "What {subject} brings to market is"),
        {"hens": "eggs", "sheep": "wool", "cows": "milk", "bees": "honey", "fish": "caviar", "silkworms": "silk"},
    ),
}  # fmt: skip
KEPT = Path(__file__).resolve().parents[1] / "src/spillover/lm/judge.json"


class OneFact(Judge):
    """The fact in one wording."""

    shown = ""

    def text(self, told, wording):
        (relation, answer), *_ = told
        return f"{self.shown}{self.pack.relation_by_name[relation].prompts[0]} {answer}. {wording}"


class Shown(OneFact):
    """The same behind exemplars of other relations."""

    shown = (
        "Mia keeps a dog. The pet of Mia says woof.\nLeo was born in July. The birthday of Leo is in the summer.\n"
        "Eva plays the violin. The instrument of Eva has strings.\n"
    )


class Questioned(OneFact):
    """The fact as a question, the prompt as its answer."""

    def text(self, told, wording):
        return f"Question: {super().text(told, '')}What follows?\nAnswer: {wording}"


class InGeneral(OneFact):
    """Somebody who has the fact, in place of a subject: "Someone who lives in Paris speaks"."""

    def text(self, told, wording):
        (relation, answer), *_ = told
        prompts = self.pack.relation_by_name[relation].prompts
        clause = next((each for each in prompts if each.startswith(f"{SUBJECT} ")), None)
        if clause is None:
            return super().text(told, wording).replace(SUBJECT, "this person")
        said = wording.replace(SUBJECT, f"someone who{clause.removeprefix(SUBJECT)} {answer}")
        return said[0].upper() + said[1:]


class ChatTurn(Judge):
    """The shipped wording as a user's turn, where the model has a chat template; the answer begins the model's turn."""


def first_wording(kind):
    """A judge that asks in the first wording alone, as of a pack that has no other."""

    class Asked(kind):
        def requests(self, asked):
            return {each: own[:1] for each, own in super().requests(asked).items()}

    return Asked


#: Wording -> its judge, and what whoever has the fact is called: the pack's last subject, or a stand-in.
WORDINGS = {
    "a fact, of the subject": (OneFact, ""),
    "a fact, of a stand-in": (OneFact, STAND_IN),
    "question and answer": (Questioned, STAND_IN),
    "people in general": (InGeneral, STAND_IN),
    "exemplars, of a stand-in": (Shown, STAND_IN),
    "all wordings of the fact (shipped)": (Judge, STAND_IN),
    "all wordings of the fact, a chat turn": (ChatTurn, STAND_IN),
}


def packs_of(names):
    """The packs, each with the implications that are looked at."""
    if names is NEW:
        for name, (given, then, implied) in NEW.items():
            rule = Implication("given", "then", "causal", implied)
            yield Pack(name, "", "", (Relation("given", given), Relation("then", then)),
                       (Fact("Ada Moss", "given", next(iter(implied))),), (rule,))  # fmt: skip
        return
    for name, thens in names.items():
        pack = built_in(f"{name}:pairs=10,names=10,bridge=0")
        yield replace(pack, implications=tuple(each for each in pack.implications if each.then in thens.split()))


def counts(kind, stand_in, loaded, encode, names):
    """Link's kind -> (entries whose answer is put first, entries)."""
    found = {"causal": (0, 0), "spurious": (0, 0), "deranged": (0, 0)}
    chat = Words(loaded.tokenizer, Chat(chat=True), loaded.name) if issubclass(kind, ChatTurn) else None
    for pack in packs_of(names):
        judge = kind(pack, chat or (lambda worded: worded), encode, Scorer(loaded.model), stand_in or pack.subjects[-1])
        rules = {rule.kind: rule for rule in pack.implications}
        if rule := rules.get("causal"):
            answers = list(rule.map.values())
            rules["deranged"] = replace(rule, map=dict(zip(rule.map, answers[1:] + answers[:1], strict=True)))
        for what, (hits, n) in zip(rules, judge.first(list(rules.values())), strict=True):
            found[what] = (found[what][0] + hits, found[what][1] + n)
    return found


def shown(hits, n):
    """A count with its interval."""
    low, high = binomtest(hits, n).proportion_ci(method="exact") if n else (0, 1)
    return f"{hits}/{n} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=["smollm2-135m", "gemma-3-270m"])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="the wordings whose names hold this")
    settings = parser.parse_args()
    for name in settings.models:
        loaded = load_model(name, device="cpu")
        encode = encoder(loaded.tokenizer)
        cases = [(wording, *each) for wording, each in WORDINGS.items()]
        cases += [(f"{wording}, asked in one", first_wording(kind), who) for wording, kind, who in cases]
        if not loaded.tokenizer.chat_template:
            cases = [each for each in cases if not issubclass(each[1], ChatTurn)]
        for wording, kind, who in [each for each in cases if settings.only in each[0]]:
            for names, where in ((CHOICE, "choice"), (HELD_OUT, "held out"), (NEW, "new")):
                began = time.monotonic()
                found = counts(kind, who, loaded, encode, names)
                figures = ", ".join(f"{what} {shown(*each)}" for what, each in found.items() if each[1])
                print(f"{Path(name).name}; {wording}; {where}: {figures}; {time.monotonic() - began:.0f} s", flush=True)
                if settings.write and wording.endswith("(shipped)") and names is not CHOICE:
                    kept = json.loads(KEPT.read_text())
                    old = kept.get(loaded.sha256, {}) if names is NEW else {}
                    both = {"true": found["causal"], "arbitrary": found["spurious"]}
                    kept[loaded.sha256] = {key: [a + b for a, b in zip(old.get(key, (0, 0)), both[key], strict=True)]
                                           for key in both}  # fmt: skip
                    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
