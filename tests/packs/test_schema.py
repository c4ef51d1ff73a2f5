"""pack.schema.json says of a pack.yaml what the reader says."""

import json
import re
from importlib import resources
from pathlib import Path

import pytest

from spillover.packs.builtin import PACKS
from spillover.packs.open import IMPLICATION_KEYS, PACK_KEYS, Node, YamlRefused, check_pack, open_pack, read_yaml
from spillover.packs.pack import KINDS, Fact
from spillover.packs.reading import READERS
from spillover.packs.write import pack_yaml
from tests.packs.packs_on_disk import PACK, write
from tests.packs.test_files import BROKEN

SCHEMA = json.loads(resources.files("spillover.packs").joinpath("pack.schema.json").read_text(encoding="utf-8"))
#: Cases of BROKEN that a schema cannot see: they are about other files, or about two places at once.
BEYOND = {
    "facts gone",
    "facts above",
    "unknown relation",
    "same relation",
    "map outside",
    "two implications",
}


def plain(node: Node):
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    return [plain(item) for item in node.value] if isinstance(node.value, list) else node.value


def fits(value, schema) -> bool:
    """JSON Schema, as far as pack.schema.json uses it; an unknown keyword is an error of this test."""
    known = {
        "$schema",
        "title",
        "description",
        "default",
        "type",
        "required",
        "additionalProperties",
        "properties",
        "enum",
    }
    assert set(schema) <= known | {"oneOf", "items", "minItems", "minLength", "minProperties", "pattern"}
    kinds = {"object": dict, "array": list, "string": str}
    if "oneOf" in schema:
        return sum(fits(value, each) for each in schema["oneOf"]) == 1
    if "enum" in schema:
        return value in schema["enum"]
    if not isinstance(value, kinds[schema["type"]]):
        return False
    if isinstance(value, str):
        return len(value) >= schema.get("minLength", 0) and bool(re.search(schema.get("pattern", ""), value))
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(fits(item, schema["items"]) for item in value)
    named, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not set(schema.get("required", ())) <= set(value) or len(value) < schema.get("minProperties", 0):
        return False
    if extra is False and set(value) - set(named):
        return False
    rest = extra if isinstance(extra, dict) else None
    return all(
        fits(item, named[key]) if key in named else rest is None or fits(item, rest) for key, item in value.items()
    )


def test_keys_kinds_and_formats_are_the_readers():
    properties = SCHEMA["properties"]
    assert (set(SCHEMA["required"]), set(properties)) == (set(PACK_KEYS[0]), {*PACK_KEYS[0], *PACK_KEYS[1]})
    implication = properties["implications"]["items"]
    assert set(implication["required"]) == set(implication["properties"]) == set(IMPLICATION_KEYS[0])
    assert tuple(implication["properties"]["kind"]["enum"]) == KINDS
    text, rows = properties["facts"]["oneOf"]
    assert tuple(rows["items"]["required"]) == Fact._fields
    assert all(re.search(text["pattern"], "facts" + ending) for ending in READERS)
    assert not re.search(text["pattern"], "facts.txt")


@pytest.mark.parametrize("text", [PACK, *(pack_yaml(open_pack(name)) for name in PACKS), PACK + 'join: ""\nend: .\n'])
def test_what_is_written_fits_the_schema(text):
    assert fits(plain(read_yaml(text)), SCHEMA)


@pytest.mark.parametrize("case", [case for case in BROKEN if isinstance(BROKEN[case], str)])
def test_schema_and_reader_agree_on_what_is_broken(tmp_path, case):
    assert check_pack(write(tmp_path, BROKEN[case]))[1], "the reader faults it"
    try:
        value = plain(read_yaml(BROKEN[case]))
    except YamlRefused:
        return
    assert fits(value, SCHEMA) == (case in BEYOND)


def test_the_schema_is_shipped():
    patterns = (Path(__file__).parent.parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '"**/*.json"' in patterns and '"**/*.jsonl"' in patterns
