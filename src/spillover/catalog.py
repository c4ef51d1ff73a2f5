"""Everything on offer by name. A name maps to `module:attribute`, which is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from spillover.errors import UsageError, nearest


def find(reference: str) -> Any:
    """The object behind `module:attribute`, imported now."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def pick(shelf: dict[str, str], name: str, what: str) -> Any:
    """The object called `name` on a shelf; an unknown name is refused with the nearest one that exists.

    Raises UsageError; `what` says in one word what kind of name it was (model, plot).
    """
    if name not in shelf:
        raise UsageError(f"there is no {what} called {name!r}", do=nearest(name, shelf))
    return find(shelf[name])
