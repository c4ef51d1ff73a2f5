"""Spillover: what else did this fine-tuning teach the model?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spillover.commands.callback import SpilloverCallback as SpilloverCallback
    from spillover.packs.open import open_pack as open_pack
    from spillover.packs.pack import Fact as Fact
    from spillover.packs.pack import Implication as Implication
    from spillover.packs.pack import Pack as Pack
    from spillover.packs.pack import Relation as Relation
    from spillover.results import load_run as load_run
    from spillover.theory.closed_form import EqualClasses as EqualClasses
    from spillover.theory.comparison import Probe as Probe
    from spillover.theory.models import Model as Model
    from spillover.theory.solve import certify as certify
    from spillover.theory.solve import solve as solve
    from spillover.theory.symbolic import Task as Task
    from spillover.theory.train import Recipe as Recipe
    from spillover.theory.train import train as train

__version__ = "0.1.0"

#: The library: name -> the module it is in, imported when the name is first asked for, so that `--help` stays quick.
LIBRARY = {
    "open_pack": "spillover.packs.open",
    "Fact": "spillover.packs.pack",
    "Implication": "spillover.packs.pack",
    "Pack": "spillover.packs.pack",
    "Relation": "spillover.packs.pack",
    "load_run": "spillover.results",
    "SpilloverCallback": "spillover.commands.callback",
    "EqualClasses": "spillover.theory.closed_form",
    "certify": "spillover.theory.solve",
    "solve": "spillover.theory.solve",
    "Task": "spillover.theory.symbolic",
    "Model": "spillover.theory.models",
    "Recipe": "spillover.theory.train",
    "train": "spillover.theory.train",
    "Probe": "spillover.theory.comparison",
}


def __getattr__(name: str) -> Any:
    if name not in LIBRARY:
        raise AttributeError(f"module 'spillover' has no attribute {name!r}")
    return getattr(import_module(LIBRARY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *LIBRARY])
