"""Write a fine-tuned model, whole or as a difference, and read the weights that a run saved."""

import copy
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from spillover.details import Saved
from spillover.errors import ModelError, RunError, first_line
from spillover.lm.evaluate import Evaluation
from spillover.lm.load import ROUNDED, TOLERANCE, LoadedModel, folded, load_model, quiet, resolve, with_adapter
from spillover.lm.memory import out_of_memory
from spillover.lm.score import CausalModel, Scorer
from spillover.lm.tokens import encoder, evenly, request
from spillover.packs.pack import Pack
from spillover.record import disk_errors, save_tensors, unwritable

WEIGHTS, DELTA, ADAPTER = "weights", "delta.safetensors", "adapter"
#: The card of what was saved; that of a delta stands beside it.
CARD = "README.md"
REPEAT = "Run it again with --save delta"
#: Prompts that are asked again of what was saved.
PROMPTS = 8


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
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as temporary, disk_errors(), quiet():
            path = Path(temporary) / name
            if save == "weights":
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
    with quiet():
        return folded(copy.deepcopy(model))


def saved_as_measured(path: Path, model: CausalModel, base: LoadedModel, pack: Pack, do: str) -> Saved:
    """Ask a few of the pack's prompts of `model` and of what `save_model` wrote at `path`, opened as a user would.

    Raises RunError, which says what to `do`, when it cannot be opened or answers otherwise than rounding explains; then
    it is removed.
    """
    encode = encoder(base.tokenizer)
    some = [request(encode, pack, *key) for key in evenly(list(Evaluation(pack, encode).prompts(full=True)), PROMPTS)]
    try:
        with quiet():
            again = opened(path, base)
        found, meant = (np.concatenate(Scorer(each).score(some)) for each in (again, model))
    except Exception as error:
        # Whatever the libraries raise for a file or a configuration.
        if out_of_memory(error):
            raise
        what = f"what was saved cannot be opened and asked ({first_line(error)})"
    else:
        differ = found != meant
        difference = float(np.abs(found[differ] - meant[differ]).max(initial=0.0))
        if difference <= (TOLERANCE if model.dtype == torch.float32 else ROUNDED):
            return Saved(prompts=len(some), difference=difference)
        what = f"what was saved answers otherwise than the model that was measured, by up to {difference:.2g} nats"
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    raise RunError(f"{what}, so it was not kept", where=str(path), do=do)


def opened(path: Path, base: LoadedModel) -> CausalModel:
    """What `save_model` wrote, opened by transformers and PEFT alone; of the base it shares what the file leaves."""
    own: Any = base.model
    if path.name == WEIGHTS:
        known = type(own.config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        kind: Any = transformers.AutoModelForCausalLM if known else type(own)
        found = kind.from_pretrained(path, attn_implementation=own.config._attn_implementation)
        return found.to(own.device).eval()
    named = dict(own.named_parameters(remove_duplicate=False))
    new = [own.get_input_embeddings().weight, own.get_output_embeddings().weight]  # An adapter's file may hold them.
    if path.name == DELTA:
        with safe_open(path, "pt") as stored:
            new = [named[name] for name in stored.keys() if name in named]  # noqa: SIM118
    kept = {id(each): nn.Parameter(each.detach(), requires_grad=False) for each in named.values()}
    made = copy.deepcopy(own, {key: each for key, each in kept.items() if key not in set(map(id, new))})
    if path.name == DELTA:
        take_weights(made, path)
        return made
    from peft import PeftModel

    return PeftModel.from_pretrained(made, path)


def files_saved(folder: Path) -> list[str]:
    """Every file that a run kept of its model, by its path in the run's folder."""
    every = [path for name in (DELTA, CARD, ADAPTER, WEIGHTS) for path in (folder / name, *(folder / name).rglob("*"))]
    return sorted(path.relative_to(folder).as_posix() for path in every if path.is_file())


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
