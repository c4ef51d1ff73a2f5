"""The model that `inject` trains a copy of, once it is known to fit the pack; kept for the next run on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spillover.errors import UsageError
from spillover.facts.describe import pack_hash
from spillover.facts.pack import Pack
from spillover.jobs.inject_memory import Budgets
from spillover.jobs.inject_options import training_of
from spillover.jobs.inject_remedy import Plan
from spillover.record import sha256_of_texts
from spillover.settings import Inject

if TYPE_CHECKING:
    from spillover.llm.inject import Before
    from spillover.llm.weights.loading import LoadedModel


@dataclass
class Kept:
    """What one run leaves for the next in the same process: the model it loaded, and its losses on plain text."""

    name: tuple[Any, ...] = ()
    loaded: LoadedModel | None = None
    plain: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    before: dict[str, Before] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)

    def before_of(self, asked: Pack, settings: Inject) -> Before:
        """What the loaded model answers about a pack before training, if a run found it out, or where to keep it."""
        from spillover.llm.inject import Before

        asked_so = sha256_of_texts([pack_hash(asked), repr(asked.relations), repr(asked.candidates)])
        return self.before.setdefault(f"{asked_so} {settings.threads}", Before())


def load(settings: Inject, pack: Pack, kept: Kept) -> LoadedModel:
    """The model, once its tokens are known to tell the pack's answers apart; kept from the run before if it is it."""
    import torch

    from spillover.facts.check import refuse, token_faults
    from spillover.llm.tokens import as_chat, encoder
    from spillover.llm.weights.loading import load_model, load_tokenizer, resolve

    if settings.lora and settings.save == "delta" and resolve(settings.model).adapter:
        what = "an adapter trained on top of a merged adapter means nothing without the merged model"
        raise UsageError(what, where="--save delta", do="Use --save weights")
    name = (settings.model, settings.device, settings.dtype, settings.revision)
    same = kept.loaded is not None and kept.name == name
    tokenizer = kept.loaded.tokenizer if kept.loaded and same else load_tokenizer(settings.model, settings.revision)
    worded = as_chat(pack, tokenizer) if settings.chat else pack
    refuse(token_faults(worded, encoder(tokenizer)))
    torch.set_num_threads(settings.threads)
    training = Plan(settings).training(training_of(settings, settings.seed))
    budget = kept.budgets.of(settings, training, worded, tokenizer)
    if kept.loaded is None or not same:
        with budget.telling():
            kept.loaded = load_model(
                settings.model, device=settings.device, dtype=settings.dtype, revision=settings.revision,
                tokenizer=tokenizer,
            )  # fmt: skip
        kept.name, kept.plain, kept.before = name, {}, {}
    return kept.loaded
