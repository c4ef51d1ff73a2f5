"""What happened: settings, numbers, provenance and tables of one run. JSON and Parquet, written atomically."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from spillover.details import Details
from spillover.details import Metric as Metric
from spillover.errors import RunError, first_line

AnyDetails = TypeVar("AnyDetails", bound=Details)

#: 2: a run's identity hashes every resolved setting; before, those that were not at their default.
SCHEMA_VERSION = 2
RECORD, ANSWERS, TRAJECTORY = "record.json", "answers.parquet", "trajectory.parquet"


def _schema(columns: str) -> pa.Schema:
    """A schema from the names and types of its columns."""
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in map(str.split, columns.split(","))])


#: One row a question, prompt, candidate and checkpoint. `log_probability` is natural, of the whole answer. `cluster`
#: is the given answer that the subject shares with others; `trained` says whether the prompt is the one trained on.
#: `warranted` is the candidate's log share of what the base model believes once told the subject's stated facts
#: (lm.judge); null where it was not judged, and older tables lack it.
ANSWER_SCHEMA = _schema(
    "seed int64, checkpoint int32, subject string, relation string, implication string, cluster string, prompt string,"
    "trained bool, candidate string, log_probability double, expected string, stated bool, warranted double"
)
WARRANTED = "warranted"
#: What `inject --ask-again` adds: the same columns of the questions asked in other ways, and `way` (packs.edits).
ASKED_AGAIN = "asked-again.parquet"
#: What `inject --inside` adds. One row an attention head, matrix (`product`: W_OV, `change`: what training made of it)
#: and checkpoint. All numbers but the norm are null where it is zero, and at checkpoints where only norms are taken.
#: `effective_rank` is exp of the entropy of the singular values over their sum, at most `rank`.
INSIDE, SHARED = "inside.parquet", "inside-shared.parquet"
INSIDE_SCHEMA = _schema(
    "seed int64, checkpoint int32, layer int32, head int32, matrix string, rank int32, frobenius double,"
    "nuclear_to_frobenius double, effective_rank double, top_share double"
)
#: How much of what a head's change writes for unstated subjects, and for names never seen, lies in the few directions
#: that it writes for the stated ones; `chance` is that of as many random directions among all that it can write.
SHARED_SCHEMA = _schema(
    "seed int64, checkpoint int32, implication string, layer int32, head int32, directions int32, overlap double,"
    "overlap_never_seen double, chance double, stated int32, unstated int32"
)
#: What `where` measures: one row a question and a model with part of a change. `part`: a component, a layer, or
#: `nothing` (the base model), `everything` (the tuned one), `linearised`. left_out: the tuned model but for this part.
WHERE = "where.parquet"
UNTUNED, WHOLLY, EXPANSION = "nothing", "everything", "linearised"
#: How `where` names all layers, at the tokens of one role.
EVERY_LAYER = "every layer"
WHERE_SCHEMA = _schema(
    "seed int64, part string, kind string, left_out bool, subject string, relation string, implication string,"
    "cluster string, stated bool, expected string, top string, rank double"
)


@dataclass
class Record:
    """Everything about one run that a reader, a page or a repetition needs. `status`: running, done or interrupted."""

    command: str
    settings: Mapping[str, Any]
    seed: int
    status: str = "running"
    schema: int = SCHEMA_VERSION
    identity: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    resumed: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    details: Details = field(default_factory=Details)

    def write(self, folder: Path) -> None:
        """Write `record.json` into `folder` in one step; a reader sees the old one or the new one, never half."""
        body = json.dumps(vars(self), indent=1, ensure_ascii=False, sort_keys=True, default=plain)
        write_atomically(folder / RECORD, (body + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The record in `folder`. Raises RunError when there is none, or when it is not a record."""
        path = Path(folder) / RECORD
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            known = {key: fields[key] for key in (item.name for item in dataclasses.fields(cls)) if key in fields}
            return cls(**known | {"details": Details.read(known["command"], known.get("details") or {})})
        except FileNotFoundError:
            what, where, do = "there is no finished run here", folder, "Name a folder with a record.json"
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            what, where, do = f"this record cannot be read ({error})", path, "Run the command again"
        raise RunError(what, where=str(where), do=do)

    def details_of(self, kind: type[AnyDetails], where: str | Path = RECORD) -> AnyDetails:
        """The details of a command. Raises RunError when this is a record of another, or when a field does not fit."""
        if isinstance(self.details, kind):
            return self.details
        why = f"it is one of `{self.command}`"
        if self.command.startswith(kind.command):
            why = kind.fault(self.details.as_json())
        what = f"this record is not one of `{kind.command}` ({why})"
        raise RunError(what, where=str(where), do=f"Name a folder that `{kind.command}` wrote")


