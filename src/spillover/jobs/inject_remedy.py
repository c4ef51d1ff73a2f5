"""What the remedies of a run change about it: what is asked, what is trained and how, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from spillover import __version__
from spillover.errors import UsageError
from spillover.facts.pack import Pack
from spillover.facts.treated import ABSTENTION, with_candidate
from spillover.jobs.output import telling
from spillover.measures.learned import learned, stated_nats
from spillover.record import Record, identity
from spillover.settings import Inject

if TYPE_CHECKING:
    from spillover.llm.lesson import Lesson
    from spillover.llm.training import Training
    from spillover.llm.weights.loading import LoadedModel


class Plan:
    """One run's remedies. Raises UsageError for a remedy or strength that does not exist, or that does not fit."""

    def __init__(self, settings: Inject) -> None:
        from spillover.llm.remedies import Regimen, read_doses

        self.settings, self.regimen = settings, Regimen(read_doses(settings.remedy))
        if settings.facts_known and settings.remedy:
            what, do = "a remedy is for runs that train on every stated row", "Leave --facts-known or --remedy out"
            raise UsageError(what, where=settings.remedy, do=do)

    def asked(self, pack: Pack) -> Pack:
        """The user's pack, with the abstention answer among the candidates where a remedy teaches it."""
        for relation in self.regimen.abstains(pack):
            pack = with_candidate(pack, relation, ABSTENTION)
        return pack

    def training(self, training: Training) -> Training:
        """The settings under the remedies. Raises UsageError for one that acts on weights which are not trained."""
        found = self.regimen.training(training)
        if self.regimen.parts:
            found = replace(found, trains=self.regimen.trains)
        if found.lora_targets and not found.lora:
            raise UsageError(
                "--lora-targets says where an adapter goes, and none is trained", do="Give --lora RANK too"
            )
        if found.lora and any(dose.after for dose in self.regimen.kinds):
            do = "Leave --lora and remedies that train an adapter out"
            raise UsageError(
                "a remedy for finished weights does not act on an adapter", where=self.settings.remedy, do=do
            )
        return found

    def lesson(self, pack: Pack, loaded: LoadedModel, training: Training) -> Lesson:
        """What is trained. Raises UsageError or ModelError for a remedy that does not fit the pack or the model."""
        from spillover.llm.lesson import lesson

        known = self.settings.facts_known
        found = lesson(self.regimen, pack, loaded, training, lambda each: self.worded(each, loaded), known)
        return replace(found, tuned=self._tuned()) if self.settings.tuned else found

    def _tuned(self) -> Path:
        """The weights that stand for training. Raises UsageError unless they are those of this run without remedies."""
        from spillover.llm.weights.saving import DELTA

        folder = Path(self.settings.tuned).expanduser()
        if not self.regimen.kinds or not all(kind.after for kind in self.regimen.kinds):
            do = "Leave --tuned out, or name only remedies that act on finished weights"
            raise UsageError("finished weights stand only for training without a remedy", where="--tuned", do=do)
        own = telling(replace(self.settings, remedy="", tuned="", save="delta"), "out", "json", "track")
        record = Record.read(folder)
        if record.status != "done" or record.identity != identity(own | {"version": __version__}):
            do = "Name a finished run of the same command without --remedy, made with --save delta"
            raise UsageError("this is not the run whose weights this one would train", where=str(folder), do=do)
        return folder / DELTA

    def worded(self, pack: Pack, loaded: LoadedModel) -> Pack:
        """A pack in the words that the model reads."""
        from spillover.llm.tokens import as_chat

        return as_chat(pack, loaded.tokenizer) if self.settings.chat else pack

    def enough(self) -> Callable[[pa.Table], bool] | None:
        """Whether a measurement ends the training, if one can."""
        nats = self.settings.until_nats
        if nats:
            return lambda answers: learned(answers) and stated_nats(answers) <= nats
        return learned if self.settings.until_learned or self.regimen.stops else None
