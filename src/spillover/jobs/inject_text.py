"""What `inject` tells a person when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spillover.record import Record


def tell(folder: Path, record: Record, metrics: dict[str, Any]) -> str:
    """A few lines for a person: what was learned, what was inferred, held against the yardstick."""
    settings = record.settings
    trained = "everything but the embeddings" if settings["freeze_embeddings"] else "all weights"
    targets = f" on {settings['lora_targets']}" if settings.get("lora_targets") else ""
    trained = f"a LoRA adapter of rank {settings['lora']}{targets}" if settings["lora"] else trained
    lines = [f"{record.details['pack']['name']} on {settings['model']}, {settings['epochs']} epochs, {trained} trained"]
    if metrics.get("recall_rank"):
        before = _shown(metrics["recall_rank_before"])
        told = "facts taken as known" if settings.get("facts_known") else "stated facts"
        lines.append(f"  {told}: mean rank {_shown(metrics['recall_rank'])}, {before} before")
    for name, found in metrics["implications"].items():
        if (test := found["implication_rank_test"]) is None:
            continue
        yardstick = found["marginal_rank"]["value"]
        test_p = found["map_test"]
        before = _shown(found["implication_rank_test_before"])
        lines.append(
            f"  {name}, never stated: mean rank {_shown(test)}, {before} before; "
            f"{yardstick:.2f} for a guess that knows which answers occur"
            + (f"; exact map test p = {test_p['p']:.2g}" if test_p else "")
        )
    return "\n".join([*lines, f"  run: {folder}"])


def _shown(metric: dict[str, Any]) -> str:
    note = f", {metric['note']}" if metric.get("note") else ""
    return f"{metric['value']:.2f} ({metric['low']:.2f} to {metric['high']:.2f}{note})"
