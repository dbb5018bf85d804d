"""After a restore: what this node must ask its peers, and what it can tell a peer that asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.messages import AgencyId, CaseId, EnvelopeId, Header, MessageId, Stage
from gateway.store.base import Session


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One peer that is asked what it knows."""

    agency: AgencyId
    peer: AgencyId
    since: int
    attempts: int
    answered: int | None


def begin(session: Session, agency: AgencyId, peer: AgencyId, *, since: int, hold: bool, due: int) -> None:
    """Ask this peer. With `hold`, what the inbox holds of it by now waits for the answer."""
    (newest,) = session.execute("SELECT COALESCE(MAX(sequence), 0) FROM inbox").fetchone()
    session.execute(
        "INSERT INTO reconciliations (agency, peer, since, held, due) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (agency, peer) DO UPDATE SET since = excluded.since, held = excluded.held,"
        " due = excluded.due, attempts = 0, answered = NULL",
        (agency, peer, since, newest if hold else 0, due),
    )


def every(session: Session) -> list[Reconciliation]:
    """All of them, answered or not."""
    rows = session.execute(
        "SELECT agency, peer, since, attempts, answered FROM reconciliations ORDER BY agency, peer"
    ).fetchall()
    return [_row(row) for row in rows]


def find(session: Session, agency: AgencyId, peer: AgencyId) -> Reconciliation | None:
    """What was asked of a peer."""
    row = session.execute(
        "SELECT agency, peer, since, attempts, answered FROM reconciliations WHERE agency = ? AND peer = ?",
        (agency, peer),
    ).fetchone()
    return _row(row) if row else None


def due(session: Session, now: int) -> list[Reconciliation]:
    """Those to ask now, for the first time or again."""
    rows = session.execute(
        "SELECT agency, peer, since, attempts, answered FROM reconciliations"
        " WHERE answered IS NULL AND due <= ? ORDER BY agency, peer",
        (now,),
    ).fetchall()
    return [_row(row) for row in rows]


def asked(session: Session, one: Reconciliation, *, due: int) -> None:
    """It has been asked; ask again at `due` unless the answer came."""
    session.execute(
        "UPDATE reconciliations SET attempts = attempts + 1, due = ? WHERE agency = ? AND peer = ?",
        (due, one.agency, one.peer),
    )


def close(session: Session, agency: AgencyId, peer: AgencyId, *, at: int) -> bool:
    """The peer has said all it knows, or an operator waits no longer; False when it was closed before."""
    cursor = session.execute(
        "UPDATE reconciliations SET answered = ?, held = 0"
        " WHERE agency = ? AND peer = ? AND answered IS NULL",
        (at, agency, peer),
    )
    return cursor.rowcount == 1


def pending(session: Session) -> int:
    """How many peers have not answered."""
    (found,) = session.execute("SELECT COUNT(*) FROM reconciliations WHERE answered IS NULL").fetchone()
    return int(found)


def _row(row: Sequence[object]) -> Reconciliation:
    agency, peer, since, attempts, answered = row
    return Reconciliation(
        AgencyId(str(agency)),
        AgencyId(str(peer)),
        int(str(since)),
        int(str(attempts)),
        None if answered is None else int(str(answered)),
    )


# --- what a peer is told ---


def sent_to(
    session: Session, agency: AgencyId, peer: AgencyId, *, since: int, after: str, limit: int
) -> list[EnvelopeId]:
    """Envelopes from `agency` to the peer: made since then, or not final. In the order of their ids."""
    rows = session.execute(
        "SELECT e.envelope_id FROM outbound_envelopes e JOIN outbound_messages m"
        " ON m.message_id = e.message_id WHERE m.agency = ? AND e.recipient = ? AND e.envelope_id > ?"
        " AND (m.created >= ? OR e.stage IN ('accepted', 'received')) ORDER BY e.envelope_id LIMIT ?",
        (agency, peer, after, since, limit),
    ).fetchall()
    return [EnvelopeId(row[0]) for row in rows]


def got_from(
    session: Session, agency: AgencyId, peer: AgencyId, *, since: int, after: str, limit: int
) -> list[tuple[Header, bytes]]:
    """Messages `agency` received from the peer, or answered, since then; with their envelopes' digests."""
    rows = session.execute(
        "SELECT message_id, envelope_id, type, version, sender, agency, case_id, in_reply_to, created,"
        " expires, purpose, lawful_basis, digest FROM inbox i WHERE agency = ? AND sender = ?"
        " AND envelope_id > ? AND stage <> 'waiting' AND (received >= ? OR EXISTS (SELECT 1 FROM receipts r"
        " WHERE r.envelope_id = i.envelope_id AND r.at >= ?)) ORDER BY envelope_id LIMIT ?",
        (agency, peer, after, since, since, limit),
    ).fetchall()
    return [
        (
            Header(
                MessageId(message_id),
                EnvelopeId(envelope_id),
                kind,
                version,
                AgencyId(sender),
                AgencyId(recipient),
                CaseId(case),
                MessageId(reply) if reply else None,
                created,
                expires,
                purpose,
                basis,
            ),
            bytes(digest),
        )
        for (
            message_id,
            envelope_id,
            kind,
            version,
            sender,
            recipient,
            case,
            reply,
            created,
            expires,
            purpose,
            basis,
            digest,
        ) in rows
    ]


def recover(session: Session, header: Header, digest: bytes) -> bool:
    """Know again of an envelope that this node sent and forgot; False when it knows it."""
    known = session.execute(
        "SELECT 1 FROM outbound_envelopes WHERE envelope_id = ?", (header.envelope_id,)
    ).fetchone()
    if known:
        return False
    session.execute(
        "INSERT INTO outbound_messages (message_id, agency, case_id, type, version, in_reply_to, created,"
        " expires, purpose, lawful_basis, recovered) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
        " ON CONFLICT DO NOTHING",
        (
            header.message_id,
            header.sender,
            header.case,
            header.type,
            header.version,
            header.in_reply_to,
            header.created,
            header.expires,
            header.purpose,
            header.lawful_basis,
        ),
    )
    cursor = session.execute(
        "INSERT INTO outbound_envelopes (envelope_id, message_id, position, recipient, stage, digest, size,"
        " expires, sent, due) SELECT ?, m.message_id, (SELECT COUNT(*) FROM outbound_envelopes o"
        " WHERE o.message_id = m.message_id), ?, ?, ?, 0, ?, 1, ? FROM outbound_messages m"
        " WHERE m.message_id = ? AND m.agency = ? ON CONFLICT DO NOTHING",
        (
            header.envelope_id,
            header.recipient,
            Stage.ACCEPTED,
            digest,
            header.expires,
            header.created,
            header.message_id,
            header.sender,
        ),
    )
    return cursor.rowcount == 1
