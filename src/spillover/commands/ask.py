"""`spillover.ask`: a model's answers to a pack's questions and stated rows, without any training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spillover.commands.held import held_model, name_of
from spillover.errors import UsageError
from spillover.packs.check import refuse, token_faults
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack
from spillover.record import hardware
from spillover.results import Answers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from spillover.commands.held import Model


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
        raise UsageError(
            "no pack was given", where="ask", do="Call ask(model, tokenizer, pack), or ask(name, pack=pack)"
        )
    import torch

    from spillover.lm.evaluate import Evaluation
    from spillover.lm.load import load_model, load_tokenizer
    from spillover.lm.score import Scorer
    from spillover.lm.tokens import as_chat, encoder

    given: Model = model if tokenizer is None else (model, tokenizer)  # type: ignore[assignment]
    opened, loaded = open_pack(pack, seed), held_model(given)
    tokenizer = loaded.tokenizer if loaded else load_tokenizer(str(model), revision)
    asked, encode = as_chat(opened, tokenizer) if chat else opened, encoder(tokenizer)
    refuse(token_faults(asked, encode))
    torch.set_num_threads(threads or int(hardware()["cores"]))
    loaded = loaded or load_model(str(model), device=device, dtype=dtype, revision=revision, tokenizer=tokenizer)
    table = Evaluation(asked, encode).answers(Scorer(loaded.model), seed=seed, checkpoint=0, full=True)
    return Answers(table, name_of(given), loaded.sha256)
