"""Formats that are a list of fields: each native field stands for one canonical field, both ways.

What may live here: `Field`, the forms a value can take (`Codec`), and reading and writing a whole list of
fields. The same list serves nested JSON, the columns of a CSV file and the rows of the mapping page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.adapters import paths, words
from gateway.adapters.mapping import Row
from gateway.messages import Problem

NOTHING: Final = object()
"""What a codec gives for a value that is well but says nothing to this canonical field."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One form that a native value can take."""

    rule: str
    """What the value must be, in words, for problems and pages. Blank: any text."""
    decode: Callable[[str], Any]
    """The canonical value of a native text; None when it cannot be read; NOTHING to leave it alone."""
    encode: Callable[[Any], str | bool | float | None]
    """The native value of a canonical one; None when the format has none."""


@dataclass(frozen=True, slots=True)
class Field:
    """A native field and the canonical field it stands for. Several may share a native field."""

    native: str
    path: str
    codec: Codec
    many: str = ""
    """Not blank: several values, a list in JSON; where all is text, this stands between them."""
    joined: bool = False
    """Several values that are one text in JSON too: middle names."""
    note: str = ""


_DATE = re.compile(r"(?:18|19|20|21)\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])")
_UK_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_MOMENT = re.compile(
    _DATE.pattern + r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)
_YES_NO = {
    "yes": True,
    "y": True,
    "true": True,
    "1": True,
    "no": False,
    "n": False,
    "false": False,
    "0": False,
}
_EMAIL = re.compile(r"[^\x00-\x20@]+@[^\x00-\x20@]+")
_LONGEST_EMAIL = 254
_SEVERAL = "several"
_MAX_WHOLE_DIGITS = 9


def date(text: str) -> str | None:
    """A date as the schema has it, from YYYY-MM-DD or DD/MM/YYYY, the time of day left off; or None."""
    if found := _UK_DATE.fullmatch(text):
        day, month, year = found.groups()
        text = f"{year}-{month:0>2}-{day:0>2}"
    text = re.sub(r"T\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?$", "", text)
    longest = {"02": "29", "04": "30", "06": "30", "09": "30", "11": "30"}.get(text[5:7], "31")
    return text if _DATE.fullmatch(text) and text[8:] <= longest else None


def moment(text: str) -> str | None:
    """A date and time with its offset from UTC, or None: the offset is never guessed."""
    return text if _MOMENT.fullmatch(text) and date(text[:10]) else None


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(rf"\d{{1,{_MAX_WHOLE_DIGITS}}}", text) else None


def _number(text: str) -> float | None:
    found = re.fullmatch(r"(\d{1,9})(?:\.(\d{1,9}))?%?", text)
    if found is None:
        return None
    return float(text.rstrip("%")) if found[2] else int(found[1])


def _own(value: Any) -> Any:
    return value if isinstance(value, (str, bool, int, float)) else None


def _name(value: Mapping[str, Any]) -> str | None:
    """None when it would be longer than the schema's `line`."""
    text = words.name(value)
    return text if len(text) <= words.MAX_LINE else None


TEXT: Final = Codec("", lambda text: text, _own)
DATE: Final = Codec("a date as YYYY-MM-DD or DD/MM/YYYY", date, _own)
MOMENT: Final = Codec("a date and time with its offset from UTC: YYYY-MM-DDThh:mm:ssZ", moment, _own)
YES_NO: Final = Codec("yes or no", lambda text: _YES_NO.get(text.casefold()), _own)
WHOLE: Final = Codec("a whole number", _whole, _own)
NUMBER: Final = Codec("a number", _number, _own)


EMAIL: Final = Codec(
    "an e-mail address",
    lambda text: text if _EMAIL.fullmatch(text) and len(text) <= _LONGEST_EMAIL else None,
    _own,
)
NAME: Final = Codec("", lambda text: {"text": text}, _name)
"""A person's name as one text."""


def coded(values: Mapping[str, str]) -> Codec:
    """A code of a list: native code to canonical value. Letter case and hyphens for spaces do not matter."""
    known = {_folded(native): canonical for native, canonical in values.items()}
    back = {canonical: native for native, canonical in reversed(list(values.items()))}
    return Codec(
        f"one of: {', '.join(values)}",
        lambda text: known.get(_folded(text)),
        lambda value: back.get(value) if isinstance(value, str) else None,
    )


def one_of(*values: str) -> Codec:
    """A code that is the same on both sides."""
    return coded({value: value for value in values})


def _folded(text: str) -> str:
    return text.strip().casefold().replace(" ", "-").replace("_", "-")


@dataclass(frozen=True, slots=True)
class Unread:
    """A native value that its field's rule does not allow."""

    native: str
    rule: str
    text: str

    def problem(self) -> Problem:
        """Where and which rule: never the text."""
        return Problem(paths.pointer(self.native), self.rule)

    def words(self) -> str:
        """The field and what it said, for a note to a reader."""
        return f"{self.native}: {self.text}"


