"""Load a model by tag, hub id, folder, GGUF file or adapter. Only a hub id is fetched; no pickle, no remote code."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.utils import logging as library

from spillover.errors import ModelError, first_line, nearest
from spillover.lm.built_in import BUILT_IN, MODELS, assemble, folder_of, installed, is_prepared, missing
from spillover.lm.distributed import pick_device
from spillover.lm.memory import Exhausted, out_of_memory
from spillover.lm.score import CausalModel, logits_only_at
from spillover.lm.tokens import longest_text
from spillover.record import sha256_of, sha256_of_texts, unwritable

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelSource:
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
    """A causal language model in evaluation mode, with its tokenizer.

    files_sha256: of the files that its weights were read from, if they were.
    """

    name: str
    model: CausalModel
    tokenizer: transformers.PreTrainedTokenizerBase
    files_sha256: str = ""
    licence_note: str = ""

    @classmethod
    def of(cls, model: CausalModel, tokenizer: transformers.PreTrainedTokenizerBase, name: str = "") -> LoadedModel:
        """A model and a tokenizer that one holds; the model is put into evaluation mode.

        Arguments:
        - model: a causal language model of transformers, or a PEFT model around one.
        - tokenizer: its own, a fast one.
        - name: what records call it; by default, what it was loaded from.

        Raises: ModelError when it is no causal language model, or when the tokenizer is not a fast one.
        """
        name = name or str(getattr(getattr(model, "config", None), "_name_or_path", "")) or type(model).__name__
        if not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
            what = f"a {type(model).__name__} does not continue texts"
            raise ModelError(what, where=name, do="Give a causal language model, as AutoModelForCausalLM loads it")
        if not getattr(tokenizer, "is_fast", False):
            what = f"a {type(tokenizer).__name__} is not a fast tokenizer"
            raise ModelError(what, where=name, do="Give one that AutoTokenizer loads")
        _refuse_unfit(model.eval(), name)
        return cls(name, model, tokenizer)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 that identifies the weights: of their files, else of the weights as they are when first asked."""
        if self.files_sha256:
            return self.files_sha256
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's progress bars and advice, which speak of things the user did not ask for."""
    level, handler_level, shown = library.get_verbosity(), logging.root.level, library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.set_verbosity(level)
        logging.root.setLevel(handler_level)
        if shown:
            library.enable_progress_bar()


def resolve(name: str) -> ModelSource:
    """What a name stands for: a tag, an existing folder, a GGUF file, or a hub id. Raises ModelError otherwise."""
    if name in MODELS:
        if name in BUILT_IN:
            return ModelSource(name, str(prepared(name)), local=True, licence_note=BUILT_IN[name].note)
        return ModelSource(name, MODELS[name], local=True)
    path = Path(name).expanduser()
    if os.path.exists(path):  # False also for a name that no file can have, such as one that is too long.
        folder = str(path if path.is_dir() else path.parent)
        adapter = (path / "adapter_config.json").exists()
        if adapter or (path / "config.json").exists():
            return ModelSource(name, folder, local=True, adapter=adapter)
        if file := gguf_in(path):
            return ModelSource(name, folder, local=True, gguf=file)
        what, do = "this is a file, not a model folder", "Name the folder that holds it"
        if path.is_dir():
            what = "this folder is not a model: it has no config.json and no adapter_config.json"
            do = "Name a folder that save_pretrained wrote"
        raise ModelError(what, where=name, do=do)
    if HUB_ID.fullmatch(name):
        return ModelSource(name, name, local=False)
    if re.match("https?://", name, re.IGNORECASE):
        do = "Give it to `spillover audit`, as --base or --tuned"
        raise ModelError("an endpoint answers, and has no weights to load", where=name[:200], do=do)
    raise ModelError(f"there is no model called {name[:200]!r}", do=nearest(name[:200], MODELS))


