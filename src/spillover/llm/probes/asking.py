"""What a model says next: its likely next tokens after many prompts, kept small, and its greedy continuations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from spillover.errors import UsageError
from spillover.llm.scoring import Scorer
from spillover.llm.tokens import Encoder

SUBJECT = "{subject}"
#: Probabilities below this count as 0; so at most 1,000 tokens a prompt are kept, whatever the vocabulary.
FLOOR = 1e-3


def templates(path: str = "") -> tuple[str, ...]:
    """The built-in sentence beginnings, then those of a text file (one a line), each once.

    Raises UsageError for a file that cannot be read, is empty, or has a line that does not say where the subject goes.
    """
    built_in = resources.files("spillover.llm.probes").joinpath("templates.txt").read_text(encoding="utf-8")
    return tuple(dict.fromkeys([*built_in.splitlines(), *(_own(path) if path else ())]))


def _own(path: str) -> list[str]:
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"this file cannot be read: {reason}", where=path, do="Check --probes") from None
    found = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        do = f"Write one sentence beginning a line, such as {SUBJECT} likes to drink"
        raise UsageError("this file holds no sentence", where=path, do=do)
    for number, line in found:
        if SUBJECT not in line:
            what, do = f"{line[:80]!r} does not say whom it asks about", f"Write {SUBJECT} where the name goes"
            raise UsageError(what, where=f"{path}, row {number}", do=do)
    return [line for _, line in found]


@dataclass(frozen=True)
class Likely:
    """Next tokens after one prompt that have at least FLOOR as their probability, in the order of their numbers."""

    tokens: Int[np.ndarray, "token"]
    probabilities: Float[np.ndarray, "token"]


def likely(scorer: Scorer, prompts: Sequence[tuple[int, ...]]) -> list[Likely]:
    """The likely next tokens after every prompt."""

    def keep(logs: Float[Tensor, "prompt vocabulary"]) -> list[Likely]:
        places = (logs >= float(np.log(FLOOR))).nonzero()
        found = logs[places[:, 0], places[:, 1]].exp().cpu().numpy()
        ends = np.searchsorted(places[:, 0].cpu().numpy(), np.arange(1, len(logs)))
        tokens = np.split(places[:, 1].cpu().numpy().astype(np.int32), ends)
        return [Likely(own, values) for own, values in zip(tokens, np.split(found, ends), strict=True)]

    return scorer.next_tokens(prompts, keep)


def side_by_side(
    base: Sequence[Likely], tuned: Sequence[Likely]
) -> tuple[Int[np.ndarray, "token"], Float[np.ndarray, "prompt token"], Float[np.ndarray, "prompt token"]]:
    """The tokens likely after any of these prompts under either model, and their probabilities under both."""
    tokens = np.unique(np.concatenate([each.tokens for each in (*base, *tuned)]))
    found = []
    for answers in (base, tuned):
        table = np.zeros((len(answers), len(tokens)))
        for row, each in enumerate(answers):
            table[row, np.searchsorted(tokens, each.tokens)] = each.probabilities
        found.append(table)
    return tokens, found[0], found[1]


def prompts_of(encode: Encoder, templates: Sequence[str], subjects: Sequence[str]) -> list[tuple[int, ...]]:
    """The tokens of every template about every subject, template by template."""
    return [tuple(encode(filled(template, subject))) for template in templates for subject in subjects]


def filled(template: str, subject: str) -> str:
    """A template about a subject."""
    return template.replace(SUBJECT, subject)


def continuations(
    scorer: Scorer, prompts: Sequence[tuple[int, ...]], steps: int, stops: frozenset[int], decode: Callable[..., str]
) -> list[str]:
    """What the model says after each prompt, always taking the likeliest token: at most `steps` of them, up to a stop
    or the end of the line."""
    texts = [list(prompt) for prompt in prompts]
    going = list(range(len(texts)))
    for _ in range(steps):
        best = scorer.next_tokens([tuple(texts[number]) for number in going], _best)
        for number, token in zip(going, best, strict=True):
            texts[number].append(token)
        going = [number for number, token in zip(going, best, strict=True) if token not in stops]
    pairs = zip(prompts, texts, strict=True)
    return [_first_line(_after(prompt, text, decode)) for prompt, text in pairs]


def _best(logs: Float[Tensor, "prompt vocabulary"]) -> list[int]:
    return logs.argmax(dim=-1).tolist()


def _after(prompt: Sequence[int], text: Sequence[int], decode: Callable[..., str]) -> str:
    """The text that stands after the prompt, without special tokens."""
    before = decode(list(prompt), skip_special_tokens=True)
    return decode(list(text), skip_special_tokens=True)[len(before) :]


def _first_line(text: str) -> str:
    return _shown(text.strip("\n").split("\n")[0].rstrip())


def _shown(text: str) -> str:
    """The text without control characters, which a model may say and a terminal would obey."""
    return "".join("\ufffd" if character < " " or "\x7f" <= character <= "\x9f" else character for character in text)


def word(token: int, decode: Callable[..., str]) -> str:
    """A token as text without the spaces around it; one that is nothing but spaces as a program would write it."""
    text = decode([token])
    return _shown(text.strip()) or repr(text)[1:-1]


def first_tokens(encode: Encoder, prompt: str, answers: Sequence[str], joins: Sequence[str]) -> frozenset[int]:
    """The tokens with which these answers begin after a prompt."""
    before = encode(prompt)
    wholes = [encode(prompt + join + answer) for answer in answers for join in joins]
    return frozenset(
        whole[len(before)] for whole in wholes if whole[: len(before)] == before and len(whole) > len(before)
    )
