"""`spillover where`: which part of a change carries what was stated, which the implication, and how lazy it was."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from tyro.conf import Positional

from spillover import __version__
from spillover.commands.inject import PACKAGES, Inject
from spillover.commands.mitigate import plain
from spillover.commands.prepare import asked_pack
from spillover.commands.rerun import settings_of
from spillover.config import MOST_THREADS, Common, within
from spillover.errors import RunError
from spillover.metrics.patching import (
    BASE,
    GROUPS,
    LINEARISED,
    TUNED,
    alignments,
    patched_metrics,
    ranks_of,
    where_rows,
)
from spillover.metrics.ranks import rank_table
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, pack_hash
from spillover.packs.redaction import Redaction
from spillover.record import (
    ANSWER_SCHEMA,
    ANSWERS,
    EXPANSION,
    RECORD,
    UNTUNED,
    WHERE,
    WHERE_SCHEMA,
    WHOLLY,
    Record,
    checksums,
    commit,
    hardware,
    identity,
    read_table,
    sha256_of_texts,
    versions,
    write_atomically,
    write_table,
)
from spillover.report.where import ENDS, build_where_page, load_where
from spillover.runs import claimed, identifying_settings, times_resumed

if TYPE_CHECKING:
    from spillover.interp.patching import Change
    from spillover.lm.load import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Where(Common):
    """Where does what a run learned live? Put each part of its change into the base model alone, and leave each out."""

    run: Positional[str]
    """A finished run of `inject` that kept its weights (--save delta or weights), or a folder of such runs by seed, as
    `mitigate` makes (OUT/cells/untreated). Seeds are pooled."""
    out: str
    """Folder for record.json, where.parquet, answers.parquet and page.html."""
    parts: Literal["all", "components", "none"] = "all"
    """What is patched: components and layers, components alone, or nothing, which leaves how lazy the training was."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps. Auto takes a GPU if there is one."""
    dtype: Literal["run", "float32", "bfloat16"] = "run"
    """Number format of weights and arithmetic; by default the run's."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; by default the run's."""
    threads: int = 0
    """CPU threads; 0 takes every core. Another number is another run, since it rounds differently."""

    def __post_init__(self) -> None:
        within("--threads", self.threads, MOST_THREADS)


@dataclass(frozen=True)
class Run:
    """The run of one seed: where it is, its record, its settings, and the facts it was made on."""

    folder: Path
    record: Record
    settings: Inject
    pack: Pack


def runs_of(source: Path) -> list[Run]:
    """The run of each seed. Raises RunError when it is none of `inject`, not finished, or kept no weights."""
    from spillover.lm.save import kept_in

    found: list[Run] = []
    for folder in _folders(source):
        own = Record.read(folder)
        _refuse_other(folder, own)
        if own.status != "done":
            raise RunError("this run is not finished", where=str(folder), do="Give its command again first")
        kept_in(folder)
        settings = settings_of(Inject, own, folder)
        pack = open_pack(settings.pack, own.seed)
        if pack_hash(Redaction.of(pack.subjects, settings.redact).pack(pack)) != own.hashes.get("pack"):
            what = f"the pack {settings.pack} is not what it was when this ran"
            raise RunError(what, where=str(folder), do="Bring the pack back, or run it again with --save delta")
        if found and settings.model != found[0].settings.model:
            what = f"this run is of the model {settings.model}, another of {found[0].settings.model}"
            raise RunError(what, where=str(folder), do="Name seeds of one run")
        found.append(Run(folder, own, settings, pack))
    return found


def _folders(source: Path) -> list[Path]:
    """The folder of each seed; those that `mitigate` makes have no record over them."""
    parts = sorted(path.parent for path in source.glob(f"seed-*/{RECORD}"))
    if parts and not (source / RECORD).exists():
        return parts
    record = Record.read(source)
    _refuse_other(source, record)
    seeds = record.details.get("seeds") or [record.seed]
    return [source / f"seed-{seed}" for seed in seeds] if len(seeds) > 1 else [source]


def _refuse_other(folder: Path, record: Record) -> None:
    if record.command != "inject":
        what = f"this is a run of `{record.command}`, not of `inject`"
        raise RunError(what, where=str(folder), do="Name a run that `inject` made with --save delta")


