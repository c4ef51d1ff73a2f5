"""How a run was made, as terms and values; and its data to take away, as CSV, SVG, PDF and JSON inside the page."""

import base64
import csv
import dataclasses
import gzip
import io
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from spillover.metrics.ranks import RankTable
from spillover.record import Record
from spillover.record import plain as for_json
from spillover.report.drawing import Drawing, plain
from spillover.report.load import LoadedRun, spoken

Terms = list[tuple[str, str]]
_STATUS = {"done": "finished", "running": "not finished", "interrupted": "interrupted before it finished",
           "failed": "failed before it finished"}  # fmt: skip
#: A spreadsheet takes a cell that starts so for a formula and runs it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Larger tables are packed.
_LARGE = 1_000_000


def provenance(run: LoadedRun) -> list[tuple[str, Terms]]:
    """Groups of terms: the run, its model, its pack, its settings, its surroundings. Empty values are left out."""
    record, pack, model = run.record, run.pack, run.record.details.model
    total, trained = model.parameters, model.trained_parameters
    links = [f"{spoken(each.given)} → {spoken(each.then)} ({each.kind})" for each in pack.implications]
    groups: dict[str, Mapping[str, Any]] = {
        "Run": {
            "command": command_line(record),
            "status": _STATUS.get(record.status, record.status),
            "seeds" if len(run.seeds) > 1 else "seed": run.seeds,
            "wall time": duration(record.seconds),
            "times resumed": record.resumed or "",
            "identity": record.identity,
        },
        "Model": {
            "name": model.name or record.settings.get("model"),
            "licence": model.licence_note,
            "parameters trained": f"{trained:,} of {total:,}" if total and trained else total,
            "what was trained": run.trained_part,
        },
        "Facts": {
            "pack": run.pack_name,
            "licence": pack.licence,
            "source": pack.source,
            "links": links,
            "counts": pack.counts,
        },
        "Settings": {spoken(key): _setting(key, value) for key, value in sorted(record.settings.items())},
        "Versions": {**dict(sorted(record.versions.items())), "commit": record.commit},
        "Hardware": dict(sorted(record.hardware.items())),
        "Hashes": {spoken(key): value for key, value in sorted(record.hashes.items())},
    }
    shown = {name: [(term, text) for term, value in terms.items() if (text := plain(_text(value)))]
             for name, terms in groups.items()}  # fmt: skip
    return [(name, terms) for name, terms in shown.items() if terms]


def command(verb: str, *places: str, **options: object) -> str:
    """A command as a terminal takes it: what has no name, then the options by theirs."""
    named = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return shlex.join(["spillover", verb, *places, *named])


def command_line(record: Record) -> str:
    """The command that makes this run, from its verb and resolved settings; options at their default are left out."""
    # By name, since a report imports no command.
    commands = import_module("spillover.commands")
    if record.command not in commands.verbs():
        return record.command
    positional, options = list[str](), list[str]()
    for item in dataclasses.fields(commands.settings_class(record.command)):
        value = _setting(item.name, record.settings.get(item.name))
        if value is None or item.name == "json":
            continue
        option = f"--{item.name.replace('_', '-')}"
        if "Positional" in str(item.type):
            positional += map(str, value if isinstance(value, (list, tuple)) else [value])
        elif value != item.default:
            no = option.replace("--", "--no-", 1)
            options += [option if value else no] if isinstance(value, bool) else [option, str(value)]
    return shlex.join(["spillover", record.command, *positional, *options])


def _setting(key: str, value: Any) -> Any:
    """A setting for readers elsewhere: of the output folder only its name."""
    return Path(str(value)).name if key == "out" and value else value


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "" if value is None else "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{each} {key.removesuffix('s') if each == 1 else key}" for key, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def duration(seconds: float) -> str:
    """Wall time in words."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@dataclass(frozen=True)
class Download:
    """A link that holds its own file: `href` is a data address, `text` says what it is."""

    name: str
    text: str
    href: str


def cell(value: object) -> object:
    """A CSV cell that no spreadsheet will run: text that looks like a formula gets a leading apostrophe."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> str:
    """A table as CSV. A row is its cells in order, or holds them by column."""
    listed = ([row.get(key) for key in columns] if isinstance(row, Mapping) else row for row in rows)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([cell(value) for value in row] for row in (columns, *listed))
    return stream.getvalue()


def _link(name: str, text: str, body: bytes, media_type: str) -> Download:
    return Download(name, text, f"data:{media_type};base64,{base64.b64encode(body).decode()}")


def table_link(
    name: str, text: str, columns: Sequence[str], rows: Iterable[Sequence[Any] | Mapping[str, Any]]
) -> Download:
    """A download of a CSV file, packed with gzip when large; `name` without its ending, `text` without its kind."""
    body = csv_text(columns, rows).encode()
    if len(body) > _LARGE:
        return _link(f"{name}.csv.gz", f"{text} (CSV, gzip)", gzip.compress(body, mtime=0), "application/gzip")
    return _link(f"{name}.csv", f"{text} (CSV)", body, "text/csv;charset=utf-8")


def of_drawing(drawing: Drawing) -> list[Download]:
    """The figure as SVG and as PDF, and its numbers as CSV."""
    return [
        _link(f"{drawing.name}.svg", "SVG", drawing.file.encode(), "image/svg+xml"),
        _link(f"{drawing.name}.pdf", "PDF", drawing.pdf, "application/pdf"),
        _link(f"{drawing.name}.csv", "CSV", csv_text(drawing.columns, drawing.rows).encode(), "text/csv;charset=utf-8"),
    ]


def of_metrics(runs: Sequence[tuple[str, LoadedRun]]) -> Download:
    """Every record, metrics included, as JSON."""
    records = [{"label": label, **vars(run.record)} for label, run in runs]
    body = json.dumps(records, indent=1, ensure_ascii=False, sort_keys=True, default=for_json)
    return _link("spillover-metrics.json", "Metrics and settings (JSON)", body.encode(), "application/json")


def of_ranks(runs: Sequence[tuple[str, LoadedRun]]) -> Download:
    """One row a question, prompt and checkpoint of every run, as CSV; packed with gzip when large."""
    names = [item.name for item in dataclasses.fields(RankTable)]
    rows = ([label, *row] for label, run in runs
            for row in zip(*(getattr(run.ranks, name).tolist() for name in names), strict=True))  # fmt: skip
    return table_link("spillover-ranks", "Rank of every answer", ["run", *names], rows)
