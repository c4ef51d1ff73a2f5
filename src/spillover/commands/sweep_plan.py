"""`spillover sweep --plan`: what a study would take of memory, time and disk on a device that need not be here."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from spillover.commands.inject import Inject
from spillover.commands.prepare import (
    UNKNOWN,
    pipeline_of,
    refuse_bad_numbers,
    stated_in,
    stop_when,
    training_of,
    without_trained_prompts,
)
from spillover.commands.sweep import Cell, Study
from spillover.errors import UsageError, first_line
from spillover.lm.evaluate import passages
from spillover.lm.forecast import (
    CARDS,
    Device,
    Forecast,
    Forecaster,
    Seconds,
    Work,
    Workload,
    config_at_hand,
    device,
    rough_encoder,
    seconds,
)
from spillover.lm.memory import free
from spillover.packs.open import open_pack
from spillover.record import hardware
from spillover.results import text_table
from spillover.runs import KEPT, LEAST, PATIENCE, SLOW

if TYPE_CHECKING:
    from spillover.commands.sweep import Sweep

#: Bytes of a finished run's tables and record beside the rows of its answers, and of such a row; of the study's page, a
#: cell (docs/scaling.md).
RUN_BYTES, ROW_BYTES, PAGE_BYTES = 22_600, 5, 25_000
#: Numbers of devices that a model which does not fit on one is tried to be split over, and the adapter that is tried.
SPLITS, RANK = (2, 4, 8, 16), 8
#: Bytes a second at which a model's file is read.
READING = 1e9


@dataclass(frozen=True)
class Estimate:
    """One run of a cell; memory and disk in bytes.

    room: memory that it may take. saved, tables: what stays on the disk. checkpoint: what it holds there while it runs.
    stored: the file of its model. fitting: what would hold it if this does not. most: whether it may end sooner.
    """

    forecast: Forecast
    room: float
    seconds: Seconds
    saved: float
    tables: float
    checkpoint: float
    stored: float
    fitting: Sequence[str]
    most: bool

    @property
    def fits(self) -> bool:
        return self.forecast.needed <= self.room

    def kept(self, seeds: int) -> float:
        """Bytes that stay of a cell; several seeds have their tables once more, pooled."""
        return seeds * (self.saved + self.tables * (1 + (seeds > 1)))

    def as_json(self) -> dict[str, Any]:
        """For --json; bytes and seconds of one run."""
        return {
            "fits": self.fits, "fitting": list(self.fitting), "memory": self.forecast.as_json(),
            "seconds": round(self.seconds.total, 1), "at_most": self.most,
            "seconds_by_part": {name: round(value, 1) for name, value in asdict(self.seconds).items()},
            "disk": {"kept": round(self.saved + self.tables), "while_running": round(self.checkpoint)},
            "model_file": round(self.stored),
        }  # fmt: skip


@dataclass(frozen=True)
class Totals:
    """Of all runs that fit; seconds until the last ends and of all devices together; bytes on the disk for good, while
    runs are under way, and of the models' own files. lacking: cells that do not fit."""

    runs: int
    wall: float
    work: float
    kept: float
    running: float
    models: float
    lacking: int


