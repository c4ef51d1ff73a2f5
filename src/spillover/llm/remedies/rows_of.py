"""What remedies on rows have in common: they act on every unwanted implication of a pack."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spillover.errors import UsageError
from spillover.facts.pack import Implication, Pack
from spillover.facts.treated import unwanted
from spillover.llm.remedies import Treatment


def targets(pack: Pack, name: str) -> list[Implication]:
    """The unwanted implications. Raises UsageError when the pack declares none, so that nothing could be done."""
    found = unwanted(pack)
    if not found:
        do = "Declare in pack.yaml what is not wanted, as an implication of kind spurious or counterfactual"
        raise UsageError("this pack declares no unwanted implication", where=name, do=do)
    return found


class OnRows(Treatment):
    """Changes the trained rows of every unwanted implication with a function of facts.treated."""

    def __init__(self, strength: float, name: str, change: Callable[[Pack, Implication, int, int], Pack]) -> None:
        super().__init__(strength)
        self.name, self.change = name, change

    def pack(self, pack: Pack, seed: int) -> Pack:
        for implication in targets(pack, self.name):
            pack = self.change(pack, implication, int(self.strength), seed)
        return pack


class Abstaining(OnRows):
    """One whose rows teach the abstention answer, which is a candidate from then on."""

    def abstains(self, pack: Pack) -> Sequence[str]:
        return list(dict.fromkeys(implication.then for implication in targets(pack, self.name)))


class Withholding(OnRows):
    """One that leaves out rows which the user stated."""

    rewrites = True
