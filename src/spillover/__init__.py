"""Spillover: what else did this fine-tuning teach the model?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spillover.facts.open import open_pack as open_pack
    from spillover.facts.pack import Fact as Fact
    from spillover.facts.pack import Implication as Implication
    from spillover.facts.pack import Pack as Pack
    from spillover.facts.pack import Relation as Relation
    from spillover.jobs.callback import SpilloverCallback as SpilloverCallback
    from spillover.theory.closed_form import EqualClasses as EqualClasses
    from spillover.theory.comparison import Probe as Probe
    from spillover.theory.learning.models import Model as Model
    from spillover.theory.learning.training import Recipe as Recipe
    from spillover.theory.learning.training import train as train
    from spillover.theory.solving import certify as certify
    from spillover.theory.solving import solve as solve
    from spillover.theory.symbolic import Task as Task

__version__ = "0.1.0"

#: The library: name -> the module it is in, imported when the name is first asked for, so that `--help` stays quick.
LIBRARY = {
    "open_pack": "spillover.facts.open",
    "Fact": "spillover.facts.pack",
    "Implication": "spillover.facts.pack",
    "Pack": "spillover.facts.pack",
    "Relation": "spillover.facts.pack",
    "SpilloverCallback": "spillover.jobs.callback",
    "EqualClasses": "spillover.theory.closed_form",
    "certify": "spillover.theory.solving",
    "solve": "spillover.theory.solving",
    "Task": "spillover.theory.symbolic",
    "Model": "spillover.theory.learning.models",
    "Recipe": "spillover.theory.learning.training",
    "train": "spillover.theory.learning.training",
    "Probe": "spillover.theory.comparison",
}


def __getattr__(name: str) -> Any:
    if name not in LIBRARY:
        raise AttributeError(f"module 'spillover' has no attribute {name!r}")
    return getattr(import_module(LIBRARY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *LIBRARY])