#: The files of which a folder holds at least one if it has a tokenizer; an adapter's own is in one of the first two.
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json",
               "spiece.model", "sentencepiece.bpe.model", "spm.model", "vocab.bpe", "vocab-src.json")  # fmt: skip


def _has_tokenizer(source: ModelSource) -> bool:
    files = _TOKENIZERS[:2] if source.adapter or source.gguf else _TOKENIZERS
    return any((Path(source.path) / file).exists() for file in files)


def load_tokenizer(name: str, revision: str | None = None, base: str = "") -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of a model by name; of a folder that has none, that of `base`, if there is one. Raises ModelError
    when the model or its tokenizer is not there."""
    source = resolve(name)
    has_own = _has_tokenizer(source)
    if source.adapter and not has_own:
        return load_tokenizer(base_of(source, base), revision)
    if not has_own and not source.gguf and Path(source.path).is_dir():
        if base and base != name:
            return load_tokenizer(base, revision)
        do = "Copy tokenizer.json and tokenizer_config.json into it from the model that it was made from"
        raise ModelError("this folder has no tokenizer", where=name, do=do)
    options = _options(source, revision)
    if source.gguf and has_own:
        options["gguf_file"] = None
    with quiet(), _one_sentence(source, "tokenizer"):
        return transformers.AutoTokenizer.from_pretrained(source.path, **options)


def load_config(name: str, revision: str | None = None, base: str = "") -> transformers.PretrainedConfig:
    """The configuration of a model by name; of an adapter, its base's, or that of `base` where it names one that is not
    here. Raises ModelError when it is not there."""
    source = resolve(name)
    if source.adapter:
        return load_config(base_of(source, base), revision)
    with quiet(), _one_sentence(source, "configuration"):
        return _text_config(transformers.AutoConfig.from_pretrained(source.path, **_options(source, revision)))


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    revision: str | None = None,
    tokenizer: transformers.PreTrainedTokenizerBase | None = None,
    base: str = "",
) -> LoadedModel:
    """Load a causal language model in evaluation mode. Raises ModelError with what to do when it cannot be had.

    device: auto, cpu, cuda, cuda:N or mps. dtype: float32 or bfloat16. A PEFT adapter is merged into its base.
    tokenizer: the model's own, if it was loaded before; reading a large vocabulary takes seconds. base: the model that
    stands for the tokenizer that a folder lacks, and for an adapter's base that is not here.
    """
    target, source = pick_device(device), resolve(name)
    tokenizer = tokenizer or load_tokenizer(name, revision, base)
    if source.adapter:
        below = load_model(base_of(source, base), device=device, dtype=dtype, revision=revision)
        model, note = with_adapter(below.model, source), below.licence_note
        sha256 = sha256_of_texts([below.sha256, _files_sha256(source, model.config)])
    else:
        model, note = _read(source, revision, getattr(torch, dtype)), source.licence_note
        sha256 = _files_sha256(source, model.config)
    moved: Any = model
    try:
        model = moved.to(target)
    except RuntimeError as error:
        what = f"does not fit on {target} ({error})".split("\n")[0]
        raise ModelError(what, where=name, do="Try --device cpu") from None
    return LoadedModel(name, model.eval(), tokenizer, sha256, note)


def _options(source: ModelSource, revision: str | None) -> dict[str, Any]:
    """The loading library's options for where a model comes from."""
    options = {"revision": revision or "main", "local_files_only": source.local, "trust_remote_code": False}
    if source.gguf:
        if find_spec("gguf") is None:
            raise ModelError("the package that reads GGUF files is not installed", where=source.name, do=INSTALL)
        options["gguf_file"] = source.gguf
    return options


