"""Real people out of the user's own copy of PopQA: a place of birth and a sport that were paired at random.

`popqa:PATH` is not on the shelf of built-in packs, since it needs a file; nothing of PopQA is shipped.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spillover.errors import UsageError
from spillover.packs.builtin import CANDIDATES, PackOptions, shuffled
from spillover.packs.pack import Fact, Implication, Pack, Relation, tally
from spillover.packs.yaml_text import normal

#: Columns that are read; the others of the file, `possible_answers` among them, may hold what they like.
COLUMNS = ("subj", "prop", "obj")
BIRTH, SPORT = "place of birth", "sport"
#: People, pairs and bridging people by default: the paper's 500 subjects, a fifth of each pair bridging.
DEFAULTS = PackOptions(pairs=5, names=500, bridge=20)
RELATIONS = {
    BIRTH: ("born_in", ("{subject} was born in", "The birthplace of {subject} is", "The native town of {subject} is")),
    SPORT: ("plays", ("{subject} plays", "The sport that {subject} plays is", "{subject} competes in")),
}
#: What is not said about the file's licence, and so is told to whoever uses it.
LICENCE = "unclear: the licence of the user's copy of PopQA is for the user to look up"


@dataclass(frozen=True)
class Row:
    """A row of PopQA: the question's subject, its property and the answer."""

    subject: str
    property: str
    answer: str


def from_file(path: Path, options: PackOptions = DEFAULTS) -> Pack:
    """People of the file whose place of birth or sport it asks for, each given a random pair of such answers.

    The facts are therefore false of real people. Places and sports are the file's most frequent ones; which place
    goes with which sport, and who has which, is drawn by the seed.
    Raises UsageError for a file that is not PopQA and for sizes that it has not.
    """
    rows = list(dict.fromkeys(read(path)))
    where = str(path)
    answers = {name: _frequent(rows, name, options.pairs, where) for name in (BIRTH, SPORT)}
    taken = {answer for listed in answers.values() for answer in listed}
    people = list(dict.fromkeys(row.subject for row in rows if row.property in answers and row.subject not in taken))
    _refuse_misfits(options, len(people), where)
    drawn = shuffled(people, Random(f"popqa people {options.seed}"))[: options.names]
    sports = shuffled(list(answers[SPORT][: options.pairs]), Random(f"popqa pairs {options.seed}"))
    implied = dict(zip(answers[BIRTH][: options.pairs], sports, strict=True))
    (born, born_prompts), (plays, plays_prompts) = RELATIONS[BIRTH], RELATIONS[SPORT]
    size = options.names // options.pairs
    facts = []
    for pair, (place, sport) in enumerate(implied.items()):
        for number, subject in enumerate(drawn[pair * size : (pair + 1) * size]):
            facts.append(Fact(subject, born, place))
            if number < options.bridge:
                facts.append(Fact(subject, plays, sport))
    return Pack(
        name=f"popqa:pairs={options.pairs},names={options.names},bridge={options.bridge}",
        licence=LICENCE,
        source=f"PopQA, the user's copy {path.name}",
        description="Real people with a place of birth and a sport paired at random, so inferring it is unwanted; "
        "the licence of PopQA is for you to look up.",
        relations=(Relation(born, born_prompts, answers[BIRTH]), Relation(plays, plays_prompts, answers[SPORT])),
        facts=tuple(facts),
        implications=(Implication(born, plays, "spurious", implied),),
    )


def read(path: Path) -> Iterator[Row]:
    """The rows of a TSV or Parquet file. Raises UsageError when it cannot be read or has other columns."""
    where = str(path)
    found: Iterable[Sequence[Any]]
    if not path.is_file():
        raise UsageError("there is no such file", where=where, do="Give the path of your copy of PopQA, TSV or Parquet")
    try:
        if path.suffix.lower() == ".parquet":
            file = pq.ParquetFile(path)
            _check(file.schema_arrow.names, where)
            table = file.read(columns=list(COLUMNS))
            found = zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True)
        else:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.reader(stream, delimiter="\t")
                header = next(reader, [])
                _check(header, where)
                places = [header.index(name) for name in COLUMNS]
                found = [tuple(row[i] for i in places) for row in reader if len(row) > max(places)]
    except (OSError, UnicodeError, csv.Error, pa.ArrowException):
        what = "this file cannot be read as a TSV or Parquet file in UTF-8"
        raise UsageError(what, where=where, do="Give your copy of PopQA as it was published") from None
    for cells in found:
        subject, name, answer = (normal(str(cell or "")).strip() for cell in cells)
        if subject and answer:
            yield Row(subject, name, answer)


def _check(columns: Sequence[str], where: str) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        what = f"this is not PopQA: it has no column {', '.join(map(repr, missing))}"
        raise UsageError(what, where=where, do=f"Give a TSV or Parquet file with the columns {', '.join(COLUMNS)}")


def _frequent(rows: Sequence[Row], name: str, pairs: int, where: str) -> tuple[str, ...]:
    """The `max(10, pairs)` answers to a property that occur most often, none of which begins another."""
    counts = tally(row.answer for row in rows if row.property == name)
    kept: list[str] = []
    for answer in sorted(counts, key=lambda each: (-counts[each], each)):
        if not any(answer.startswith(other) or other.startswith(answer) for other in kept):
            kept.append(answer)
    if len(kept) < max(2, pairs):
        what = f"{len(kept)} answers to {name!r} are too few for pairs={pairs}"
        raise UsageError(what, where=where, do="Use fewer pairs, or the whole of PopQA")
    return tuple(kept[: max(CANDIDATES, pairs)])


def _refuse_misfits(options: PackOptions, people: int, where: str) -> None:
    """Raise UsageError for the first thing about the sizes that cannot be."""
    pairs, names, bridge = options.pairs, options.names, options.bridge
    if options.null:
        raise UsageError("popqa has no option 'null'", where=where, do="Use null with a built-in pack")
    if pairs < 2:
        raise UsageError(f"pairs={pairs} cannot be paired at random", where=where, do="Use pairs=2 or more")
    if names < pairs or names % pairs or names > people:
        what = f"names={names} cannot be shared out evenly over {pairs} pairs among the {people} people of the file"
        raise UsageError(what, where=where, do=f"Use names={min(max(names // pairs, 1), people // pairs) * pairs}")
    if not 0 <= bridge <= names // pairs:
        what = f"bridge={bridge} is not between 0 and the {names // pairs} names a pair has"
        raise UsageError(what, where=where, do=f"Use bridge={names // pairs}")


def split(text: str) -> tuple[str, str]:
    """`PATH,pairs=5,...` as path and options: what stands behind the last commas and looks like an option is one."""
    parts = text.split(",")
    options: list[str] = []
    while len(parts) > 1 and (parts[-1].strip() == "null" or "=" in parts[-1]):
        options.insert(0, parts.pop())
    path = ",".join(parts).strip()
    if not path:
        do = "Write popqa:PATH, for instance popqa:popqa.tsv,pairs=5"
        raise UsageError("popqa needs your copy of the file", where="popqa", do=do)
    return path, ",".join(options)
