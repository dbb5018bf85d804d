"""A canonical document in words, for people: letters, and what a format has no field of its own for.

What may live here: labels, values as text, and what remains of a document when a format carried part of it.
Nothing here knows a format. Every value of the document comes out, whatever its type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.adapters import codes

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SHORT = 60
_BLANK: Final = "".join(map(chr, range(0x21))) + "\u00a0"
MAX_LINE: Final = 300
NOT_RECORDED: Final = "Not recorded"
_ACCURACY: Final = {"A": "certain", "E": "estimated", "U": "not known"}
_NAME_PARTS: Final = {"familyName", "givenName", "preferredName", "prefix", "text", "use"}
_LABELS: Final = {
    "personsViews": "Person's views",
    **{f"line{number}": f"Line {number}" for number in (1, 2, 3)},
    "sourceCode": "Referral source (children in need census code)",
    "primaryNeedCode": "Primary need (children in need census code)",
    "safeguardingCode": "Safeguarding codes (SNOMED CT)",
    "genderCode": "Gender",
    "sexCode": "Sex",
    "ethnicityCode": "Ethnic group",
    "UPRN": "UPRN",
    "USRN": "USRN",
    "sha256": "SHA-256",
    "url": "URL",
}
_SAFEGUARDING: Final[dict[str, dict[str, str]]] = codes.data("bars_safeguarding")["codes"]
_ENUMERATIONS: Final = frozenset(
    {"category", "status", "urgency", "immediateDanger", "change", "levelOfNeed", "overrideReason"}
    | {"agreedTo", "outcome", "reasonCode", "dutyToRefer", "accommodationStatus", "givenBy", "mentalCapacity"}
    | {"preventType", "sendSupport", "action", "childProtectionPlan", "earlyHelpAssessment", "use"}
)
"""Fields whose values are words with hyphens between, and nothing else."""


def stripped(text: str) -> str:
    """`text` without what the schemas count as blank at its ends: controls, space, no-break space."""
    return text.strip(_BLANK)


def entries(value: Any, label: tuple[str, ...] = (), name: str = "") -> Iterator[tuple[tuple[str, ...], str]]:
    """(labels from the outside in, text) for every value inside; small things read as one text."""
    if isinstance(value, Mapping):
        whole = _whole(value)
        if whole is not None:
            yield label, whole
            return
        for inner, below in value.items():
            yield from entries(below, (*label, label_of(inner)), inner)
    elif isinstance(value, list):
        yield from _several(value, label, name)
    else:
        yield label, in_words(name, value)


def _several(items: list[Any], label: tuple[str, ...], name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    texts = [_whole(item) if isinstance(item, Mapping) else in_words(name, item) for item in items]
    short = [text for text in texts if text is not None and len(text) <= _SHORT]
    if items and len(short) == len(items):
        yield label, "; ".join(short)
        return
    for number, item in enumerate(items, start=1):
        numbered = (*label[:-1], f"{label[-1]} {number}") if len(items) > 1 and label else label
        yield from entries(item, numbered, name)


def _whole(value: Mapping[str, Any]) -> str | None:
    """Small objects that read best as one text: identifiers, codes, names, dates that may be partly known."""
    keys = value.keys()
    if not keys:
        return None
    if "scheme" in keys and "value" in keys:
        issuer = f" ({value['system']})" if "system" in keys else ""
        return f"{str(value['scheme']).replace('-', ' ')} {value['value']}{issuer}"
    if keys <= {"system", "code", "display"}:
        parts = [str(value[key]) for key in ("code", "system") if key in keys]
        shown = str(value.get("display", ""))
        return f"{shown} ({', '.join(parts)})" if shown and parts else shown or ", ".join(parts)
    if keys <= {"date", "accuracyIndicator"} and "date" in keys:
        return _partial_date(value)
    if keys <= _NAME_PARTS and keys != {"use"}:
        return name(value)
    return None


def _partial_date(value: Mapping[str, Any]) -> str:
    accuracy = value.get("accuracyIndicator")
    if not accuracy:
        return str(value["date"])
    parts = zip(("day", "month", "year"), accuracy, strict=False)
    stated = ", ".join(f"{part} {_ACCURACY.get(letter, letter)}" for part, letter in parts)
    return f"{value['date']} ({stated})"


def name(value: Mapping[str, Any]) -> str:
    """A canonical name as one text: title, given names, family names, what the person is called, and use."""
    parts = [
        value.get("prefix"),
        *value.get("givenName", []),
        *value.get("familyName", []),
        value.get("text"),
    ]
    whole = " ".join(str(part) for part in parts if part)
    known_as = f"known as {value['preferredName']}" if "preferredName" in value else ""
    use = f"({in_words('use', value['use'])})" if "use" in value else ""
    return " ".join(part for part in (whole, known_as, use) if part)


def in_words(name: str, value: Any) -> str:
    """One value of the field `name` as a reader would say it."""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    text = str(value)
    if name in {"sexCode", "genderCode"}:
        return codes.sex_name(text) or text
    if name == "safeguardingCode" and text in _SAFEGUARDING:
        return f"{_SAFEGUARDING[text]['display']} ({text})"
    if name == "ethnicityCode":
        return codes.ethnicity_name(text) or text
    return text.replace("-", " ").capitalize() if name in _ENUMERATIONS else text


def label_of(name: str) -> str:
    """The label of a field: `reasonForLoss` is "Reason for loss"."""
    return _LABELS.get(name) or _WORD.sub(" ", name).replace("-", " ").replace("_", " ").lower().capitalize()


def text(document: Mapping[str, Any]) -> str:
    """The document as lines of "Label, label: text"."""
    return "\n".join(f"{', '.join(label)}: {value}" for label, value in entries(document))


def line(document: Mapping[str, Any]) -> str:
    """The values alone, on one line no longer than a `line` of the schema; a cut shows as an ellipsis."""
    found = stripped("; ".join(value for _, value in entries(document))) or NOT_RECORDED
    return found if len(found) <= MAX_LINE else found[: MAX_LINE - 1] + "…"


def remaining(document: Any, carried: Any) -> Any:
    """What `document` says that `carried` does not, in the same shape; None when that is nothing.

    A name, a code or an identifier is carried when it reads the same.
    """
    if document == carried:
        return None
    if isinstance(document, Mapping) and isinstance(carried, Mapping):
        whole = _whole(document)
        if whole is not None and whole == _whole(carried):
            return None
    if isinstance(document, Mapping) and isinstance(carried, Mapping) and _whole(document) is None:
        found = ((name, remaining(value, carried.get(name))) for name, value in document.items())
        return {name: value for name, value in found if value not in (None, {}, [])} or None
    if (
        isinstance(document, list)
        and isinstance(carried, list)
        and any(isinstance(i, Mapping) for i in document)
    ):
        pairs = ((item, carried[i] if i < len(carried) else None) for i, item in enumerate(document))
        left = [remaining(item, other) for item, other in pairs if item not in carried]
        return [item for item in left if item not in (None, {}, [])] or None
    return document
