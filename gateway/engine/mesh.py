"""What the MESH face must not forget, kept so that the database alone says nothing about anybody."""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence

from gateway.crypto.own import open_own, seal_own
from gateway.engine.fingerprint import key_mac, message_id
from gateway.engine.parts import Parts
from gateway.http.mesh_ports import Sent
from gateway.messages import AgencyId, MessageId, new_id
from gateway.store import idempotency, mesh, outbox
from gateway.store.base import Session
from gateway.store.mesh import MeshSent

_LOCAL_ID = b"referral-gateway/1 mesh local id"


class MeshRecords:
    """Implements gateway.http.mesh_ports.Records."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def use(self, token: bytes, *, until: int) -> bool:
        """See Records.use."""
        return await self._parts.store.write(lambda s: mesh.use_token(s, token, until=until))

    async def free(self, token: bytes) -> None:
        """See Records.free."""
        await self._parts.store.write(lambda s: mesh.free_token(s, token))

    async def identify(self, agency: AgencyId, idempotency_key: str) -> MessageId:
        """See Records.identify."""
        secret = self._secret(agency)
        derived, mac = message_id(secret, idempotency_key), key_mac(secret, idempotency_key)
        remembered, known = await self._parts.store.read(
            lambda s: (idempotency.recall(s, agency, mac), outbox.message(s, agency, derived))
        )
        if remembered is not None:
            return remembered.message_id
        return derived if known is None or known.recovered else MessageId(new_id())

    async def note(self, agency: AgencyId, sent: Sent) -> None:
        """See Records.note."""
        details = json.dumps([sent.local_id, sent.file_name, sent.subject]).encode()
        row = MeshSent(
            message_id=sent.message_id,
            agency=agency,
            report_id=sent.report_id,
            mailbox=sent.mailbox,
            recipient=sent.recipient,
            workflow=sent.workflow,
            local_mac=self._mac(agency, sent.local_id) if sent.local_id else None,
            details=seal_own(self._secret(agency), sent.message_id, details),
            created=sent.created,
        )
        await self._parts.store.write(lambda s: mesh.add(s, row))

    async def sent(self, agency: AgencyId, mailbox: str, identifier: str) -> Sent | None:
        """See Records.sent."""
        found = await self._parts.store.read(
            lambda s: _sized(s, _listed(mesh.find(s, agency, mailbox, identifier)))
        )
        return self._open(*found[0]) if found else None

    async def by_local_id(self, agency: AgencyId, mailbox: str, local_id: str) -> Sequence[Sent]:
        """See Records.by_local_id."""
        mac = self._mac(agency, local_id)
        found = await self._parts.store.read(lambda s: _sized(s, mesh.by_local_id(s, agency, mailbox, mac)))
        return [self._open(*one) for one in found]

    async def reports(self, agency: AgencyId, mailbox: str, *, limit: int) -> Sequence[Sent]:
        """See Records.reports."""
        found = await self._parts.store.read(
            lambda s: _sized(s, mesh.reports(s, agency, mailbox, limit=limit))
        )
        return [self._open(*one) for one in found]

    async def close(self, message_id: MessageId) -> None:
        """See Records.close."""
        now = self._parts.now()
        await self._parts.store.write(lambda s: mesh.close(s, message_id, at=now))

    async def waiting(self, agency: AgencyId) -> int:
        """See Records.waiting."""
        return await self._parts.store.read(lambda s: mesh.waiting(s, agency))

    def _secret(self, agency: AgencyId) -> bytes:
        return self._parts.keys[agency].idempotency_secret

    def _mac(self, agency: AgencyId, local_id: str) -> bytes:
        return hmac.digest(
            self._secret(agency), _LOCAL_ID + b"\0" + local_id.encode("utf-8", "surrogateescape"), "sha256"
        )

    def _open(self, row: MeshSent, size: int) -> Sent:
        try:
            opened = open_own(self._secret(row.agency), row.message_id, row.details)
            local_id, file_name, subject = json.loads(opened)
        except ValueError:  # the agency's keys were made anew since
            local_id = file_name = subject = ""
        return Sent(
            row.message_id,
            row.report_id,
            row.mailbox,
            row.recipient,
            row.workflow,
            row.created,
            local_id,
            file_name,
            subject,
            size,
        )


def _listed(row: MeshSent | None) -> list[MeshSent]:
    return [row] if row is not None else []


def _sized(session: Session, rows: Sequence[MeshSent]) -> list[tuple[MeshSent, int]]:
    return [(row, sum(one.size for one in outbox.envelopes(session, row.message_id))) for row in rows]
