"""`--lr auto`: a short range test that finds the rate of a run of `inject` before its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spillover.details import InjectDetails, RateTrial
from spillover.errors import RunError, UsageError
from spillover.metrics.implications import forgetting_nats, learned
from spillover.metrics.ranks import rank_table
from spillover.record import Record
from spillover.runs import identity_of, progress, say

if TYPE_CHECKING:
    import pyarrow as pa

    from spillover.commands.inject import Inject
    from spillover.commands.prepare import Models, Prepared
    from spillover.packs.pack import Pack

#: What is tried, in this order.
RATES = (4e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5)
#: The share of --max-forgetting that a trial may take: it ends when the rows are learned, and the run goes on.
SHARE = 0.8


def with_rate(
    settings: Inject, pack: Pack, models: Models, more: Mapping[str, Any], held: Mapping[str, object]
) -> tuple[Inject, list[RateTrial]]:
    """The settings with the rate that was found in place of `auto`, and what was tried. From there on the run is the
    one that naming this rate makes.

    A run that is in its folder already, begun with a rate that was found, is not tested again. pack: of the first seed,
    whose rate all take. more: see `prepare`. held: what enters the identity beside the settings.

    Raises UsageError when no rate learns the stated rows within the limit.
    """
    with suppress(RunError):
        record = Record.read(Path(settings.out).expanduser())
        known, rate = record.details_of(InjectDetails).rates_tried, record.settings.get("lr")
        if known and isinstance(rate, float):
            found = replace(settings, lr=rate)
            if identity_of(found, "track", **held) == record.identity:
                return found, list(known)
    return found_rate(settings, pack, models, more)


def found_rate(settings: Inject, pack: Pack, models: Models, more: Mapping[str, Any]) -> tuple[Inject, list[RateTrial]]:
    """Train a copy with one rate after the other, from high to low, each until the stated rows are learned, the limit
    is passed, or its passes are over; the first that learns them within the limit is taken. See `with_rate`."""
    from spillover.commands.inject import seeds_of
    from spillover.commands.prepare import prepare

    own = replace(settings, seed=seeds_of(settings)[0], seeds="", save="none", inside=False, out="")
    limit, trials = SHARE * settings.max_forgetting or float("inf"), list[RateTrial]()
    for rate in RATES:
        trials.append(trial := _tried(prepare(replace(own, lr=rate), pack, models, more), models, rate, limit))
        end = "learned" if trial.learned else "not learned"
        say(f"--lr {rate:g}: {end} after {trial.passes} passes; plain text {trial.rise:+.2f} nats a token.")
        if trial.learned and trial.rise <= limit:
            return replace(settings, lr=rate), trials
    what = f"no rate from {RATES[-1]:g} to {RATES[0]:g} learns the stated rows in {settings.epochs} passes"
    within = f" within {settings.max_forgetting:g} nats a token of forgetting" if settings.max_forgetting else ""
    raise UsageError(what + within, where="--lr auto", do="Give more --epochs, another --max-forgetting, or a rate")


def _tried(job: Prepared, models: Models, rate: float, limit: float) -> RateTrial:
    from spillover.lm.evaluate import passages
    from spillover.lm.fine_tune import WATCHED, FineTuned, inject
    from spillover.lm.tokens import evenly
    from spillover.lm.train import MicroBatches

    seen = FineTuned(job.settings.seed)

    def enough(tables: Sequence[pa.Table]) -> bool:
        return not seen.forgetting[-1][1] <= limit or learned(rank_table(tables[-1]))

    with progress(f"--lr {rate:g}", job.training_set.steps(job.training), "step") as bar:
        inject(
            job.loaded, job.asked, job.training, texts=evenly(passages(job.settings.plain_text), WATCHED),
            evaluate_every=1, progress=lambda step: bar.update(step - bar.n), into=seen, enough=enough,
            training_set=job.training_set, before=models.before(job),
            micro_batches=MicroBatches([(1, job.budget.micro_batch)]),
        )  # fmt: skip
    rise, last = forgetting_nats(**seen.plain), seen.answers[-1]
    value = rise.value if rise is not None and rise.value is not None else 0.0
    return RateTrial(
        rate=rate, learned=learned(rank_table(last)), passes=last["checkpoint"][0].as_py(), rise=round(value, 4)
    )