def _read(source: ModelSource, revision: str | None, dtype: torch.dtype) -> CausalModel:
    """The model, once it is known that its weights were all there and that it continues prompts."""
    options = _options(source, revision)
    with quiet(), gguf_parsed_once() if source.gguf else nullcontext(), _one_sentence(source, "model"):
        config = transformers.AutoConfig.from_pretrained(source.path, **options)
        _refuse_unknown_packing(config, source.name)
        if source.gguf and (kind := getattr(transformers, "GgufConfig", None)):
            # Older versions of the library always unpack.
            options["quantization_config"] = kind(gguf_file=source.gguf, dequantize=True)
        loaded: Any = _loader(config).from_pretrained(
            source.path, dtype=dtype, use_safetensors=True, attn_implementation=attention_of(config),
            output_loading_info=True, **options,
        )  # fmt: skip
        model = unpacked(loaded[0], dtype)
        if missing := sorted(loaded[1]["missing_keys"]):
            # The library fills them with random numbers and goes on.
            what = f"it is not a whole language model: {', '.join(missing[:3])} is missing"
            raise ModelError(what, where=source.name, do="Name a causal language model, as save_pretrained writes it")
        language = _text_model(model.eval())
        _refuse_unfit(language, source.name)
        return language


def attention_of(config: transformers.PretrainedConfig) -> str | None:
    """The implementation of attention that a model computes right with; None for the best that it has."""
    # The fused kernels leave out the soft cap on attention scores that some models were trained with.
    return "eager" if getattr(config.get_text_config(), "attn_logit_softcapping", None) else None


def _loader(config: transformers.PretrainedConfig) -> Any:
    """What loads a model of this configuration: as a language model, or as one that reads images too."""
    images = transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    language = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING or type(config) not in images
    return transformers.AutoModelForCausalLM if language else transformers.AutoModelForImageTextToText


def _text_config(config: transformers.PretrainedConfig) -> transformers.PretrainedConfig:
    """Of a model that reads images too, the configuration of its language model, if that is a kind of its own."""
    text = config.get_text_config()
    return text if type(text) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING else config


def _text_model(whole: Any) -> CausalModel:
    """Of a model that reads images too, its language model, on the same weights; else, or if that says something else,
    the model itself."""
    config = _text_config(whole.config)
    if config is whole.config:
        return whole  # type: ignore[no-any-return]
    head, inputs = whole.get_output_embeddings(), whole.get_input_embeddings()
    config.tie_word_embeddings = head.weight is inputs.weight
    with torch.device("meta"):
        text = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=config._attn_implementation)
    setattr(text, text.base_model_prefix, whole.get_decoder())
    text.set_output_embeddings(head)
    if any(each.is_meta for each in (*text.parameters(), *text.buffers())):
        return whole  # type: ignore[no-any-return]
    tokens = torch.tensor([_TOKENS], device=whole.device)
    with torch.inference_mode():
        same = torch.equal(*(each(input_ids=tokens, use_cache=False).logits for each in (whole, text.eval())))
    return text if same else whole


#: A text to try models with.
_TOKENS = (5, 3, 8, 9, 7, 4, 6, 11, 2, 10, 1, 12)


def _refuse_unfit(model: CausalModel, name: str) -> None:
    """Raise ModelError when a model cannot be asked what follows a text: it reads in both directions, as one that fills
    in blanks, draws random numbers, or needs more than a text."""
    half = min(len(_TOKENS), longest_text(model) or len(_TOKENS)) // 2
    tokens = [token % model.config.get_text_config().vocab_size for token in _TOKENS]
    one, two = (torch.tensor([tokens[:half] + end], device=model.device) for end in (tokens[-half:], tokens[:half]))
    try:
        with torch.inference_mode():
            first, again, other = (model(input_ids=each, use_cache=False).logits[0].float() for each in (one, one, two))
            with logits_only_at(model, torch.tensor([0, half], device=model.device)):
                part = model(input_ids=one, use_cache=False).logits[0].float()
    except Exception as error:
        # What a model's own code raises for what it was not made for can be anything.
        if out_of_memory(error):
            raise
        what = f"this model gives nothing for a text alone ({first_line(error)})"
        raise ModelError(what, where=name, do="Name a causal language model") from None
    tolerance = (1e-3 if model.dtype == torch.float32 else 5e-2) * float(first.std())

    def differ(found: Tensor, expected: Tensor) -> bool:
        return found.shape != expected.shape or bool((found - expected).abs().max() > tolerance)

    for differs, what in (
        (differ(first, again), "this model says something else each time it is asked"),
        (differ(first[:half], other[:half]), "this model reads in both directions and so cannot continue a prompt"),
        (differ(part, first[[0, half]]), "this model's logits are not what its output embedding gives"),
    ):
        if differs:
            raise ModelError(what, where=name, do="Name a causal language model")


