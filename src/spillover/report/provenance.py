"""How a run was made, as terms and values."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from spillover.record import Record
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun
from spillover.report.story import spoken

Terms = list[tuple[str, str]]
_STATUS = {
    "done": "finished",
    "interrupted": "interrupted before it finished",
    "running": "not finished",
    "failed": "failed before it finished",
}


def provenance(run: LoadedRun) -> list[tuple[str, Terms]]:
    """Groups of terms: the run, its model, its pack, its settings, its surroundings. Empty values are left out."""
    record = run.record
    groups = [
        ("Run", _run(run)),
        ("Model", _model(run)),
        ("Facts", _pack(run)),
        (
            "Settings",
            [(spoken(key), _text(_setting(key, value))) for key, value in sorted(record.settings.items())],
        ),
        (
            "Versions",
            [*((key, str(value)) for key, value in sorted(record.versions.items())), ("commit", record.commit or "")],
        ),
        ("Hardware", [(key, _text(value)) for key, value in sorted(record.hardware.items())]),
        ("Hashes", [(spoken(key), str(value)) for key, value in sorted(record.hashes.items())]),
    ]
    kept = [(name, [(term, plain(value)) for term, value in terms if value != ""]) for name, terms in groups]
    return [(name, terms) for name, terms in kept if terms]


def _run(run: LoadedRun) -> Terms:
    record = run.record
    return [
        ("command", command_line(record)),
        ("status", _STATUS.get(record.status, record.status)),
        ("seeds" if len(run.seeds) > 1 else "seed", ", ".join(map(str, run.seeds))),
        ("wall time", duration(record.seconds)),
        ("times resumed", str(record.resumed) if record.resumed else ""),
        ("identity", record.identity),
    ]


def command_line(record: Record) -> str:
    """The command that makes this run, from its verb and resolved settings; options at their default are left out."""
    # By name, since a report imports no command.
    commands = import_module("spillover.commands")
    if record.command not in commands.verbs():
        return record.command
    positional, options = [], []
    for item in dataclasses.fields(commands.settings_class(record.command)):
        value = _setting(item.name, record.settings.get(item.name))
        if value is None or item.name == "json":
            continue
        name = item.name.replace("_", "-")
        if "Positional" in str(item.type):
            positional += [str(each) for each in (value if isinstance(value, (list, tuple)) else [value])]
        elif isinstance(value, bool):
            options += [] if value == item.default else [f"--{name}" if value else f"--no-{name}"]
        elif value != item.default:
            options += [f"--{name}", str(value)]
    return shlex.join(["spillover", record.command, *positional, *options])


def _setting(key: str, value: Any) -> Any:
    """A setting for readers elsewhere: of the output folder only its name."""
    return Path(str(value)).name if key == "out" and value else value


def _model(run: LoadedRun) -> Terms:
    model = run.record.details.get("model") or {}
    total, trained = model.get("parameters"), model.get("trained_parameters")
    share = f"{trained:,} of {total:,}" if total and trained else _text(total)
    return [
        ("name", str(model.get("name") or run.record.settings.get("model") or "")),
        ("licence", _text(model.get("licence_note") or model.get("licence"))),
        ("parameters trained", share),
        ("what was trained", run.trained_part),
    ]


def _pack(run: LoadedRun) -> Terms:
    pack = run.pack
    links = [
        f"{spoken(item['given'])} → {spoken(item['then'])} ({item.get('kind', '')})"
        for item in pack.get("implications") or ()
    ]
    return [
        ("pack", run.pack_name),
        ("licence", _text(pack.get("licence"))),
        ("source", _text(pack.get("source"))),
        ("links", ", ".join(links)),
        ("counts", _text(pack.get("counts"))),
    ]


def _text(value: Any) -> str:
    """A setting as a reader writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{each} {key.removesuffix('s') if each == 1 else key}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def duration(seconds: float) -> str:
    """Wall time in words."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
