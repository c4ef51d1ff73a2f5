"""What a Python caller may hold in place of a name: a pack, a model and tokenizer, a temporary folder; and `ask`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, get_type_hints

from spillover.commands.prepare import asked_of, weights_of, words_of
from spillover.config import Chat, Running
from spillover.errors import UsageError, nearest
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, pack_hash
from spillover.results import Answers, Result

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from spillover.lm.load import LoadedModel

#: A tag, hub id or folder; or a transformers model and its tokenizer.
Model: TypeAlias = "str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase] | LoadedModel"
Settings = TypeVar("Settings")


def held_model(model: Model) -> LoadedModel | None:
    """A model that is held, put into evaluation mode; None for a name. Raises UsageError for anything else."""
    from spillover.lm.load import LoadedModel

    if isinstance(model, str | Path):
        return None
    name_of(model)
    return model if isinstance(model, LoadedModel) else LoadedModel.of(*model)


def whole_model(model: Model) -> LoadedModel | None:
    """As `held_model`, with an adapter folded into a copy: what is trained or taken apart are whole weights."""
    found = held_model(model)
    if found is None or not hasattr(found.model, "merge_and_unload"):
        return found
    from spillover.lm.save import merged

    return replace(found, model=merged(found.model))


def is_address(name: str) -> bool:
    """Whether a name is the address of an endpoint that serves a model."""
    return name.lower().startswith(("http://", "https://"))


def name_of(held: Model | Pack | Answers | Result) -> str:
    """What records call a pack, a model or its answers. Raises UsageError for anything else."""
    if isinstance(held, str | Path):
        return str(held)
    if isinstance(held, tuple) and len(held) == 2:
        return str(getattr(held[0], "name_or_path", "") or type(held[0]).__name__)
    if isinstance(held, Answers):
        return held.model
    if isinstance(held, Result):
        return str(held.folder)
    if isinstance(name := getattr(held, "name", None), str):
        return name
    if hasattr(held, "get_output_embeddings"):
        raise UsageError("a model was given without its tokenizer", do="Give (model, tokenizer)")
    what = f"{type(held).__name__} is no type of pack, model or run"
    raise UsageError(what, do="Give a name or a path, a Pack, (model, tokenizer), or what `ask` or `inject` gave")


def identifying(pack: Pack | str | Path, *hashes: str | None) -> dict[str, Any]:
    """What the identity of a run rests on beside its settings: the pack, and hashes of models or answers, if held."""
    found = [each for each in (pack_hash(pack) if isinstance(pack, Pack) else None, *hashes) if each]
    return {"held": found} if found else {}


def held_folder(out: str | Path) -> tuple[str, TemporaryDirectory[str] | None]:
    """The folder of a run; without `out` a temporary one, which is removed with the last reference to its holder."""
    if out:
        return str(out), None
    holder = TemporaryDirectory(prefix="spillover-")
    return str(Path(holder.name) / "run"), holder


def settings_from(settings_class: type[Settings], **options: Any) -> Settings:
    """A verb's settings from the options of a Python caller; a list stands for its parts with commas between them."""
    from pydantic import TypeAdapter, ValidationError

    verb, types, values = settings_class.__name__.lower().strip("_"), get_type_hints(settings_class), {}
    for name, value in options.items():
        if name not in types:
            raise UsageError(f"there is no option {name!r}", where=verb, do=nearest(name, types))
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        try:
            values[name] = TypeAdapter(types[name]).validate_python(str(value) if isinstance(value, Path) else value)
        except ValidationError as error:
            do = error.errors()[0]["msg"].replace("Input should", "It should")
            raise UsageError(f"{name} is {value!r}", where=verb, do=do) from None
    return settings_class(**values)


def write_held(pack: Pack | str | Path, model: LoadedModel | None, folder: Path) -> tuple[str, str]:
    """Write what is held into the folder of a run, for the other processes; the name of each, empty where not held."""
    from spillover.lm.save import save_model
    from spillover.packs.write import write_pack

    own = folder / ".held"
    shutil.rmtree(own, ignore_errors=True)
    pack_name = str(write_pack(pack, own / "pack")) if isinstance(pack, Pack) else ""
    if model is None:
        return pack_name, ""
    own.mkdir(exist_ok=True)
    return pack_name, str(save_model(model.model, model, "weights", own))


@dataclass(frozen=True, kw_only=True)
class _Ask(Running, Chat):
    """How a model is asked."""


def ask(
    model: Model | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None,
    pack: Pack | str | Path | None = None, **options: Any,
) -> Answers:  # fmt: skip
    """Ask a model everything that a pack asks, as `inject` does before its training.

    Arguments:
        model: a model of transformers, whose device and number format stay; or a name as `--model` takes it, with
            the pack by keyword: `ask("gemma-3-270m", pack=pack)`.
        tokenizer: of a model that is no name.
        pack: a Pack, or what `open_pack` opens.
        options: `seed` of the names of a built-in pack; `chat`, `system`, `chat_template`, `prefix`, `date`, `device`,
            `dtype`, `revision` and `threads`, as `spillover inject` takes them.

    Returns: the answers, with `.table` (Arrow, the columns of `answers.parquet`), `.metrics` and `.to_pandas()`;
    `audit` takes them in place of a model.

    Raises: UsageError when the pack or the tokenizer is missing; PackError for a pack with faults, or whose answers the
    model's tokens cannot tell apart; ModelError for a model that is not there.
    """
    if pack is None:
        do = "Call ask(model, tokenizer, pack), or ask(name, pack=pack)"
        raise UsageError("no pack was given", where="ask", do=do)
    from spillover.lm.evaluate import Evaluation
    from spillover.lm.score import Scorer
    from spillover.lm.tokens import encoder

    given: Model = model if tokenizer is None else (model, tokenizer)  # type: ignore[assignment]
    settings = settings_from(_Ask, **options)
    opened, held = open_pack(pack, settings.seed), held_model(given)
    words = words_of(name_of(given), held, settings)
    asked = asked_of(words, opened)
    loaded = weights_of(str(model), held, words.tokenizer, settings)
    evaluation = Evaluation(asked, encoder(words.tokenizer))
    table = evaluation.answers(Scorer(loaded.model), seed=settings.seed, checkpoint=0, full=True)
    return Answers(table, name_of(given), loaded.sha256)
