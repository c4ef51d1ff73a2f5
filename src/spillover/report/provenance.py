"""How a run was made, as terms and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spillover.report.drawing import plain
from spillover.report.load import LoadedRun

Terms = list[tuple[str, str]]
_STATUS = {"done": "finished", "interrupted": "interrupted before it finished", "running": "not finished"}


def provenance(run: LoadedRun) -> list[tuple[str, Terms]]:
    """Groups of terms: the run, its model, its pack, its settings, its surroundings. Empty values are left out."""
    record = run.record
    groups = [
        ("Run", _run(run)),
        ("Model", _model(run)),
        ("Facts", _pack(run)),
        ("Settings", [(key.replace("_", " "), _text(value)) for key, value in sorted(record.settings.items())]),
        (
            "Versions",
            [*((key, str(value)) for key, value in sorted(record.versions.items())), ("commit", record.commit or "")],
        ),
        ("Hardware", [(key, _text(value)) for key, value in sorted(record.hardware.items())]),
        ("Hashes", [(key, str(value)) for key, value in sorted(record.hashes.items())]),
    ]
    kept = [(name, [(term, plain(value)) for term, value in terms if value != ""]) for name, terms in groups]
    return [(name, terms) for name, terms in kept if terms]


def _run(run: LoadedRun) -> Terms:
    record = run.record
    return [
        ("command", record.command),
        ("status", _STATUS.get(record.status, record.status)),
        ("seeds" if len(run.seeds) > 1 else "seed", ", ".join(map(str, run.seeds))),
        ("wall time", duration(record.seconds)),
        ("times resumed", str(record.resumed) if record.resumed else ""),
        ("identity", record.identity),
    ]


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
    links = [f"{item['given']} → {item['then']} ({item.get('kind', '')})" for item in pack.get("implications") or ()]
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
        return ", ".join(f"{each} {key}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def duration(seconds: float) -> str:
    """Wall time in words."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
