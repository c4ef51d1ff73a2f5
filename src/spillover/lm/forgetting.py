"""How well a model still reads ordinary prose: the mean loss a token on plain passages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from spillover.errors import UsageError
from spillover.lm.distributed import ALONE, Processes
from spillover.lm.score import MAXIMUM_LOGITS, CausalModel
from spillover.lm.tokens import Encoder, longest_text, refuse_unreadable

#: Longest passage read, in tokens.
WINDOW = 128


def passages(path: str | None = None) -> list[str]:
    """Paragraphs of a plain-text file (blank lines between), by default the bundled public-domain ones.

    Lines that start with `#` say where a bundled passage is from and are left out.
    """
    if path is None:
        text = resources.files("spillover.lm").joinpath("passages.txt").read_text(encoding="utf-8")
    else:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
            raise UsageError(f"this text file cannot be read: {reason}", where=path, do="Check --plain-text") from None
    blocks = (
        "\n".join(line for line in block.splitlines() if not line.startswith("#")) for block in text.split("\n\n")
    )
    found = [" ".join(block.split()) for block in blocks if block.strip()]
    if not found:
        raise UsageError("this text file holds no text", where=path or "passages.txt", do="Check --plain-text")
    return found


def passage_losses(
    model: CausalModel, encode: Encoder, texts: Sequence[str], processes: Processes = ALONE
) -> tuple[Float[np.ndarray, "passage"], Float[np.ndarray, "passage"]]:
    """Summed loss (nats) and number of predicted tokens of each passage, cut at 128 tokens or what the model reads.

    processes: with others, each reads its share of the passages, and all get what all of them found.
    """
    found: dict[int, tuple[float, float]] = {}
    # Passages go one by one and their logits in pieces, so that memory stays flat.
    piece = max(1, MAXIMUM_LOGITS // model.config.get_text_config().vocab_size)
    window = min(WINDOW, longest_text(model) or WINDOW)
    encoded = [tokens for text in texts if len(tokens := encode(text)[:window]) > 1]
    refuse_unreadable(model, encoded)
    with processes.asking():
        for (number, passage), _ in processes.turns(enumerate(encoded)):
            read = torch.tensor([passage], device=model.device)
            logits = model(input_ids=read, use_cache=False).logits[0, :-1]
            targets = read[0, 1:]
            losses = [
                torch.nn.functional.cross_entropy(part.float(), wanted, reduction="sum").item()
                for part, wanted in zip(logits.split(piece), targets.split(piece), strict=True)
            ]
            found[number] = (sum(losses), float(len(targets)))
    found = processes.together(found)
    sums, counts = ([found[number][part] for number in sorted(found)] for part in (0, 1))
    return np.array(sums), np.array(counts)
