"""Adapters that somebody trained: folded into the base that they were made from, and into no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spillover.errors import ModelError
from spillover.llm.memory.exhaustion import out_of_memory

WEIGHTS = "adapter_model.safetensors"
_LORA = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_(?:embedding_)?A(?:\.weight)?")
_DO = "Name the base that it was made from in its adapter_config.json"


def merge_adapter(model: Any, folder: Path, name: str) -> Any:
    """A base model with the adapter in `folder` folded into it.

    Raises ModelError when the adapter was made for another model: for modules that this one does not have, for some of
    its layers only, or for weights of other sizes.
    """
    if not (folder / WEIGHTS).exists():
        raise ModelError(f"the adapter has no {WEIGHTS}", where=name, do="Save it as safetensors")
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(model, str(folder))
    except (RuntimeError, ValueError) as error:
        if out_of_memory(error) or not _of_another(str(error)):
            raise
        raise ModelError(f"this adapter was made for another base: {_reason(str(error))}", where=name, do=_DO) from None
    _refuse_part(adapted, folder, name)
    return adapted.merge_and_unload()  # type: ignore[operator]


def other_weights(first: Path, second: Path) -> bool:
    """Whether two model folders surely hold different weights, by the beginning of each, whatever its precision.

    Weights that another package packed tell nothing.
    """
    if first.resolve() == second.resolve() or any(_packed(each) for each in (first, second)):
        return False
    own, other = (dict(_beginnings(each)) for each in (first, second))
    if not own or not other:
        return False
    return (
        any(
            own[name].shape != other[name].shape or not torch.allclose(own[name], other[name], rtol=0.01, atol=1e-4)
            for name in own.keys() & other.keys()
        )
        or not own.keys() & other.keys()
    )


def _packed(folder: Path) -> bool:
    try:
        return "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True


def _beginnings(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The first row of every weight of a model folder, by name."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                yield name, stored.get_slice(name)[:1].float()


def _of_another(said: str) -> bool:
    return "size mismatch" in said or "not found in the base model" in said


def _reason(said: str) -> str:
    if found := re.search(
        r"size mismatch for (\S+):.*?(torch\.Size\(\[.*?\]\)).*?(torch\.Size\(\[.*?\]\))", said, re.S
    ):
        sizes = [size.removeprefix("torch.Size(").removesuffix(")") for size in found.groups()[1:]]
        return f"its {found[1]} is {sizes[0]}, and this one takes {sizes[1]}"
    return "this one has none of the modules that it changes"


def _refuse_part(adapted: Any, folder: Path, name: str) -> None:
    """Raise ModelError when a LoRA adapter's modules are not those that got one, which the library goes past."""
    stored, made = set(_stored(folder)), set(_made(adapted))
    if not stored or not made or stored == made:
        return
    some = sorted(stored - made or made - stored)[0]
    what = f"it changes {some}, which this one lacks" if stored - made else f"it has nothing for this one's {some}"
    raise ModelError(f"this adapter was made for another base: {what}", where=name, do=_DO)


def _stored(folder: Path) -> Iterator[str]:
    """The modules that a LoRA adapter's file has weights for."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as stored:
        for key in stored.keys():  # noqa: SIM118
            if found := _LORA.fullmatch(key):
                yield found[1]


def _made(adapted: Any) -> Iterator[str]:
    """The modules of the base that got an adapter when it was put on."""
    for name, module in adapted.get_base_model().named_modules():
        if any(len(getattr(module, part, ())) for part in ("lora_A", "lora_embedding_A")):
            yield name
