"""Checkpoints as signed notes: https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note.

Three lines (origin, size, root) and, for each agency of the node, two signature lines: Ed25519 or ECDSA with
the key its receipts are signed with, and ML-DSA-65, so that evidence lasts. Both must verify.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from gateway.crypto.audit_key import AuditKey, AuditVerifyKey
from gateway.crypto.keys import Signer, VerifyKey
from gateway.crypto.labels import ED25519, NOTE_ED25519, NOTE_ML_DSA_65

MAX_NOTE = 4 * 1024 * 1024
"""Characters of a note: a pair of signature lines has less than 5,000, and a node may serve hundreds."""
MAX_SIZE = 1 << 53
"""Entries of a log."""
_LINE = re.compile(r"— ([^\s+]{1,200}) ([A-Za-z0-9+/]+={0,2})")
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_ORIGIN = re.compile(r"[!-*,-~]{1,200}")

NOT_A_CHECKPOINT = "this is not a checkpoint"
BAD_SIGNATURE = "a signature on the checkpoint does not verify"
NOT_SIGNED = "the checkpoint is not signed with the keys of this agency"


class NoteInvalid(Exception):
    """The checkpoint does not hold; the argument is one of the sentences above."""


@dataclass(frozen=True, slots=True)
class NoteKeys:
    """What verifies an agency's signature. Without an audit key only the signing key is asked for."""

    signing: VerifyKey
    audit: AuditVerifyKey | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint that was read, not yet verified."""

    origin: str
    size: int
    root: bytes
    text: str = field(repr=False)
    signatures: tuple[tuple[str, bytes, bytes], ...] = field(repr=False)
    """Key name, key id, signature."""

    def verify(self, keys: NoteKeys) -> None:
        """Whether the agency of these keys signed it, with all of them. Raises NoteInvalid."""
        data = self.text.encode()
        signing, audit = keys.signing, keys.audit
        signatures = self._signatures(_signing_key_id(self.origin, signing))
        if not all(signing.verify(_raw(signing, one), data) for one in signatures):
            raise NoteInvalid(BAD_SIGNATURE)
        if audit is not None:
            signatures = self._signatures(_key_id(self.origin, NOTE_ML_DSA_65, audit.public_bytes))
            if not all(audit.verify(one, data) for one in signatures):
                raise NoteInvalid(BAD_SIGNATURE)

    def only(self, keys: Sequence[NoteKeys]) -> str:
        """The checkpoint with one signature of each of these keys and no others: small, whoever signed."""
        ids = {_signing_key_id(self.origin, one.signing) for one in keys}
        ids |= {
            _key_id(self.origin, NOTE_ML_DSA_65, one.audit.public_bytes)
            for one in keys
            if one.audit is not None
        }
        mine = {kid: one for name, kid, one in self.signatures if name == self.origin and kid in ids}
        return f"{self.text}\n{''.join(_line(self.origin, *one) for one in mine.items())}"

    def _signatures(self, key_id: bytes) -> list[bytes]:
        """Those of a key, one at least. Raises NoteInvalid."""
        mine = [one for name, found, one in self.signatures if (name, found) == (self.origin, key_id)]
        if not mine:
            raise NoteInvalid(NOT_SIGNED)
        return mine


def verify_any(note: Note, keys: Sequence[NoteKeys]) -> NoteKeys:
    """The one of an agency's pairs of keys that signed it. Raises NoteInvalid."""
    failure = NoteInvalid(NOT_SIGNED)
    for pair in keys:
        try:
            note.verify(pair)
            return pair
        except NoteInvalid as error:
            failure = error
    raise failure


def sign_note(origin: str, size: int, root: bytes, signers: Sequence[tuple[Signer, AuditKey]]) -> str:
    """A checkpoint, signed with every pair of keys."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    data, lines = text.encode(), ""
    for signing, audit in signers:
        for key_id, signature in (
            (_signing_key_id(origin, signing.public), _written(signing.public, signing.sign(data))),
            (_key_id(origin, NOTE_ML_DSA_65, audit.public.public_bytes), audit.sign(data)),
        ):
            lines += _line(origin, key_id, signature)
    return f"{text}\n{lines}"


def read_note(note: str) -> Note:
    """Read a checkpoint without verifying it. Raises NoteInvalid."""
    text, cut, rest = note.partition("\n\n")
    lines = text.split("\n")
    if len(note) > MAX_NOTE or not cut or not rest.endswith("\n") or len(lines) != 3:
        raise NoteInvalid(NOT_A_CHECKPOINT)
    origin, size, root = lines
    if not _ORIGIN.fullmatch(origin) or not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise NoteInvalid(NOT_A_CHECKPOINT)
    signatures = []
    for line in rest[:-1].split("\n"):
        found = _LINE.fullmatch(line)
        if found is None:
            raise NoteInvalid(NOT_A_CHECKPOINT)
        signature = _decode(found[2])
        signatures.append((found[1], signature[:4], signature[4:]))
    hashed = _decode(root)
    if len(hashed) != 32:
        raise NoteInvalid(NOT_A_CHECKPOINT)
    return Note(origin, int(size), hashed, text + "\n", tuple(signatures))


def _line(name: str, key_id: bytes, signature: bytes) -> str:
    return f"— {name} {base64.b64encode(key_id + signature).decode()}\n"


def _key_id(name: str, kind: bytes, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:4]


def _signing_key_id(name: str, key: VerifyKey) -> bytes:
    """ECDSA, signature type 0x02: the hash of the key alone, in DER."""
    if key.alg == ED25519:
        return _key_id(name, NOTE_ED25519, key.public_bytes)
    return hashlib.sha256(key.spki).digest()[:4]


def _written(key: VerifyKey, signature: bytes) -> bytes:
    """A signature as a note has it: ECDSA's in DER (RFC 3279 section 2.2.3), as that type was first made."""
    if key.alg == ED25519:
        return signature
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def _raw(key: VerifyKey, written: bytes) -> bytes:
    """The same back; no bytes, which verify nowhere, for what is not DER or no signature on P-256."""
    if key.alg == ED25519:
        return written
    try:
        r, s = decode_dss_signature(written)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    except (ValueError, OverflowError):
        return b""


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteInvalid(NOT_A_CHECKPOINT) from None
    if base64.b64encode(data).decode() != text:  # one encoding for each value
        raise NoteInvalid(NOT_A_CHECKPOINT)
    return data
