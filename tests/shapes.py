"""Shapes and types checked in each call, as jaxtyping's import hook does it, at less than half of its cost."""

import dataclasses
import functools
import inspect
import types
import typing

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

#: What beartype calls the function behind the one that it makes.
BEHIND = "__beartype_func"


def _has_shapes(hint):
    """Whether arrays with named axes stand anywhere in a type."""
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(map(_has_shapes, typing.get_args(hint)))


def _resolved(function):
    """The types of a function by name; what is named for readers alone is anything, as jaxtyping has it."""
    found = {}
    for name, hint in function.__annotations__.items():
        holder = types.SimpleNamespace(__annotations__={name: hint})
        try:
            found[name] = typing.get_type_hints(holder, function.__globals__, include_extras=True)[name]
        except Exception:
            found[name] = typing.Any
    return found


class Checked:
    """jaxtyping's decorator for what names shapes; what names none needs no record of axes and is left to beartype."""

    def __init__(self, of_jaxtyping):
        self.of_jaxtyping, self.made = of_jaxtyping, {}

    def __call__(self, **how):
        return functools.partial(self.decorate, self.of_jaxtyping(**how))

    def decorate(self, shaped, found):
        if dataclasses.is_dataclass(found):
            if "__init__" in vars(found):
                found.__init__ = self.decorate(shaped, found.__init__)
            return found
        if not inspect.isfunction(found):
            return shaped(found)
        # Fields of two classes may have the same names, and so equal code.
        key = (found.__module__, found.__qualname__, found.__code__)
        if key not in self.made:
            hints = _resolved(found)
            self.made[key] = None
            if any(map(_has_shapes, hints.values())):
                return shaped(found)
            found.__annotations__ = hints
            self.made[key] = made = beartype(found)
            return made
        # A function inside another is made in every call of that; how it is checked stays the same.
        made = self.made[key]
        if made is None or BEHIND not in (made.__kwdefaults__ or {}):
            return shaped(found)
        again = types.FunctionType(made.__code__, made.__globals__, found.__name__, made.__defaults__, made.__closure__)
        again.__kwdefaults__ = {**made.__kwdefaults__, BEHIND: found}
        return functools.update_wrapper(again, found)


def check(rooms):
    """Check every call of these rooms; before they are imported."""
    jaxtyping.jaxtyped = Checked(jaxtyping.jaxtyped)
    return install_import_hook(rooms, "beartype.beartype")