@contextmanager
def _one_sentence(source: ModelSource, part: str) -> Iterator[None]:
    """Turns the loading library's exceptions into one sentence."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        # The library raises bare Exception subclasses for damaged files, hence the wide net; interrupts pass.
        if out_of_memory(error):
            raise Exhausted(f"memory ran out while its {part} was read", where=source.name) from None
        reason = first_line(error)
        if "ignore_mismatched_sizes" in reason:
            reason = "its weights have other sizes than its config.json says"
        if not source.local:
            what = f"no such folder here, and the hub gave no {part} ({reason})"
            do = "Check the id and the connection, or name a local folder"
        elif not Path(source.path).is_dir():
            what = "the weights of this model are not on this machine"
            do = f"Fetch them once with `hf download {source.path}`, then repeat the command"
        else:
            what = f"its {part} cannot be loaded ({reason})"
            do = "Name a folder with a causal language model in safetensors, as save_pretrained writes it"
            if source.name in BUILT_IN:
                do = f"Run `spillover models get {source.name}`, which prepares it again"
        raise ModelError(what, where=source.name, do=do) from None


def weights_sha256(name: str, revision: str | None = None, base: str = "") -> str | None:
    """What `load_model` would give as the model's SHA-256, without reading it; None when it is not here."""
    try:
        source = resolve(name)
        if source.adapter:
            below = base_of(source, base)
            config = load_config(below, revision)
            parts = [weights_sha256(below, revision), _files_sha256(source, config)]
            return sha256_of_texts([part for part in parts if part]) if all(parts) else None
        return _files_sha256(source, load_config(name, revision))
    except ModelError:
        return None


def _files_sha256(source: ModelSource, config: transformers.PretrainedConfig) -> str:
    """One SHA-256 for all weight files of a folder, or for a hub model's commit."""
    folder = Path(source.path)
    if folder.is_dir():
        files = [folder / source.gguf] if source.gguf else sorted(folder.glob("*.safetensors"))
        return sha256_of_texts([sha256_of(file) for file in files])
    return sha256_of_texts([source.path, str(getattr(config, "_commit_hash", None))])


def prepared(tag: str, fetched: Path | None = None) -> Path:
    """The folder of a built-in model, converted on first use: in seconds for the smallest, minutes at most.

    fetched: its GGUF file, or a folder of fetched packages, which stand for installed ones. Raises ModelError if the
    model is not here.
    """
    folder = folder_of(tag)
    if is_prepared(tag):
        return folder
    if fetched is None and not installed(tag):
        raise missing(tag)
    if find_spec("gguf") is None:
        raise ModelError("the package that reads GGUF files is not installed", where=tag,
                         do='Run `pip install "spillover[llm]"`')  # fmt: skip
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".converting.lock"):
            # Another process may have been at it, and is done now.
            if not is_prepared(tag):
                print(f"Preparing {tag} (once) ...", file=sys.stderr, flush=True)
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as temporary:
                    (made := Path(temporary) / folder.name).mkdir()
                    assemble(tag, made / "model.gguf", fetched)
                    convert(made)
                    os.replace(made, folder)
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder


