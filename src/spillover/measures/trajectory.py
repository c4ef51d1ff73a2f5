"""How the measures moved: one row a step or checkpoint, quantity and implication."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from spillover.measures.ranking import rank_table
from spillover.measures.summary import YARDSTICKS, measure_all

#: `implication` is null for what is pooled over implications; `quantity` is train_loss or a measure's name.
TRAJECTORY_SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("epoch", pa.float64()),
        ("step", pa.int64()),
        ("implication", pa.string()),
        ("quantity", pa.string()),
        ("value", pa.float64()),
    ]
)


def trajectory_table(answers: pa.Table, losses: Iterable[tuple[int, int, int, float]]) -> pa.Table:
    """The training loss of each step, and every measure at each checkpoint of one run, as TRAJECTORY_SCHEMA.

    losses: (seed, epoch, step, nats) a step.
    """
    losses = list(losses)
    rows: list[tuple[int, float, int, str | None, str, float | None]] = [
        (seed, float(epoch), step, None, "train_loss", value) for seed, epoch, step, value in losses
    ]
    last_step = {epoch: step for _, epoch, step, _ in losses}
    table = rank_table(answers)
    for checkpoint in sorted(set(table.checkpoint.tolist())):
        here = table.only(checkpoint=checkpoint)
        for name in (None, *sorted({name for name in here.implication if name is not None})):
            part = here if name is None else here.only(implication=name)
            for quantity, metric in measure_all(part).items():
                if metric is not None and quantity not in YARDSTICKS:
                    step = last_step.get(checkpoint, 0)
                    rows.append((int(here.seed[0]), float(checkpoint), step, name, quantity, metric.value))
    columns = zip(*rows, strict=True) if rows else [[] for _ in TRAJECTORY_SCHEMA]
    return pa.table([pa.array(column) for column in map(list, columns)], schema=TRAJECTORY_SCHEMA)
