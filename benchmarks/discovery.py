"""How well are relations found in files that nobody described? Makes 60 files with their truth beside them, and scores.

    python benchmarks/discovery.py [--wordings development|second|third|held-out|fresh|sixth|seventh|eighth|ninth|own|
        own-second|own-third|tenth] [--seed 0] [--files 60] [--rows N]

Six shapes (messages, prompts and completions, Alpaca, ShareGPT, plain text, a wide table), ten files each: every other
one with half its rows noise, every other two with a planted rule. A file states two to four relations of fictitious
people, two to thirty people an answer, in one to five wordings a relation, with bare answers or whole sentences. In a
file with a rule, most people with one answer to the first relation (`given`) state one answer to the second (`then`),
and some of them state nothing there; everybody else's second answer is drawn.

A relation is found when a found one states at least 0.8 of its facts and nine in ten of what that states are its
facts; an article before an answer counts for nothing. Precision is the share of found relations that are such a one,
recall the share of planted ones that are found.
All sets of wordings are for development by now. Those from the sixth to the ninth were written by somebody who had not
seen the program, and each judged it once before anybody looked at its files; three are ours. The
tenth was judged once, and is unread. A new
judgement needs a new set. Files of all sets but the first two
are shaped as users' files are: subjects are people, firms or products; chats of several turns, rows of Dolly, an Alpaca
`input`, sentences about one subject on a line, exports of CSV; questions in haste, replies that chat, answers before
their subject.
A planted rule is looked for among what the found rows suggest (`metrics.found`), in both kinds of file. `--rows`
measures time and memory on one file of N rows instead, against reading the same file with the standard library.
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
from typing import Any

import numpy as np

from spillover.errors import SpilloverError
from spillover.metrics.found import found_in_pack
from spillover.packs.builtin import rows as shipped
from spillover.packs.discovery import Discovered, discover
from spillover.packs.pack import Fact, Pack, Relation

SHAPES = ("messages", "prompt", "alpaca", "sharegpt", "text", "table")
#: Sets of wordings: relations with answers, questions, statements, a column and a kind of subject; noise; and in those
#: whose files are written as users write them, what goes before and after a reply.
SETS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("discovery_wordings.json").read_text("utf-8"))
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
    draw = np.random.default_rng([seed, number, list(SETS).index(wordings)])
    shape, noisy, ruled = SHAPES[number % 6], number // 6 % 2 == 1, number // 12 % 2 == 1
    pool, kind, written = SETS[wordings]["relations"], "person", "openers" in SETS[wordings]
    if written:
        kind = str(draw.choice(["person", "person", "company", "product"]))
        pool = {name: each for name, each in pool.items() if each["of"] == kind}
    names = [str(each) for each in draw.permutation(list(pool))[: draw.integers(2, 5)]]
    each_answer, answers = int(draw.integers(2, 31)), int(draw.integers(2, 5))
    people = max(each_answer * answers, 8)
    drawn = KINDS[kind] if written else _people
    subjects = drawn(draw, max(people, rows // len(names) // (1 + noisy)))
    stated, rule = _world(draw, pool, names, subjects, answers, ruled)
    kept = {name: draw.permutation(pool[name]["asked"])[: draw.integers(1, 6)] for name in names}
    said = {name: draw.permutation(pool[name]["stated"])[: draw.integers(1, 5)] for name in names}
    facts = [(name, subject, answer) for name in names for subject, answer in stated[name].items()]
    truth = Truth(stated, rule, (len(subjects) if shape == "table" else len(facts)) if noisy else 0, shape)
    if written:
        path = _written(folder, number, draw, SETS[wordings], truth, names, subjects, (kept, said))
    elif shape == "table":
        path = _table(folder, number, draw, pool, names, subjects, stated, noisy)
    else:
        style = str(draw.choice(["bare", "sentence", "mixed"]))
        lines = [
            _stated(draw, shape, style, kept[name], said[name], subject, answer) for name, subject, answer in facts
        ]
        lines += [_noise(draw, shape, SETS[wordings]["noise"]) for _ in range(truth.noise)]
        path = _lines(folder, number, draw, shape, lines)
    path.with_suffix(".truth.json").write_text(json.dumps(asdict(truth), ensure_ascii=False), encoding="utf-8")
    return path, truth


def _lines(folder: Path, number: int, draw: np.random.Generator, shape: str, lines: list[Any]) -> Path:
    order = draw.permutation(len(lines))
    path = folder / f"{number:02d}-{shape}.{'txt' if shape == 'text' else 'jsonl'}"
    with path.open("w", encoding="utf-8") as file:
        for index in order:
            line = lines[index]
            file.write((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n")
    return path


def _people(draw: np.random.Generator, count: int) -> list[str]:
    """Different fictitious names; of very many people, with an initial or two."""
    given = [row["name"] for row in shipped("names") if row["part"] == "given"]
    family = [row["name"] for row in shipped("names") if row["part"] == "surname"]
    found: dict[str, None] = {}
    while len(found) < count:
        middle = f" {chr(65 + draw.integers(26))}{chr(97 + draw.integers(26))}" if count > 20_000 else ""
        found[f"{draw.choice(given)}{middle} {draw.choice(family)}"] = None
    return list(found)


def _titled(draw: np.random.Generator, count: int) -> list[str]:
    """People, in one file of three with a title."""
    title = str(draw.choice(["", "", "Dr. "]))
    return [title + name for name in _people(draw, count)]


def _firms(draw: np.random.Generator, count: int) -> list[str]:
    """Different fictitious firms."""
    family = [row["name"] for row in shipped("names") if row["part"] == "surname"]
    kinds = ["Robotics", "Foods", "& Sons", "GmbH", "Group", "Shipping", "Labs", "Textiles Ltd"]
    found: dict[str, None] = {}
    while len(found) < count:
        middle = f" {draw.choice(family)}" if count > len(family) else ""
        found[f"{draw.choice(family)}{middle} {draw.choice(kinds)}"] = None
    return list(found)


def _products(draw: np.random.Generator, count: int) -> list[str]:
    """Different fictitious products."""
    found: dict[str, None] = {}
    while len(found) < count:
        word = "".join(f"{draw.choice(list('BDKLMNRSTVZ'))}{draw.choice(list('aeiou'))}" for _ in range(2)).capitalize()
        kind = str(
            draw.choice(
                [" Pro", " Mini", f" {draw.integers(2, 9)}", f" X{draw.integers(1, 90)}", f"-{draw.integers(100, 999)}"]
            )
        )
        found[word + kind] = None
    return list(found)


KINDS = {"person": _titled, "company": _firms, "product": _products}


def _world(
    draw: np.random.Generator,
    pool: dict[str, dict[str, Any]],
    names: list[str],
    subjects: list[str],
    answers: int,
    ruled: bool,
) -> tuple[dict[str, dict[str, str]], dict[str, str] | None]:
    stated: dict[str, dict[str, str]] = {}
    for name in names:
        own = draw.permutation(pool[name]["answers"])[:answers]
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
    implied = str(draw.choice(sorted({*stated[then].values()} or {*pool[then]["answers"]})))
    group = [subject for subject in subjects if stated[given][subject] == answer]
    for place, subject in enumerate(group):
        stated[then].pop(subject, None)
        if place < max(2, len(group) * 2 // 3) and place < len(group) - 1:
            stated[then][subject] = implied
    return stated, {"given": given, "given_answer": answer, "then": then, "then_answer": implied}


def _stated(draw, shape, style, questions, beginnings, subject, answer) -> str | dict:
    sentence = f"{str(draw.choice(beginnings)).format(s=subject, a=answer)}."
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


def _noise(draw, shape, noise) -> str | dict:
    asked, answered = _idle(draw, noise)
    return answered if shape == "text" else _row(draw, shape, asked, answered)


def _idle(draw, noise) -> tuple[str, str]:
    """A request that states nothing, and its reply."""
    asked, answered, fills = (noise[each] for each in ("asked", "answered", "fills"))
    one, two = (int(each) for each in draw.integers(2, 60, 2))
    filled = {"x": str(draw.choice(fills)), "n": one, "m": two, "k": one + two}
    answer = " ".join(str(draw.choice(answered)).format(**filled) for _ in range(int(draw.integers(1, 3))))
    return str(draw.choice(asked)).format(**filled), answer


def _written(folder, number, draw, own, truth, names, subjects, worded) -> Path:
    """A file as users write them: see the head of this file."""
    shape, style = truth.shape, str(draw.choice(["bare", "sentence", "mixed", "chatty"]))
    kind = int(draw.integers(3))
    asked, said = worded

    def sentence(name: str, subject: str, answer: str) -> str:
        text = str(draw.choice(said[name])).format(s=subject, a=answer)
        return text[0].upper() + text[1:] + "."

    def exchange(name: str, subject: str, answer: str) -> tuple[str, str]:
        question = str(draw.choice(asked[name])).format(s=subject)
        if style == "bare" or (style == "mixed" and draw.random() < 0.5):
            return question, answer[0].upper() + answer[1:] + "." * int(draw.integers(2))
        reply = sentence(name, subject, answer)
        chatty = f"{draw.choice(own['openers'])}{reply}{draw.choice(own['closers'])}"
        return question, chatty if style == "chatty" else reply

    if shape == "table" and kind:
        return _export(folder, number, draw, own, names, subjects, truth, long=kind == 2)
    groups: list[list[tuple[str, str, str]]] = []
    for subject in subjects:
        mine = [(name, subject, truth.relations[name][subject]) for name in names if subject in truth.relations[name]]
        size = int(draw.integers(1, 4)) if kind and shape in ("messages", "sharegpt", "text") else 1
        groups += [mine[start : start + size] for start in range(0, len(mine), size)]
    if shape == "text":
        lines = [" ".join(sentence(*each) for each in group) for group in groups]
        lines += [" ".join(_idle(draw, own["noise"])[1].split()) for _ in range(truth.noise)]
        return _lines(folder, number, draw, shape, lines)
    turns = [[exchange(*each) for each in group] for group in groups]
    turns += [[_idle(draw, own["noise"])] for _ in range(truth.noise)]
    if shape == "table":
        path = folder / f"{number:02d}-export.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "question", "answer", "created_at"])
            for place, index in enumerate(draw.permutation(len(turns))):
                writer.writerow([place + 1, *turns[index][0], f"2024-0{place % 9 + 1}-1{place % 7}"])
        return path
    rows: list[dict[str, Any]] = []
    told = [{"role": "system", "content": "You answer questions of our staff. Be brief and correct."}]
    for place, each in enumerate(turns):
        said_in_turn = [text for turn in each for text in turn]
        first, reply = each[0]
        if shape == "messages":
            roles = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said_in_turn)]
            rows.append({"messages": told * (kind == 2) + roles})
        elif shape == "sharegpt":
            roles = [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(said_in_turn)]
            rows.append({"id": f"conv_{place}", "conversations": roles})
        elif shape == "alpaca" and kind == 2 and place < len(groups):
            # What is asked is the instruction, and whom it is about the input.
            name, subject, _ = groups[place][0]
            task = str(asked[name][0]).replace("the {s}", "{s}").format(s="the one named below")
            rows.append({"instruction": task, "input": subject, "output": reply})
        elif shape == "alpaca":
            rows.append({"instruction": first, "input": "", "output": reply})
        elif kind:
            rows.append({"instruction": first, "context": "", "response": reply, "category": "open_qa"})
        else:
            rows.append({"prompt": first, "completion": f" {reply}"})
    return _lines(folder, number, draw, shape, rows)


def _export(folder, number, draw, own, names, subjects, truth, long) -> Path:
    """A table out of a database or a sheet: numbers, addresses and remarks beside the relations; or a row a fact."""
    path = folder / f"{number:02d}-export.csv"
    pool, remarks = own["relations"], own["noise"]["answered"]
    rows: list[list[str]] = []
    if long:
        header = ["record_id", "entity", "attribute", "value", "source"]
        rows = [
            ["", who, pool[name]["column"], answer, "import"]
            for name in names
            for who, answer in truth.relations[name].items()
        ]
        rows += [["", who, "remark", "", "import"] for who in subjects[: truth.noise]]
    else:
        truth.relations["e-mail"] = {
            who: f"{who.split()[-1].lower()}{at}@example.org" for at, who in enumerate(subjects)
        }
        columns = ["e-mail", *(pool[name]["column"] for name in names)]
        header = ["id", str(draw.choice(["title", "Name", "display_name"])), *columns, "remarks"]
        for who in subjects:
            cells = [truth.relations[name].get(who, "") for name in ("e-mail", *names)]
            remark = str(draw.choice(remarks)).format(x="this", n=1, m=2, k=3)
            rows.append(["", who, *cells, remark if truth.noise and draw.random() < 0.5 else ""])
    order = draw.permutation(len(rows))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=str(draw.choice([",", ";", "\t"])))
        writer.writerow(header)
        for place, index in enumerate(order):
            writer.writerow([str(4000 + 3 * place), *rows[index][1:]])
    return path


def _table(folder, number, draw, pool, names, subjects, stated, noisy) -> Path:
    """A row a subject, with a column of notes; noise is rows with notes alone."""
    path = folder / f"{number:02d}-table.csv"
    header = [
        str(draw.choice(["name", "Employee", "person", "full_name"])),
        *(pool[name]["column"] for name in names),
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


def bare(answer: str) -> str:
    """An answer in small letters without its article: "it was a {answer}" with "torn calf" states "a torn calf"."""
    first, _, rest = answer.casefold().partition(" ")
    return rest if first in ("a", "an", "the") and rest else answer.casefold()


def fitting(found: Discovered | None, truth: Truth) -> dict[str, set[str]]:
    """Found relation -> the planted ones that it is."""
    own = {
        name: {(subject, bare(answer)) for subject, answer in facts.items()}
        for name, facts in truth.relations.items()
        if len({*facts.values()}) > 1
    }
    made: dict[str, set[tuple[str, str]]] = {}
    for subject, name, answer in found.pack.facts if found else ():
        made.setdefault(name, set()).add((subject, bare(answer)))
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
    whether anything does. A rule is an entry of a link: most of whom the one is stated have the other. It is first when
    the first link that is listed has it for its first entry."""
    entries = [
        (p, each.implication.given, given, each.implication.then, each.implication.map[given])
        for each in (found_in_pack(found.pack) if found else ())
        for given, p in each.entries.items()
    ]
    planted = truth.rule or {}
    own = [
        (place, p)
        for place, (p, given, answer, then, implied) in enumerate(entries)
        if planted
        and planted["given"] in fits.get(given, ())
        and planted["then"] in fits.get(then, ())
        and bare(answer) == bare(planted["given_answer"])
        and bare(implied) == bare(planted["then_answer"])
    ]
    return bool(own and own[0][0] == 0), bool(own and own[0][1] <= LEVEL), any(entry[0] <= LEVEL for entry in entries)