def told_apart(runs: Sequence[Run]) -> list[str]:
    """What tells these runs from any others: how they were made, and what came out."""
    return [f"{each.record.identity} {(each.record.details.get('files') or {}).get(ANSWERS)}" for each in runs]


_WIDTH = 8


def tell(folder: Path, record: Record) -> str:
    """A line a part, with rates alone in the base model and without it in the tuned one; then how lazy it was."""
    return "\n".join(_lines(folder, record))


def _lines(folder: Path, record: Record) -> Iterator[str]:
    parts = record.details["parts"]
    groups = [name for name in GROUPS if any(entry.get(f"{name}_rate") for entry in parts)]
    width = max(len(ENDS.get(entry["part"], entry["part"])) for entry in parts)
    across = (_WIDTH + 1) * len(groups)
    yield f"{'':<{width}}  {'':>7}  {'alone in the base model':<{across}}  all but it"
    heads = " ".join(f"{name:>{_WIDTH}}" for name in groups)
    yield f"{'share answered so':<{width}}  {'moved':>7}  {heads}   {heads}"
    left_out = {entry["part"]: entry for entry in parts if entry["left_out"]}
    for entry in parts:
        if entry["left_out"]:
            continue
        name, other = entry["part"], left_out.get(entry["part"])
        moved = "" if entry["moved"] is None else f"{100 * entry['moved']:.2f}%"
        sides = "   ".join(_rates(each, groups) for each in (entry, other) if each)
        yield f"{ENDS.get(name, name):<{width}}  {moved:>7}  {sides}"
    yield from _chance(parts, groups)
    yield from _lazy(record.details["laziness"], groups)
    yield "Shares whose top answer is the expected one; moved: change of matrices over start (Frobenius norm)"
    yield f"run: {folder}"
    yield f"page: {folder / 'page.html'}"


def _rates(entry: Mapping[str, Any], groups: list[str]) -> str:
    return " ".join(f"{_number(entry.get(f'{name}_rate')):>{_WIDTH}}" for name in groups)


def _number(metric: Mapping[str, Any] | None) -> str:
    return "" if metric is None else f"{metric['value']:.2f}"


def _chance(parts: list[Mapping[str, Any]], groups: list[str]) -> Iterator[str]:
    """What the tuned model's rates would be if its answers had nothing to do with what was stated."""
    tuned = next(entry for entry in parts if entry["part"] == WHOLLY)
    told = [f"{name} {_number(tuned[f'{name}_free'])}" for name in groups if tuned.get(f"{name}_free")]
    if told:
        yield f"By chance the tuned model's answers would get: {', '.join(told)}"


def _lazy(laziness: Mapping[str, Any], groups: list[str]) -> Iterator[str]:
    """How well the first-order expansion tells the change of the candidates' log-probabilities."""
    found = laziness["alignment"]
    for key, what in (("", "of log-probabilities"), ("_between", "between candidates")):
        told = []
        for name in groups:
            cosine, error = (found.get(name, {}).get(f"{figure}{key}") for figure in ("cosine", "relative_error"))
            if cosine and error:
                told.append(f"{name} {cosine['value']:.2f} (error {error['value']:.2f})")
        if told:
            yield f"Cosine of the linearised with the actual change {what} ({laziness['how']}): {', '.join(told)}"


PAGE = "page.html"


def run(settings: Where) -> dict[str, Any]:
    """Measure every part. Gives the run's path, the tuned model's metrics, the parts, and a text for a person.

    One that was cut short goes on behind the part that it measured last. Raises SpilloverError for anything wrong with
    the options, the run, its model or the folder. The run is never written to.
    """
    source, folder = Path(settings.run).expanduser(), Path(settings.out).expanduser()
    runs = runs_of(source)
    settings = _resolved(settings, runs[0].settings)
    own = identity(
        identifying_settings(settings, "out", "json", "run") | {"version": __version__, "runs": told_apart(runs)}
    )
    with claimed(folder, "where", own) as finished:
        if finished is not None:
            print(f"Found this finished in {folder}; nothing was run.", file=sys.stderr)
        record = finished or _ran(settings, own, runs, folder)
        if not (folder / PAGE).exists():
            write_atomically(folder / PAGE, build_where_page(load_where(folder)).html().encode())
        return _outcome(folder, record)