def study_plan(settings: Sweep, study: Study, cells: Sequence[Cell]) -> dict[str, Any]:
    """The plan of a study of `inject`: what each of the `cells` takes, `device` and `totals` for --json, `text`.

    Raises SpilloverError for a device, study, model or pack that cannot be estimated.
    """
    if study.verb != "inject":
        what = f"what a device needs is estimated for runs of `inject`, and this study is one of `{study.verb}`"
        raise UsageError(what, where=study.name, do="Leave --on, --memory, --tflops and --bandwidth out")
    described = {name: getattr(settings, name) for name in ("memory", "tflops", "bandwidth")}
    named, cores = device(settings.on, room=free(torch.device("cpu")), **described), int(hardware()["cores"])
    threads = max(cell.settings.threads or cores for cell in cells)
    at_once = (settings.processes or max(1, cores // threads)) if named.is_cpu else 1
    estimator = Estimator(named, named.memory / at_once, threads)
    found = {cell.name: estimator.estimate(cell) for cell in cells}
    totals = totals_of(cells, found, settings.devices * at_once)
    return {
        "cells": [found[cell.name].as_json() for cell in cells],
        "device": {**asdict(named), "count": settings.devices, "at_once": at_once},
        "totals": asdict(totals),
        "text": "\n".join(plan_text(named, settings.devices, at_once, cells, found, totals)),
    }


class Estimator:
    """Estimates runs; what does not differ between them is worked out once. room: bytes that one may take."""

    def __init__(self, device: Device, room: float, threads: int) -> None:
        self.device, self.room, self.threads = device, room, threads
        self._advised: dict[Inject, list[str]] = {}
        self._estimated, self._model = cache(self._estimate), cache(self._forecaster_of)

    def estimate(self, cell: Cell) -> Estimate:
        # Neither the rate nor which subjects get which facts changes what is computed.
        same = {"lr": 1e-5, "weight_decay": 0.0, "out": "", "json": False, "track": "none"}
        return self._estimated(replace(cell.settings, seed=cell.seeds[0], **same))

    def _estimate(self, settings: Inject) -> Estimate:
        refuse_bad_numbers(settings)
        pipeline, pack = pipeline_of(settings), open_pack(settings.pack, settings.seed)
        forecaster = self._forecaster(settings)
        forecast = forecaster.at(min(settings.micro_batch, settings.batch) or 1)
        # The micro-batch that a run would choose; of one row where not even that fits.
        if not settings.micro_batch and forecast.needed <= self.room:
            forecast = forecaster.fitting(int(self.room))
        work = Workload.of(
            forecaster.copy, pipeline.pack(pack, settings.seed),
            without_trained_prompts(pipeline.asked(pack), stated_in(settings)), forecaster.training,
            rough_encoder(forecaster.vocabulary), texts=passages(settings.plain_text),
            epochs=training_of(settings, pipeline).epochs, evaluate_every=settings.evaluate_every,
            micro_batch=forecast.micro_batch, lines=len(pipeline.extra_texts(pack, settings.seed)),
            prompts=stated_in(settings),
        )  # fmt: skip
        estimated = seconds(work, self.device, dtype=settings.dtype, threads=self.threads)
        state = forecast.trained + forecast.optimizer_state
        # Too short a run writes none; of a longer one, a new one is written before the oldest goes.
        checkpoints = not settings.sharded and estimated.total >= PATIENCE * (LEAST + state / SLOW)
        return Estimate(
            forecast=forecast, room=self.room, seconds=estimated, stored=float(forecaster.file),
            saved=float({"none": 0, "delta": forecast.trained, "weights": forecast.weights}[settings.save]),
            tables=float(RUN_BYTES + ROW_BYTES * work.answers),
            checkpoint=float((KEPT + 1) * state) if checkpoints else 0.0,
            fitting=() if forecast.needed <= self.room else self._advice(settings, forecaster),
            most=stop_when(settings, pipeline) is not None,
        )  # fmt: skip

    def _forecaster(self, settings: Inject) -> Forecaster:
        asked = pipeline_of(settings).asked(open_pack(settings.pack, settings.seed))
        forecaster = self._model(_without_pack(settings))
        return forecaster.of(Work.of(asked, rough_encoder(forecaster.vocabulary)))

    def _forecaster_of(self, settings: Inject) -> Forecaster:
        """Of a model and a training, without examples and prompts."""
        config, device = config_at_hand(settings.model, settings.revision), "cpu" if self.device.is_cpu else "cuda"
        training = training_of(settings, pipeline_of(settings))
        try:
            return Forecaster(config, training, Work([], []), dtype=settings.dtype, save=settings.save, device=device)
        except UNKNOWN as error:
            what = f"no language model can be made of its configuration ({first_line(error)})"
            raise UsageError(what, where=settings.model, do="Name a causal language model") from None

    def _advice(self, settings: Inject, forecaster: Forecaster) -> list[str]:
        """What would hold a run that does not fit, whatever its pack: the smallest card, fewest devices, an adapter."""
        key = _without_pack(settings)
        if key in self._advised:
            return self._advised[key]
        advice = self._advised[key] = list[str]()
        one = forecaster.at(1)
        cards = [card for card in CARDS.values() if one.needed - one.process <= card.memory]
        if cards and not self.device.is_cpu:
            advice.append(f"one {min(cards, key=lambda card: card.memory).name}")
        split = next((count for count in SPLITS if _split(one, forecaster, count) <= self.room), None)
        if split and not (settings.lora or settings.remedy or settings.inside or self.device.is_cpu):
            advice.append(f"{split} of these with the FSDP settings of docs/several-devices.md")
        if not settings.lora:
            adapted = self._forecaster(replace(settings, lora=RANK)).at(1)
            if adapted.needed <= self.room:
                advice.append(f"--lora {RANK} ({adapted.needed / 1e9:.1f} GB)")
        return advice


def _without_pack(settings: Inject) -> Inject:
    """What runs have in common that need the same but for their rows."""
    return replace(settings, pack="", seed=0, epochs=1, evaluate_every=1, until_learned=False)


def _split(one: Forecast, forecaster: Forecaster, count: int) -> float:
    """Bytes on each of several devices: the untrained model whole, a share of what is trained, its optimizer state and
    gradients, two whole layers, which compute, and its rows of the batch. one: the forecast of one row."""
    layer = one.trained / max(1, int(forecaster.copy.config.get_text_config().num_hidden_layers))
    shared = (2 * one.trained + one.optimizer_state) / count
    step = max(one.step * -(-forecaster.training.batch // count), one.ranking)
    return float(one.process + one.weights + shared + 2 * layer + step)


def totals_of(cells: Sequence[Cell], found: Mapping[str, Estimate], places: int) -> Totals:
    """Runs are scheduled as `sweep` does it: the first seed of every cell first, each to the place that is free."""
    fitting = [cell for cell in cells if found[cell.name].fits]
    free: list[tuple[float, int, str]] = [(0.0, place, "") for place in range(places)]
    work = wall = 0.0
    for turn in range(max((len(cell.seeds) for cell in fitting), default=0)):
        for cell in fitting:
            if turn < len(cell.seeds):
                at, place, model = heapq.heappop(free)
                own = found[cell.name]
                takes = own.seconds.total + (0.0 if model == cell.settings.model else own.stored / READING)
                heapq.heappush(free, (at + takes, place, cell.settings.model))
                work, wall = work + takes, max(wall, at + takes)
    runs = sum(len(cell.seeds) for cell in fitting)
    models = {cell.settings.model: found[cell.name].stored for cell in cells}
    return Totals(
        runs=runs, wall=wall, work=work, models=float(sum(models.values())), lacking=len(cells) - len(fitting),
        kept=float(sum(found[cell.name].kept(len(cell.seeds)) + PAGE_BYTES for cell in fitting)),
        running=min(places, runs) * max((found[cell.name].checkpoint for cell in fitting), default=0.0),
    )  # fmt: skip


def plan_text(
    device: Device, count: int, at_once: int, cells: Sequence[Cell], found: Mapping[str, Estimate], totals: Totals
) -> Iterator[str]:
    """The device, a line a cell, what would hold those that do not fit, and the totals."""
    many, together = f"{count} x " if count > 1 else "", f", {at_once} runs at once" if at_once > 1 else ""
    known = "measured with a model of 270M parameters" if device.measured else "from its data sheet, not measured"
    yield f"On {many}{device.name} ({size(device.memory)} for runs{together}; speed {known}):"
    rows = [["cell", "runs", "memory", "rows at once", "a run", "all its runs", "kept on disk"]]
    # A line for all cells that do not fit and need the same.
    large: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        own, runs = found[cell.name], len(cell.seeds)
        times = [("up to " if own.most else "") + duration(many * own.seconds.total) for many in (1, runs)]
        memory = size(own.forecast.needed) + ("" if own.fits else " *")
        rows.append([cell.name, str(runs), memory, str(own.forecast.micro_batch), *times, size(own.kept(runs))])
        if not own.fits:
            large.setdefault(tuple(own.fitting), []).append(cell)
    yield from ("  " + line for line in text_table(rows))
    for fitting, some in large.items():
        models = ", ".join(dict.fromkeys(cell.settings.model for cell in some))
        needed, room = max(found[cell.name].forecast.needed for cell in some), size(found[some[0].name].room)
        would = f"; these would hold it: {'; '.join(fitting)}" if fitting else "; no device that is known here holds it"
        yield f"  * does not fit: {models} needs {size(needed)} of {room}{would}."
    if not totals.runs:
        yield "Nothing fits."
        return
    lacking = f" (without {totals.lacking} cells that do not fit)" if totals.lacking else ""
    work = "" if count * at_once == 1 else f", {duration(totals.work)} of all places together"
    yield f"Time: {duration(totals.wall)} for {totals.runs} runs{lacking}{work}; models are read at 1 GB a second."
    running = f", up to {size(totals.running)} more for checkpoints while runs are under way" if totals.running else ""
    yield f"Disk: {size(totals.kept)} kept{running}; the models' own files take {size(totals.models)}."
    if not device.measured:
        yield "A card is taken to reach 40% of its peak in products, and 70% in moving weights: a rough guess."


def size(count: float) -> str:
    """Bytes in the unit that leaves at least one."""
    return _in_units(count, {"TB": 1e12, "GB": 1e9, "MB": 1e6}) or f"{count / 1e3:.0f} kB"


def duration(seconds: float) -> str:
    """Seconds in the unit that leaves at least one."""
    return _in_units(seconds, {"days": 86_400, "h": 3_600, "min": 60}) or f"{seconds:.0f} s"


def _in_units(number: float, units: Mapping[str, float]) -> str:
    return next((f"{number / each:.1f} {unit}" for unit, each in units.items() if number >= each), "")
