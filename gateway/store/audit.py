"""The audit log's rows (promise 7): entries, hashes of subtrees, checkpoints, those of peers.

An entry is written in the transaction of what it tells of. Its number is taken there too: every write
transaction holds the one write lock of its database (docs/decisions/0008), so numbers have no gaps and
stand in the order of commits.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.messages import AGENCY_ID, UUID4, AgencyId
from gateway.store.base import Session

ORIGIN: Final = "referral-gateway/audit/"
"""Begins the origin of every log; a random identifier follows."""
FIELDS: Final = {
    "agency": AGENCY_ID,
    "agreement": AGENCY_ID,
    "code": re.compile(r"[a-z][a-z0-9-]{0,39}"),
    "digest": re.compile(r"[0-9a-f]{64}"),
    "envelope_id": UUID4,
    "issuer": AGENCY_ID,
    "kid": re.compile(r"[0-9a-f]{64}"),
    "lane": re.compile(r"messages|receipts"),
    "message_id": UUID4,
    "number": re.compile(r"[0-9]{1,15}"),
    "operator": AGENCY_ID,
    "origin": re.compile(re.escape(ORIGIN) + UUID4.pattern),
    "peer": AGENCY_ID,
    "reason": re.compile(r"[a-z][a-z0-9-]{0,39}"),
    "recipient": AGENCY_ID,
    "request": UUID4,
    "role": re.compile(r"[a-z][a-z0-9-]{0,39}"),
    "root": re.compile(r"[0-9a-f]{64}"),
    "sender": AGENCY_ID,
    "size": re.compile(r"[0-9]{1,15}"),
    "stage": re.compile(r"[a-z]{1,20}"),
    "stated": re.compile(r"[0-9]{1,15}"),
    "token": UUID4,
    "threshold": re.compile(r"[0-9]{1,3}"),
}
"""What an entry may hold besides number, time and kind: identifiers, constants, digests; never content."""
INVALID: Final = "invalid"
"""Stands for a value that is none of those: a caller, or a broker, can put anything into an identifier."""


DIRECTORY_CHANGED: Final = "directory-changed"
"""The kind of entry that says a directory came into use."""
DIRECTORY: Final = "directory/"
"""Begins the name under which a directory is kept; its digest follows."""
_MET: Final = "peers-met"
"""The last receipt that was looked at for peers."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as it is hashed."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed checkpoint, of this node or a peer."""

    origin: str
    size: int
    at: int
    note: str


@dataclass(frozen=True, slots=True)
class Peer:
    """How far a peer knows the log of one of our agencies."""

    agency: AgencyId
    peer: AgencyId
    confirmed: int


def record(session: Session, kind: str, /, **fields: str | int | None) -> None:
    """Add an entry. Fields that are None are left out. Raises KeyError for a field that is not listed."""
    held = {
        name: value if FIELDS[name].fullmatch(str(value)) else INVALID
        for name, value in fields.items()
        if value is not None
    }
    body = json.dumps(
        {"at": time.time_ns() // 1_000_000, "kind": kind, **held},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    session.execute(
        "INSERT INTO audit_entries (number, body, subject)"
        " VALUES ((SELECT COALESCE(MAX(number), -1) + 1 FROM audit_entries), ?, ?)",
        (body, kind if kind == DIRECTORY_CHANGED else held.get("message_id")),
    )


def entries(session: Session, begin: int, end: int) -> list[Entry]:
    """The entries from `begin` up to `end`."""
    rows = session.execute(
        "SELECT number, body FROM audit_entries WHERE number >= ? AND number < ? ORDER BY number",
        (begin, end),
    ).fetchall()
    return [_entry(number, body) for number, body in rows]


def of_message(session: Session, message_id: str) -> list[Entry]:
    """The entries about a message."""
    rows = session.execute(
        "SELECT number, body FROM audit_entries WHERE subject = ? ORDER BY number", (message_id,)
    ).fetchall()
    return [_entry(number, body) for number, body in rows]


def last_directory(session: Session, *, before: int) -> tuple[Entry, str] | None:
    """The directory that was in use when an entry was made: its own entry, and the document."""
    row = session.execute(
        "SELECT number, body FROM audit_entries WHERE subject = ? AND number < ?"
        " ORDER BY number DESC LIMIT 1",
        (DIRECTORY_CHANGED, before),
    ).fetchone()
    if row is None:
        return None
    document = fact(session, DIRECTORY + json.loads(row[1])["digest"])
    return None if document is None else (_entry(*row), document)


def _entry(number: int, body: str) -> Entry:
    """The number joins the text here: `{"index":7,"at":...}`."""
    return Entry(int(number), f'{{"index":{number},{body[1:]}')


def size(session: Session) -> int:
    """How many entries there are."""
    (found,) = session.execute("SELECT COALESCE(MAX(number), -1) + 1 FROM audit_entries").fetchone()
    return int(found)


# --- hashes of subtrees ---


def put_nodes(session: Session, nodes: Iterable[tuple[int, int, bytes]]) -> None:
    """Keep the hashes of subtrees that are complete: level, position, hash."""
    session.executemany(
        "INSERT INTO audit_nodes (level, position, hash) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", nodes
    )


def node(session: Session, level: int, position: int) -> bytes | None:
    """The hash of a complete subtree, if it is kept."""
    row = session.execute(
        "SELECT hash FROM audit_nodes WHERE level = ? AND position = ?", (level, position)
    ).fetchone()
    return bytes(row[0]) if row else None


# --- checkpoints ---


def put_checkpoint(session: Session, one: Checkpoint) -> None:
    """Keep a checkpoint of ours."""
    session.execute(
        "INSERT INTO audit_checkpoints (origin, size, at, note) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (one.origin, one.size, one.at, one.note),
    )


def thin(session: Session, *, before: int) -> None:
    """Of the checkpoints from before that time keep the last of each day: it covers the others' entries."""
    session.execute(
        "DELETE FROM audit_checkpoints WHERE at < ? AND (origin, size) NOT IN"
        " (SELECT origin, MAX(size) FROM audit_checkpoints GROUP BY origin, at / 86400000)",
        (before,),
    )


