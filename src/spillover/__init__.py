"""Spillover: what else did this fine-tuning teach the model?"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: What the library offers by name; imported when it is first asked for.
_OFFERED = {
    "train": "spillover.theory.learning.training",
    "Recipe": "spillover.theory.learning.training",
    "Model": "spillover.theory.learning.models",
    "Task": "spillover.theory.symbolic",
    "Probe": "spillover.theory.comparison",
}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_OFFERED[name]), name)
