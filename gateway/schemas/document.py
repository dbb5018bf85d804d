"""docs/messages.md, made from the schemas: `python -m gateway.schemas.document > docs/messages.md`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib import resources
from typing import Any

from gateway.messages import SYSTEM_REASONS, LawfulBasis, Purpose, Reason
from gateway.schemas import files

_HEAD = """\
# Messages

<!-- generated from gateway/schemas: python -m gateway.schemas.document > docs/messages.md -->

A message is a typed document about one case. Its canonical form is a JSON object that says what it is:
`{"type": "referral", "version": 1, ...}`. Every other format is mapped to it and from it by an adapter
([adapters.md](adapters.md)). The schemas (JSON Schema 2020-12) are in
`gateway/schemas/<type>/<version>.json`; a published version never changes its meaning.

Names and codes follow the SocialCareData Person and Safeguarding standards where these have one, otherwise
the list that the description names. Fields that no table lists are refused. A problem names the field and the
rule, never the value.

A failed check digit, a postcode of an odd form, a 29 February that never was or consent that is not recorded
are **warnings**: they stop nothing, travel with the message and show in the answer.
"""

_ENUMERATIONS: tuple[tuple[str, type[StrEnum], frozenset[str]], ...] = (
    ("Purposes", Purpose, frozenset()),
    ("Lawful bases", LawfulBasis, frozenset()),
    ("Reason codes", Reason, SYSTEM_REASONS),
)


def page() -> str:
    """The whole page, as Markdown."""
    parts = [_HEAD]
    for name, versions in files.TYPES.items():
        parts.extend(_type(name, version) for version in sorted(versions))
    parts.append("## Shared parts\n")
    shared = files.common()["$defs"].items()
    parts.extend(_object(schema, name, schema["title"]) for name, schema in shared if _is_object(schema))
    parts.extend(_enumeration(*one) for one in _ENUMERATIONS)
    return "\n".join(parts)


def _type(name: str, version: int) -> str:
    schema = files.schema(name, version)
    parts = [
        f"## {schema['title']}: `{name}` version {version}\n",
        schema["description"] + "\n",
        _table(schema),
    ]
    parts.extend(_nested(schema, schema, ""))
    parts.append(f"### Examples of `{name}`\n")
    folder = resources.files("gateway.schemas") / "examples" / name
    examples = sorted(
        (one for one in folder.iterdir() if one.name.endswith(".json")), key=lambda one: one.name
    )
    parts.extend(f"- [{one.name}](../gateway/schemas/examples/{name}/{one.name})" for one in examples)
    parts.append(f"\n```json\n{examples[0].read_text('utf-8').strip()}\n```\n")
    return "\n".join(parts)


def _nested(root: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """A section for each object inside `schema`, under the path that leads to it."""
    for name, part in schema.get("properties", {}).items():
        inner = _own(root, part.get("items", part))
        if _is_object(inner):
            here = f"{path}{name}{'[]' if 'items' in part else ''}"
            yield _object(inner, here, part["title"])
            yield from _nested(root, inner, f"{here}.")


def _object(schema: Mapping[str, Any], path: str, title: str) -> str:
    return f"### {_heading(title, path)}\n\n{schema['description']}\n\n{_table(schema)}"


def _table(schema: Mapping[str, Any]) -> str:
    rows = ["| field | needed | form | meaning |", "|---|---|---|---|"]
    required = schema.get("required", ())
    for name, part in schema["properties"].items():
        needed = "yes" if name in required else ""
        rows.append(f"| `{name}` | {needed} | {_form(part)} | {part['description']} |")
    choices = [branch["required"][0] for branch in schema.get("anyOf", ())]
    note = f"\nAt least one of: {', '.join(f'`{one}`' for one in choices)}.\n" if choices else ""
    return "\n".join(rows) + "\n" + note


def _form(part: Mapping[str, Any]) -> str:
    """What may stand there, in a few words."""
    if "$ref" in part:
        return _reference(part["$ref"])
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return "one of " + ", ".join(f"`{code}`" for code in part["enum"])
    kind = part["type"]
    if kind == "array":
        return f"list, up to {part['maxItems']}, of: {_form(part['items'])}"
    if kind == "string":
        rule = part.get("$comment", "not blank")
        return f"text, up to {part['maxLength']:,} characters" if rule == "not blank" else f"text: {rule}"
    if kind in {"integer", "number"}:
        return (
            f"{'whole number' if kind == 'integer' else 'number'} from {part['minimum']} to {part['maximum']}"
        )
    return "`true` or `false`" if kind == "boolean" else "object, below"


def _reference(target: str) -> str:
    schema = files.common()["$defs"].get(_name(target))
    if schema is None:  # a part of the type's own
        return "object, below"
    if not _is_object(schema):
        return _form(schema)
    return f"[{schema['title'].lower()}](#{_anchor(_heading(schema['title'], _name(target)))})"


def _own(root: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """`part`, or what it refers to among the type's own parts. Shared parts have their own section."""
    own: Mapping[str, Any] = root.get("$defs", {}).get(_name(part["$ref"]), {}) if "$ref" in part else part
    return own


def _name(target: str) -> str:
    return target.rpartition("/")[2]


def _heading(title: str, path: str) -> str:
    return f"{title}: `{path}`"


def _anchor(heading: str) -> str:
    """The anchor that Markdown pages make of a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object"


def _enumeration(title: str, enumeration: type[StrEnum], marked: frozenset[str]) -> str:
    lines = [f"## {title}\n", inspect.cleandoc(enumeration.__doc__ or "") + "\n"]
    lines.extend(
        f"- `{one.value}`{' (a local system may give it on `/reject`)' if one in marked else ''}"
        for one in enumeration
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
