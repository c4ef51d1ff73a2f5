"""Options of `inject` that the command line cannot check by their type alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillover.errors import UsageError
from spillover.settings import MOST_SEED, Inject, Mitigate

if TYPE_CHECKING:
    from spillover.llm.training import Training


def seeds_of(settings: Inject | Mitigate) -> list[int]:
    """The seeds of `--seeds`, or the one of `--seed`. Raises UsageError when they are not whole numbers."""
    if not settings.seeds:
        return [settings.seed]
    try:
        seeds = [int(part) for part in settings.seeds.split(",")]
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers, not {settings.seeds!r}", do="Write --seeds 0,1,2") from None
    if not all(0 <= seed <= MOST_SEED for seed in seeds):
        raise UsageError(f"--seeds is {settings.seeds}", do=f"Give whole numbers from 0 to {MOST_SEED}")
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds names a seed twice: {settings.seeds}", do="Name each once")
    return seeds


def refuse_bad_numbers(settings: Inject | Mitigate) -> None:
    """Raises UsageError for a number that no run can have."""
    least = {"epochs": 1, "batch": 1, "micro_batch": 0, "lora": 0, "evaluate_every": 1, "until_nats": 0,
             "untreated_epochs": 1, "logits_at_once": 0}  # fmt: skip
    for name, low in least.items():
        if getattr(settings, name, low) < low:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is {getattr(settings, name)}", do=f"Give {option} {low} or more")
    if not 0 < settings.lr < 1:
        raise UsageError(f"--lr is {settings.lr}", do="Give a learning rate between 0 and 1, such as 5e-5")
    if isinstance(settings, Inject) and not 0 <= settings.weight_decay < float("inf"):
        raise UsageError(f"--weight-decay is {settings.weight_decay}", do="Give 0 or more")


def training_of(settings: Inject, seed: int) -> Training:
    """What fine-tuning takes of the options."""
    from spillover.llm.training import Training

    return Training(
        epochs=settings.epochs,
        learning_rate=settings.lr,
        batch=settings.batch,
        weight_decay=settings.weight_decay,
        freeze_embeddings=settings.freeze_embeddings,
        lora=settings.lora,
        seed=seed,
        lora_targets=tuple(name.strip() for name in settings.lora_targets.split(",") if name.strip()),
        optimiser=settings.optimiser,
        gradient_checkpointing=settings.gradient_checkpointing,
        logits_at_once=settings.logits_at_once,
        compile_layers=settings.compile_layers,
    )
