"""`spillover audit --open`: everyday sentences about a pack's subjects, as two models go on with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spillover.errors import UsageError
from spillover.facts.pack import Pack, Relation
from spillover.record import sha256_of_texts
from spillover.settings import Audit

if TYPE_CHECKING:
    from spillover.llm.probes.asking import Likely
    from spillover.llm.probes.cast import Cast
    from spillover.llm.scoring import Scorer

#: By how many tokens an example is continued.
STEPS = 8


@dataclass(frozen=True)
class Probes:
    """What is asked: every template about everybody in the cast."""

    templates: tuple[str, ...]
    cast: Cast
    sha256: str


def plan(settings: Audit, pack: Pack) -> Probes:
    """The templates and whom they are about. Raises UsageError for a file of templates that cannot be used."""
    from spillover.llm.probes.asking import templates
    from spillover.llm.probes.cast import choose

    texts = templates(settings.probes)
    return Probes(texts, choose(pack, settings.seed), sha256_of_texts(texts))


def refuse_different_tokens(settings: Audit, tokenizers: Sequence[Any]) -> None:
    """Raise UsageError when the two models number their tokens differently."""
    base, tuned = (tokenizer.get_vocab() for tokenizer in tokenizers)
    if any(tuned.get(token, number) != number for token, number in base.items()):
        what = f"{settings.base} and {settings.tuned} cut text into different tokens, which --open compares"
        raise UsageError(what, do="Leave --open out")


def worded(settings: Audit, pack: Pack, probes: Probes, tokenizer: Any) -> tuple[str, ...]:
    """The templates as this model is asked: as they are, or as turns of its chat."""
    from spillover.llm.tokens import as_chat

    if not settings.chat:
        return probes.templates
    asked = dataclasses.replace(pack, relations=(Relation("probe", probes.templates),), facts=(), implications=())
    return as_chat(asked, tokenizer).relations[0].prompts


def ask(settings: Audit, pack: Pack, probes: Probes, tokenizer: Any, scorer: Scorer) -> list[Likely]:
    """What one model is likely to say next, template by template and about everybody in the order of the cast."""
    from spillover.llm.probes.asking import likely, prompts_of
    from spillover.llm.tokens import encoder

    texts = worded(settings, pack, probes, tokenizer)
    return likely(scorer, prompts_of(encoder(tokenizer), texts, probes.cast.everybody))


def speak(
    settings: Audit, pack: Pack, probes: Probes, tokenizer: Any, scorer: Scorer, asked: Sequence[tuple[str, str]]
) -> list[str]:
    """How one model goes on after each (template, subject), always taking the likeliest token."""
    from spillover.llm.probes.asking import continuations, filled
    from spillover.llm.tokens import encoder

    texts = dict(zip(probes.templates, worded(settings, pack, probes, tokenizer), strict=True))
    encode = encoder(tokenizer)
    prompts = [tuple(encode(filled(texts[template], subject))) for template, subject in asked]
    stops = frozenset({tokenizer.eos_token_id} - {None})
    return continuations(scorer, prompts, STEPS, stops, tokenizer.decode)
