"""Receipts as signed, and those still owed to a sender's node (promises 1 and 5)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.messages import AgencyId, Emergency, EnvelopeId, Reason, Receipt, Stage, read_reason
from gateway.store import audit, claims
from gateway.store.base import Session
from gateway.store.claims import CLAIMABLE, NOBODY, Claim


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt with its signed form."""

    stage: Stage
    issuer: AgencyId
    at: int
    reason: Reason | Emergency | None
    cose: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Owed:
    """A receipt that still has to reach `recipient`'s node."""

    id: int
    issuer: AgencyId
    recipient: AgencyId
    cose: bytes = field(repr=False)


def keep(session: Session, receipt: Receipt, cose: bytes, *, agreement: str | None = None) -> bool:
    """Store a receipt once, with its entry in the audit log; False when the same statement is known already.

    Every transition of a message has its receipt, so this is where the audit log learns of it.
    """
    if not (_keep_opening if receipt.stage is Stage.OPENED else _keep)(session, receipt, cose):
        return False
    audit.record(
        session,
        "receipt",
        message_id=receipt.message_id,
        envelope_id=receipt.envelope_id,
        sender=receipt.sender,
        recipient=receipt.recipient,
        issuer=receipt.issuer,
        stage=receipt.stage,
        reason=receipt.reason,
        stated=receipt.at,
        digest=hashlib.sha256(cose).hexdigest(),
        agreement=agreement,
    )
    return True


def _keep(session: Session, receipt: Receipt, cose: bytes) -> bool:
    cursor = session.execute(
        "INSERT INTO receipts (envelope_id, stage, issuer, at, reason, cose) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (receipt.envelope_id, receipt.stage, receipt.issuer, receipt.at, receipt.reason, cose),
    )
    return cursor.rowcount == 1


def _keep_opening(session: Session, receipt: Receipt, cose: bytes) -> bool:
    cursor = session.execute(
        "INSERT INTO openings (envelope_id, issuer, at, reason, cose) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (receipt.envelope_id, receipt.issuer, receipt.at, receipt.reason, cose),
    )
    return cursor.rowcount == 1


def of_envelope(session: Session, envelope_id: EnvelopeId) -> tuple[StoredReceipt, ...]:
    """Every receipt about an envelope, in the order this node made or got them: clocks may differ.

    Emergency openings stand after the ladder.
    """
    rows = session.execute(
        "SELECT stage, issuer, at, reason, cose, 0 AS part, id FROM receipts WHERE envelope_id = ?"
        " UNION ALL SELECT 'opened', issuer, at, reason, cose, 1, id FROM openings WHERE envelope_id = ?"
        " ORDER BY part, id",
        (envelope_id, envelope_id),
    ).fetchall()
    return tuple(
        StoredReceipt(
            Stage(stage), AgencyId(issuer), at, read_reason(Stage(stage), reason) if reason else None, cose
        )
        for stage, issuer, at, reason, cose, _, _ in rows
    )


def owe(session: Session, receipt: Receipt, cose: bytes) -> None:
    """Promise a receipt to the sender's node; written in the transaction that makes it true."""
    session.execute(
        "INSERT INTO owed_receipts (issuer, recipient, cose) VALUES (?, ?, ?)",
        (receipt.issuer, receipt.sender, cose),
    )


def owe_again(session: Session, envelope_id: EnvelopeId, sender: AgencyId) -> None:
    """Send what others said of an envelope once more: its sender asks by sending it again."""
    session.execute(
        "INSERT INTO owed_receipts (issuer, recipient, cose)"
        " SELECT issuer, ?, cose FROM receipts WHERE envelope_id = ? AND issuer <> ? ORDER BY id",
        (sender, envelope_id, sender),
    )
    session.execute(
        "INSERT INTO owed_receipts (issuer, recipient, cose)"
        " SELECT issuer, ?, cose FROM openings WHERE envelope_id = ? AND issuer <> ? ORDER BY id",
        (sender, envelope_id, sender),
    )


def owed(session: Session, *, limit: int, now: int = 0, claimant: str = NOBODY) -> list[Owed]:
    """The oldest receipts still owed that are free, or the claimant's own."""
    rows = session.execute(
        f"SELECT id, issuer, recipient, cose FROM owed_receipts WHERE {CLAIMABLE} ORDER BY id LIMIT ?",
        (now, claimant, limit),
    ).fetchall()
    return [Owed(id_, AgencyId(issuer), AgencyId(to), cose) for id_, issuer, to, cose in rows]


def claim(session: Session, ids: Sequence[int], now: int, claim: Claim) -> set[int]:
    """Take those of these receipts that are still owed and free."""
    return claims.take(session, "owed_receipts", ids, now, claim)


def settle(session: Session, ids: Sequence[int]) -> None:
    """These have been published."""
    session.executemany("DELETE FROM owed_receipts WHERE id = ?", [(id_,) for id_ in ids])


def count_owed(session: Session) -> int:
    """How many receipts wait to be sent."""
    (count,) = session.execute("SELECT COUNT(*) FROM owed_receipts").fetchone()
    return int(count)


# --- emergency openings ---


def unannounced(session: Session, *, limit: int) -> list[tuple[int, bytes]]:
    """Openings that no running node has logged and counted yet: number and receipt."""
    rows = session.execute(
        "SELECT id, cose FROM openings WHERE announced = 0 ORDER BY id LIMIT ?", (limit,)
    ).fetchall()
    return [(int(id_), bytes(cose)) for id_, cose in rows]


def mark_announced(session: Session, ids: Sequence[int]) -> None:
    """These have been."""
    session.executemany("UPDATE openings SET announced = 1 WHERE id = ?", [(id_,) for id_ in ids])
