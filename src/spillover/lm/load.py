"""Load a model by tag, hub id, folder, GGUF file or adapter. Only a hub id is fetched; no pickle, no remote code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from spillover import catalog
from spillover.errors import ModelError, nearest
from spillover.lm.builtin import LICENCE_NOTE, embedded_folder, quiet
from spillover.lm.micro_batch import Exhausted, out_of_memory
from spillover.record import sha256_of, sha256_of_texts

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


HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """Where a model comes from. path: a folder or a hub id; local: only files already on this machine may be used.

    gguf: the file in that folder that holds weights and tokenizer, if it is one.
    """

    name: str
    path: str
    local: bool
    adapter: bool = False
    gguf: str | None = None
    licence_note: str = ""


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model with its tokenizer; `sha256` identifies its weights."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sha256: str
    licence_note: str


def resolve(name: str) -> Source:
    """What a name stands for: a tag of the catalogue, an existing folder, or a hub id. Raises ModelError otherwise."""
    if name in catalog.MODELS:
        target = catalog.MODELS[name]
        if target == "built-in":
            return Source(name, str(embedded_folder()), local=True, licence_note=LICENCE_NOTE)
        return Source(name, target, local=True)
    folder = Path(name).expanduser()
    if _exists(folder) and folder.is_dir():
        if (folder / "adapter_config.json").exists():
            return Source(name, str(folder), local=True, adapter=True)
        if (folder / "config.json").exists():
            return Source(name, str(folder), local=True)
        if file := gguf_in(folder):
            return Source(name, str(folder), local=True, gguf=file)
        raise ModelError(
            "this folder is not a model: it has no config.json and no adapter_config.json",
            where=name,
            do="Name a folder that save_pretrained wrote",
        )
    if _exists(folder):
        if file := gguf_in(folder):
            return Source(name, str(folder.parent), local=True, gguf=file)
        raise ModelError("this is a file, not a model folder", where=name, do="Name the folder that holds it")
    if HUB_ID.fullmatch(name):
        return Source(name, name, local=False)
    raise ModelError(f"there is no model called {name[:200]!r}", do=nearest(name[:200], catalog.MODELS))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False  # A name that no file can have, such as one that is too long.


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model by name. Raises ModelError when the model or its tokenizer is not there."""
    source = resolve(name)
    if source.adapter and not _has_tokenizer(Path(source.path)):
        return load_tokenizer(base_of(source), revision)
    return _tokenizer(source, revision)


def load_config(name: str, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a model by name; of an adapter, its base's. Raises ModelError when it is not there."""
    source = resolve(name)
    if source.adapter:
        return load_config(base_of(source), revision)
    with quiet(), _told(source, "configuration"):
        return AutoConfig.from_pretrained(source.path, **_options(source, revision))


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    revision: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> LoadedModel:
    """Load a causal language model in evaluation mode. Raises ModelError with what to do when it cannot be had.

    device: auto, cpu, cuda, cuda:N or mps. dtype: float32 or bfloat16. A PEFT adapter is merged into its base.
    tokenizer: the model's own, if it was loaded before; reading a large vocabulary takes seconds.
    """
    target = pick_device(device)
    source = resolve(name)
    if source.adapter:
        base = load_model(base_of(source), device=device, dtype=dtype, revision=revision)
        model = with_adapter(base.model, source)
        tokenizer = tokenizer or load_tokenizer(name, revision)
        sha256, note = sha256_of_texts([base.sha256, _weights_hash(source, model)]), base.licence_note
    else:
        tokenizer = tokenizer or _tokenizer(source, revision)
        model = _weights(source, revision, dtype)
        sha256, note = _weights_hash(source, model), source.licence_note
    try:
        model = model.to(target)  # type: ignore[arg-type]
    except RuntimeError as error:
        raise ModelError(f"does not fit on {target} ({error})".split("\n")[0], where=name, do="Try --device cpu") \
            from None  # fmt: skip
    return LoadedModel(name, model.eval(), tokenizer, sha256, note)


def pick_device(name: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Raises ModelError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"there is no device called {name!r}", do="Use auto, cpu, cuda, cuda:0 or mps") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise ModelError(f"this machine has no device {name!r}", do="Use --device cpu or auto")
    return device


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / file).exists() for file in ("tokenizer.json", "tokenizer_config.json"))


def _tokenizer(source: Source, revision: str | None) -> PreTrainedTokenizerBase:
    options = _options(source, revision)
    if source.gguf and _has_tokenizer(Path(source.path)):
        options["gguf_file"] = None
    with quiet(), _told(source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source.path, **options)


