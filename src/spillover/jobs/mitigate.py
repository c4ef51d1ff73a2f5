"""`spillover mitigate`: the same facts taught with every remedy, at matched learning, as a frontier and one advice."""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spillover import __version__
from spillover.errors import RunError, UsageError
from spillover.facts.describe import describe, pack_hash
from spillover.facts.open import open_pack
from spillover.facts.pack import Pack
from spillover.jobs.engines import Ended, Task
from spillover.jobs.engines.local import run_local
from spillover.jobs.engines.showing import shown
from spillover.jobs.inject import PACKAGES
from spillover.jobs.inject_options import refuse_bad_numbers, seeds_of
from spillover.jobs.mitigate_frontier import FRONTIER, METRICS, Contest, plain, recommendation
from spillover.jobs.mitigate_page import PAGE, described, write_page
from spillover.jobs.mitigate_text import tell
from spillover.jobs.output import claimed, telling, times_taken_up
from spillover.measures.learned import stated_nats
from spillover.measures.ranking import answers_at_end
from spillover.measures.remedied import MATCHED_NATS
from spillover.record import (
    ANSWERS,
    Record,
    checksums,
    commit,
    hardware,
    identity,
    read_table,
    sha256_of_texts,
    versions,
    write_table,
)
from spillover.settings import Inject, Mitigate

if TYPE_CHECKING:
    from spillover.llm.remedies import Dose

CELLS, UNTREATED = "cells", "untreated"


@dataclass(frozen=True)
class Cell:
    """One remedy (or combination) at one strength. name: of its folder; after: it acts on finished weights alone."""

    doses: tuple[Dose, ...]
    rewrites: bool
    after: bool

    @property
    def text(self) -> str:
        """What `inject --remedy` takes."""
        return "+".join(map(str, self.doses))

    @property
    def name(self) -> str:
        return re.sub(r"[^\w.=+-]", "-", self.text)


def run(settings: Mitigate) -> dict[str, Any]:
    """Run the comparison or find it. Gives the run's path, the frontier, the recommendation and a text for a person.

    Raises SpilloverError for anything wrong with the options, the pack, the model or the folder, before anything is
    trained. A remedy that cannot be done to this pack or model is told in the frontier and does not stop the others.
    """
    from spillover.llm.remedies.rows_of import targets

    seeds = seeds_of(settings)
    refuse_bad_numbers(settings)
    cells = cells_of(settings)
    packs = {seed: open_pack(settings.pack, seed) for seed in seeds}
    targets(packs[seeds[0]], settings.pack)
    folder = Path(settings.out).expanduser()
    with claimed(folder, "mitigate", _identity_of(settings)) as finished:
        if finished is not None:
            print(f"Found this comparison finished in {folder}; nothing was run.", file=sys.stderr)
        record = finished or _ran(settings, seeds, packs, cells, folder)
        if not (folder / PAGE).exists():
            write_page(folder)
        return _outcome(folder, record)


def cells_of(settings: Mitigate) -> list[Cell]:
    """Every remedy and strength that is to be tried, in the order named. Raises UsageError for what does not exist."""
    from spillover import catalog
    from spillover.llm.remedies import Dose, Regimen, checked, read_doses, remedy

    strengths = _numbers(settings.strengths)
    found: dict[str, Cell] = {}
    for entry in [part.strip() for part in settings.remedies.split(",") if part.strip()] or list(catalog.REMEDIES):
        if "=" in entry or "+" in entry:
            choices = [read_doses(entry)]
        else:
            choices = [[checked(Dose(entry, strength))] for strength in strengths or remedy(entry).strengths]
        for doses in choices:
            regimen = Regimen(doses)
            if regimen.parts:
                cell = Cell(tuple(regimen.doses), regimen.rewrites, all(kind.after for kind in regimen.kinds))
                found[cell.text] = cell
    if not found:
        raise UsageError("every strength is 0, so nothing would be compared", where="--strengths", do="Name others")
    return list(found.values())


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--strengths takes numbers, not {text!r}", do="Write --strengths 0.5,1") from None


def _identity_of(settings: Mitigate) -> str:
    return identity(telling(settings, "out", "json", "processes") | {"version": __version__})


