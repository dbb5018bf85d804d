"""Checkpoints as signed notes: https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note.

Three lines (origin, size, root) and, for each agency of the node, two signature lines: Ed25519 with the key
its receipts are signed with, and ML-DSA-65, so that evidence lasts. Both must verify.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.crypto.audit_key import AuditKey, AuditVerifyKey
from gateway.crypto.keys import SigningKey, VerifyKey
from gateway.crypto.labels import NOTE_ED25519, NOTE_ML_DSA_65

MAX_NOTE = 64 * 1024
"""Bytes of a note: a pair of signature lines has less than 5,000."""
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
    """What verifies an agency's signature. Without an audit key only Ed25519 is asked for."""

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
        self._check(data, _key_id(self.origin, NOTE_ED25519, keys.signing.public_bytes), keys.signing)
        if keys.audit is not None:
            self._check(data, _key_id(self.origin, NOTE_ML_DSA_65, keys.audit.public_bytes), keys.audit)

    def _check(self, data: bytes, key_id: bytes, key: VerifyKey | AuditVerifyKey) -> None:
        mine = [one for name, found, one in self.signatures if (name, found) == (self.origin, key_id)]
        if not mine:
            raise NoteInvalid(NOT_SIGNED)
        if not all(key.verify(one, data) for one in mine):
            raise NoteInvalid(BAD_SIGNATURE)


def verify_any(note: Note, keys: Sequence[NoteKeys]) -> None:
    """Whether one of an agency's pairs of keys signed it. Raises NoteInvalid."""
    failure = NoteInvalid(NOT_SIGNED)
    for pair in keys:
        try:
            note.verify(pair)
            return
        except NoteInvalid as error:
            failure = error
    raise failure


def sign_note(origin: str, size: int, root: bytes, signers: Sequence[tuple[SigningKey, AuditKey]]) -> str:
    """A checkpoint, signed with every pair of keys."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    data, lines = text.encode(), ""
    for signing, audit in signers:
        for kind, public, signature in (
            (NOTE_ED25519, signing.public.public_bytes, signing.sign(data)),
            (NOTE_ML_DSA_65, audit.public.public_bytes, audit.sign(data)),
        ):
            signed = base64.b64encode(_key_id(origin, kind, public) + signature).decode()
            lines += f"— {origin} {signed}\n"
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


def _key_id(name: str, kind: bytes, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:4]


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteInvalid(NOT_A_CHECKPOINT) from None
    if base64.b64encode(data).decode() != text:  # one encoding for each value
        raise NoteInvalid(NOT_A_CHECKPOINT)
    return data
