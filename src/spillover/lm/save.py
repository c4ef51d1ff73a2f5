"""Write a fine-tuned model, whole or as a difference, and read the weights that a run saved."""

import copy
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from spillover.errors import ModelError, RunError, first_line
from spillover.lm.load import LoadedModel, load_model, quiet, resolve, with_adapter
from spillover.lm.score import CausalModel
from spillover.record import disk_errors, save_tensors, unwritable

WEIGHTS, DELTA, ADAPTER = "weights", "delta.safetensors", "adapter"
REPEAT = "Run it again with --save delta"


def save_model(
    model: CausalModel | None, base: LoadedModel, save: Literal["weights", "delta", "none"], folder: Path
) -> Path | None:
    """Save what was asked for into `folder` and give its path.

    weights: a model folder that any loader opens. delta: one file with the new values of the weights that changed,
    or the adapter folder of a LoRA run. Raises RunError on a full disk.
    """
    if model is None or save == "none":
        return None
    adapted = hasattr(model, "merge_and_unload")
    name = WEIGHTS if save == "weights" else ADAPTER if adapted else DELTA
    target = folder / name
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as temporary, disk_errors():
            path = Path(temporary) / name
            if save == "weights":
                with quiet():
                    (merged(model) if adapted else model).save_pretrained(path)
                    base.tokenizer.save_pretrained(path)
            elif adapted:
                model.save_pretrained(path)
            else:
                _save_changed(model, base, path)
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(path, target)
    except OSError as error:
        raise unwritable(target, error) from None
    return target


def merged(model: CausalModel) -> CausalModel:
    """An adapter folded into a copy of its base, whose own weights it may share with other models."""
    adapted: Any = copy.deepcopy(model)
    return adapted.merge_and_unload()


def _save_changed(model: CausalModel, base: LoadedModel, path: Path) -> None:
    before, changed = base.model.state_dict(), dict[int, tuple[str, Tensor]]()
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]):
            # A weight that goes by two names, as where input and output share it, is stored under the first.
            changed.setdefault(value.data_ptr(), (name, value.contiguous()))
    # One note only: the library writes several in an order that differs from time to time.
    save_tensors(dict(changed.values()), path, {"base_sha256": base.sha256})


def take_weights(model: CausalModel, path: Path) -> None:
    """Put a delta's weights into the model it was made from, in place. Raises ModelError for no delta, or another's."""
    own = model.state_dict()
    try:
        with safe_open(path, "pt") as stored, torch.no_grad():
            for name in stored.keys():  # noqa: SIM118
                own[name].copy_(stored.get_tensor(name))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        do = "Name a run of the same model that was made with --save delta"
        raise ModelError(f"these weights cannot be taken ({first_line(error)})", where=str(path), do=do) from None


def kept_in(folder: Path) -> Path:
    """The delta, adapter or model that a run left in its folder. Raises RunError when it kept none."""
    for name in (DELTA, ADAPTER, WEIGHTS):
        if (folder / name).exists():
            return folder / name
    raise RunError("this run kept no weights", where=str(folder), do=REPEAT)


def kept_weights(folder: Path, base: LoadedModel) -> dict[str, Tensor]:
    """Name of a weight -> what the run made of it; weights that it did not change may be left out.

    base: the model that the run started from, which stays as it is. Raises RunError when the run kept no weights, and
    ModelError when they cannot be read or were made from other weights.
    """
    path = kept_in(folder)
    if path.name == DELTA:
        return _delta(path, base)
    if path.name == ADAPTER:
        tuned = with_adapter(copy.deepcopy(base.model), resolve(str(path)))
    else:
        dtype = str(base.model.dtype).removeprefix("torch.")
        tuned = load_model(str(path), device=str(base.model.device), dtype=dtype, tokenizer=base.tokenizer).model
    return {name: value.detach() for name, value in tuned.named_parameters()}


def _delta(path: Path, base: LoadedModel) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as stored:
            made_from = (stored.metadata() or {}).get("base_sha256")
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"these weights cannot be read ({first_line(error)})", where=str(path), do=REPEAT) from None
    if made_from not in (None, base.sha256):
        what = f"these weights were made from another model than {base.name}"
        raise ModelError(what, where=str(path), do="Bring back the model that the run started from")
    return found
