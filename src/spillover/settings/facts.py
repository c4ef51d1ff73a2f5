"""Settings of the verbs that look at facts alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from spillover.settings.common import Common, Flag


@dataclass(frozen=True, kw_only=True)
class Packs(Common):
    """List the built-in packs, show one, export one to edit, or make one from fine-tuning files."""

    action: Positional[Literal["list", "show", "export", "from-chat"]] = "list"
    """What to do: list all, show one, export one to a folder, or make one from a file of chats or completions."""
    pack: Positional[str] = ""
    """A built-in pack with its options (city-language:pairs=10,names=80,bridge=2 or country-code:null), or a path; for
    from-chat a JSONL file of `messages` or `prompt` and `completion`."""
    folder: Positional[str] = ""
    """Where `export` writes its copy: a folder that does not exist yet."""
    relations: str = ""
    """For from-chat: a YAML file with `relations:` as in pack.yaml, and whatever else of it is known."""
    out: str = ""
    """For from-chat: the folder of the new pack, which does not exist yet."""


@dataclass(frozen=True, kw_only=True)
class Check(Common):
    """Is a pack sound? Counts, or every fault and warning with file and row; exit code 1 when there is a fault."""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    model: str | None = None
    """Also check that this model's tokens can tell the answers apart: a tag, hub id or folder."""
    chat: Flag = False
    """Put each prompt as a user's turn in the model's own chat template; answers begin where the model's turn does."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
