"""The evidence of one message: what its receipts prove, under which directory, and where the log says so.

One JSON document, which verifies offline (docs/evidence.md). Identifiers and signatures only: the message
itself is not in it, nor anything that would open it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.audit import log, merkle
from gateway.crypto import proof
from gateway.crypto.approval import ApprovalInvalid
from gateway.crypto.break_glass import confirm
from gateway.crypto.note import NOT_SIGNED, Note, NoteInvalid, read_note, verify_any
from gateway.directory import model
from gateway.directory.model import Directory, DirectoryInvalid
from gateway.errors import ReceiptInvalid
from gateway.messages import UUID4, AgencyId, EnvelopeId, Receipt
from gateway.store import audit, receipts
from gateway.store.audit import Checkpoint, Entry
from gateway.store.base import Session

FORMAT: Final = "referral-gateway-evidence"
VERSION: Final = 1
MAX_ITEMS: Final = 1000
"""Receipts, entries, agencies or directories."""


class EvidenceInvalid(Exception):
    """The evidence does not hold; the argument says why."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What evidence was found to prove."""

    message_id: str
    receipts: tuple[Receipt, ...]
    entries: tuple[dict[str, Any], ...]
    origin: str
    size: int
    agencies: tuple[str, ...]
    """Who signed the log."""
    quorums: tuple[tuple[str, ...] | None, ...]
    """For each receipt the roles that approved an emergency opening; none when no directory confirms it."""


def make(
    session: Session, message_id: str, agencies: Sequence[str], checkpoint: Checkpoint, directory: str
) -> dict[str, Any] | None:
    """The evidence of a message, from a log whose checkpoint covers it; None when the log has no entry of it.

    `directory` is the document in use now; the one in use then is taken from the log.
    """
    found = audit.of_message(session, message_id) if UUID4.fullmatch(message_id) else []
    if not found:
        return None
    values = [json.loads(one.text) for one in found]
    digests = {value.get("digest") for value in values}
    envelopes = dict.fromkeys(value["envelope_id"] for value in values if "envelope_id" in value)
    kept = [
        one.cose
        for envelope_id in envelopes
        for one in receipts.of_envelope(session, EnvelopeId(envelope_id))
        if hashlib.sha256(one.cose).hexdigest() in digests
    ]
    directories = [directory]
    then = audit.last_directory(session, before=found[0].number)
    if then is not None:
        entry, document = then
        found = [entry, *found]
        if document != directory:
            directories.insert(0, document)
    read = log.reader(session)
    return {
        "format": FORMAT,
        "version": VERSION,
        "message_id": message_id,
        "agencies": list(agencies),
        "receipts": [base64.b64encode(one).decode() for one in kept],
        "directories": directories,
        "checkpoint": checkpoint.note,
        "entries": [_proved(one, checkpoint.size, read) for one in found],
    }


def _proved(one: Entry, size: int, read: merkle.Read) -> dict[str, Any]:
    path = merkle.inclusion_proof(one.number, size, read)
    return {"index": one.number, "entry": one.text, "proof": [node.hex() for node in path]}


def check(document: Any, trusted: Directory | None = None) -> Findings:
    """Check evidence; with `trusted`, no other directory's keys count. Raises EvidenceInvalid."""
    message_id = _message_id(document)
    texts = _texts(document, "directories")
    directories = [_directory(text) for text in texts]
    keys_from = [trusted] if trusted is not None else directories
    read = [_receipt(text, keys_from) for text in _texts(document, "receipts")]
    found = [(receipt, digest) for receipt, digest, _ in read]
    parties = {party for receipt, _ in found for party in (receipt.sender, receipt.recipient)}
    # A log counts as signed by an agency the message was of, not by whoever else is in the directory.
    named = [agency for agency in dict.fromkeys(_texts(document, "agencies")) if agency in parties]
    try:
        note = read_note(_checkpoint(document))
    except NoteInvalid as error:
        raise EvidenceInvalid(str(error)) from None
    signers = _signers(note, named, keys_from)
    for receipt, _, revoked in read:
        if revoked and receipt.issuer not in signers:
            raise EvidenceInvalid(
                f"a receipt is signed with a key of {receipt.issuer} that was revoked:"
                " only evidence from its own log, made since, can vouch for it"
            )
    entries = [_entry(one, note.size, note.root) for one in _list(document, "entries")]
    _check_receipts(found, entries, message_id)
    _check_subjects(entries, message_id, texts)
    return Findings(
        message_id,
        tuple(one for one, _ in found),
        tuple(entries),
        note.origin,
        note.size,
        tuple(signers),
        tuple(_quorum(one, keys_from) for one, _ in found),
    )


def _signers(note: Note, named: Sequence[str], directories: Sequence[Directory]) -> list[str]:
    """Those of the agencies named that signed the checkpoint, one at least. Raises EvidenceInvalid."""
    found, failure = [], NOT_SIGNED
    for agency in named:
        try:
            verify_any(note, [pair for one in directories for pair in one.note_keys(AgencyId(agency))])
            found.append(agency)
        except NoteInvalid as error:
            failure = str(error)
    if not found:
        raise EvidenceInvalid(failure)
    return found


