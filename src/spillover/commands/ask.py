"""`spillover.ask`: a model's answers to a pack's questions and stated rows, without any training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spillover.commands.held import Model, held_model, name_of, settings_from
from spillover.commands.prepare import asked_of, weights_of, words_of
from spillover.config import Chat, Running
from spillover.errors import UsageError
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack
from spillover.results import Answers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class _Ask(Running, Chat):
    """How a model is asked."""


def ask(
    model: Model | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None,
    pack: Pack | str | Path | None = None, **options: Any,
) -> Answers:  # fmt: skip
    """Ask a model everything that a pack asks, as `inject` does before its training.

    Arguments:
        model: a model of transformers, whose device and number format stay; or a name as `--model` takes it, with
            the pack by keyword: `ask("gemma-3-270m", pack=pack)`.
        tokenizer: of a model that is no name.
        pack: a Pack, or what `open_pack` opens.
        options: `seed` of the names of a built-in pack; `chat`, `system`, `chat_template`, `prefix`, `date`, `device`,
            `dtype`, `revision` and `threads`, as `spillover inject` takes them.

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
    settings = settings_from(_Ask, **options)
    opened, held = open_pack(pack, settings.seed), held_model(given)
    words = words_of(name_of(given), held, settings)
    asked = asked_of(words, opened)
    loaded = weights_of(str(model), held, words.tokenizer, settings)
    evaluation = Evaluation(asked, encoder(words.tokenizer))
    table = evaluation.answers(Scorer(loaded.model), seed=settings.seed, checkpoint=0, full=True)
    return Answers(table, name_of(given), loaded.sha256)
