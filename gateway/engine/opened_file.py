"""What an emergency opening hands over: one zip with the message, a letter to read, the files with it."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import zipfile
from dataclasses import asdict
from typing import IO, Any, Final

from gateway.adapters import Registry
from gateway.adapters.base import AdapterError
from gateway.adapters.letter import MEDIA_TYPE as LETTER
from gateway.crypto import chunks, content, envelope
from gateway.crypto.envelope import FindVerifyKey
from gateway.crypto.key_document import AgencyKeys
from gateway.engine.break_glass import Opening
from gateway.engine.folder_files import extension
from gateway.errors import RefusedByPeer
from gateway.messages import AgencyId, Attachment, Canonical, Header
from gateway.store import inbox
from gateway.store.base import Session

_KNOWN: Final = {".pdf", ".png", ".jpg", ".tiff", ".txt", ".doc", ".docx", ".odt"}
"""Endings an attachment may get from its media type. The name its sender gave it is never a path."""


def write_opened(
    file: IO[bytes],
    session: Session,
    opening: Opening,
    keys: AgencyKeys,
    find_verify_key: FindVerifyKey,
    registry: Registry,
) -> int:
    """Decrypt the message into a zip; how many attachments could not be put in whole.

    Raises RefusedByPeer when it does not open any more, and OSError.
    """
    header = opening.held.header
    opened = envelope.open_envelope(
        opening.body, recipient=keys.agency, keys=keys.opening, find_verify_key=find_verify_key
    )
    carried = content.decode_content(opened.content.reveal())
    about: dict[str, Any] = {
        "message": asdict(header),
        "opened": {
            "at": opening.at,
            "request": opening.request.request_id,
            "reason": opening.reason.value,
            "roles": list(opening.roles),
        },
        "warnings": [asdict(one) for one in carried.warnings],
        "attachments": [],
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        document = carried.document.reveal()
        archive.writestr("message.json", document)
        letter = _letter(header, document, registry)
        if letter is not None:
            archive.writestr("letter.html", letter)
        if carried.original is not None:
            name = f"original.{extension(carried.original.media_type)}"
            archive.writestr(name, carried.original.body.reveal())
        for number, one in enumerate(carried.attachments, start=1):
            ending = mimetypes.guess_extension(one.media_type) or ""
            name = f"attachment-{number}{ending if ending in _KNOWN else '.bin'}"
            whole = _attachment(archive, name, session, keys.agency, one)
            described = {"name": one.name, "media_type": one.media_type, "size": one.size}
            about["attachments"].append({**described, "file": name, "whole": whole})
        archive.writestr("about.json", json.dumps(about, indent=2, ensure_ascii=False))
    return sum(not one["whole"] for one in about["attachments"])


def _letter(header: Header, document: bytes, registry: Registry) -> bytes | None:
    """The message as a page to read; None for a type without one."""
    message = Canonical(header.type, header.version, json.loads(document))
    for adapter in registry.writers(LETTER):
        try:
            return adapter.from_canonical(header, message, LETTER).body
        except AdapterError:
            continue
    return None


def _attachment(
    archive: zipfile.ZipFile, name: str, session: Session, agency: AgencyId, one: Attachment
) -> bool:
    """Write as much of an attachment as is here; whether it is all, and what was signed for."""
    digest = hashlib.sha256()
    with archive.open(name, "w", force_zip64=True) as file:
        for index, chunk_id in enumerate(one.chunks):
            body = inbox.chunk(session, agency, chunk_id)
            if body is None:
                return False
            try:
                piece = chunks.open_chunk(one.key, index, index == len(one.chunks) - 1, chunk_id, body)
            except RefusedByPeer:
                return False
            digest.update(piece)
            file.write(piece)
    return digest.digest() == one.sha256