def _message_id(document: Any) -> str:
    """Which message evidence of a known version is about. Raises EvidenceInvalid."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise EvidenceInvalid("this is not evidence that `gateway evidence` wrote")
    if document.get("version") != VERSION:
        raise EvidenceInvalid("the evidence is of a version this gateway cannot read: use a newer one")
    message_id = document.get("message_id")
    if not isinstance(message_id, str) or not UUID4.fullmatch(message_id):
        raise EvidenceInvalid("the evidence names no message")
    return message_id


def _check_receipts(
    found: Sequence[tuple[Receipt, str]], entries: Sequence[dict[str, Any]], message_id: str
) -> None:
    """Every receipt is about the message and stands in the log. Raises EvidenceInvalid."""
    for receipt, digest in found:
        if receipt.message_id != message_id:
            raise EvidenceInvalid("a receipt is about another message")
        if not any(_states(entry, receipt, digest) for entry in entries):
            raise EvidenceInvalid(
                f"the log has no entry of the receipt `{receipt.stage}` of {receipt.issuer}"
            )


def _check_subjects(entries: Sequence[dict[str, Any]], message_id: str, directories: Sequence[str]) -> None:
    """Every entry is about the message, or a directory that is here. Raises EvidenceInvalid."""
    known = {hashlib.sha256(text.encode()).hexdigest() for text in directories}
    for entry in entries:
        if entry.get("kind") == audit.DIRECTORY_CHANGED:
            if str(entry.get("digest")) not in known:
                raise EvidenceInvalid("the directory is not the one the log says was in use")
        elif entry.get("message_id") != message_id:
            raise EvidenceInvalid("an entry is about another message")


def _states(entry: dict[str, Any], receipt: Receipt, digest: str) -> bool:
    wanted = {
        "kind": "receipt",
        "digest": digest,
        "message_id": receipt.message_id,
        "envelope_id": receipt.envelope_id,
        "issuer": receipt.issuer,
        "stage": receipt.stage.value,
        "stated": receipt.at,
    }
    return all(entry.get(name) == value for name, value in wanted.items())


def _receipt(text: str, directories: Sequence[Directory]) -> tuple[Receipt, str, bool]:
    """A receipt, its digest, and whether the key that signed it is revoked. Raises EvidenceInvalid."""
    try:
        cose = base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; text that is not ASCII raises another
        raise EvidenceInvalid("a receipt is not base64") from None
    digest, failure = hashlib.sha256(cose).hexdigest(), proof.UNKNOWN_KEY
    for one in directories:
        try:
            return proof.verify_receipt(cose, one.verify_key), digest, False
        except ReceiptInvalid as error:
            failure = str(error)
    for one in directories:
        with contextlib.suppress(ReceiptInvalid):
            return proof.verify_receipt(cose, one.revoked_key), digest, True
    raise EvidenceInvalid(f"a receipt does not verify: {failure}")


def _quorum(receipt: Receipt, directories: Sequence[Directory]) -> tuple[str, ...] | None:
    """Who approved an emergency opening. Without a quorum it is evidence all the same: of just that."""
    for one in directories:
        with contextlib.suppress(ApprovalInvalid):
            return tuple(sorted(confirm(receipt, one.break_glass)))
    return None


def _entry(value: Any, size: int, root: bytes) -> dict[str, Any]:
    """An entry that stands in the log. Raises EvidenceInvalid."""
    try:
        index, text, path = value["index"], value["entry"], [bytes.fromhex(one) for one in value["proof"]]
        entry = json.loads(text)
        leaf = merkle.leaf_hash(text.encode())
        if type(index) is not int or not isinstance(entry, dict) or entry.get("index") != index:
            raise EvidenceInvalid("an entry is not where it says it is")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise EvidenceInvalid("an entry is not an entry of an audit log") from None
    if not merkle.verify_inclusion(leaf, index, size, path, root):
        which = str(index) if 0 <= index < size else "beyond the last"
        raise EvidenceInvalid(f"entry {which} does not stand in the log that was signed")
    return entry


def _checkpoint(document: dict[str, Any]) -> str:
    value = document.get("checkpoint")
    if not isinstance(value, str):
        raise EvidenceInvalid("it holds no checkpoint")
    return value


def _directory(text: str) -> Directory:
    try:
        return model.parse(text.encode())
    except (DirectoryInvalid, UnicodeEncodeError):
        raise EvidenceInvalid("the directory in it is not valid") from None


def _list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ITEMS:
        raise EvidenceInvalid(f"its {name} are missing, or too many")
    return value


def _texts(document: dict[str, Any], name: str) -> list[str]:
    value = _list(document, name)
    if not all(isinstance(one, str) for one in value):
        raise EvidenceInvalid(f"its {name} are not text")
    return value
