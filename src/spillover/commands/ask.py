"""`spillover.ask`: a model's answers to a pack's questions and stated rows, without any training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spillover.commands.held import Model, held_model, name_of
from spillover.commands.prepare import asked_of, weights_of
from spillover.config import Running
from spillover.errors import UsageError
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack
from spillover.results import Answers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def ask(
    model: Model | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None,
    pack: Pack | str | Path | None = None, *, chat: bool = False, seed: int = 0, device: str = "auto",
    dtype: str = "float32", revision: str | None = None, threads: int = 0,
) -> Answers:  # fmt: skip
    """Ask a model everything that a pack asks, as `inject` does before its training.

    Arguments:
        model: a model of transformers, whose device and number format stay; or a name as `--model` takes it, with
            the pack by keyword: `ask("gemma-3-270m", pack=pack)`.
        tokenizer: of a model that is no name.
        pack: a Pack, or what `open_pack` opens.
        chat: whether to ask in the model's own chat template.
        seed: of the names of a built-in pack.
        device, dtype, revision, threads: as the options of `spillover inject`.

    Returns: the answers, with `.table` (Arrow, the columns of `answers.parquet`), `.metrics` and `.to_pandas()`;
    `audit` takes them in place of a model.

    Raises: UsageError when the pack or the tokenizer is missing; PackError for a pack with faults, or whose answers the
    model's tokens cannot tell apart; ModelError for a model that is not there.
    """
    if pack is None:
        do = "Call ask(model, tokenizer, pack), or ask(name, pack=pack)"
        raise UsageError("no pack was given", where="ask", do=do)
    from spillover.lm.evaluate import Evaluation
    from spillover.lm.score import Scorer
    from spillover.lm.tokens import encoder

    given: Model = model if tokenizer is None else (model, tokenizer)  # type: ignore[assignment]
    settings = Running(seed=seed, device=device, dtype=dtype, revision=revision, threads=threads)  # type: ignore[arg-type]
    opened, held = open_pack(pack, seed), held_model(given)
    asked, tokenizer = asked_of(str(model), held, opened, settings, chat)
    loaded = weights_of(str(model), held, tokenizer, settings)
    table = Evaluation(asked, encoder(tokenizer)).answers(Scorer(loaded.model), seed=seed, checkpoint=0, full=True)
    return Answers(table, name_of(given), loaded.sha256)