def _resolved(settings: Where, made: Inject) -> Where:
    """What is not said is as in the run; device and threads as they are here."""
    from spillover.lm.load import pick_device

    dtype = made.dtype if settings.dtype == "run" else settings.dtype
    return dataclasses.replace(
        settings, dtype=dtype, revision=settings.revision or made.revision, device=str(pick_device(settings.device)),
        threads=settings.threads or int(hardware()["cores"]),
    )  # fmt: skip


def _ran(settings: Where, own: str, runs: Sequence[Run], folder: Path) -> Record:
    began, first = time.monotonic(), runs[0]
    hide = Redaction.of(first.pack.subjects, first.settings.redact)
    record = Record(
        command="where", settings=dataclasses.asdict(settings), seed=first.record.seed, identity=own,
        hashes={"pack": sha256_of_texts([each.record.hashes["pack"] for each in runs]),
                "model": first.record.hashes["model"]},
        versions=versions(PACKAGES), commit=commit(), hardware=hardware(), resumed=times_resumed(folder),
        details={
            "pack": describe(hide.pack(first.pack)), "model": first.record.details.get("model") or {},
            "seeds": [each.record.seed for each in runs], "trained": dict(first.record.settings),
        },
    )  # fmt: skip
    record.write(folder)
    try:
        how, moved = _measure(settings, runs, folder)
        _conclude(record, runs, folder, how, moved)
        record.status = "done"
    except BaseException as error:
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        record.seconds = round(time.monotonic() - began, 1)
        record.write(folder)
    return record


def _measure(settings: Where, runs: Sequence[Run], folder: Path) -> tuple[list[str], dict[str, float]]:
    """Fill the two tables, seed by seed; gives how the expansion was computed, and how far each part moved."""
    from spillover.interp.patching import Change, mean_moved
    from spillover.lm.output_value import places
    from spillover.lm.save import kept_weights

    loaded, how, moves = _load(settings, runs[0]), [], []
    if settings.parts != "none":
        places(loaded.model)
    for each in runs:
        if loaded.sha256 != each.record.hashes.get("model"):
            what = f"{loaded.name} is not the model that this run started from"
            raise RunError(what, where=str(each.folder), do="Bring that model back, or run it again with --save delta")
        change = Change(loaded.model, kept_weights(each.folder, loaded))
        if not change.after:
            raise RunError("training changed no weight", where=str(each.folder), do="Name another run")
        moves.append(change.moved())
        how.append(_Seed(each, loaded, change, folder).measure(settings.parts))
    return how, mean_moved(moves)


def _load(settings: Where, first: Run) -> LoadedModel:
    import torch

    from spillover.lm.load import load_model

    torch.set_num_threads(settings.threads)
    dtype = "bfloat16" if settings.dtype == "bfloat16" else "float32"
    return load_model(first.settings.model, device=settings.device, dtype=dtype, revision=settings.revision)


