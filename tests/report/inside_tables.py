"""Tables of a look inside whose numbers a reader can count: two layers of two heads, two seeds, checkpoints 0 and 4."""

import dataclasses

import pyarrow as pa

from spillover.record import INSIDE_SCHEMA, SHARED_SCHEMA

#: Norm of each head's change; its square is 9, 1, 4, 2 of 16.
NORMS = {(0, 0): 3.0, (0, 1): 1.0, (1, 0): 2.0, (1, 1): 2**0.5}


def looked(run, changed=True, name="lives_in->speaks"):
    """The run as if it had been made with --inside."""
    rows, shared = [], []
    for seed in (0, 1):
        for (layer, head), norm in NORMS.items():
            place = {"seed": seed, "layer": layer, "head": head}
            product = {"matrix": "product", "rank": 4, "frobenius": 10.0, "nuclear_to_frobenius": 2.0,
                       "effective_rank": 3.0, "top_share": 0.5}  # fmt: skip
            change = {"matrix": "change", "rank": 8, "frobenius": norm if changed else 0.0,
                      "nuclear_to_frobenius": 1.5, "effective_rank": 2.0 + seed + layer, "top_share": 0.25}  # fmt: skip
            rows += [{**place, "checkpoint": at, **product} for at in (0, 4)]
            # Half way nothing but norms is known, and they are others.
            rows.append({**place, "checkpoint": 2, "matrix": "change", "rank": 8, "frobenius": 99.0})
            rows.append({**place, "checkpoint": 4, **change})
            shared.append({**place, "checkpoint": 4, "implication": name, "directions": 2, "overlap": 0.9 - 0.4 * layer,
                           "overlap_never_seen": 0.3, "chance": 0.25, "stated": 10, "unstated": 20})  # fmt: skip
    inside = pa.Table.from_pylist(rows, schema=INSIDE_SCHEMA)
    return dataclasses.replace(run, inside=inside, shared=pa.Table.from_pylist(shared, schema=SHARED_SCHEMA))