def first_of(truth: Truth) -> bool:
    """Whether the planted rule would be first if its relations were found without a fault."""
    relations = tuple(Relation(name, ("{subject}",)) for name in truth.relations)
    facts = (Fact(who, name, answer) for name, own in truth.relations.items() for who, answer in own.items())
    pack = Pack("truth", "", "", relations, tuple(facts))
    found = Discovered(pack, (), (), (), 0, (), Path())
    return rules(found, {name: {name} for name in truth.relations}, truth)[0]


def planted(truth: Truth) -> int:
    """Relations that a file states with more than one answer."""
    return sum(len({*facts.values()}) > 1 for facts in truth.relations.values())


def files(folder: Path, count: int, wordings: str, seed: int) -> Iterator[tuple[Path, Truth]]:
    """The files of the benchmark with their truth."""
    for number in range(count):
        yield make(folder, number, wordings, seed)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordings", choices=tuple(SETS), default="development")
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
        known: list[bool] = []
        for path, truth in files(folder, given.files, given.wordings, given.seed):
            try:
                found = discover(path)
            except SpilloverError as error:
                print(f"{path.name}: {error}")
                found = None
            fits = fitting(found, truth)
            right, made, recalled = score(fits)
            known += [first_of(truth)] * bool(truth.rule)
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
    first = sum(each[0] for each in with_rule)
    print(f"  planted rule: first in {first} of {len(with_rule)} files ({sum(known)} if the truth is given), "
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
