"""HL7 v2's ER7 encoding (version 2.4, chapter 2): segments, fields, repetitions, components, escapes.

Small and ours rather than a library: what comes from outside must be bounded in size and refused without quoting it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.adapters.base import AdapterError
from gateway.messages import Problem

MAX_SEGMENTS: Final = 2_000
MAX_PARTS: Final = 100_000
"""Separators in one message."""
_ESCAPES: Final = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\", ".br": "\n"}
_WRITTEN: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\n": "\\.br\\"}

Message = dict[str, list[dict[str, Any]]]
"""Segment name -> its occurrences: field number -> its repetitions: component number -> text."""


def read(body: bytes) -> Message:
    """The segments by name, in order. Raises AdapterError (malformed).

    UTF-8 or ASCII only. `PID[0]["5"]` is a list of repetitions, each `{"1": …, "2": …}`; of a component with
    subcomponents the first counts.
    """
    text = _text(body)
    separators = text[3:8]
    if not text.startswith("MSH") or len(set(separators)) != 5 or any(one.isalnum() for one in separators):
        raise _malformed("MSH with its five separators first")
    field, component, repetition, escape, subcomponent = list(separators)
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    if len(lines) > MAX_SEGMENTS or sum(text.count(one) for one in separators) > MAX_PARTS:
        raise _malformed(f"at most {MAX_SEGMENTS} segments and {MAX_PARTS} separators")
    found: Message = {}
    for line in lines:
        name, *fields = line.split(field)
        if not re.fullmatch(r"[A-Z][A-Z0-9]{2}", name):
            raise _malformed("segments that begin with their name")
        if name == "MSH":
            fields = [field, *fields]  # MSH-1 is the separator itself
        segment: dict[str, Any] = {}
        for number, raw in enumerate(fields, start=1):
            if raw == "" or (name == "MSH" and number <= 2):
                continue
            repeats = [
                {
                    str(at): _plain(one.split(subcomponent)[0], escape)
                    for at, one in enumerate(part.split(component), start=1)
                    if one not in {"", '""'}
                }
                for part in raw.split(repetition)
            ]
            if kept := [one for one in repeats if one]:
                segment[str(number)] = kept
        found.setdefault(name, []).append(segment)
    return found


def _text(body: bytes) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise _malformed("UTF-8 or ASCII text")
    return text.lstrip("\x0b").rstrip("\x1c\r\n")  # the frame of MLLP, if somebody left it on


def _plain(text: str, escape: str) -> str:
    mark = re.escape(escape)
    return re.sub(f"{mark}([^{mark}]*){mark}", lambda match: _ESCAPES.get(match[1], ""), text).strip()


def write(segments: Iterable[tuple[str, Mapping[int, Any]]]) -> bytes:
    r"""Segments with their fields: text, a list of components, or a list of such lists. `|^~\&`, CR, UTF-8."""
    lines = []
    for name, fields in segments:
        last = max(fields, default=0)
        parts = [_field(fields.get(number, "")) for number in range(1, last + 1)]
        if name == "MSH":
            parts[:2] = ["^~\\&"]
        lines.append("|".join([name, *parts]).rstrip("|"))
    return ("\r".join(lines) + "\r").encode()


def _field(value: Any) -> str:
    if isinstance(value, str):
        return _escaped(value)
    if value and isinstance(value[0], list | tuple):
        return "~".join(_components(one) for one in value)
    return _components(value)


def _components(value: Sequence[str]) -> str:
    return "^".join(_escaped(one or "") for one in value).rstrip("^")


def _escaped(text: str) -> str:
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(_WRITTEN.get(character, character) for character in plain)


def _malformed(rule: str) -> AdapterError:
    return AdapterError([Problem("", rule)], malformed=True)
