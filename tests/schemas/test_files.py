"""The schemas themselves keep the rules that the code relies on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.schemas import files
from gateway.schemas.rules import KEYWORDS, subschemas

SCHEMAS = {
    "common": files.common(),
    **{f"{name}/{v}": files.schema(name, v) for name, versions in files.TYPES.items() for v in versions},
}
STRUCTURE = {"$schema", "$id", "$ref", "$defs", "$comment", "title", "description", "properties", "items"}
NOT_TYPES = {"common", "examples", "__pycache__"}
CONDITIONS = {"allOf", "if", "then"}

every_schema = pytest.mark.parametrize("name", SCHEMAS)


def parts(name: str) -> Iterator[Mapping[str, Any]]:
    return subschemas(SCHEMAS[name])


def test_the_list_of_types_is_what_the_folders_hold():
    root = resources.files("gateway.schemas")
    folders = [one for one in root.iterdir() if one.is_dir() and one.name not in NOT_TYPES]
    found = {
        folder.name: {int(file.name.removesuffix(".json")) for file in folder.iterdir()} for folder in folders
    }
    assert found == {name: set(versions) for name, versions in files.TYPES.items()}


@every_schema
def test_it_is_a_2020_12_schema(name: str):
    assert SCHEMAS[name]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMAS[name])


@every_schema
def test_only_keywords_are_used_that_a_problem_can_name(name: str):
    used = {keyword for part in parts(name) for keyword in part}
    assert used <= KEYWORDS | STRUCTURE | CONDITIONS


@every_schema
def test_every_object_is_closed(name: str):
    objects = [part for part in parts(name) if part.get("type") == "object"]
    assert objects
    assert all(part["additionalProperties"] is False for part in objects)


@every_schema
def test_everything_has_a_bound(name: str):
    for part in parts(name):
        if part.get("type") == "string":
            assert "maxLength" in part
        if part.get("type") == "array":
            assert "maxItems" in part
        if part.get("type") in {"integer", "number"}:
            assert "minimum" in part
            assert "maximum" in part


@every_schema
def test_every_field_is_described_for_the_page(name: str):
    for part in parts(name):
        for field in part.get("properties", {}).values():
            if "type" in part:  # a condition repeats a field without its description
                assert field["description"].endswith("."), field
                assert "|" not in field["description"]


@every_schema
def test_patterns_read_the_same_everywhere_and_are_said_in_words(name: str):
    for part in parts(name):
        if pattern := part.get("pattern"):
            assert part["$comment"]
            # \d, \s and \w mean different characters to different engines; $ may stand at the very end only.
            assert not re.search(r"\\[dswDSWbB]", pattern)
            assert "$" not in re.sub(r"\[[^\]]*\]", "", pattern[:-1])


@every_schema
def test_alternatives_are_alternative_fields(name: str):
    for part in parts(name):
        for branch in part.get("anyOf", ()):
            assert list(branch) == ["required"]
            assert len(branch["required"]) == 1
