"""The demo's story, as a practitioner would tell it: who refers whom, what becomes of it, and why.

Steps go through the HTTP API as each agency's own system would use it.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from gateway.demo.world import ACADEMY, COUNCIL, HOSPITAL, HOUSING, POLICE, World
from gateway.http.client import ApiProblem, File
from gateway.messages import FINAL_STAGES, AgencyId, Purpose, Reason

PATIENCE = 30.0
"""Seconds that any step of the story may take."""

CANONICAL = "application/json"
FHIR_JSON = "application/fhir+json"
FHIR_XML = "application/fhir+xml"
OURS = "application/vnd.referral-gateway."

SPEAKS = {
    ACADEMY: "text/html",
    HOSPITAL: FHIR_JSON,
    POLICE: f"{OURS}pole+json",
    HOUSING: f"{OURS}duty-to-refer+json",
    COUNCIL: f"{OURS}early-help+json",
}
"""In which format each agency's own system reads; canonical JSON where a message has no form in it."""


@dataclass(slots=True)
class Sent:
    """One message of the story and what became of it."""

    title: str
    sender: AgencyId
    recipient: AgencyId
    purpose: Purpose
    message_id: str = ""
    case: str = ""
    stage: str = "sending"
    refused: str = ""
    """The problem code, when intake said no."""
    reason: str = ""
    """The reason code of a `rejected` receipt."""
    receipts: list[str] = field(default_factory=list, repr=False)
    """Signed receipts, base64url."""
    sent_as: str = ""
    read_as: str = ""
    """Formats, by the end of their media types."""

    @property
    def final(self) -> bool:
        """Nothing more will happen to it."""
        return bool(self.refused) or self.stage in {stage.value for stage in FINAL_STAGES}


@dataclass(slots=True)
class Story:
    """Plays the story in a world and keeps the book."""

    world: World
    on_change: Callable[[], None]
    book: list[Sent] = field(default_factory=list)
    sent_bodies: list[tuple[str, bytes]] = field(default_factory=list, repr=False)
    """Every body sent, for the eavesdropper's search: (media type, bytes)."""
    answers: int = 0

    async def play(self, shared: Path) -> None:
        """The whole story."""
        prevent, hospital_case, xml_case = await asyncio.gather(
            self.refer(
                "Year 10 pupil: Prevent referral",
                ACADEMY,
                POLICE,
                Purpose.PREVENT,
                *native("ctf-concern", "school-to-prevent.json", f"{OURS}ctf-concern+json"),
            ),
            self.refer(
                "Child seen in A&E: safeguarding",
                HOSPITAL,
                COUNCIL,
                Purpose.SAFEGUARDING_CHILDREN,
                *native("fhir-bars", "ed-to-childrens-social-care.json", FHIR_JSON),
                attachment=b"%PDF-1.7 body map, fictional " + b"." * 2_000_000,
            ),
            self.refer(
                "Patient at risk of radicalisation (FHIR XML)",
                HOSPITAL,
                POLICE,
                Purpose.PREVENT,
                *native("fhir-bars", "mental-health-to-police-prevent.xml", FHIR_XML),
            ),
        )
        await self.collect(POLICE, prevent)
        await self.decide("Police accept the pupil's referral", POLICE, prevent, "accepted")
        await self.collect(POLICE, xml_case)
        await self.decide("Police decline: no Prevent concern", POLICE, xml_case, "declined")
        await self.collect(COUNCIL, hospital_case)
        await self.decide("Council accepts the child's case", COUNCIL, hospital_case, "accepted")

        housing, early_help = await asyncio.gather(
            self.refer(
                "Duty to refer: nowhere to go on release",
                POLICE,
                HOUSING,
                Purpose.HOMELESSNESS,
                *native("duty-to-refer", "prison-to-council.json", f"{OURS}duty-to-refer+json"),
            ),
            self.refer(
                "Police pass a family on to the council",
                POLICE,
                COUNCIL,
                Purpose.EARLY_HELP,
                *native("pole", "police-early-help-referral.json", SPEAKS[POLICE]),
            ),
        )
        await self.collect(HOUSING, housing)
        await self.decide("Housing accepts", HOUSING, housing, "accepted")
        await self.collect(COUNCIL, early_help)
        await self.decide("Council asks for more information", COUNCIL, early_help, "more-information-needed")

        wrong = await self.refer(
            "Hospital refers to the wrong council",
            HOSPITAL,
            COUNCIL,
            Purpose.SAFEGUARDING_ADULTS,
            *example("adult"),
        )
        await self.collect(COUNCIL, wrong, reject=Reason.OUTSIDE_AREA)
        await self.refer(
            "School to housing: no agreement", ACADEMY, HOUSING, Purpose.HOMELESSNESS, *example("housing")
        )
        for title, media_type, body in nhs_examples(shared):
            sent = await self.refer(title, HOSPITAL, COUNCIL, Purpose.HEALTH_CARE, media_type, body)
            await self.collect(COUNCIL, sent)
        await self.settle()

    async def refer(
        self,
        title: str,
        sender: AgencyId,
        recipient: AgencyId,
        purpose: Purpose,
        media_type: str,
        body: bytes,
        *,
        in_reply_to: Sent | None = None,
        attachment: bytes | None = None,
    ) -> Sent:
        """Send a message and enter it in the book."""
        entry = Sent(title, sender, recipient, purpose, sent_as=short(media_type))
        self.book.append(entry)
        self.sent_bodies.append((media_type, body))
        self.on_change()
        try:
            answer = await self.world.client(sender).send(
                body,
                media_type=media_type,
                to=[recipient],
                purpose=purpose.value,
                lawful_basis="public-task",
                idempotency_key=str(uuid.uuid4()),
                case=in_reply_to.case if in_reply_to else None,
                in_reply_to=in_reply_to.message_id if in_reply_to else None,
                attachments=[File("body-map.pdf", "application/pdf", attachment)] if attachment else [],
            )
        except ApiProblem as problem:
            entry.refused = problem.code
            entry.stage = "refused"
        else:
            entry.message_id, entry.case = answer["message_id"], answer["case"]
            self._note(entry, answer)
        self.on_change()
        return entry

    async def decide(self, title: str, agency: AgencyId, about: Sent, outcome: str) -> None:
        """The recipient answers a referral with a decision, and the referrer collects it."""
        decision = await self.refer(
            title, agency, about.sender, about.purpose, *answer_of(agency, outcome), in_reply_to=about
        )
        await self.collect(about.sender, decision)

    async def collect(self, agency: AgencyId, sent: Sent, *, reject: Reason | None = None) -> None:
        """The recipient's system waits for the message, opens it, and acknowledges or rejects it."""
        if not sent.message_id:
            return
        client = self.world.client(agency)
        async with asyncio.timeout(PATIENCE):
            while not await self._arrived(agency, sent):
                pass
            opened = await client.open(sent.message_id, accept=f"{SPEAKS[agency]}, {CANONICAL};q=0.5")
            sent.read_as = short(opened.media_type)
            if reject is None:
                await client.ack([sent.message_id])
            else:
                await client.reject(sent.message_id, reason=reject.value)
        await self.refresh(sent)

    async def _arrived(self, agency: AgencyId, sent: Sent) -> bool:
        page = await self.world.client(agency).inbox(wait=5)
        return any(message["message_id"] == sent.message_id for message in page["messages"])

    async def refresh(self, sent: Sent) -> None:
        """Look at the ladder as the sender's system sees it."""
        if sent.message_id:
            self._note(sent, await self.world.client(sent.sender).status(sent.message_id))
            self.on_change()

    async def settle(self) -> None:
        """Wait until everything accepted has its final receipt at the sender."""
        async with asyncio.timeout(PATIENCE):
            while waiting := [sent for sent in self.book if not sent.final]:
                for sent in waiting:
                    await self.refresh(sent)
                await asyncio.sleep(0.05)
        for sent in self.book:
            await self.refresh(sent)

    @staticmethod
    def _note(sent: Sent, status: dict[str, Any]) -> None:
        (ladder,) = status["recipients"]
        sent.stage = ladder["stage"]
        sent.receipts = [receipt["receipt"] for receipt in ladder["receipts"]]
        sent.reason = next((r["reason"] for r in ladder["receipts"] if r.get("reason")), "")


