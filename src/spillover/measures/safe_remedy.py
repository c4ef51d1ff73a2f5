"""When a remedy may be advised: what became of it, and the two lines that it must hold."""

from __future__ import annotations

#: A remedy is safe when it removes at least this share of the unwanted, and the wanted falls by no more than this.
REMOVED, KEPT = 0.9, 0.05
#: What became of a remedy; only one that LEARNED may be advised. FAILED is followed by the reason.
LEARNED, UNLEARNED, REWRITES, FAILED = "learned", "failed to learn", "changes stated rows", "failed"


def keeps_wanted(wanted_change: float | None) -> bool:
    """Whether the wanted rate, less the untreated one, falls by at most KEPT; without wanted questions it cannot fall.

    The last digits of a difference of two shares decide nothing.
    """
    return wanted_change is None or wanted_change >= -KEPT - 1e-9


def is_safe(status: str, removed: float | None, wanted_change: float | None, taken: bool) -> bool:
    """Whether a remedy learned what was stated, removes enough, keeps the wanted, and lets no other answer in.

    removed: share of the unwanted that it took away. taken: whether another answer has taken the implied one's place.
    """
    enough = removed is not None and removed >= REMOVED - 1e-9
    return status == LEARNED and enough and keeps_wanted(wanted_change) and not taken
