"""HL7 version 2: referrals (REF^I12, I13, I14) and their answers (RRI), in the ER7 encoding.

HL7 2.4 chapter 11, with what systems in the UK do: the NHS number in PID-3, `GBR` in MSH-17. Codes:
`data/hl7v2.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.adapters import codes, er7, table
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.mapping import Page
from gateway.adapters.table import READ, Each, Field, Kind, Table
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/hl7-v2+er7"
_CODES: Final = codes.data("hl7v2")
_EVENTS: Final = {"I12": "new", "I13": "update", "I14": "withdraw"}


def _day(value: Any) -> str | None:
    text = str(value)
    if not re.match(r"[0-9]{8}", text):
        return None
    day: str | None = table.DAY.read(f"{text[:4]}-{text[4:6]}-{text[6:8]}")
    return day


def _moment(value: Any) -> str | None:
    """A TS of at least minutes, with its offset."""
    match = re.fullmatch(
        r"([0-9]{8})([0-9]{2})([0-9]{2})([0-9]{2})?(?:\.[0-9]+)?([+-][0-9]{2})([0-9]{2})", str(value)
    )
    if not match or (day := _day(match[1])) is None:
        return None
    return f"{day}T{match[2]}:{match[3]}:{match[4] or '00'}{match[5]}:{match[6]}"


_DAY: Final = Kind(_day, lambda value: value.replace("-", "") if len(value) == 10 else None, "YYYYMMDD")
_MOMENT: Final = Kind(_moment, lambda value: value, "only with its offset from UTC")
_SEX: Final = table.codes(_CODES["sex"], about="HL7 table 0001")
_NAME: Final = (
    Field("1", "familyName[0]"),
    Field("2", "givenName[0]"),
    Field("3", "givenName[1]"),
    Field("5", "prefix"),
)
_ADDRESS: Final = (
    Field("1", "line1"),
    Field("2", "line2"),
    Field("3", "city"),
    Field("4", "county"),
    Field("5", "postcode"),
    Field("6", "country"),
)
_CODED: Final = (Field("1", "code"), Field("2", "display"), Field("3", "system"))

REFERRAL: Final = Table(
    (
        Field("MSH[0].7[0].1", "writtenAt", _MOMENT),
        Field("MSH[0].9[0].2", "change", table.codes(_EVENTS)),
        Field("RF1[0].2[0].1", "urgency", table.codes(_CODES["priority"], about="HL7 table 0280")),
        Field("RF1[0].6[0].1", "reference"),
        Field("RF1[0].11[0].1", "previousReference"),
        Each("RF1[0].10", "concern.code", _CODED),
        Each("RF1[0].3", "request.code", _CODED),
        Each("PID[0].5", "person.name", _NAME),
        Field("PID[0].7[0].1", "person.dateOfBirth.date", _DAY),
        Field("PID[0].8[0].1", "person.genderCode", _SEX),
        Field("PID[0].15[0].2", "person.language[0].name"),
        Field("PID[0].17[0].2", "person.religion"),
        Field("PID[0].22[0].1", "person.ethnicity.code", note="with the system `NHS ethnic category`"),
        Field(
            "PID[0].22[0].1",
            "person.ethnicityCode",
            Kind(lambda v: codes.ethnicity("nhs", str(v)), lambda v: codes.ethnicity_code("nhs", v)),
        ),
        Each("PID[0].11", "person.address", _ADDRESS),
        Field("PID[0].13[0].1", "person.contact[0].telephone[0]"),
        Field("PID[0].13[0].4", "person.contact[0].email[0]"),
        Field("PID[0].14[0].1", "person.contact[1].telephone[0]"),
        Field("PID[0].29[0].1", "person.deceasedDate.date", _DAY),
        Field("PID[0].30[0].1", "person.isDeceased", Kind(table.FLAG.read, lambda v: "Y" if v else "N")),
        Each(
            "NK1",
            "involved.people",
            (
                Each("2", "name", _NAME),
                Field(
                    "3[0].1",
                    "relationship[0]",
                    Kind(lambda v: v if re.fullmatch("[A-Z]{2,20}", str(v)) else None, str),
                ),
                Field("3[0].2", "relationshipText"),
                Each("4", "address", _ADDRESS),
                Field("5[0].1", "contact[0].telephone[0]"),
            ),
        ),
        Field("PV1[0].19[0].1", "additional.health.encounterReference"),
    ),
    dropped={
        "PID-3": "by its assigning authority or type: NHS to `nhs-number`, others to `hospital-number` or `other`",
        "PRD": "role RP is `referrer`, role RT is `request.service`; others are in the original",
        "NTE-3": "all of them, in order: `concern.narrative`",
        "OBX-3, OBX-5": "`additional.health.clinicalSummary`, a line each; binary values stay in the original",
        "AL1-3": "`additional.health.alerts`",
        "DG1-3": "`concern.code`, after those of RF1-10",
        "GT1, IN1, IN2, AUT, ACC, PR1, OBR, PV2, ROL": "billing, procedures and orders: in the original only",
    },
)
DECISION: Final = Table(
    (
        Field("RF1[0].1[0].1", "outcome", table.codes(_CODES["status"], about="HL7 table 0283")),
        Field("MSA[0].2[0].1", "referralReference"),
        Field("RF1[0].6[0].1", "reference"),
        Field("RF1[0].10[0].1", "reasonCode", Kind(lambda v: v if v in _CODES["reasons"] else None, str)),
        Field("RF1[0].10[0].2", "reasonText", on=READ),
    ),
    dropped={"PRD": "role RT is `decidedBy`", "NTE-3": "all of them: `note`"},
)


class Hl7v2:
    """The `hl7v2` adapter."""

    name = "hl7v2"
    media_types = (MEDIA_TYPE, "application/hl7-v2", "x-application/hl7-v2+er7")
    page = Page(
        "HL7 version 2",
        "REF^I12 (new), I13 (update) and I14 (cancel) are referrals, RRI is the decision on one; RF1-1 `A` or `R`, anything "
        "else is no decision. ER7, versions 2.3 to 2.8 read, 2.4 written, UTF-8 or ASCII (another character set is refused). "
        "`PID[0].5[0].1` is PID-5, first repetition, first component. An acknowledgement of receipt (`ACK`) is not needed: "
        "the node's receipts say more. Written: MSH-17 `GBR`, MSH-18 `UNICODE UTF-8`; what has no segment goes into NTE, a "
        "line each.",
        [("Referral: REF", REFERRAL.page_rows()), ("Decision: RRI", DECISION.page_rows())],
        table.REFERRAL_DEFAULTS,
    )

    def to_canonical(self, native: Native) -> Canonical:
        """See Adapter."""
        message = er7.read(native.body)
        kind = table.get(message, "MSH[0].9[0].1")
        charset = str(table.get(message, "MSH[0].18[0].1") or "UTF-8").upper()
        if charset.removeprefix("UNICODE ") not in {"UTF-8", "ASCII"}:
            raise AdapterError([Problem("/MSH-18", "UNICODE UTF-8 or ASCII")])
        if kind == "RRI":
            return _decision(message)
        if kind != "REF" or table.get(message, "MSH[0].9[0].2") not in _EVENTS:
            raise AdapterError([Problem("/MSH-9", "one of: REF^I12, REF^I13, REF^I14, RRI")])
        if "PID" not in message:
            raise AdapterError([Problem("/PID", "required")])
        return _referral(message)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """See Adapter."""
        segments = {table.REFERRAL: _write_referral, table.DECISION: _write_decision}.get(message.type)
        if segments is None:
            raise AdapterError([Problem("/type", "a referral or a decision")])
        return Native(media_type, er7.write(segments(header, message.document)))


def _referral(message: er7.Message) -> Canonical:
    document = REFERRAL.read(message)
    if identifiers := list(_identifiers(message["PID"][0].get("3", ()))):
        table.put(document, "person.identifier", identifiers)
    if table.get(document, "person.ethnicity"):
        document["person"]["ethnicity"] = codes.ethnicity_coded(
            "nhs", document["person"]["ethnicity"]["code"]
        )
    for person in table.get(document, "involved.people") or ():
        if not person.keys() & {"name", "relationship", "role"}:
            person["role"] = "other"
    _providers(message, document)
    diagnoses = [_coded(one["3"][0]) for one in message.get("DG1", ()) if "3" in one]
    if found := [one for one in [*(table.get(document, "concern.code") or ()), *diagnoses] if one]:
        table.put(document, "concern.code", found)
    if notes := [
        repeat["1"] for one in message.get("NTE", ()) for repeat in one.get("3", ()) if "1" in repeat
    ]:
        table.put(document, "concern.narrative", "\n".join(notes))
    if seen := [line for one in message.get("OBX", ()) if (line := _observation(one))]:
        table.put(document, "additional.health.clinicalSummary", "\n".join(seen))
    if alerts := [text for one in message.get("AL1", ()) if (text := _words(one.get("3", [{}])[0]))]:
        table.put(document, "additional.health.alerts", [{"display": text} for text in alerts])
    if table.get(document, "concern.narrative") is None and table.get(document, "concern.code") is None:
        raise AdapterError([Problem("/NTE", "a reason for the referral: NTE, RF1-10 or DG1")])
    table.put(document, "concern.category", ["physical-health"])
    return table.referral(document)


def _identifiers(found: Any) -> Iterator[dict[str, str]]:
    for one in found:
        value, owner, type_ = one.get("1"), one.get("4", ""), one.get("5", "")
        if not value:
            continue
        if "NHS" in {owner.upper(), type_.upper()}:
            yield {"scheme": "nhs-number", "value": value}
        elif owner or type_:
            yield {"scheme": "other", "value": value, "system": owner or type_}
        else:
            yield {"scheme": "hospital-number", "value": value}


def _providers(message: er7.Message, document: dict[str, Any]) -> None:
    for segment in message.get("PRD", ()):
        role = table.get(segment, "1[0].1")
        name = Table(_NAME).read(table.get(segment, "2[0]"))
        phone, place = table.get(segment, "5[0]") or {}, table.get(segment, "4[0]") or {}
        number = phone.get("1") if re.search("[0-9]", phone.get("1", "")) else phone.get("12")
        if role == "RP":
            referrer = {"name": name} if name else {}
            if number:
                referrer["contact"] = {"telephone": [number]}
            if organisation := place.get("9") or place.get("4") or place.get("1"):
                referrer["organisation"] = {"name": organisation}
            if referrer:
                document["referrer"] = referrer
        elif role == "RT":
            words = " ".join(name.get("givenName", [])[:1] + name.get("familyName", []))
            service = place.get("9") or place.get("4") or words
            if service:
                table.put(document, "request.service.name", service)
    if "referrer" not in document and (facility := table.get(message, "MSH[0].4[0].1")):
        document["referrer"] = {"organisation": {"name": facility}}


def _observation(segment: Mapping[str, Any]) -> str:
    if table.get(segment, "2[0].1") in {"ED", "RP"}:
        return ""
    value = " ".join(filter(None, (_words(one) for one in segment.get("5", ()))))
    unit = table.get(segment, "6[0].1") or ""
    return f"{_words(table.get(segment, '3[0]') or {})}: {value} {unit}".strip() if value else ""


def _words(component: Mapping[str, str]) -> str:
    return component.get("2") or component.get("1") or ""


def _coded(component: Mapping[str, str]) -> dict[str, Any]:
    return Table(_CODED).read(component)


def _decision(message: er7.Message) -> Canonical:
    document = DECISION.read(message)
    if "outcome" not in document:
        raise AdapterError([Problem("/RF1-1", "A or R: anything else is no decision")])
    if document["outcome"] == "declined":
        document.setdefault("reasonCode", "other")
        if document["reasonCode"] == "other":
            document.setdefault("reasonText", "No reason was given.")
    if notes := [
        repeat["1"] for one in message.get("NTE", ()) for repeat in one.get("3", ()) if "1" in repeat
    ]:
        document["note"] = "\n".join(notes)
    for segment in message.get("PRD", ()):
        if table.get(segment, "1[0].1") == "RT" and (name := Table(_NAME).read(table.get(segment, "2[0]"))):
            document["decidedBy"] = {"name": name}
            if organisation := table.get(segment, "4[0].9"):
                document["decidedBy"]["organisation"] = {"name": organisation}
    return table.decision(document)


def _head(header: Header, event: str) -> tuple[str, dict[int, Any]]:
    made = datetime.fromtimestamp(header.created / 1000, UTC).strftime("%Y%m%d%H%M%S+0000")
    return "MSH", {
        3: "REFERRAL-GATEWAY",
        4: header.sender,
        6: header.recipient,
        7: made,
        9: event.split("^"),
        10: header.message_id,
        11: "P",
        12: "2.4",
        15: "AL",
        16: "NE",
        17: "GBR",
        18: "UNICODE UTF-8",
    }


def _write_referral(header: Header, document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[int, Any]]]:
    event = next(code for code, change in _EVENTS.items() if change == document.get("change", "new"))
    native = REFERRAL.write(document)
    yield _head(header, f"REF^{event}")
    yield "RF1", {1: "P"} | _numbered(native.get("RF1", [{}])[0])
    referrer, service = document["referrer"], table.get(document, "request.service.name")
    place = table.get(referrer, "organisation.name") or ""
    phone = table.get(referrer, "contact.telephone[0]") or ""
    yield (
        "PRD",
        {1: "RP", 2: _name(referrer.get("name", {})), 4: ["", "", "", "", "", "", "", "", place], 5: phone},
    )
    if service:
        yield "PRD", {1: "RT", 4: ["", "", "", "", "", "", "", "", service]}
    person = _numbered(native.get("PID", [{}])[0]) | {1: "1"}
    if identifiers := table.get(document, "person.identifier"):
        person[3] = [_identifier(one) for one in identifiers]
    yield "PID", person
    for number, one in enumerate(native.get("NK1", ()), start=1):
        yield "NK1", _numbered(one) | {1: str(number)}
    lines = _lines(document)
    for number, line in enumerate(lines, start=1):
        yield "NTE", {1: str(number), 3: line}
    if visit := native.get("PV1"):
        yield "PV1", _numbered(visit[0])


_HELD: Final = frozenset(
    {
        "concern.narrative",
        "concern.category[0]: physical-health",
        "person.identifier",
        "request.service.name",
        "referrer.name.",
        "referrer.organisation.name",
        "referrer.contact.telephone[0]",
    }
)
"""How the lines of what segments hold begin, that the table does not know of."""


def _lines(document: Mapping[str, Any]) -> list[str]:
    """The narrative, then all that no segment holds."""
    narrative = table.get(document, "concern.narrative")
    held = tuple(_HELD)
    rest = [line for line in REFERRAL.rest(document) if not line.startswith(held)]
    shortened = [line for line in REFERRAL.rest(document) if line.startswith("referrer.name.text")]
    return [*([narrative] if narrative else []), *rest, *shortened]


def _identifier(one: Mapping[str, str]) -> list[str]:
    if one["scheme"] == "nhs-number":
        return [one["value"].replace(" ", ""), "", "", "NHS"]
    if one["scheme"] == "hospital-number":
        return [one["value"]]
    return [one["value"], "", "", one.get("system") or one["scheme"]]


def _name(name: Mapping[str, Any]) -> list[str]:
    given = [*name.get("givenName", ()), "", ""]
    family = " ".join(name.get("familyName", ())) or name.get("text", "")
    return [family, given[0], given[1], "", name.get("prefix", "")]


def _numbered(segment: Mapping[str, Any]) -> dict[int, Any]:
    """What a table wrote, as the encoder takes it."""
    fields: dict[int, Any] = {}
    for number, repeats in segment.items():
        fields[int(number)] = [
            [one.get(str(at), "") for at in range(1, max(map(int, one)) + 1)] for one in repeats
        ]
    return fields


def _write_decision(header: Header, document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[int, Any]]]:
    native = DECISION.write(document)
    if not table.get(native, "RF1[0].1"):
        raise AdapterError([Problem("/outcome", "one of: accepted, declined")])
    yield _head(header, "RRI^I12")
    yield "MSA", {1: "AA", 2: document.get("referralReference") or header.in_reply_to or ""}
    reason = table.get(native, "RF1[0].10[0]")
    referral = _numbered({name: value for name, value in native["RF1"][0].items() if name != "10"})
    if reason:
        referral[10] = [[reason["1"], document.get("reasonText", ""), "referral-gateway"]]
    yield "RF1", referral
    who = document["decidedBy"]
    place = table.get(who, "organisation.name") or ""
    yield "PRD", {1: "RT", 2: _name(who.get("name", {})), 4: ["", "", "", "", "", "", "", "", place]}
    elsewhere = ("note:", "reasonText", "referralReference", "decidedBy.name.", "decidedBy.organisation.name")
    notes = [line for line in DECISION.rest(document) if not line.startswith(elsewhere)]
    for number, line in enumerate([*([document["note"]] if "note" in document else []), *notes], start=1):
        yield "NTE", {1: str(number), 3: line}


ADAPTER: Final = Hl7v2()
