"""Readers of CBOR: what comes over the broker, and what people sign. Also of what is inside a good seal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from gateway.crypto import (
    approval,
    backup,
    cbor,
    chunks,
    content,
    cose,
    own,
    proof,
    proposal,
    reconcile,
    witness,
)
from gateway.crypto import envelope as envelopes
from gateway.crypto.keys import VerifyKey
from gateway.crypto.labels import APPROVAL_CONTEXT, ENVELOPE_CONTEXT, PROPOSAL_CONTEXT
from gateway.crypto.padding import pad
from gateway.errors import ReceiptInvalid, RefusedByPeer
from gateway.messages import AgencyId, Attachment, Content, EnvelopeId, Original, Problem, Sensitive
from tests.fuzz.kit import Reader
from tests.vectors import parts

VECTORS = Path(__file__).parent.parent / "vectors"
KEYS = {key.kid: key for key in (parts.P256, parts.HYBRID)}
PASSPHRASE = b"correct horse battery staple"


def _find(agency: AgencyId, kid: bytes) -> VerifyKey | None:
    key = parts.SIGNING.get(agency)
    return key.public if key is not None and key.kid == kid else None


def _open(data: bytes) -> object:
    return envelopes.open_envelope(data, recipient=parts.POLICE, keys=KEYS, find_verify_key=_find)


def _vectors(folder: str, field: str) -> tuple[bytes, ...]:
    found = [json.loads(file.read_text("utf-8"))[field] for file in sorted((VECTORS / folder).glob("*.json"))]
    return tuple(bytes.fromhex(one) for one in found if len(one) < 20_000)


def envelope(folder: Path) -> Reader:
    return Reader(_open, RefusedByPeer, _vectors("envelope", "envelope"), "cbor")


def envelope_outside(folder: Path) -> Reader:
    return Reader(envelopes.peek, RefusedByPeer, _vectors("envelope", "envelope"), "cbor")


def envelope_plaintext(folder: Path) -> Reader:
    signed = cose.sign1(cbor.encode(parts.signed_payload()), parts.SIGNING[parts.SCHOOL], ENVELOPE_CONTEXT)
    return Reader(lambda data: _open(parts.encrypt(data)), RefusedByPeer, (pad(signed), signed), "cbor")


def envelope_payload(folder: Path) -> Reader:
    examples = (cbor.encode(parts.signed_payload()), cbor.encode(parts.signed_payload({8: bytes(16)})))
    return Reader(lambda data: _open(parts.wrap(data)), RefusedByPeer, examples, "cbor")


def receipt(folder: Path) -> Reader:
    def read(data: bytes) -> None:
        proof.read_receipt(data)
        proof.verify_receipt(data, _find)

    return Reader(read, ReceiptInvalid, _vectors("receipts", "cose"), "cbor")


_ASKED = approval.Request(
    parts.OTHER_ID, "destroy-key", parts.SCHOOL, bytes(32), 1_795_000_000_000, 1_795_000_001_000
)
_PERSON = parts.SIGNING[parts.HOUSING]
_APPROVED = approval.approve(_ASKED, _PERSON)


def _approved(data: bytes) -> None:
    approval.read_request(data)
    approval.verify_approvals([_APPROVED, data], {"ann": _PERSON.public}, _ASKED.asked)


def approvals(folder: Path) -> Reader:
    stranger = approval.approve(_ASKED, parts.STRANGER)
    return Reader(_approved, approval.ApprovalInvalid, (_APPROVED, stranger), "cbor")


def approval_payload(folder: Path) -> Reader:
    def read(data: bytes) -> None:
        signed = cose.sign1(data, _PERSON, APPROVAL_CONTEXT)
        approval.verify_approvals([signed], {"ann": _PERSON.public}, _ASKED.asked)

    return Reader(read, approval.ApprovalInvalid, (cose.parse_sign1(_APPROVED).payload,), "cbor")


_PROPOSED = proposal.Proposal(
    proposal.Kind.AGREEMENT, parts.SCHOOL, "one", 1_795_000_000_000, 1_795_000_001_000, bytes(32), "{}"
)


def proposals(folder: Path) -> Reader:
    """Before anybody's key is looked for."""
    example = proposal.sign_proposal(_PROPOSED, _PERSON)
    return Reader(proposal.read_proposal, proposal.ProposalInvalid, (example,), "cbor")


