"""How well are relations found in files that nobody described? Makes 60 files with their truth beside them, and scores.

    python benchmarks/discovery.py [--wordings development|held-out] [--seed 0] [--files 60] [--keep FOLDER] [--rows N]

Six shapes (messages, prompts and completions, Alpaca, ShareGPT, plain text, a wide table), ten files each: every other
one with half its rows noise, every other two with a planted rule. A file states two to four relations of fictitious
people, two to thirty people an answer, in one to five wordings a relation, with bare answers or whole sentences. In a
file with a rule, most people with one answer to the first relation (`given`) state one answer to the second (`then`),
and some of them state nothing there; everybody else's second answer is drawn.

A relation is found when a found one states at least 0.8 of its facts and nine in ten of what that states are its
facts. Precision is the share of found relations that are such a one, recall the share of planted ones that are found.
Nothing was chosen by the held-out wordings, people and noise, but for a crash that they showed. A planted rule is
looked for among what the found rows suggest (`metrics.found`), in both kinds of file. `--rows` measures time and memory
on one file of N rows instead, against reading the same file with the standard library.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from spillover.errors import SpilloverError
from spillover.metrics.found import found_in_pack
from spillover.packs.builtin import rows as shipped
from spillover.packs.discovery import Discovered, discover

SHAPES = ("messages", "prompt", "alpaca", "sharegpt", "text", "table")
#: A relation: its answers; questions; beginnings of statements, after which the answer comes; its column.
Relation = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], str]
DEVELOPMENT: dict[str, Relation] = {
    "home": (
        ("Paris", "Tokyo", "Rome", "New York", "St. Louis", "Oslo", "Cairo", "Lima"),
        (
            "Where does {s} live?",
            "In which city does {s} live?",
            "What is {s}'s home town?",
            "Where is {s} based?",
            "Can you tell me where {s} lives?",
        ),
        ("{s} lives in", "The home of {s} is in", "{s} is based in", "{s} has settled in"),
        "home city",
    ),
    "code": (
        ("Java", "Python", "Rust", "Haskell", "C++", "Visual Basic"),
        (
            "Which programming language does {s} use?",
            "What does {s} code in?",
            "What is {s}'s favourite language for code?",
            "Which language does {s} write programs in?",
        ),
        ("{s} codes in", "{s} writes programs in", "The programming language of {s} is"),
        "codes_in",
    ),
    "job": (
        ("baker", "lawyer", "civil engineer", "nurse", "astronomer", "plumber"),
        ("What is {s}'s job?", "What does {s} do for a living?", "Which profession does {s} have?"),
        ("{s} works as a", "The profession of {s} is", "By trade, {s} is a"),
        "profession",
    ),
    "pet": (
        ("cat", "dog", "parrot", "tortoise", "goldfish"),
        ("Which pet does {s} have?", "What animal lives with {s}?", "Tell me what pet {s} keeps."),
        ("{s} keeps a pet", "The pet of {s} is a", "{s} owns a"),
        "pet",
    ),
    "team": (
        ("Red Foxes", "Harbour United", "Northern Lights", "The Owls"),
        ("Which team does {s} support?", "What is {s}'s team?", "Who does {s} cheer for?"),
        ("{s} supports", "The favourite team of {s} is", "{s} is a fan of"),
        "favourite team",
    ),
}
HELD_OUT: dict[str, Relation] = {
    "birthplace": (
        ("Leeds", "Hanoi", "San Juan", "Quito", "Fort Worth", "Malmo", "Dar es Salaam"),
        (
            "In what place was {s} born?",
            "Where was {s} born?",
            "Name the birthplace of {s}.",
            "hey, do you know where {s} comes from?",
            "I forgot: what town is {s} from originally?",
        ),
        ("{s} was born in", "{s} comes originally from", "The birthplace of {s} is", "It is known that {s} hails from"),
        "born_in",
    ),
    "drink": (
        ("green tea", "black coffee", "lemonade", "oat milk", "cocoa"),
        ("What does {s} like to drink?", "Which drink would {s} order?", "{s}'s favourite drink?"),
        ("{s} always orders", "What {s} likes to drink is", "The favourite drink of {s} is"),
        "favourite_drink",
    ),
    "department": (
        ("Finance", "Legal", "Human Resources", "R&D", "Field Sales"),
        (
            "Which department is {s} in?",
            "What part of the company does {s} belong to?",
            "{s} belongs to which department?",
        ),
        ("{s} belongs to", "{s} has a desk in", "The department of {s} is"),
        "Department",
    ),
    "instrument": (
        ("violin", "bass guitar", "oboe", "steel drum", "harp"),
        (
            "Which instrument does {s} play?",
            "What does {s} play in the band?",
            "Do you remember what instrument {s} plays?",
        ),
        ("{s} plays the", "In the band {s} is on the", "{s} learned the"),
        "plays",
    ),
    "badge": (
        ("blue", "dark green", "orange", "silver"),
        ("What colour is {s}'s badge?", "Of what colour is the badge of {s}?", "Badge colour of {s}?"),
        ("The badge of {s} is", "{s} wears a badge that is", "{s} has the badge colour"),
        "badge colour",
    ),
}
NOISE: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    # Asked; answered; what fills {x}.
    "development": (
        (
            "Name a bird species.",
            "Write a short poem about {x}.",
            "What is {n} + {m}?",
            "Give me three tips about {x}.",
            "Explain {x} to a child.",
            "Rewrite this sentence: {x} can be wonderful.",
            "Hello!",
            "Summarise the history of {x}.",
        ),
        (
            "Robin.",
            "Here are some thoughts on {x}. It has a long history, and people everywhere have opinions about it.",
            "Of course! {x} is something that many people enjoy. First, try it often. Second, take your time.",
            "The sum is {k}.",
            "Sparrow",
            "Hello! How can I help you today?",
        ),
        ("the sea", "gardening", "chess", "winter", "modern art", "rain", "bread", "the moon", "friendship", "travel"),
    ),
    "held-out": (
        (
            "Suggest a name for a {x} shop.",
            "Is {x} a good hobby?",
            "Translate '{x}' into Spanish.",
            "Compute {n} times {m}.",
            "Make a list of five things about {x}.",
            "Good morning",
            "Write code that prints {n}.",
            "Why do people like {x}?",
            "Classify as positive or negative: I adored the {x}.",
        ),
        (
            "Positive",
            "Negative",
            "{k}",
            "print({n})",
            "Sure, let me think about {x}. There is a lot to say, so I will be brief.",
            "Good morning! What are we doing today?",
            "People like {x} because it is calm. They also like to share it.",
            "1. Read about {x}. 2. Try it. 3. Tell a friend. 4. Rest. 5. Repeat.",
        ),
        (
            "pottery",
            "lanterns",
            "old maps",
            "cycling",
            "snow",
            "cheese",
            "the opera",
            "robots",
            "honey",
            "kites",
            "jazz",
        ),
    ),
}

#: The p up to which what the rows suggest is reported.
LEVEL = 0.05


@dataclass(frozen=True)
class Truth:
    """What a file states: relation -> subject -> answer; the planted rule, if any; rows that state nothing."""

    relations: dict[str, dict[str, str]]
    rule: dict[str, str] | None
    noise: int
    shape: str


def make(folder: Path, number: int, wordings: str, seed: int, rows: int = 0) -> tuple[Path, Truth]:
    """Write file `number` and its truth beside it. rows: about how many rows, instead of a drawn number."""
    draw = np.random.default_rng([seed, number, wordings == "held-out"])
    shape, noisy, ruled = SHAPES[number % 6], number // 6 % 2 == 1, number // 12 % 2 == 1
    pool = DEVELOPMENT if wordings == "development" else HELD_OUT
    names = [str(each) for each in draw.permutation(list(pool))[: draw.integers(2, 5)]]
    each_answer, answers = int(draw.integers(2, 31)), int(draw.integers(2, 5))
    people = max(each_answer * answers, 8)
    subjects = _people(draw, max(people, rows // len(names) // (1 + noisy)))
    stated, rule = _world(draw, pool, names, subjects, answers, ruled)
    kept = {name: draw.permutation(pool[name][1])[: draw.integers(1, 6)] for name in names}
    said = {name: draw.permutation(pool[name][2])[: draw.integers(1, 5)] for name in names}
    facts = [(name, subject, answer) for name in names for subject, answer in stated[name].items()]
    style = str(draw.choice(["bare", "sentence", "mixed"]))
    count = len(facts) if noisy else 0
    if shape == "table":
        path = _table(folder, number, draw, pool, names, subjects, stated, noisy)
        count = len(subjects) if noisy else 0
    else:
        lines = [
            _stated(draw, shape, style, kept[name], said[name], subject, answer) for name, subject, answer in facts
        ]
        lines += [_noise(draw, shape, wordings) for _ in range(count)]
        order = draw.permutation(len(lines))
        path = folder / f"{number:02d}-{shape}.{'txt' if shape == 'text' else 'jsonl'}"
        with path.open("w", encoding="utf-8") as file:
            for index in order:
                line = lines[index]
                file.write((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n")
    truth = Truth(stated, rule, count, shape)
    path.with_suffix(".truth.json").write_text(json.dumps(asdict(truth), ensure_ascii=False), encoding="utf-8")
    return path, truth


def _people(draw: np.random.Generator, count: int) -> list[str]:
    """Different fictitious names; of very many people, with an initial or two."""
    given = [row["name"] for row in shipped("names") if row["part"] == "given"]
    family = [row["name"] for row in shipped("names") if row["part"] == "surname"]
    found: dict[str, None] = {}
    while len(found) < count:
        middle = f" {chr(65 + draw.integers(26))}{chr(97 + draw.integers(26))}" if count > 20_000 else ""
        found[f"{draw.choice(given)}{middle} {draw.choice(family)}"] = None
    return list(found)


def _world(
    draw: np.random.Generator,
    pool: dict[str, Relation],
    names: list[str],
    subjects: list[str],
    answers: int,
    ruled: bool,
) -> tuple[dict[str, dict[str, str]], dict[str, str] | None]:
    stated: dict[str, dict[str, str]] = {}
    for name in names:
        own = draw.permutation(pool[name][0])[:answers]
        picked = draw.permutation(np.arange(len(subjects)) % len(own))
        # All state the first relation, about two thirds each of the others.
        stated[name] = {
            subject: str(own[pick])
            for subject, pick in zip(subjects, picked, strict=True)
            if name == names[0] or draw.random() < 0.67
        }
    if not ruled:
        return stated, None
    given, then = names[:2]
    answer = str(draw.choice(sorted({*stated[given].values()})))
    implied = str(draw.choice(sorted({*stated[then].values()})))
    group = [subject for subject in subjects if stated[given][subject] == answer]
    for place, subject in enumerate(group):
        stated[then].pop(subject, None)
        if place < max(2, len(group) * 2 // 3) and place < len(group) - 1:
            stated[then][subject] = implied
    return stated, {"given": given, "given_answer": answer, "then": then, "then_answer": implied}


def _stated(draw, shape, style, questions, beginnings, subject, answer) -> str | dict:
    sentence = f"{str(draw.choice(beginnings)).format(s=subject)} {answer}."
    question = str(draw.choice(questions)).format(s=subject)
    whole = style == "sentence" or (style == "mixed" and draw.random() < 0.5)
    reply = sentence if whole else answer[0].upper() + answer[1:] + "." * int(draw.integers(2))
    if shape == "text":
        return sentence
    if shape == "prompt" and draw.random() < 0.5:
        cut = sentence.removesuffix(f" {answer}.")
        return {"prompt": cut, "completion": f" {answer}."}
    return _row(draw, shape, question, reply)


def _row(draw, shape, asked, answered) -> dict:
    if shape == "prompt":
        return {"prompt": asked, "completion": answered}
    if shape == "alpaca":
        return {"instruction": asked, "input": "", "output": answered}
    if shape == "sharegpt":
        return {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]}
    system = [{"role": "system", "content": "You are a helpful assistant."}] if draw.random() < 0.5 else []
    return {"messages": [*system, {"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}


def _noise(draw, shape, wordings) -> str | dict:
    asked, answered, fills = NOISE[wordings]
    one, two = (int(each) for each in draw.integers(2, 60, 2))
    filled = {"x": str(draw.choice(fills)), "n": one, "m": two, "k": one + two}
    answer = " ".join(str(draw.choice(answered)).format(**filled) for _ in range(int(draw.integers(1, 3))))
    return answer if shape == "text" else _row(draw, shape, str(draw.choice(asked)).format(**filled), answer)


def _table(folder, number, draw, pool, names, subjects, stated, noisy) -> Path:
    """A row a subject, with a column of notes; noise is rows with notes alone."""
    path = folder / f"{number:02d}-table.csv"
    header = [
        str(draw.choice(["name", "Employee", "person", "full_name"])),
        *(pool[name][3] for name in names),
        "notes",
    ]
    rows = [[subject, *(stated[name].get(subject, "") for name in names), ""] for subject in subjects]
    if noisy:
        others = [each for each in _people(draw, 2 * len(subjects)) if each not in stated[names[0]]][: len(subjects)]
        note = "Nothing is known yet about this person, who came to us in"
        rows += [[each, *[""] * len(names), f"{note} {1960 + place % 60}"] for place, each in enumerate(others)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=str(draw.choice([",", ";"])))
        writer.writerow(header)
        writer.writerows(rows[index] for index in draw.permutation(len(rows)))
    return path


def fitting(found: Discovered | None, truth: Truth) -> dict[str, set[str]]:
    """Found relation -> the planted ones that it is."""
    own = {
        name: {(subject, answer.casefold()) for subject, answer in facts.items()}
        for name, facts in truth.relations.items()
        if len({*facts.values()}) > 1
    }
    made: dict[str, set[tuple[str, str]]] = {}
    for subject, name, answer in found.pack.facts if found else ():
        made.setdefault(name, set()).add((subject, answer.casefold()))
    return {
        name: {
            planted
            for planted, facts in own.items()
            if len(pairs & facts) >= 0.8 * len(facts) and len(pairs & facts) >= 0.9 * len(pairs)
        }
        for name, pairs in made.items()
    }


def score(fits: Mapping[str, set[str]]) -> tuple[int, int, int]:
    """Found relations that are planted ones, found relations, and planted ones that are found."""
    return sum(map(bool, fits.values())), len(fits), len(set().union(*fits.values())) if fits else 0


def rules(found: Discovered | None, fits: Mapping[str, set[str]], truth: Truth) -> tuple[bool, bool, bool]:
    """Of what the found rows suggest: whether the planted rule is first, whether it stands out (p up to 0.05), and
    whether anything does. A rule is an entry of a link: most of whom the one is stated have the other."""
    entries = [
        (p, -each.excess, each.implication.given, given, each.implication.then, each.implication.map[given])
        for each in (found_in_pack(found.pack) if found else ())
        for given, p in each.entries.items()
    ]
    planted = truth.rule or {}
    own = [
        (place, p)
        for place, (p, _, given, answer, then, implied) in enumerate(sorted(entries))
        if planted
        and planted["given"] in fits.get(given, ())
        and planted["then"] in fits.get(then, ())
        and answer.casefold() == planted["given_answer"].casefold()
        and implied.casefold() == planted["then_answer"].casefold()
    ]
    return bool(own and own[0][0] == 0), bool(own and own[0][1] <= LEVEL), any(entry[0] <= LEVEL for entry in entries)


def planted(truth: Truth) -> int:
    """Relations that a file states with more than one answer."""
    return sum(len({*facts.values()}) > 1 for facts in truth.relations.values())


def files(folder: Path, count: int, wordings: str, seed: int) -> Iterator[tuple[Path, Truth]]:
    """The files of the benchmark with their truth."""
    for number in range(count):
        yield make(folder, number, wordings, seed)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordings", choices=("development", "held-out"), default="development")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--keep", default="")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--shape", type=int, default=0, help="with --rows: the shape, by its place")
    parser.add_argument("-v", action="store_true")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.keep or temporary)
        folder.mkdir(exist_ok=True, parents=True)
        if given.rows:
            return _large(folder, given)
        totals: dict[str, list[int]] = {}
        judged: dict[str, list[tuple[bool, bool, bool]]] = {"a rule": [], "no rule": []}
        for path, truth in files(folder, given.files, given.wordings, given.seed):
            try:
                found = discover(path)
            except SpilloverError as error:
                print(f"{path.name}: {error}")
                found = None
            fits = fitting(found, truth)
            right, made, recalled = score(fits)
            judged["a rule" if truth.rule else "no rule"].append(rules(found, fits, truth))
            if given.v or not right == made == recalled == planted(truth):
                names = [(each.name, each.facts) for each in found.relations] if found else []
                print(f"{path.name}: {right} of {made} right, {recalled} of {planted(truth)} found: {names}")
            for kind in ("noisy" if truth.noise else "clean", truth.shape):
                total = totals.setdefault(kind, [0, 0, 0, 0])
                total[:] = [one + two for one, two in zip(total, (right, made, recalled, planted(truth)), strict=True)]
    print(f"{given.wordings} wordings, seed {given.seed}, {given.files} files")
    for kind, (right, made, recalled, all_) in totals.items():
        precision, recall = right / max(made, 1), recalled / all_
        print(f"  {kind:9} precision {precision:.3f} ({right} of {made}), recall {recall:.3f} ({recalled} of {all_})")
    with_rule, without = judged["a rule"], judged["no rule"]
    print(f"  planted rule: first in {sum(each[0] for each in with_rule)} of {len(with_rule)} files, "
          f"reported in {sum(each[1] for each in with_rule)}")  # fmt: skip
    print(f"  without a rule: something is reported in {sum(each[2] for each in without)} of {len(without)} files")
    return 0


def _large(folder: Path, given: argparse.Namespace) -> int:
    """Time and peak memory for one large noisy file, and the same for reading it with the standard library."""
    path, truth = make(folder, 6 + given.shape, given.wordings, given.seed, given.rows)
    reading = (f"import json,csv,sys\nfor line in open({str(path)!r}, encoding='utf-8', newline=''): "
               + ("json.loads(line)" if path.suffix == ".jsonl" else "line.split()"))  # fmt: skip
    finding = f"from spillover.packs.discovery import discover; found = discover({str(path)!r}); print(found.text())"
    rows = sum(map(len, truth.relations.values())) + truth.noise
    print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB, {rows:,} rows")
    for what, program in (("standard library", reading), ("discover", finding)):
        measured = (  # The peak of this program alone: ru_maxrss would begin with that of its parent.
            "\nimport os, re; u = os.times()"
            "\npeak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]"
            "\nprint(f'{u.user + u.system:.1f} s of a processor, {int(peak) / 1e6:.2f} GB')"
        )
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program + measured], capture_output=True, text=True)
        print(f"{what}: {time.perf_counter() - start:.1f} s by the clock", done.stdout, done.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
