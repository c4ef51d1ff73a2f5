"""A model's configuration without its weights: shipped for the tags, read from this machine for any other model."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from spillover.errors import ModelError
from spillover.llm.weights.embedded import quiet
from spillover.llm.weights.loading import base_of, load_config, resolve


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """Tag -> the numbers that make up its configuration: widths, heads, layers, vocabulary, and how it is stored."""
    text = resources.files("spillover.llm.planning").joinpath("configurations.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


def config_at_hand(name: str, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a model by tag, folder or hub id; of an adapter, its base's. Nothing is fetched.

    Raises ModelError when there is no such model, or when its configuration is not on this machine.
    """
    if name in shipped():
        own = dict(shipped()[name])
        return AutoConfig.for_model(own.pop("model_type"), **own)
    source = resolve(name)
    if source.adapter:
        return config_at_hand(base_of(source), revision)
    if source.local:
        return load_config(name, revision)
    try:
        with quiet():
            return AutoConfig.from_pretrained(
                source.path, revision=revision or "main", local_files_only=True, trust_remote_code=False
            )
    except Exception:
        # The library raises bare Exception subclasses for what is not there and for what is damaged.
        do = f"Fetch it once with `hf download {name} config.json`, or name a local folder"
        raise ModelError("the configuration of this model is not on this machine", where=name, do=do) from None