_EXAMPLES = {
    "housing": "police_housing_referral.json",
    "adult": "hospital_adult_referral.json",
}


def example(name: str) -> tuple[str, bytes]:
    """One of our canonical examples, with its media type."""
    folder = resources.files("gateway.schemas") / "examples" / "referral"
    return CANONICAL, (folder / _EXAMPLES[name]).read_bytes()


def native(adapter: str, name: str, media_type: str) -> tuple[str, bytes]:
    """One of our examples in a sector's own format."""
    folder = resources.files("gateway.adapters") / "examples" / adapter
    return media_type, (folder / name).read_bytes()


_DECISIONS = {
    (POLICE, "declined"): ("pole", "declined.json"),
    (COUNCIL, "more-information-needed"): ("early-help", "more-information-needed.json"),
}
"""Decisions in the format of whoever decides; the others are canonical."""


def answer_of(agency: AgencyId, outcome: str) -> tuple[str, bytes]:
    """An example decision of this agency's, with its media type."""
    if own := _DECISIONS.get((agency, outcome)):
        return native(*own, SPEAKS[agency])
    folder = resources.files("gateway.schemas") / "examples" / "decision"
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        body = entry.read_bytes()
        if json.loads(body).get("outcome") == outcome:
            return CANONICAL, body
    raise LookupError(outcome)


def short(media_type: str) -> str:
    """What a person would call the format: `pole` of `application/vnd.referral-gateway.pole+json`."""
    return media_type.rpartition("/")[2].rpartition(".")[2].removesuffix("+json")


def nhs_examples(shared: Path) -> Sequence[tuple[str, str, bytes]]:
    """NHS England's own referral requests, where the folder exists."""
    found = []
    for path in sorted((shared / "health" / "bars-ig-examples").glob("*REQ*.xml")):
        body = path.read_bytes()
        if b"servicerequest-request" in body and b"<Bundle" in body:
            found.append((f"NHS England: {path.stem.split(' - ')[0]}", FHIR_XML, body))
    for path in sorted((shared / "health" / "bars-api-1.4.0" / "process_message" / "request").glob("*.json")):
        body = path.read_bytes()
        if b'"servicerequest-request"' in body:
            found.append((f"NHS England: {path.stem.split(' (')[0]}", FHIR_JSON, body))
    return found
