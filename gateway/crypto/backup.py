"""Encrypted backups: a stream of records, sealed in chunks under a passphrase (docs/backup.md).

    "RGBACKUP" version(1) salt(16) id(16)  then for each chunk: length(4) sealed chunk; a last chunk ends it

The key is scrypt(passphrase, salt) (RFC 7914); chunks are those of attachments (docs/envelope.md section 7),
so a backup that was cut, reordered or altered does not open, and one without its last chunk is not whole.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gateway.crypto import cbor, chunks
from gateway.errors import RefusedByPeer
from gateway.hardening import Secret, wiped
from gateway.messages import EnvelopeId, new_id

_MAGIC: Final = b"RGBACKUP\x01"
_SALT: Final = 16
_N, _R, _P = 1 << 16, 8, 1
"""scrypt's cost: 64 MiB of memory and about a quarter of a second."""
_LARGEST: Final = chunks.CHUNK_SIZE + 1024
_RECORD: Final = 32 * 1024 * 1024
"""Bytes of one record; the largest envelope fits twice."""


class BackupInvalid(Exception):
    """Not a backup, not whole, or not this passphrase. The text says which, as far as it can be known."""


def write(file: BinaryIO, passphrase: Secret, records: Iterable[Any]) -> None:
    """Seal records (values that CBOR knows here) into a file."""
    salt, backup_id = os.urandom(_SALT), EnvelopeId(new_id())
    file.write(_MAGIC + salt + uuid.UUID(backup_id).bytes)
    with wiped(_key(passphrase, salt)) as key:
        for index, (piece, last) in enumerate(_pieces(records)):
            sealed = chunks.seal_chunk(key, index, last, backup_id, piece)
            file.write(len(sealed).to_bytes(4, "big") + sealed)


def read(file: BinaryIO, passphrase: Secret) -> Iterator[Any]:
    """The records of a backup, one by one. Raises BackupInvalid, also at the end when it is not whole."""
    head = file.read(len(_MAGIC) + _SALT + 16)
    if len(head) != len(_MAGIC) + _SALT + 16 or not head.startswith(_MAGIC):
        raise BackupInvalid("this is not a backup of a gateway, or of a version this one cannot read")
    salt, backup_id = head[len(_MAGIC) : -16], EnvelopeId(str(uuid.UUID(bytes=head[-16:])))
    with wiped(_key(passphrase, salt)) as key:
        yield from _records(_opened(file, key, backup_id))


def _records(pieces: Iterable[bytes]) -> Iterator[Any]:
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= 4:
            length = int.from_bytes(buffer[:4], "big")
            if length > _RECORD:
                raise BackupInvalid("the backup holds a record larger than any")
            if len(buffer) < 4 + length:
                break
            yield _record(bytes(buffer[4 : 4 + length]))
            del buffer[: 4 + length]
    if buffer:
        raise BackupInvalid("the backup ends in the middle of a record")


def _record(data: bytes) -> Any:
    try:
        return cbor.decode(data)
    except cbor.CborError:
        raise BackupInvalid("the backup holds a record that is none") from None


def _key(passphrase: Secret, salt: bytes) -> bytearray:
    key = bytearray(32)
    Scrypt(salt=salt, length=len(key), n=_N, r=_R, p=_P).derive_into(passphrase, key)
    return key


def _pieces(records: Iterable[Any]) -> Iterator[tuple[bytes, bool]]:
    """The records, each with its length, cut into chunks; the last one is marked."""
    buffer = bytearray()
    for record in records:
        encoded = cbor.encode(record)
        buffer += len(encoded).to_bytes(4, "big") + encoded
        while len(buffer) > chunks.CHUNK_SIZE:
            yield bytes(buffer[: chunks.CHUNK_SIZE]), False
            del buffer[: chunks.CHUNK_SIZE]
    yield bytes(buffer), True


def _opened(file: BinaryIO, key: Secret, backup_id: EnvelopeId) -> Iterator[bytes]:
    """The chunks in order, until the last. A flag in each chunk's nonce says which that is."""
    index = 0
    following = _sealed(file)
    while following is not None:
        sealed, following = following, _sealed(file)
        try:
            yield chunks.open_chunk(key, index, following is None, backup_id, sealed)
        except RefusedByPeer:
            raise BackupInvalid(
                "wrong passphrase, or the file was altered"
                if index == 0
                else "the backup is cut off or was altered"
            ) from None
        index += 1
    if index == 0:
        raise BackupInvalid("the backup is cut off")


def _sealed(file: BinaryIO) -> bytes | None:
    head = file.read(4)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    data = file.read(length) if len(head) == 4 and length <= _LARGEST else b""
    if len(data) != length or not data:
        raise BackupInvalid("the backup is cut off or was altered")
    return data