def latest(session: Session) -> Checkpoint | None:
    """Our latest checkpoint."""
    row = session.execute(
        "SELECT origin, size, at, note FROM audit_checkpoints WHERE (origin, size) IN"
        " (SELECT origin, size FROM audit_checkpoints ORDER BY size DESC LIMIT 1)"  # by their index alone
    ).fetchone()
    return Checkpoint(*row) if row else None


def checkpoints(session: Session) -> Iterator[Checkpoint]:
    """All of ours, smallest tree first."""
    names = session.execute("SELECT origin, size FROM audit_checkpoints ORDER BY size, at").fetchall()
    for name in names:  # one note at a time: those of a node with many agencies are large
        row = session.execute(
            "SELECT origin, size, at, note FROM audit_checkpoints WHERE origin = ? AND size = ?", tuple(name)
        ).fetchone()
        yield Checkpoint(*row)


# --- what seldom changes ---


def fact(session: Session, name: str) -> str | None:
    """What was last entered under this name."""
    row = session.execute("SELECT value FROM audit_facts WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else None


def set_fact(session: Session, name: str, value: str) -> None:
    """Remember what was entered."""
    session.execute(
        "INSERT INTO audit_facts (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def record_change(session: Session, kind: str, name: str, value: str, /, **fields: str | int) -> bool:
    """Add an entry when a digest differs from the last one entered under this name."""
    if fact(session, name) == value:
        return False
    set_fact(session, name, value)
    record(session, kind, digest=value, **fields)
    return True


def note_directory(session: Session, document: str) -> None:
    """Enter which directory is in use from now on, if it is another; evidence will show it."""
    digest = hashlib.sha256(document.encode()).hexdigest()
    if record_change(session, DIRECTORY_CHANGED, "directory", digest):
        set_fact(session, DIRECTORY + digest, document)


# --- peers ---


def put_peer_checkpoint(session: Session, peer: AgencyId, one: Checkpoint, root: str, *, fork: bool) -> bool:
    """Keep a peer's checkpoint; False when it is known. What does not contradict is superseded."""
    cursor = session.execute(
        "INSERT INTO peer_checkpoints (peer, origin, size, root, at, fork, note) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (peer, one.origin, one.size, root, one.at, int(fork), one.note),
    )
    return cursor.rowcount == 1


def peer_latest(session: Session, peer: AgencyId, origin: str) -> tuple[Checkpoint, str] | None:
    """The last checkpoint of a peer's log that agreed with those before it, and its root (hex)."""
    row = session.execute(
        "SELECT origin, size, at, note, root FROM peer_checkpoints WHERE peer = ? AND origin = ? AND fork = 0"
        " ORDER BY size DESC LIMIT 1",
        (peer, origin),
    ).fetchone()
    return (Checkpoint(*row[:4]), str(row[4])) if row else None


def count_peer_logs(session: Session, peer: AgencyId) -> int:
    """Under how many names a peer has shown a log."""
    (found,) = session.execute(
        "SELECT COUNT(DISTINCT origin) FROM peer_checkpoints WHERE peer = ? AND fork = 0", (peer,)
    ).fetchone()
    return int(found)


def peer_checkpoints(session: Session) -> list[tuple[AgencyId, Checkpoint, bool]]:
    """Every peer checkpoint kept, and whether it contradicts what that peer had shown."""
    rows = session.execute(
        "SELECT peer, origin, size, at, note, fork FROM peer_checkpoints ORDER BY peer, at, size"
    ).fetchall()
    return [(AgencyId(row[0]), Checkpoint(*row[1:5]), bool(row[5])) for row in rows]


def drop_superseded(session: Session, peer: AgencyId, origin: str, *, keep: int) -> None:
    """Forget older checkpoints of a peer's log that its later one contains; other logs and evidence stay."""
    session.execute(
        "DELETE FROM peer_checkpoints WHERE peer = ? AND origin = ? AND fork = 0 AND size < ("
        "SELECT MIN(size) FROM (SELECT size FROM peer_checkpoints WHERE peer = ? AND origin = ? AND fork = 0"
        " ORDER BY size DESC LIMIT ?) AS latest)",
        (peer, origin, peer, origin, keep),
    )


def count_forks(session: Session, peer: AgencyId) -> int:
    """How many contradicting checkpoints of a peer are kept."""
    (found,) = session.execute(
        "SELECT COUNT(*) FROM peer_checkpoints WHERE peer = ? AND fork = 1", (peer,)
    ).fetchone()
    return int(found)


def meet_peers(session: Session, *, limit: int) -> bool:
    """Learn with whom messages were exchanged since the last look; True when there is more to look at.

    Every message has a receipt at both ends, and receipts are numbered: looking at all messages each time
    would hold the write lock for longer the longer a node runs.
    """
    after = int(fact(session, _MET) or 0)
    (until,) = session.execute(
        "SELECT MAX(id) FROM (SELECT id FROM receipts WHERE id > ? ORDER BY id LIMIT ?) AS batch",
        (after, limit),
    ).fetchone()
    if until is None:
        return False
    session.execute(
        "INSERT INTO audit_peers (agency, peer, origin)"
        " SELECT m.agency, e.recipient, '' FROM receipts r"
        " JOIN outbound_envelopes e ON e.envelope_id = r.envelope_id"
        " JOIN outbound_messages m ON m.message_id = e.message_id WHERE r.id > ? AND r.id <= ?"
        " UNION SELECT i.agency, i.sender, '' FROM receipts r"
        " JOIN inbox i ON i.envelope_id = r.envelope_id WHERE r.id > ? AND r.id <= ?"
        " ON CONFLICT DO NOTHING",
        (after, until, after, until),
    )
    set_fact(session, _MET, str(until))
    return True


def due_peers(session: Session, origin: str, size: int, *, before: int) -> list[Peer]:
    """Peers with whom messages were exchanged, that lack this checkpoint, and were sent none since."""
    rows = session.execute(
        "SELECT agency, peer, confirmed, origin FROM audit_peers"
        " WHERE sent <= ? AND (origin <> ? OR confirmed < ?)",
        (before, origin, size),
    ).fetchall()
    return [
        Peer(AgencyId(agency), AgencyId(peer), int(confirmed) if at == origin else 0)
        for agency, peer, confirmed, at in rows
    ]


def peer_sent(session: Session, one: Peer, origin: str, *, at: int) -> None:
    """A checkpoint is on its way to this peer."""
    session.execute(
        "INSERT INTO audit_peers (agency, peer, origin, confirmed, sent) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (agency, peer) DO UPDATE SET origin = excluded.origin, confirmed = excluded.confirmed,"
        " sent = excluded.sent",
        (one.agency, one.peer, origin, one.confirmed, at),
    )


def peer_confirmed(session: Session, agency: AgencyId, peer: AgencyId, origin: str, confirmed: int) -> None:
    """The peer keeps our checkpoint of this size."""
    session.execute(
        "UPDATE audit_peers SET confirmed = ? WHERE agency = ? AND peer = ? AND origin = ? AND confirmed < ?",
        (confirmed, agency, peer, origin, confirmed),
    )
