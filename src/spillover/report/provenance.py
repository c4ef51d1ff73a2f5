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
_STATUS = {"done": "finished", "running": "not finished", "interrupted": "interrupted before it finished",
           "failed": "failed before it finished"}  # fmt: skip


def provenance(run: LoadedRun) -> list[tuple[str, Terms]]:
    """Groups of terms: the run, its model, its pack, its settings, its surroundings. Empty values are left out."""
    record, pack, model = run.record, run.pack, run.record.details.get("model") or {}
    total, trained = model.get("parameters"), model.get("trained_parameters")
    links = [f"{spoken(each['given'])} → {spoken(each['then'])} ({each.get('kind', '')})"
             for each in pack.get("implications") or ()]  # fmt: skip
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
            "name": model.get("name") or record.settings.get("model"),
            "licence": model.get("licence_note") or model.get("licence"),
            "parameters trained": f"{trained:,} of {total:,}" if total and trained else total,
            "what was trained": run.trained_part,
        },
        "Facts": {
            "pack": run.pack_name,
            **{key: pack.get(key) for key in ("licence", "source")},
            "links": links,
            "counts": pack.get("counts"),
        },
        "Settings": {spoken(key): _setting(key, value) for key, value in sorted(record.settings.items())},
        "Versions": {**dict(sorted(record.versions.items())), "commit": record.commit},
        "Hardware": dict(sorted(record.hardware.items())),
        "Hashes": {spoken(key): value for key, value in sorted(record.hashes.items())},
    }
    shown = {name: [(term, text) for term, value in terms.items() if (text := plain(_text(value)))]
             for name, terms in groups.items()}  # fmt: skip
    return [(name, terms) for name, terms in shown.items() if terms]


def command_line(record: Record) -> str:
    """The command that makes this run, from its verb and resolved settings; options at their default are left out."""
    # By name, since a report imports no command.
    commands = import_module("spillover.commands")
    if record.command not in commands.verbs():
        return record.command
    positional: list[str] = []
    options: list[str] = []
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
