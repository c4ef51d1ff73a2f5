"""`--inside`: looks at the attention heads of a model in training, on a schedule that costs little."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spillover.record import INSIDE, SHARED, read_table, write_table

if TYPE_CHECKING:
    from spillover.facts.pack import Pack
    from spillover.llm.scoring import CausalModel
    from spillover.llm.tokens import Encoder
    from spillover.llm.weights.loading import LoadedModel
    from spillover.settings import Inject


class Inside:
    """Spectra of W_OV before training and at its end; norms alone after epochs 1, 2, 4, 8 and so on, which cost less.

    Measuring changes nothing of the training. last: the epoch at which it ends unless it stops before. folder: where
    the tables go, and where those of a run that was cut short are found again; None writes nothing. copied: whether
    the model handed in is itself trained. Raises ModelError when the model has no attention of a known shape.
    """

    def __init__(
        self, model: CausalModel, pack: Pack, encode: Encoder, *, seed: int, last: int, folder: Path | None,
        copied: bool = False,
    ) -> None:  # fmt: skip
        from spillover.llm.inside.looking import Before

        self.pack, self.encode, self.seed, self.last, self.folder = pack, encode, seed, last, folder
        self.seconds = 0.0
        self.looks: dict[int, pa.Table] = {}
        self.shared: pa.Table | None = None
        self.before = Before(model, copied=copied)
        if folder is not None and (folder / INSIDE).exists():
            found = read_table(folder / INSIDE)
            checkpoints = found["checkpoint"].to_pylist()
            self.looks = {each: found.filter([other == each for other in checkpoints]) for each in set(checkpoints)}
        self._look(model, 0, full=True)

    @classmethod
    def of(cls, settings: Inject, loaded: LoadedModel, pack: Pack, folder: Path) -> Inside | None:
        """What looks into a run of `inject` that trains a copy of the model, if its options say so."""
        from spillover.llm.tokens import encoder

        if not settings.inside:
            return None
        encode = encoder(loaded.tokenizer)
        return cls(loaded.model, pack, encode, seed=settings.seed, last=settings.epochs, folder=folder)

    def after_epoch(self, model: CausalModel, epoch: int) -> None:
        """Take norms if it is time to."""
        if epoch & (epoch - 1) == 0 and epoch != self.last:
            self._look(model, epoch, full=False)

    def at_end(self, model: CausalModel, epoch: int) -> None:
        """Take spectra, and what the changes write for stated and unstated subjects."""
        from spillover.llm.inside.sharing import shared

        self._look(model, epoch, full=True)
        began = time.monotonic()
        self.shared = shared(self.before, model, self.pack, self.encode, seed=self.seed, checkpoint=epoch)
        if self.folder is not None:
            write_table(self.folder / SHARED, self.shared)
        self.seconds += time.monotonic() - began

    def told(self, seconds: float) -> dict[str, Any]:
        """For the record: what looking took since the run was last taken up, and its share of the run's `seconds`."""
        return {"seconds": round(self.seconds, 2), "share": round(self.seconds / seconds, 4) if seconds else None}

    def _look(self, model: CausalModel, checkpoint: int, *, full: bool) -> None:
        began = time.monotonic()
        self.looks[checkpoint] = self.before.spectra(model, seed=self.seed, checkpoint=checkpoint, full=full)
        if self.folder is not None:
            write_table(self.folder / INSIDE, pa.concat_tables(self.looks[each] for each in sorted(self.looks)))
        self.seconds += time.monotonic() - began


def refuse_unknown_attention(model: CausalModel) -> None:
    """Raise ModelError when the model has no attention of a known shape."""
    from spillover.llm.inside.heads import places

    places(model)


def pool(folder: Path, parts: Iterable[Path]) -> None:
    """The tables of several seeds as one each, where the seeds have them."""
    parts = list(parts)
    for name in (INSIDE, SHARED):
        if all((part / name).exists() for part in parts):
            write_table(folder / name, pa.concat_tables([read_table(part / name) for part in parts]))