def is_whole(tag: str) -> bool:
    """Whether a built-in model that was prepared once can still be read: its weights' file has its length."""
    folder = folder_of(tag)
    try:
        with safe_open(folder / "model.safetensors", "pt"):
            load_tokenizer(tag)
            return load_config(tag) is not None
    except (OSError, SafetensorError, ModelError):
        return False


def convert(folder: Path) -> None:
    """Write tokenizer, configuration and float32 weights in place of the file `model.gguf` in `folder`."""
    source = folder / "model.gguf"
    with quiet(), gguf_parsed_once(), open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        transformers.AutoTokenizer.from_pretrained(folder, gguf_file=source.name).save_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=source.name, dtype=torch.float32)
    del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tied = set(model.all_tied_weights_keys) if hasattr(model, "all_tied_weights_keys") else {"lm_head.weight"}
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if name not in tied}
    source.unlink()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


@contextmanager
def gguf_parsed_once() -> Iterator[None]:
    """Inside, a GGUF file is parsed once: the library does so for configuration, vocabulary and weights, each twice.
    Nor are a model's tensors given their names anew for every module, and no bar of the library is shown."""
    package: Any = import_module("gguf")
    reading: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    slow = {name: getattr(package, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, own in slow.items():
        setattr(package, name, cache(own))
    # This bar does not listen to `quiet`.
    bar, reading.tqdm = reading.tqdm, lambda each, **_: each
    try:
        yield
    finally:
        reading.tqdm = bar
        for name, own in slow.items():
            setattr(package, name, own)


#: Forms in which a model folder may be stored, each called as the package that unpacks it.
UNPACKED_BY = ("bitsandbytes", "gguf")
INSTALL = 'Run `pip install "spillover[quantised]"`'


def gguf_in(path: Path) -> str | None:
    """The name of the one GGUF file that a path means: itself, or the only one in a folder; None if there is none."""
    if path.is_file():
        return path.name if path.suffix.lower() == ".gguf" else None
    found = [each.name for each in path.iterdir() if each.suffix.lower() == ".gguf"]
    if len(found) > 1:
        what = f"this folder holds {len(found)} GGUF files"
        raise ModelError(what, where=str(path), do=f"Name one of them, such as {path / min(found)}")
    return found[0] if found else None


def _refuse_unknown_packing(config: transformers.PretrainedConfig, name: str) -> None:
    """Raise ModelError when a model is stored in a form that cannot be unpacked here."""
    stored: Any = getattr(config, "quantization_config", None)
    if not stored or ((form := _form(stored)) in UNPACKED_BY and find_spec(form) is not None):
        return
    why, do = "which is not read", "Name the model with plain weights, or as GGUF, or in 4 or 8 bits of bitsandbytes"
    if form in UNPACKED_BY:
        why, do = "and the package that unpacks them is not installed", INSTALL
    raise ModelError(f"its weights are stored in the form {form[:40]!r}, {why}", where=name, do=do)


def unpacked(model: transformers.PreTrainedModel, dtype: torch.dtype) -> transformers.PreTrainedModel:
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
    for module in model.modules():
        state: Any = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None and state.shape[-1] % state.blocksize:
            # The library's kernel for CPUs is wrong unless a row is whole blocks; as one row, the numbers are right.
            state.shape = torch.Size([state.shape.numel()])
    # Of a packed model the library leaves all else in the type it was stored in.
    model = model.dequantize(dtype=dtype).to(dtype)  # type: ignore[call-arg, arg-type]
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = module.weight.data.view(module.out_features, module.in_features)
    return model


def _form(stored: Any) -> str:
    """What a quantization configuration calls its form, be it an object or as its file has it."""
    form = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    return str(getattr(form, "value", form))


#: Nats by which two forms of one model may answer otherwise: in single precision; and where weights of 16 bits are
#: rounded anew, as when an adapter is folded in: logits of 16 to 32 are then multiples of 1/8, an answer sums several.
TOLERANCE, ROUNDED = 1e-3, 0.25
_LORA = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_(?:embedding_)?A(?:\.weight)?")
_SIZES = re.compile(r"size mismatch for (\S+):.*?torch\.Size\((\[.*?\])\).*?torch\.Size\((\[.*?\])\)", re.S)


def _named_base(source: ModelSource) -> str:
    path = Path(source.path) / "adapter_config.json"
    try:
        base = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    if not base:
        raise ModelError("this adapter does not name its base model", where=str(path), do="Merge it and name that")
    return str(base)


def _is_here(name: str) -> bool:
    try:
        load_config(name)
    except ModelError:
        return False
    return True


def base_of(source: ModelSource, instead: str = "") -> str:
    """The base model that an adapter names, or `instead` when that model is not on this machine."""
    base, path = _named_base(source), str(Path(source.path) / "adapter_config.json")
    if instead not in ("", source.name) and not _is_here(base):
        return instead
    if os.path.isabs(base) and not os.path.exists(base):
        do = "Write there where it is on this machine; for `audit`, --base stands for it"
        raise ModelError(f"its base {base} is not on this machine", where=path, do=do)
    if resolve(base).adapter:
        raise ModelError(f"its base {base} is an adapter too", where=path, do="Merge the base first and name that")
    return base


def stand_ins(name: str, base: str) -> str:
    """A sentence on what the model called `name` takes from `base` for want of its own, if it does."""
    source = resolve(name)
    if source.adapter and not _is_here(named := _named_base(source)):
        return f"{name} names {named} as its base, which is not here: {base} stands for it."
    if source.adapter or source.gguf or not Path(source.path).is_dir() or _has_tokenizer(source):
        return ""
    return f"{name} has no tokenizer: that of {base} is used."


def with_adapter(model: Any, source: ModelSource) -> CausalModel:
    """The adapter folded into its base, in place. Raises ModelError for one that is unreadable or of another base."""
    with quiet(), _one_sentence(source, "adapter"):
        path = Path(source.path) / "adapter_model.safetensors"
        if not path.exists():
            raise ModelError(f"the adapter has no {path.name}", where=source.name, do="Save it as safetensors")
        from peft import PeftModel

        with safe_open(path, "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        _resize(model, source, shapes)
        try:
            adapted = PeftModel.from_pretrained(model, source.path)
        except (RuntimeError, ValueError) as error:
            if sizes := _SIZES.search(str(error)):
                raise _other_base(source, f"its {sizes[1]} is {sizes[2]}, and this one takes {sizes[3]}") from None
            if "not found in the base model" in str(error):
                raise _other_base(source, "this one has none of the modules that it changes") from None
            raise
        # The library goes past modules of the adapter that the base lacks, and those of the base that it lacks.
        stored = {found[1] for key in shapes if (found := _LORA.fullmatch(key))}
        parts, modules = ("lora_A", "lora_embedding_A"), adapted.get_base_model().named_modules()
        made = {name for name, module in modules if any(len(getattr(module, part, ())) for part in parts)}
        if stored and made and stored - made:
            raise _other_base(source, f"it changes {min(stored - made)}, which this one lacks")
        if stored and made - stored:
            raise _other_base(source, f"it has nothing for this one's {min(made - stored)}")
        return _folded_as_it_answers(adapted, source.name)


def _resize(model: Any, source: ModelSource, shapes: dict[str, list[int]]) -> None:
    """Give the embeddings as many rows as the adapter holds for them, which its tokenizer was grown or cut for."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [f"base_model.model.{name}." for name, module in model.named_modules() if module in ends]
    stored = [tuple(shape) for key, shape in shapes.items()
              if key.startswith(tuple(names)) and key.endswith("weight") and ".lora_" not in key]  # fmt: skip
    rows, width = max(stored, default=(0, 0))
    other = len(set(stored)) == 1 and width == ends[0].weight.shape[1] and rows != len(ends[0].weight)
    if other and len(load_tokenizer(source.name)) <= rows:
        # New rows that the file has not are near the mean of the others, as the library makes them by default.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model.resize_token_embeddings(rows, mean_resizing=len(stored) < len({each.weight for each in ends}))


def folded(adapted: Any) -> CausalModel:
    """An adapter folded into its model, in place. A weight that goes by two names, as where input and output share it,
    is parted first where the adapter changes one of them."""
    base, owners = adapted.get_base_model(), dict[int, list[tuple[str, Any]]]()
    tied = [each for each in (base.config, base.config.get_text_config()) if getattr(each, "tie_word_embeddings", 0)]
    for name, module in base.named_modules():
        if (weight := module._parameters.get("weight")) is not None:
            owners.setdefault(weight.data_ptr(), []).append((name, module))
    shared = [each for each in owners.values() if any("base_layer" in name for name, _ in each)]
    pairs = [(first, other) for (_, first), *others in shared for _, other in others]
    for _, other in pairs:
        other.weight = torch.nn.Parameter(other.weight.detach().clone(), other.weight.requires_grad)
    whole = adapted.merge_and_unload()
    for first, other in pairs:
        if torch.equal(first.weight, other.weight):
            other.weight = first.weight
    ends = {each.weight.data_ptr() for each in (whole.get_input_embeddings(), whole.get_output_embeddings())}
    for config in tied:
        config.tie_word_embeddings = len(ends) == 1
    return whole


def _folded_as_it_answers(adapted: Any, name: str) -> CausalModel:
    """The adapter folded in. Raises ModelError when the model then answers otherwise than rounding explains."""
    vocabulary = adapted.get_base_model().config.get_text_config().vocab_size
    text = torch.linspace(0, vocabulary - 1, 16).long()[None].to(adapted.device)
    with torch.no_grad():
        before = torch.log_softmax(adapted(input_ids=text, use_cache=False).logits.float(), -1)
        whole = folded(adapted)
        change = (torch.log_softmax(whole(input_ids=text, use_cache=False).logits.float(), -1) - before).abs()
    exact = whole.dtype == torch.float32
    if float((change - 1e-4 * before.abs()).max() if exact else change.mean()) > (TOLERANCE if exact else ROUNDED):
        what = f"folded into its base this adapter answers otherwise, by up to {float(change.max()):.2g} nats a token"
        raise ModelError(what, where=name, do="Name a model into which it was merged")
    return whole


def _other_base(source: ModelSource, why: str) -> ModelError:
    do = "Name the base that it was made from in its adapter_config.json"
    return ModelError(f"this adapter was made for another base: {why}", where=source.name, do=do)


def made_from_another(adapter: ModelSource, base: ModelSource) -> str:
    """The base that an adapter names, if it is surely not this one; else nothing."""
    named = resolve(base_of(adapter))
    if any(each.adapter or each.gguf or not Path(each.path).is_dir() for each in (named, base)):
        return ""
    return named.name if other_weights(Path(named.path), Path(base.path)) else ""


def other_weights(first: Path, second: Path) -> bool:
    """Whether two model folders surely hold different weights, by the beginning of each, unless they are packed."""
    own, other = ({}, {}) if first.resolve() == second.resolve() else (_beginnings(first), _beginnings(second))
    pairs = [(value, other[name]) for name, value in own.items() if name in other]
    same = all(one.shape == two.shape and torch.allclose(one, two, rtol=0.01, atol=1e-4) for one, two in pairs)
    return bool(own and other) and not (pairs and same)


def _beginnings(folder: Path) -> dict[str, Tensor]:
    """The first row of every weight of a model folder, by name; nothing when they are packed."""
    try:
        if "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
            return {}
    except (OSError, ValueError):
        return {}
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as stored:
            found |= {name: stored.get_slice(name)[:1].float() for name in stored.keys()}  # noqa: SIM118
    return found
