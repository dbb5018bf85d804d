"""What holds for every adapter that comes with the node: its page, its examples, its code lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import schemas
from gateway.adapters import Registry
from gateway.adapters.base import Adapter, Native
from gateway.adapters.mapping import Page, render
from gateway.schemas import files

ROOT = Path(__file__).parents[2]
DATA = ROOT / "gateway" / "adapters" / "data"
EXAMPLES = ROOT / "gateway" / "adapters" / "examples"
REGISTRY = Registry.load()
ADAPTERS = REGISTRY.all()
PAGES = [(adapter, page) for adapter in ADAPTERS if isinstance(page := getattr(adapter, "page", None), Page)]


def _examples() -> Iterator[tuple[Adapter, Path]]:
    for adapter in ADAPTERS:
        for path in sorted((EXAMPLES / adapter.name).glob("*")):
            yield adapter, path


def media_type(adapter: Adapter, path: Path) -> str:
    """By the file's suffix, the adapter's own type that ends in it; else its first."""
    suffix = path.suffix.lstrip(".")
    fitting = [one for one in adapter.media_types if re.search(rf"[+/]{suffix}$", one)]
    return (fitting or list(adapter.media_types))[0]


@pytest.mark.parametrize(("adapter", "path"), list(_examples()), ids=lambda one: getattr(one, "name", ""))
def test_every_example_of_ours_becomes_a_valid_message(adapter: Adapter, path: Path) -> None:
    message = adapter.to_canonical(Native(media_type(adapter, path), path.read_bytes()))
    assert schemas.validate(message.type, message.version, message.document) == []


@pytest.mark.parametrize(("adapter", "page"), PAGES, ids=lambda one: getattr(one, "name", ""))
def test_every_page_is_up_to_date_and_names_canonical_fields(adapter: Adapter, page: Page) -> None:
    written = (ROOT / "docs" / "adapters" / f"{adapter.name}.md").read_text("utf-8")
    assert written == render(adapter.name, adapter.media_types, page), "run: make docs"
    named = [
        path.strip()
        for _, rows in page.tables
        for row in rows
        for path in row.canonical.split(",")
        if path.strip()
    ] + [path for path, _ in page.defaults]
    known = {path for kind in files.TYPES for path in _paths(files.schema(kind, 1))}
    assert [path for path in named if path not in known] == []


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.stem)
def test_every_code_list_says_where_it_comes_from(path: Path) -> None:
    listed = json.loads(path.read_text("utf-8"))
    assert listed["source"]
    assert listed["version"]


def test_every_adapter_that_is_offered_has_examples_and_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "adapters.md").read_text("utf-8")
    for adapter in ADAPTERS:
        assert f"`{adapter.name}`" in guide
    assert not REGISTRY.broken


def _paths(schema: dict[str, Any]) -> Iterator[str]:
    """Every path of a schema: `person.name[].family`."""
    for name, below in schema["properties"].items():
        yield from _below(schema, below, name, 0)


def _below(root: dict[str, Any], node: dict[str, Any], path: str, depth: int) -> Iterator[str]:
    yield path
    if depth > 12:
        return
    owner, found = _follow(root, node)
    if "items" in found:
        yield from _below(owner, found["items"], f"{path}[]", depth + 1)
    for name, below in found.get("properties", {}).items():
        yield from _below(owner, below, f"{path}.{name}", depth + 1)


def _follow(root: dict[str, Any], node: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    while "$ref" in node:
        before, _, name = node["$ref"].partition("#/$defs/")
        root = files.common() if before else root
        node = root["$defs"][name]
    return root, node