@dataclass(frozen=True)
class State:
    """A run behind one of its steps. facts: whatever JSON holds exactly. Neither may hold a subject's name."""

    step: int
    tensors: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes on the disk, nearly."""
        return sum(value.nbytes for value in self.tensors.values())


def plain(value: object) -> Any:
    """What json cannot write by itself: metrics, mappings, paths, numpy numbers."""
    if hasattr(value, "as_json"):
        return value.as_json()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def identity(settings: Mapping[str, Any]) -> str:
    """SHA-256 (first 16 hex digits) of resolved settings: equal settings, equal identity."""
    return sha256_of_texts([json.dumps(settings, sort_keys=True, ensure_ascii=False, default=str)])[:16]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksums(folder: Path, *names: str) -> dict[str, str]:
    """SHA-256 of the files of a run's folder that are there."""
    return {name: sha256_of(folder / name) for name in names if (folder / name).exists()}


def sha256_of_texts(parts: Sequence[str]) -> str:
    """SHA-256 of several texts, a line each."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write_atomically(path: Path, body: bytes) -> None:
    """Write beside `path` and rename. Raises RunError on a full disk or a read-only folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name
            with temporary.open("wb") as stream:
                stream.write(body)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> RunError:
    """The sentence for a disk that refused a write."""
    reason = (error.strerror or str(error)).lower()
    return RunError(f"could not be written: {reason}", where=str(path), do="Free some space or choose another folder")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file. Raises RunError when it is missing or damaged."""
    try:
        # Not pq.read_table, which takes four times as long to find out that one file is one file.
        with pq.ParquetFile(path) as file:
            return file.read()
    except (OSError, pa.ArrowInvalid) as error:
        what = f"this table cannot be read ({first_line(error)})"
        raise RunError(what, where=str(path), do="Run the command again") from None


def with_warranted(answers: pa.Table) -> pa.Table:
    """An answers table that has the column of what is warranted, which older ones lack."""
    if WARRANTED in answers.column_names:
        return answers
    return answers.append_column(WARRANTED, pa.nulls(answers.num_rows, pa.float64()))


def joined_tables(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables of several runs in one; what those of an earlier version lack is null."""
    return pa.concat_tables(tables, promote_options="default")


def save_tensors(tensors: Mapping[str, Any], path: Path, note: Mapping[str, str] | None = None) -> None:
    """Write tensors of torch, by name, as a safetensors file. Raises OSError when the disk refuses it."""
    from safetensors.torch import save_file

    with disk_errors():
        save_file(dict(tensors), path, metadata=dict(note) if note else None)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Inside, what safetensors says of the disk comes as the OSError that it stands for."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from None


#: Reading a package's description takes longer than most of what else a record needs.
_version = cache(metadata.version)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions of the packages named; those that are missing are left out."""
    found = {"python": platform.python_version()}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = _version(package)
    return found


#: What tells a worker, which runs a copy of the source tree, the commit of the tree.
COMMIT = "SPILLOVER_COMMIT"


def commit() -> str | None:
    """The commit of the source tree that runs (with `+` when it has changes), or None outside a checkout."""

    def git(*words: str) -> str:
        here = Path(__file__).resolve().parent
        return subprocess.check_output(["git", *words], cwd=here, stderr=subprocess.PIPE, text=True, timeout=10).strip()

    try:
        # Asked of this file, so that a package installed inside somebody else's checkout does not report theirs.
        git("ls-files", "--error-unmatch", __file__)
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return os.environ.get(COMMIT) or None


def hardware() -> dict[str, Any]:
    """The machine in words: system, processor type and number of cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.system(), "machine": platform.machine(), "cores": cores}