def _options(source: Source, revision: str | None) -> dict[str, Any]:
    """What the loading library is told of where a model comes from."""
    options = {"revision": revision or "main", "local_files_only": source.local, "trust_remote_code": False}
    if source.gguf:
        refuse_gguf_without_reader(source.name)
        options["gguf_file"] = source.gguf
    return options


def _weights(source: Source, revision: str | None, dtype: str) -> PreTrainedModel:
    options = _options(source, revision)
    with quiet(), _told(source, "model"):
        config = AutoConfig.from_pretrained(source.path, **options)
        refuse_unreadable(config, source.name)
        options |= unpacking(source.gguf) if source.gguf else {}
        # The fused kernels leave out the soft cap on attention scores that these models were trained with.
        attention = "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.path, dtype=getattr(torch, dtype), use_safetensors=True, attn_implementation=attention,
            output_loading_info=True, **options,
        )  # fmt: skip
        model, told = loaded
        return _whole(source, unpacked(model, getattr(torch, dtype)), told)


def _whole(source: Source, model: PreTrainedModel, told: dict[str, Any]) -> PreTrainedModel:
    """The model, once it is known that its weights were all there and that it continues prompts."""
    if told["missing_keys"]:
        # The library fills them with random numbers and goes on.
        what = f"it is not a whole language model: {', '.join(sorted(told['missing_keys'])[:3])} is missing"
        raise ModelError(what, where=source.name, do="Name a causal language model, as save_pretrained writes it")
    _refuse_readers_of_what_follows(model.eval(), source.name)
    return model


def _refuse_readers_of_what_follows(model: PreTrainedModel, name: str) -> None:
    """Raise ModelError when what a model says at a token depends on later ones, as in a model that fills in blanks."""
    with torch.inference_mode():
        first = model(input_ids=torch.tensor([[0, 1], [0, 2]]), use_cache=False).logits[:, 0].float()
    tolerance = (1e-3 if model.dtype == torch.float32 else 5e-2) * float(first.std())
    if (first[0] - first[1]).abs().max() > tolerance:
        what = "this model reads in both directions and so cannot continue a prompt"
        raise ModelError(what, where=name, do="Name a causal language model")


class _told:
    """Turns the loading library's exceptions into one sentence; lets everything else through."""

    def __init__(self, source: Source, part: str) -> None:
        self.source, self.part = source, part

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        # The library raises bare Exception subclasses for damaged files, hence the wide net; interrupts pass.
        if not isinstance(error, Exception) or isinstance(error, ModelError):
            return
        where, path = self.source.name, self.source.path
        if out_of_memory(error):
            raise Exhausted(f"memory ran out while its {self.part} was read", where=where) from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if self.source.local and not Path(path).is_dir():
            do = f"Fetch them once with `hf download {path}`, then repeat the command"
            raise ModelError("the weights of this model are not on this machine", where=where, do=do) from None
        if not self.source.local:
            do = "Check the id and the connection, or name a local folder"
            raise ModelError(f"no such folder here, and the hub gave no {self.part} ({reason})", where=where, do=do) \
                from None  # fmt: skip
        do = "Name a folder with a causal language model in safetensors, as save_pretrained writes it"
        raise ModelError(f"its {self.part} cannot be loaded ({reason})", where=where, do=do) from None


def base_of(source: Source) -> str:
    """The base model that an adapter names."""
    path = Path(source.path) / "adapter_config.json"
    try:
        base = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    if not base:
        raise ModelError("this adapter does not name its base model", where=str(path), do="Merge it and name that")
    if resolve(str(base)).adapter:
        raise ModelError(f"its base {base} is an adapter too", where=str(path), do="Merge the base first and name that")
    return str(base)


def with_adapter(model: PreTrainedModel, source: Source) -> PreTrainedModel:
    """The adapter folded into its base, in place. Raises ModelError when it cannot be read or does not fit."""
    with quiet(), _told(source, "adapter"):
        return merge_adapter(model, Path(source.path), source.name)  # type: ignore[no-any-return]


def made_from_another(adapter: Source, base: Source) -> str:
    """The base that an adapter names, if it is surely not this one; else nothing."""
    named = resolve(base_of(adapter))
    known = [each for each in (named, base) if not each.adapter and not each.gguf and Path(each.path).is_dir()]
    other = len(known) == 2 and other_weights(Path(named.path), Path(base.path))
    return named.name if other else ""


def _weights_hash(source: Source, model: PreTrainedModel) -> str:
    """One SHA-256 for all weight files of a folder, or for a hub model's commit."""
    folder = Path(source.path)
    if source.gguf:
        return sha256_of_texts([sha256_of(folder / source.gguf)])
    if folder.is_dir():
        return sha256_of_texts([sha256_of(path) for path in sorted(folder.glob("*.safetensors"))])
    return sha256_of_texts([source.path, str(getattr(model.config, "_commit_hash", None))])