def read(fields: Iterable[Field], source: Mapping[str, Any], document: dict[str, Any]) -> list[Unread]:
    """Place in `document` what `source` says in these fields; what could not be read is given back.

    Values may be text, numbers, true and false; blank ones count as absent.
    """
    unread: dict[tuple[str, str], Unread] = {}
    for field in fields:
        texts, strange = _texts(paths.get(source, field.native), field)
        decoded = [(text, field.codec.decode(text)) for text in texts]
        strange += [text for text, value in decoded if value is None]
        found = [value for _, value in decoded if value is not None and value is not NOTHING]
        if found:
            paths.put(document, field.path, found if field.many else found[0])
        for text in strange:
            unread.setdefault((field.native, text), Unread(field.native, field.codec.rule or "text", text))
    return list(unread.values())


def _texts(raw: Any, field: Field) -> tuple[list[str], list[str]]:
    """The texts of a native value that are not blank, and those of a kind no field has."""
    items = raw if isinstance(raw, list) else [raw]
    texts: list[str] = []
    strange: list[str] = []
    for item in items:
        if isinstance(item, str):
            split = (
                item.split(field.many.strip() or None) if field.many and not isinstance(raw, list) else [item]
            )
            texts += [words.stripped(part) for part in split if words.stripped(part)]
        elif isinstance(item, (bool, int, float)):
            texts.append(_text(item))
        elif item not in (None, {}, []):
            strange.append("a value of another kind")
    if not field.many and len(texts) > 1:
        strange += texts[1:]
    return (texts if field.many else texts[:1]), strange


def write(fields: Iterable[Field], document: Mapping[str, Any]) -> dict[str, Any]:
    """The native object that says what `document` says in these fields, in their order.

    Where two fields share a native one, the first that has a value is written; lists are joined.
    """
    native: dict[str, Any] = {}
    for field in fields:
        value = paths.get(document, field.path)
        if value is None:
            continue
        items = value if field.many and isinstance(value, list) else [value]
        found = [encoded for item in items if (encoded := _encoded(field, item)) is not None]
        before = paths.get(native, field.native)
        if field.joined:
            found = [field.many.join(str(text) for text in found)] if found else []
        if not found or (before is not None and not field.many):
            continue
        paths.put(native, field.native, [*(before or []), *found] if _is_list(field) else found[0])
    pruned: dict[str, Any] = paths.prune(native)
    return pruned


def _is_list(field: Field) -> bool:
    return bool(field.many) and not field.joined


def _encoded(field: Field, item: Any) -> str | bool | float | None:
    """The native value of one canonical value; None for what `read` would not take, or take for several."""
    encoded = field.codec.encode(item)
    text = _text(encoded)
    separator = field.many.strip() if not field.joined else ""
    readable = bool(text) and field.codec.decode(text) is not None
    return encoded if readable and not (separator and separator in text) else None


def _text(value: str | bool | float | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else words.stripped(str(value))


def unknown(fields: Iterable[Field], source: Mapping[str, Any], besides: Iterable[str] = ()) -> str:
    """In words, for a note, what `source` says outside these fields and the native paths `besides`."""
    known = {paths.shown(field.native).replace("[]", "") for field in fields} | set(besides)
    return words.text(rest(source, "", known))


def is_name(name: Mapping[str, Any]) -> bool:
    """Whether a canonical name names somebody: a title or a use alone does not."""
    return bool(name.keys() - {"prefix", "use"})


def rest(value: Any, path: str, known: Collection[str]) -> Any:
    """`value`, which stands at the native `path`, without what stands at the known paths inside it."""
    if not isinstance(value, Mapping):
        return value
    below = {name: f"{path}.{name}" if path else name for name in value}
    return paths.prune({name: rest(value[name], at, known) for name, at in below.items() if at not in known})


def add_note(document: dict[str, Any], *texts: str) -> None:
    """Add `texts` to the note of a canonical document, each a paragraph."""
    said = "\n\n".join(text for text in (document.get("note", ""), *texts) if text)
    if said:
        document["note"] = said


def with_rest(
    native: dict[str, Any],
    note: str,
    document: Mapping[str, Any],
    read_back: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """`native` with all that a reader would not find in it put in words into its field `note`."""
    rest = words.remaining(document, read_back(native)) or {}
    said = [str(paths.get(native, note) or ""), words.text(rest)]
    if any(said):
        paths.put(native, note, "\n\n".join(text for text in said if text))
    return native


def rows(fields: Sequence[Field]) -> list[Row]:
    """The rows of the mapping page: fields that share a native one stand in one row."""
    found: dict[str, list[Field]] = {}
    for field in fields:
        found.setdefault(field.native, []).append(field)
    made = []
    for native, sharing in found.items():
        stated = [
            (_SEVERAL if _is_list(field) else "", field.codec.rule, *paths.selected(field.path), field.note)
            for field in sharing
        ]
        notes = dict.fromkeys(note for notes in stated for note in notes if note)
        canonical = ", ".join(dict.fromkeys(paths.shown(field.path) for field in sharing))
        made.append(Row(native, canonical, "; ".join(notes)))
    return made
