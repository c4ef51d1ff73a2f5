"""Spillover: what else did this fine-tuning teach the model?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spillover.commands.audit import audit as audit
    from spillover.commands.callback import SpilloverCallback as SpilloverCallback
    from spillover.commands.held import ask as ask
    from spillover.commands.inject import inject as inject
    from spillover.commands.mitigate import mitigate as mitigate
    from spillover.commands.predict import predict as predict
    from spillover.commands.where import where as where
    from spillover.packs.open import open_pack as open_pack
    from spillover.packs.pack import Fact as Fact
    from spillover.packs.pack import Implication as Implication
    from spillover.packs.pack import Pack as Pack
    from spillover.packs.pack import Relation as Relation
    from spillover.results import load_run as load_run
    from spillover.theory.solving import certify as certify
    from spillover.theory.solving import solve as solve

__version__ = "0.2.0"

#: The library: name -> the module it is in, imported when the name is first asked for, so that `--help` stays quick.
LIBRARY = {
    **{name: f"spillover.commands.{name}" for name in ("predict", "inject", "audit", "mitigate", "where")},
    **dict.fromkeys(("Fact", "Implication", "Pack", "Relation"), "spillover.packs.pack"),
    **dict.fromkeys(("certify", "solve"), "spillover.theory.solving"),
    "ask": "spillover.commands.held",
    "open_pack": "spillover.packs.open",
    "load_run": "spillover.results",
    "SpilloverCallback": "spillover.commands.callback",
}


def __getattr__(name: str) -> Any:
    if name not in LIBRARY:
        raise AttributeError(f"module 'spillover' has no attribute {name!r}")
    return getattr(import_module(LIBRARY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *LIBRARY])