def proposal_payload(folder: Path) -> Reader:
    def read(data: bytes) -> None:
        proposal.read_proposal(cose.sign1(data, _PERSON, PROPOSAL_CONTEXT)).verify(_PERSON.public)

    example = cose.parse_sign1(proposal.sign_proposal(_PROPOSED, _PERSON)).payload
    return Reader(read, proposal.ProposalInvalid, (example,), "cbor")


def _carried(decode: Callable[[bytes], object], *examples: bytes) -> Callable[[Path], Reader]:
    return lambda folder: Reader(decode, ValueError, examples, "cbor")


_IDS = (EnvelopeId(parts.OTHER_ID), parts.HEADER.envelope_id)
_CONTENT = Content(
    Sensitive(parts.CONTENT),
    (Problem("/a", "a rule"),),
    Original("json", "application/json", Sensitive(b"{}")),
    (Attachment("a.txt", "text/plain", 5, bytes(32), bytes(32), _IDS),),
)
_QUESTION = reconcile.Question(1_795_000_000_000, reconcile.Part.SENT_TO_YOU, _IDS[0])
_KNOWN = (
    reconcile.Known(_IDS[0], (b"receipt", b"another")),
    reconcile.Known(parts.HEADER.envelope_id, (), parts.HEADER, bytes(32)),
)

message_content = _carried(content.decode_content, content.encode_content(_CONTENT))
receipt_batch = _carried(content.decode_receipts, content.encode_receipts([b"one", b"two"]))
recall = _carried(content.decode_ids, content.encode_ids(_IDS))
question = _carried(reconcile.decode_question, reconcile.encode_question(_QUESTION))
answer = _carried(reconcile.decode_answer, reconcile.encode_answer(reconcile.Answer(_QUESTION, True, _KNOWN)))
shown = _carried(witness.decode_shown, witness.encode_shown(witness.Shown("a note", 7, (bytes(32),) * 3)))
confirmed = _carried(
    witness.decode_confirmed, witness.encode_confirmed(witness.Confirmed("a/b", 9, bytes(32)))
)


def chunk(folder: Path) -> Reader:
    key = bytes(32)
    sealed = chunks.seal_chunk(key, 0, True, _IDS[0], b"some text")
    return Reader(
        lambda data: chunks.open_chunk(key, 0, True, _IDS[0], data), RefusedByPeer, (sealed,), "cbor"
    )


def kept_for_itself(folder: Path) -> Reader:
    sealed = own.seal_own(bytes(32), "name", b"some text")
    return Reader(lambda data: own.open_own(bytes(32), "name", data), ValueError, (sealed,))


def backup_file(folder: Path) -> Reader:
    made = io.BytesIO()
    backup.write(made, PASSPHRASE, [["head", 1], ["row", b"1", None, "text"], ["end"]])
    return Reader(
        lambda data: list(backup.read(io.BytesIO(data), PASSPHRASE)), backup.BackupInvalid, (made.getvalue(),)
    )


def backup_record(folder: Path) -> Reader:
    """One record, sealed as it should be."""
    record = cbor.encode(["row", b"1", None, "text"])
    salt, backup_id = bytes(16), EnvelopeId(parts.OTHER_ID)
    head = b"RGBACKUP\x01" + salt + bytes.fromhex(parts.OTHER_ID.replace("-", ""))
    key = backup._key(PASSPHRASE, salt)

    def read(data: bytes) -> None:
        sealed = chunks.seal_chunk(key, 0, True, backup_id, len(data).to_bytes(4, "big") + data)
        list(backup.read(io.BytesIO(head + len(sealed).to_bytes(4, "big") + sealed), PASSPHRASE))

    return Reader(read, backup.BackupInvalid, (record,), "cbor")


READERS: dict[str, Callable[[Path], Reader]] = {
    made.__name__: made
    for made in (
        *(envelope, envelope_outside, envelope_plaintext, envelope_payload, receipt),
        *(approvals, approval_payload, proposals, proposal_payload),
        *(chunk, kept_for_itself, backup_file, backup_record),
    )
} | {
    "message_content": message_content,
    "receipt_batch": receipt_batch,
    "recall": recall,
    "question": question,
    "answer": answer,
    "shown": shown,
    "confirmed": confirmed,
}
