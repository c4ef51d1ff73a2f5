"""What to do next after a comparison of remedies, as sentences with the commands that do it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spillover.measures.remedied import MATCHED_NATS
from spillover.measures.safe_remedy import keeps_wanted
from spillover.report.drawing import plain
from spillover.report.remedies.load import SAFE, UNSAFE, Comparison, Tried
from spillover.report.tables.provenance import command_line

#: Remedies that are worth more seeds, and a remedy for a finished model to name when none was tried.
_BEST, _AFTER = 5, "ignore-topk=0.1"
#: Options of the comparison that its runs share, and those that say nothing when left at these.
_SHARED = ("lr", "batch", "freeze_embeddings", "chat", "dtype", "revision", "threads")


@dataclass(frozen=True)
class Step:
    """One thing to do. command: what to type, or nothing."""

    text: str
    command: str = ""


def steps(found: Comparison) -> list[Step]:
    """In the order in which they are of use."""
    if found.untreated.value("removed") is None:
        return [Step("Audit the model that you train in the end; this comparison has nothing to add.")]
    made = []
    if found.advised is not None:
        text = "Train with it and keep the weights; then audit them before you publish them."
        made.append(Step(text, _train(found, found.advised)))
    elif best := _best(found):
        text = "None is safe on its own. Combinations join what two of them do: the best two, for example."
        two = [each.label for each in best if "+" not in each.label][:2]
        if len({label.partition("=")[0] for label in two}) == 2:
            made.append(Step(text, _again(found, ["+".join(two)], f"{_name(found)}-joined")))
    made = [*_surer(found), *made] if found.few else [*made, *_surer(found)]
    made.append(_repair(found))
    text = "Whatever you choose: state the right answer of more subjects where you can; what is stated is not invented."
    return [*made, Step(text)]


def _surer(found: Comparison) -> list[Step]:
    """The same again with more seeds, for those that are worth it."""
    promising = _best(found)
    if not promising:
        return []
    why = "Too few clusters to decide: repeat" if found.few else "To be surer, repeat"
    what = "the remedy" if len(promising) == 1 else f"the {len(promising)} that removed most and kept the wanted"
    text = f"{why} {what} with {found.seeds_needed} seeds, new names and another pairing in each."
    seeds = ",".join(str(seed) for seed in range(found.seeds_needed))
    return [Step(text, _again(found, [each.label for each in promising], f"{_name(found)}-more-seeds", seeds=seeds))]


def _best(found: Comparison) -> list[Tried]:
    """Those worth another look: they learned, keep what is wanted, and removed something; the advised one first."""
    kept = [each for each in found.of(SAFE, UNSAFE) if keeps_wanted(each.value("wanted_change")) and not each.taken]
    some = sorted((each for each in kept if (each.value("removed") or 0.0) > 0), key=lambda each: -_removed(each))
    first = [each for each in some if each is found.advised]
    return [*first, *(each for each in some if each not in first)][:_BEST]


def _removed(each: Tried) -> float:
    return each.value("removed") or 0.0


def _repair(found: Comparison) -> Step:
    """For a model that is trained already."""
    after = [each for each in found.tried if each.after]
    ready = [each for each in after if each in _best(found)]
    remedy = ready[0].label if ready else _AFTER
    text = "Your model is trained already, and training again is out of the question: repair the finished model."
    if ready:
        text += f" Of the remedies that need no training, {remedy} did best here."
    elif after:
        text += " No remedy of that kind both learned and kept enough here, so expect little; the audit will tell."
    pack = shlex.quote(str(found.record.settings.get("pack") or "PACK"))
    base, remedy = shlex.quote(_model(found)), shlex.quote(remedy)
    command = f"spillover repair TUNED_MODEL --base {base} --pack {pack} --remedy {remedy} --out repaired"
    return Step(plain(text), plain(command))


def _train(found: Comparison, each: Tried) -> str:
    """`inject` with the remedy, to the end that the comparison used."""
    settings = found.record.settings
    options: dict[str, Any] = {name: settings.get(name) for name in _SHARED}
    epochs = settings.get("untreated_epochs" if each.after else "epochs")
    options |= {"pack": settings.get("pack"), "model": _model(found), "remedy": each.label, "epochs": epochs}
    if not each.after and found.untreated.stated_nats is not None:
        options["until_nats"] = round(found.untreated.stated_nats + MATCHED_NATS, 4)
    options |= {"save": "weights", "out": "remedied"}
    return command_line(dataclasses.replace(found.record, command="inject", settings=options))


def _again(found: Comparison, labels: Sequence[str], out: str, **changes: Any) -> str:
    """The same comparison with other remedies."""
    settings = {**found.record.settings, "remedies": ",".join(labels), "strengths": "", "out": out, **changes}
    return command_line(dataclasses.replace(found.record, settings=settings))


def _model(found: Comparison) -> str:
    return str(found.record.settings.get("model") or "MODEL")


def _name(found: Comparison) -> str:
    return str(found.record.settings.get("out") or "remedies").rstrip("/").rpartition("/")[2] or "remedies"