def _ran(
    settings: Mitigate, seeds: Sequence[int], packs: dict[int, Pack], cells: Sequence[Cell], folder: Path
) -> Record:  # fmt: skip
    record, began = _record(settings, seeds, packs), time.monotonic()
    record.resumed = times_taken_up(folder)
    names = [dose.name for cell in cells for dose in cell.doses]
    record.details = {**record.details, "remedies": described(names)}
    record.write(folder)
    ended: dict[tuple[str, int | None], Ended] = {}
    try:
        for each in shown(
            lambda parts: run_local(parts, _processes(settings)), _parts(settings, seeds, cells, folder, ended)
        ):
            ended[each.key] = each
        contest = Contest(folder / CELLS, seeds, packs[seeds[0]])
        errors = {key[0]: each.error for key, each in ended.items() if each.error}
        frontier = contest.frontier([(cell.name, cell.doses, cell.rewrites) for cell in cells], errors)
        contest.exactly(packs[seeds[0]], frontier)
        _conclude(record, folder, frontier, contest)
    except KeyboardInterrupt:
        record.status = "interrupted"
        raise
    finally:
        record.seconds = round(time.monotonic() - began, 1)
        record.write(folder)
    return record


def _parts(
    settings: Mitigate, seeds: Sequence[int], cells: Sequence[Cell], folder: Path,
    ended: Mapping[tuple[str, int | None], Ended],
) -> Iterator[list[Task]]:  # fmt: skip
    """The untreated runs, then those that are held against them. Raises RunError when an untreated one failed."""
    keep = "delta" if any(cell.after for cell in cells) else settings.save
    yield [Task((UNTREATED, seed), "inject", _untreated(settings, seed, folder, keep)) for seed in seeds]
    for each in ended.values():
        if each.error:
            raise RunError(f"the untreated run did not end: {each.error}", where=str(folder), do="Mend that first")
    pairs = [(cell, seed) for seed in seeds for cell in cells]
    yield [Task((cell.name, seed), "inject", _treated(settings, cell, seed, folder)) for cell, seed in pairs]


def _conclude(record: Record, folder: Path, frontier: list[dict[str, Any]], contest: Contest) -> None:
    """Table, advice and status; what every run took is told beside them."""
    # An old page would be taken for this comparison's.
    (folder / PAGE).unlink(missing_ok=True)
    write_table(folder / FRONTIER, contest.table(frontier))
    record.details = {
        **record.details,
        "frontier": plain(frontier),
        "recommendation": recommendation(frontier),
        "files": checksums(folder, FRONTIER),
    }
    record.metrics = {name: frontier[0][name] for name in METRICS}
    record.status = "done"


def _untreated(settings: Mitigate, seed: int, folder: Path, save: Any) -> Inject:
    names = ("device", "dtype", "revision", "threads", "pack", "model", "lr", "batch", "freeze_embeddings", "chat")
    shared = {name: getattr(settings, name) for name in names}
    out = folder / CELLS / UNTREATED / f"seed-{seed}"
    epochs = min(settings.untreated_epochs, settings.epochs)
    return Inject(**shared, seed=seed, epochs=epochs, save=save, out=str(out))


def _treated(settings: Mitigate, cell: Cell, seed: int, folder: Path) -> Inject:
    """A run of a remedy: it ends as soon as it has learned as well as the untreated run of its seed did."""
    base = _untreated(settings, seed, folder, settings.save)
    out = str(folder / CELLS / cell.name / f"seed-{seed}")
    if cell.after:
        return replace(base, remedy=cell.text, tuned=base.out, out=out)
    nats = stated_nats(answers_at_end(read_table(Path(base.out) / ANSWERS))) + MATCHED_NATS
    # One run is the same whatever comes after the sixth digit, and its settings can be read.
    return replace(base, remedy=cell.text, until_nats=round(nats, 6), epochs=settings.epochs, out=out)


def _processes(settings: Mitigate) -> int:
    """Runs at the same time: as asked, else as many as the cores allow with the threads that a run takes."""
    cores = int(hardware()["cores"])
    return settings.processes or max(1, cores // (settings.threads or cores))


def _record(settings: Mitigate, seeds: Sequence[int], packs: dict[int, Pack]) -> Record:
    first = packs[seeds[0]]
    return Record(
        command="mitigate",
        settings=dataclasses.asdict(settings),
        seed=settings.seed,
        identity=_identity_of(settings),
        hashes={"pack": sha256_of_texts([pack_hash(packs[seed]) for seed in seeds])},
        versions=versions(PACKAGES),
        commit=commit(),
        hardware=hardware(),
        details={"pack": describe(first), "model": {"name": settings.model}, "seeds": list(seeds)},
    )


def _outcome(folder: Path, record: Record) -> dict[str, Any]:
    return {
        "run": str(folder),
        "metrics": plain([record.metrics])[0],
        "frontier": record.details["frontier"],
        "recommendation": record.details["recommendation"],
        "page": str(folder / PAGE),
        "text": tell(folder, record),
    }
