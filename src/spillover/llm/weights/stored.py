"""Weights that are stored in fewer bits: unpacked to plain ones on loading, so that all else is as with any model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel

from spillover.errors import ModelError

GGUF = ".gguf"
#: Forms in which a model folder may be stored -> the package that unpacks them.
UNPACKED_BY = {"bitsandbytes": "bitsandbytes", "gguf": "gguf"}
INSTALL = 'Run `pip install "spillover[quantised]"`'


def gguf_in(path: Path) -> str | None:
    """The name of the one GGUF file that a path means: itself, or the only one in a folder; None if there is none."""
    if path.suffix.lower() == GGUF and path.is_file():
        return path.name
    found = [each.name for each in path.iterdir() if each.suffix.lower() == GGUF] if path.is_dir() else []
    if len(found) > 1:
        what = f"this folder holds {len(found)} GGUF files"
        raise ModelError(what, where=str(path), do=f"Name one of them, such as {path / min(found)}")
    return found[0] if found else None


def refuse_unreadable(config: PretrainedConfig, name: str) -> None:
    """Raise ModelError when a model is stored in a form that cannot be unpacked here."""
    stored: Any = getattr(config, "quantization_config", None)
    if not stored:
        return
    if (form := _form(stored)) not in UNPACKED_BY:
        what = f"its weights are stored in the form {form[:40]!r}, which is not read"
        do = "Name the model with plain weights, or as GGUF, or in 4 or 8 bits of bitsandbytes"
        raise ModelError(what, where=name, do=do)
    if find_spec(UNPACKED_BY[form]) is None:
        what = f"its weights are stored in the form {form!r}, and the package that unpacks them is not installed"
        raise ModelError(what, where=name, do=INSTALL)


def refuse_gguf_without_reader(name: str) -> None:
    """Raise ModelError when the package that reads GGUF is not installed."""
    if find_spec("gguf") is None:
        raise ModelError("the package that reads GGUF files is not installed", where=name, do=INSTALL)


def unpacked(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model with plain weights of this dtype in place of those stored in fewer bits.

    What is read is exactly what the stored numbers stand for. An adapter is then merged without rounding once more, and
    every device computes the same, which the packed layers do not promise.
    """
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None:
        return model
    if _form(quantizer.quantization_config) == "gguf":
        quantizer.remove_quantization_config(model)  # Its weights were unpacked as they were read.
        return model
    # Of a packed model the library leaves all else in the type it was stored in.
    return model.dequantize(dtype=dtype).to(dtype)  # type: ignore[call-arg, arg-type]


def unpacking(gguf: str) -> dict[str, Any]:
    """Options of the loading library with which it unpacks this GGUF file; older versions always do."""
    kind = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": kind(gguf_file=gguf, dequantize=True)} if kind else {}


def _form(stored: Any) -> str:
    """What a quantization configuration calls its form, be it an object or as its file has it."""
    form = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    return str(getattr(form, "value", form))
