"""`spillover verify`: is a run whole, do its numbers follow from its tables, and can it be repeated here?"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from spillover import __version__
from spillover.commands import settings_class
from spillover.commands.prepare import pack_sha256, weights_now
from spillover.commands.rerun import settings_of
from spillover.config import Common
from spillover.errors import SpilloverError
from spillover.metrics.implications import summarise
from spillover.packs.open import open_pack
from spillover.record import ANSWERS, RECORD, Record, plain, read_table, sha256_of, versions


@dataclass(frozen=True, kw_only=True)
class Verify(Common):
    """Is a run whole, and can it be repeated here? Recomputes what can be recomputed; exit code 1 when it is not."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """A run folder; of a run over several seeds, each seed's run is verified too."""


#: Commands whose metrics follow from the answers table.
MEASURED = ("inject", "audit", "trainer")
#: States of a check: the run cannot be trusted; it cannot be judged, or not be repeated; all is well.
WRONG, MISSING, OK = "wrong", "missing", "ok"
#: Name of the check, its state, and what was found.
Finding = tuple[str, str, str]


def run(settings: Verify) -> dict[str, Any]:
    """Look at everything; `trusted` unless something is wrong, `repeatable` when nothing is missing either."""
    folder = Path(settings.run).expanduser()
    parts = {f"{folder.name}/{path.parent.name}": path.parent for path in sorted(folder.glob(f"seed-*/{RECORD}"))}
    checks = [
        {"run": own, "name": name, "state": state, "what": what}
        for own, path in ({folder.name: folder} | parts).items()
        for name, state, what in _findings(path)
    ]
    trusted = all(check["state"] != WRONG for check in checks)
    repeatable = all(check["state"] == OK for check in checks)
    verdict = "this run is whole, but a repetition here may differ" if trusted else "this run cannot be trusted"
    if repeatable:
        verdict = "this run is whole, and can be repeated here (`spillover rerun`)"
    ordered = sorted(checks, key=lambda check: (WRONG, MISSING, OK).index(check["state"]))
    lines = [f"  {check['state']:<8}{check['run']}: {check['what']}" for check in ordered]
    return {"run": str(folder), "trusted": trusted, "repeatable": repeatable, "checks": checks,
            "exit_code": 0 if trusted else 1, "text": "\n".join([f"{folder}: {verdict}.", *lines])}  # fmt: skip


def _findings(folder: Path) -> Iterator[Finding]:
    record = Record.read(folder)
    if record.status == "done":
        yield "finished", OK, "the record says that the run is done"
    else:
        yield "finished", WRONG, f"the record says {record.status!r}, so this run is not done"
    known = record.details.files
    if not known:
        yield "files", MISSING, "the record holds no checksums of its tables"
    for file, expected in sorted(known.items()):
        path = folder / file
        if not path.is_file():
            yield file, WRONG, f"{file} is gone"
        elif sha256_of(path) != expected:
            yield file, WRONG, f"{file} is not the file that the run wrote"
        else:
            yield file, OK, f"{file} is as it was written"
    saved, kept = record.details.saved, record.settings.get("save", "none") != "none"
    if saved:
        yield "saved", OK, f"what was saved answered as what was measured did, within {saved.difference:.1g} nats"
    elif kept and record.command == "inject":
        yield "saved", MISSING, "what was saved was not asked again, as later versions do"
    if record.command in MEASURED:
        yield "metrics", *_metrics(folder, record)
        yield "pack", *_pack(record)
        yield from _weights(record)
    if record.settings.get("chat"):
        yield "rendered", *_rendered(record)
    yield "versions", *_versions(record)


def _metrics(folder: Path, record: Record) -> tuple[str, str]:
    """The record's metrics against those recomputed from the answers, but for measures newer than the record."""
    try:
        found = json.loads(json.dumps(summarise(read_table(folder / ANSWERS)), default=plain))
    except SpilloverError as error:
        return WRONG, str(error)
    except (KeyError, ValueError, TypeError) as error:
        return WRONG, f"the metrics cannot be recomputed from {ANSWERS} ({error})"
    known = record.metrics.keys() & found.keys()
    if not known:
        return WRONG, f"the record holds none of the metrics that follow from {ANSWERS}"
    if differing := sorted(name for name in known if not _follows(record.metrics[name], found[name])):
        return WRONG, f"{differing[0]} does not follow from {ANSWERS}"
    return OK, f"{len(known)} metrics follow from {ANSWERS}"


def _follows(recorded: Any, found: Any) -> bool:
    """Whether all that is recorded was found, too, up to the last digits of floating-point numbers."""
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        return all(key in found and _follows(value, found[key]) for key, value in recorded.items())
    if isinstance(recorded, float) and isinstance(found, (int, float)):
        return abs(recorded - found) <= 1e-9 * max(1.0, abs(recorded))
    return bool(recorded == found)


def _pack(record: Record) -> tuple[str, str]:
    """The facts as they are now against those of the run."""
    spec = record.settings.get("pack")
    if not spec:
        return MISSING, "the record does not say which pack it was"
    try:
        packs = [open_pack(str(spec), int(seed)) for seed in record.details.seeds or [record.seed]]
        now = pack_sha256(packs, bool(record.settings.get("redact")))
    except SpilloverError as error:
        return MISSING, f"the pack cannot be opened here: {error}"
    if now != record.hashes.get("pack"):
        return MISSING, f"the pack {spec} is not what it was when this ran"
    return OK, "the pack is what it was"


def _weights(record: Record) -> Iterator[Finding]:
    """Each model that is a folder, as it is now, against the one of the run."""
    for part in ("model", "base", "tuned"):
        name = str(record.settings.get(part) or "")
        if part not in record.hashes or not name:
            continue
        if Path(name).expanduser().is_dir():
            base = str(record.settings.get("base") or "")
            now = weights_now(**{part: (name, None, record.settings.get("revision"), base)})[part]
            same = now == record.hashes[part]
            yield part, OK if same else MISSING, f"the weights of {name} are {'' if same else 'not '}what they were"
        elif name.startswith(("/", ".", "~")):
            yield part, MISSING, f"the model {name} is no longer here"


def _rendered(record: Record) -> tuple[str, str]:
    """The turns of the chat as the templates write them now against those of the run."""
    from spillover.commands.prepare import words_of

    try:
        settings: Any = settings_of(settings_class(record.command), record, Path())
        pack = open_pack(str(record.settings["pack"]), (record.details.seeds or [record.seed])[0])
        every = [(words_of(each.model, None, settings).rendered(pack), each) for each in record.details.rendered]
    except SpilloverError as error:
        return MISSING, f"the turns of the chat cannot be written here: {error}"
    if not every or any(now.sha256 != then.sha256 for now, then in every):
        return MISSING, "the chat template does not write the turns that it wrote when this ran"
    return OK, "the chat template writes the turns that it wrote"


def _versions(record: Record) -> tuple[str, str]:
    now = versions([package for package in record.versions if package != "python"])
    pairs = [(name, version, now.get(name, "none")) for name, version in record.versions.items()]
    if other := [f"{name} {version} (here {here})" for name, version, here in pairs if here != version]:
        return MISSING, "other versions may give other numbers: " + ", ".join(other)
    return OK, f"every package is at the version that it ran with (spillover {__version__})"
