"""Mappings as data: rows that pair a native field with a canonical one, read from left to right and written
from right to left. The same rows make the adapter's page (mapping.py), so the page cannot lie.

Both sides are plain dictionaries. A path is steps with dots between: `a.b`, `a[0].b` (that one), `a[x=y].b`
(the one whose x is y, made when written).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, Final

from gateway.adapters import mapping
from gateway.messages import Canonical

REFERRAL: Final = "referral"
DECISION: Final = "decision"
NO_NAME: Final = {"text": "Name not recorded", "use": "temp"}
"""Stands for a name where the format has none: a person has one, and the schema says so."""
NOT_RECORDED: Final = "Not recorded"

_STEP = re.compile(r"([^.\[\]]+)(?:\[(?:([0-9]+)|([^\]=]+)=([^\]]*))\])?(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is turned into the other form. Either side gives None for a value it has no form for."""

    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    about: str = ""
    """For the page."""


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def _day(value: Any) -> str | None:
    """A day from `2026-11-23`, `2026-11-23T…`, `23/11/2026` or `23-11-2026`; nothing else is guessed."""
    text = _text(value) or ""
    if match := re.match(r"(\d{4}-\d{2}-\d{2})(?:$|[T ])", text):
        text = match[1]
    elif match := re.fullmatch(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", text):
        text = f"{match[3]}-{match[2]:>02}-{match[1]:>02}"
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return text if 1800 <= found.year < 2200 and len(text) == 10 else None


def _moment(value: Any) -> str | None:
    """A date and time with its offset; without one it is not known which moment is meant."""
    text = _text(value) or ""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return text.replace(" ", "T") if found.tzinfo is not None and "T" in text.replace(" ", "T") else None


_YES, _NO = frozenset({"yes", "true", "y", "1"}), frozenset({"no", "false", "n", "0"})


def _flag(value: Any) -> bool | None:
    word = str(value).strip().lower()
    return True if word in _YES else False if word in _NO else None


def _number(value: Any) -> int | None:
    text = _text(value) or ""
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else None


def _same(value: Any) -> Any:
    return value


TEXT: Final = Kind(_text, _same)
DAY: Final = Kind(_day, _same, "a date; read in ISO form or as day/month/year")
MOMENT: Final = Kind(_moment, _same, "a time without its offset from UTC is left to the original")
FLAG: Final = Kind(_flag, _same)
YES_NO: Final = Kind(_flag, lambda value: "Yes" if value else "No")
NUMBER: Final = Kind(_number, _same)
NUMBER_AS_TEXT: Final = Kind(_number, str)


def codes(pairs: Mapping[str, Any], back: Mapping[Any, str] | None = None, about: str = "") -> Kind:
    """A code of theirs and one of ours. `back`: which of theirs is written where several mean one of ours."""
    reverse: dict[Any, str] = {}
    for theirs, ours in pairs.items():
        reverse.setdefault(ours, theirs)
    reverse |= back or {}
    return Kind(lambda value: pairs.get(_text(value) or ""), reverse.get, about)


@dataclass(frozen=True, slots=True)
class Field:
    """One native field and its canonical place."""

    native: str
    canonical: str
    kind: Kind = TEXT
    note: str = ""
    on: frozenset[str] = frozenset({"read", "write"})
    """Which way: some fields are only read, some only written."""


READ: Final = frozenset({"read"})
WRITE: Final = frozenset({"write"})


@dataclass(frozen=True, slots=True)
class Each:
    """A list on both sides: its rows are about one element."""

    native: str
    canonical: str
    rows: Sequence[Field | Each]
    """With one row whose path is empty, the elements are values."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one message type in one format."""

    rows: Sequence[Field | Each]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Canonical path -> what stands there when the format does not say."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Native field -> why it is not carried."""
    about_defaults: Mapping[str, str] = field(default_factory=dict)
    """Canonical path -> why that default."""

    def read(self, native: Any) -> dict[str, Any]:
        """The canonical fields that the native document fills, defaults included."""
        document: dict[str, Any] = {}
        for row in self.rows:
            if isinstance(row, Each):
                self._read_each(row, native, document)
            elif "read" in row.on and _is_free(document, row.canonical):
                value = row.kind.read(get(native, row.native))
                if value is not None:
                    put(document, row.canonical, value)
        for path, value in self.defaults.items():
            if get(document, path) is None:
                put(document, path, value)
        return document

    @staticmethod
    def _read_each(row: Each, native: Any, document: dict[str, Any]) -> None:
        found = get(native, row.native)
        items = found if isinstance(found, list) else [] if found is None else [found]
        for item in items:
            made = Table(row.rows).read(item)
            if made:
                made = made.get("", made)
                put(document, row.canonical, [*(get(document, row.canonical) or []), made])

    def write(self, document: Any) -> dict[str, Any]:
        """The native fields that the canonical document fills."""
        native: dict[str, Any] = {}
        for row in self.rows:
            if isinstance(row, Each):
                written = [Table(row.rows).write(one) for one in get(document, row.canonical) or ()]
                items = [item.get("", item) for item in written]
                if kept := [item for item in items if item]:
                    put(native, row.native, kept)
            elif "write" in row.on and (value := get(document, row.canonical)) is not None:
                written = row.kind.write(value)
                if written is not None and _is_free(native, row.native):
                    put(native, row.native, written)
        return native

    def rest(self, document: Mapping[str, Any]) -> list[str]:
        """What `write` has no field for, a line each: `person.language[1].name: Polish`. For people to read."""
        written = {path for row in self.rows for path in _written(row, document)}
        return [
            f"{path}: {'yes' if value is True else 'no' if value is False else value}"
            for path, value in _leaves(document)
            if path not in written and (path, value) not in _SAYS_NOTHING and not path.endswith(".use")
        ]

    def unread(self, native: Mapping[str, Any]) -> list[str]:
        """What `read` takes nothing from, a line each. For people to read."""
        taken = {
            path
            for row in self.rows
            for path in _taken(row, native)
            if isinstance(row, Each) or "read" in row.on
        }
        return [
            f"{path}: {value}"
            for path, value in _leaves(native)
            if path not in taken and value not in ("", None)
        ]

    def page_rows(self) -> list[mapping.Row]:
        """The table as the page shows it."""
        return [
            *_page_rows(self.rows),
            *(mapping.Row(name, mapping.DROPPED, why) for name, why in self.dropped.items()),
        ]

    def page_defaults(self) -> list[tuple[str, str]]:
        """The defaults as the page shows them."""
        return [
            (_plain(path), f"`{value}`{': ' + why if (why := self.about_defaults.get(path, '')) else ''}")
            for path, value in self.defaults.items()
        ]


_SAYS_NOTHING: Final = {("type", REFERRAL), ("type", DECISION), ("version", 1), ("change", "new")}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if (name, inner) != ("accuracyIndicator", "AAA"):
                yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def _written(row: Field | Each, document: Mapping[str, Any]) -> Iterator[str]:
    """The paths, with their indexes, of the leaves that a row writes."""
    if isinstance(row, Each):
        for number, one in enumerate(get(document, row.canonical) or ()):
            for inner in row.rows:
                yield from (f"{row.canonical}[{number}].{path}".rstrip(".") for path in _written(inner, one))
        return
    value = get(document, row.canonical)
    if "write" not in row.on or value is None or row.kind.write(value) is None:
        return
    where = _indexed(document, row.canonical)
    yield from (path for path, _ in _leaves(value, where))
    if match := re.search(r"^(.*)\[([^\]=]+)=[^\]]*\]", row.canonical):  # the field that chose the element
        yield f"{where[: where.rfind(']', 0, len(where)) + 1] if ']' in where else match[1]}.{match[2]}"


def _taken(row: Field | Each, native: Mapping[str, Any]) -> Iterator[str]:
    """The paths, with their indexes, of the leaves that a row reads."""
    value = get(native, row.native)
    if isinstance(row, Field):
        if value is not None and row.kind.read(value) is not None:
            yield from (path for path, _ in _leaves(value, _indexed(native, row.native)))
        return
    for number, one in enumerate(value if isinstance(value, list) else [value]):
        where = f"{row.native}[{number}]" if isinstance(value, list) else row.native
        for inner in row.rows:
            yield from (f"{where}.{path}".rstrip(".") for path in _taken(inner, one))


def _indexed(document: Mapping[str, Any], path: str) -> str:
    """A path with the index of the element that each `[x=y]` chooses."""
    steps: list[str] = []
    value: Any = document
    for name, index, key, wanted in _steps(path):
        value = value.get(name) if isinstance(value, Mapping) else None
        if index is not None:
            steps.append(f"{name}[{index}]")
            value = value[index] if isinstance(value, list) and index < len(value) else value
        elif key and isinstance(value, list):
            at = next(i for i, one in enumerate(value) if one.get(key) == wanted)
            steps.append(f"{name}[{at}]")
            value = value[at]
        else:
            steps.append(name)
    return ".".join(steps)


def shapes(rows: Sequence[Field | Each]) -> dict[str, Any]:
    """JSON Schemas of what is written, by the first step of the native path."""
    properties: dict[str, Any] = {}
    for row in rows:
        if isinstance(row, Each):
            inner = shapes(row.rows)
            shape = {"type": "array", "items": inner.get("", _closed(inner))}
        else:
            shape = {"type": {FLAG: "boolean", NUMBER: "integer"}.get(row.kind, "string")}
        *way, last = row.native.split(".")
        where = properties
        for step in way:
            where = where.setdefault(step, _closed({}))["properties"]
        where[last] = shape
    return properties


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _page_rows(rows: Sequence[Field | Each], native: str = "", canonical: str = "") -> Iterator[mapping.Row]:
    for row in rows:
        if isinstance(row, Each):
            yield from _page_rows(row.rows, f"{native}{row.native}[].", f"{canonical}{row.canonical}[].")
            continue
        way = "" if row.on == {"read", "write"} else "read only" if "read" in row.on else "written only"
        note = "; ".join(part for part in (row.note, row.kind.about, way) if part)
        yield mapping.Row(
            f"{native}{row.native}".rstrip("."), _plain(f"{canonical}{row.canonical}".rstrip(".")), note
        )


def _plain(path: str) -> str:
    """A canonical path without its indexes: `person.name[].givenName[]`."""
    return re.sub(r"\[[^\]]*\]", "[]", path)


@cache
def _steps(path: str) -> tuple[tuple[str, int | None, str, str], ...]:
    return tuple(
        (match[1], int(match[2]) if match[2] else None, match[3] or "", match[4] or "")
        for match in _STEP.finditer(path)
    )


def get(value: Any, path: str) -> Any:
    """What stands at a path; None when nothing does. An empty path is the value itself."""
    for name, index, key, wanted in _steps(path):
        value = value.get(name) if isinstance(value, Mapping) else None
        if index is not None:
            items = value if isinstance(value, list) else [] if value is None else [value]
            value = items[index] if index < len(items) else None
        elif key:
            items = value if isinstance(value, list) else [] if value is None else [value]
            value = next((one for one in items if isinstance(one, Mapping) and one.get(key) == wanted), None)
    return value


def _is_free(target: Mapping[str, Any], path: str) -> bool:
    return get(target, path) is None if path else not target


def put(target: dict[str, Any], path: str, value: Any) -> None:
    """Set what stands at a path; makes what is missing on the way."""
    steps = _steps(path) or (("", None, "", ""),)
    for position, (name, index, key, wanted) in enumerate(steps):
        last = position == len(steps) - 1
        if index is None and not key:
            if last:
                target[name] = value
                return
            target = target.setdefault(name, {})
            continue
        items = target.setdefault(name, [])
        if last:
            items.append(value)
            return
        if index is not None:
            while len(items) <= index:
                items.append({})
            target = items[index]
            continue
        found = next((one for one in items if one.get(key) == wanted), None)
        if found is None:
            found = {key: wanted}
            items.append(found)
        target = found


def referral(document: Mapping[str, Any]) -> Canonical:
    """A referral of what a table read, with what the schema demands and the format did not say."""
    made: dict[str, Any] = {"type": REFERRAL, "version": 1} | dict(document)
    person, concern = made.setdefault("person", {}), made.setdefault("concern", {})
    person.setdefault("name", [dict(NO_NAME)])
    concern.setdefault("category", ["other"])
    made.setdefault("consent", {}).setdefault("status", "not-recorded")
    made.setdefault("referrer", {"role": [NOT_RECORDED]})
    made.setdefault("urgency", "routine")
    made.setdefault("immediateDanger", "not-known")
    return Canonical(REFERRAL, 1, made)


REFERRAL_DEFAULTS: Final[Sequence[tuple[str, str]]] = (
    ("person.name", "one name `Name not recorded` with use `temp`"),
    ("concern.category", "`other`"),
    ("consent.status", "`not-recorded`: nobody is said to have agreed who was not asked"),
    ("referrer", "a role `Not recorded`"),
    ("urgency", "`routine`"),
    ("immediateDanger", "`not-known`"),
)
"""What `referral` fills in, for the page."""


def decision(document: Mapping[str, Any]) -> Canonical:
    """A decision of what a table read."""
    made: dict[str, Any] = {"type": DECISION, "version": 1} | dict(document)
    made.setdefault("decidedBy", {"role": [NOT_RECORDED]})
    return Canonical(DECISION, 1, made)


def moment_of(at: int) -> str:
    """Milliseconds since the epoch as RFC 3339, UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
