"""The weights that a run of `inject` kept, as new values of its base model's weights."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import Tensor

from spillover.errors import ModelError, RunError
from spillover.llm.weights.loading import LoadedModel, load_model, resolve, with_adapter
from spillover.llm.weights.saving import ADAPTER, DELTA, WEIGHTS

REPEAT = "Run it again with --save delta"


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
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stored:
            made_from = (stored.metadata() or {}).get("base_sha256")
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"these weights cannot be read ({reason})", where=str(path), do=REPEAT) from None
    if made_from not in (None, base.sha256):
        what = f"these weights were made from another model than {base.name}"
        raise ModelError(what, where=str(path), do="Bring back the model that the run started from")
    return found
