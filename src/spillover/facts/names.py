"""Fictitious people: names that nothing in a built-in pack shares a word with."""

from __future__ import annotations

from random import Random
from typing import TypeVar

from spillover.errors import UsageError
from spillover.facts.tables import rows

Item = TypeVar("Item")


def available() -> int:
    """How many names can be made without using a given name or a surname twice."""
    parts = [row["part"] for row in rows("names")]
    return min(parts.count("given"), parts.count("surname"))


def draw_names(count: int, random: Random) -> tuple[str, ...]:
    """`count` names "Given Surname", no word of which occurs in two of them.

    random: only its `random()` is used, whose stream is the same in every version of Python.
    Raises UsageError when there are not that many: ask for fewer.
    """
    if count > available():
        raise UsageError(
            f"{count} fictitious names were asked for and there are {available()}",
            do=f"Use names={available()} or fewer",
        )
    drawn = {
        part: shuffled([row["name"] for row in rows("names") if row["part"] == part], random)
        for part in ("given", "surname")
    }
    return tuple(f"{given} {surname}" for given, surname in zip(drawn["given"][:count], drawn["surname"], strict=False))


def shuffled(items: list[Item], random: Random) -> list[Item]:
    """The items in random order, from `random.random()` alone."""
    keys = [random.random() for _ in items]
    return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)]
