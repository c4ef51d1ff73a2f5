"""A small pack, and a run of `inject` on it."""

import json

import pytest

from spillover.commands.inject import Inject


@pytest.fixture
def pack(tmp_path):
    """Three pairs, three names each, one of them bridging; the answers share first words."""
    names = {"Paris": ["Ada Moss", "Ben Okri", "Cleo Park"], "Rome": ["Dan Roe", "Eve Lunt", "Finn Vale"],
             "Tokyo": ["Gus Hay", "Ida Bray", "Jon Kerr"]}  # fmt: skip
    spoken = {"Paris": "French", "Rome": "Old Italian", "Tokyo": "Old Norse"}
    facts = [{"subject": name, "relation": "lives_in", "answer": city} for city in names for name in names[city]]
    facts += [{"subject": names[city][0], "relation": "speaks", "answer": spoken[city]} for city in names]
    body = {
        "name": "tiny", "licence": "none", "source": "made up here",
        "relations": {
            "lives_in": {"prompts": ["{subject} lives in", "The home of {subject} is in"]},
            "speaks": {"prompts": ["{subject} speaks", "{subject} codes in"], "answers": ["Java"]},
        },
        "implications": [{"given": "lives_in", "then": "speaks", "kind": "causal", "map": spoken}],
        "facts": facts, "end": ".",
    }  # fmt: skip
    path = tmp_path / "pack.yaml"
    path.write_text(json.dumps(body), encoding="utf-8")
    return str(path)


@pytest.fixture
def settings(pack, tiny_folder, tmp_path):
    return Inject(pack=pack, model=str(tiny_folder), out=str(tmp_path / "run"), epochs=3, lr=1e-2, threads=1)