class _Seed:
    """One seed's change, measured part by part into the tables of `folder`; what they hold already is not repeated."""

    def __init__(self, made: Run, loaded: LoadedModel, change: Change, folder: Path) -> None:
        from spillover.lm.evaluate import Evaluation as Examination
        from spillover.lm.score import Scorer
        from spillover.lm.tokens import encoder

        worded = asked_pack(made.settings, made.pack, loaded.tokenizer)
        self.seed, self.change, self.folder = made.record.seed, change, folder
        self.examination, self.scorer = Examination(worded, encoder(loaded.tokenizer)), Scorer(loaded.model)
        self.hide = Redaction.of(made.pack.subjects, made.settings.redact)
        self.rows, self.answers = (_table(folder / name, schema)
                                   for name, schema in ((WHERE, WHERE_SCHEMA), (ANSWERS, ANSWER_SCHEMA)))  # fmt: skip
        own = self.rows.filter(pa.array([seed == self.seed for seed in self.rows["seed"].to_pylist()], pa.bool_()))
        self.known = set(zip(own["part"].to_pylist(), own["left_out"].to_pylist(), strict=True))

    def measure(self, parts: str) -> str:
        """Measure the base model, its expansion, the tuned model, and the parts; gives how the second was computed."""
        steps = list(self._steps(parts))
        how = ""
        for measure in _progress(steps, f"seed {self.seed}"):
            how = measure() or how
        return how

    def _steps(self, parts: str) -> Iterator[Callable[[], str | None]]:
        change = self.change
        yield self._expand
        for part in change.parts if parts != "none" else ():
            if parts == "all" or part.kind == "component":
                for left_out, patched in ((False, change.only), (True, change.without)):
                    yield partial(self._patch, part, left_out, patched)

    def _patch(self, part: Any, left_out: bool, patched: Any) -> None:
        if (part.name, left_out) not in self.known:
            with patched(part):
                self._keep(self._asked(TUNED), part.name, part.kind, left_out)

    def _expand(self) -> str:
        """The base model, the tuned one, and the expansion at the base taken to the tuned weights."""
        from spillover.interp.linearisation import slopes

        base = self._asked(BASE)
        found, how = slopes(self.change, self.examination.requests(full=False), self.scorer.method)
        ahead = self.examination.spread(found, full=False)
        linear = self.examination.table(
            base["log_probability"].to_numpy() + ahead, seed=self.seed, checkpoint=LINEARISED, full=False
        )
        with self.change.only(self.change.whole):
            tuned = self._asked(TUNED)
        if self.seed not in set(self.answers["seed"].to_pylist()):
            tables = [self.answers, *map(self.hide.table, (base, tuned, linear))]
            self.answers = pa.concat_tables(tables)
            write_table(self.folder / ANSWERS, self.answers)
        for answers, name in ((base, UNTUNED), (tuned, WHOLLY), (linear, EXPANSION)):
            if (name, False) not in self.known:
                self._keep(answers, name, "whole", False)
        return how

    def _asked(self, checkpoint: int) -> pa.Table:
        return self.examination.answers(self.scorer, seed=self.seed, checkpoint=checkpoint, full=False)

    def _keep(self, answers: pa.Table, name: str, kind: str, left_out: bool) -> None:
        rows = where_rows(rank_table(self.hide.table(answers)), name, kind, left_out)
        self.rows = pa.concat_tables([self.rows, rows])
        write_table(self.folder / WHERE, self.rows)


def _table(path: Path, schema: pa.Schema) -> pa.Table:
    return read_table(path) if path.exists() else schema.empty_table()


def _progress(steps: list[Any], label: str) -> Any:
    from tqdm import tqdm

    return tqdm(steps, desc=label, unit="model", dynamic_ncols=True, leave=False, delay=1)


def _conclude(record: Record, runs: Sequence[Run], folder: Path, how: list[str], moved: dict[str, float]) -> None:
    """Every part's figures over all seeds, and how well the expansion tells what happened."""
    # An old page would be taken for this one's.
    (folder / PAGE).unlink(missing_ok=True)
    implications = runs[0].pack.implications
    names = [[each.name for each in implications if each.wanted is wanted] for wanted in (False, True)]
    rows = read_table(folder / WHERE)
    entries: list[dict[str, Any]] = []
    keys = zip(*(rows[name].to_pylist() for name in ("part", "kind", "left_out")), strict=True)
    for key in dict.fromkeys(keys):
        part, kind, left_out = key
        own = rows.filter((pc.field("part") == part) & (pc.field("left_out") == left_out))
        entry = {"part": part, "kind": kind, "left_out": left_out, "moved": moved.get(part)}
        entries.append(entry | dict(patched_metrics(ranks_of(own), *names)))
    found = plain(entries)
    laziness = {
        "how": ", ".join(dict.fromkeys(how)), "moved": moved,
        "alignment": plain([alignments(read_table(folder / ANSWERS), *names)])[0],
    }  # fmt: skip
    record.metrics = {name: value for name, value in next(e for e in found if e["part"] == WHOLLY).items()
                      if isinstance(value, dict)}  # fmt: skip
    record.details = {
        **record.details, "parts": found, "laziness": laziness, "files": checksums(folder, WHERE, ANSWERS)
    }  # fmt: skip


def _outcome(folder: Path, record: Record) -> dict[str, Any]:
    return {
        "run": str(folder),
        "metrics": record.metrics,
        "parts": record.details["parts"],
        "laziness": record.details["laziness"],
        "page": str(folder / PAGE),
        "text": tell(folder, record),
    }
