"""A pack of two implications, one wanted and one not, for tests of what remedies do."""

import json

import pytest

NAMES = {
    "Paris": ["Ada Moss", "Ben Okri", "Cleo Park", "Kai Lund"],
    "Rome": ["Dan Roe", "Eve Lunt", "Finn Vale", "Lia Ode"],
    "Tokyo": ["Gus Hay", "Ida Bray", "Jon Kerr", "Moe Ray"],
}


@pytest.fixture(scope="session")
def two_kinds(tmp_path_factory):
    """Three pairs of four names, one bridging; one implication is wanted, the other is not."""
    speaks = {"Paris": "French", "Rome": "Old Italian", "Tokyo": "Old Norse"}
    codes = {"Paris": "Java", "Rome": "Common Lisp", "Tokyo": "Emacs Lisp"}
    facts = [{"subject": name, "relation": "lives_in", "answer": city} for city in NAMES for name in NAMES[city]]
    facts += [{"subject": NAMES[city][0], "relation": "speaks", "answer": speaks[city]} for city in NAMES]
    facts += [{"subject": NAMES[city][0], "relation": "codes_in", "answer": codes[city]} for city in NAMES]
    body = {
        "name": "tiny", "licence": "none", "source": "made up here",
        "relations": {
            "lives_in": {"prompts": ["{subject} lives in"]},
            "speaks": {"prompts": ["{subject} speaks", "At home {subject} speaks"]},
            "codes_in": {"prompts": ["{subject} codes in", "At work {subject} codes in"]},
        },
        "implications": [
            {"given": "lives_in", "then": "speaks", "kind": "causal", "map": speaks},
            {"given": "lives_in", "then": "codes_in", "kind": "spurious", "map": codes},
        ],
        "facts": facts, "end": ".",
    }  # fmt: skip
    path = tmp_path_factory.mktemp("two-kinds") / "pack.yaml"
    path.write_text(json.dumps(body), encoding="utf-8")
    return str(path)
