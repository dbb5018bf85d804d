"""Every row of a database, as plain values, and back: the same for both databases.

Read in one snapshot while a node works on; paged by primary key, so that memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from gateway.store.base import KEEP_IDENTITY, Session, on_postgresql

TABLES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "outbound_messages": (
        ("message_id",),
        (
            "agency",
            "case_id",
            "type",
            "version",
            "in_reply_to",
            "created",
            "expires",
            "purpose",
            "lawful_basis",
            "recalled",
            "recovered",
        ),
    ),
    "outbound_envelopes": (
        ("envelope_id",),
        (
            "message_id",
            "position",
            "recipient",
            "stage",
            "presumed",
            "digest",
            "body",
            "size",
            "expires",
            "sent",
            "attempts",
            "due",
        ),
    ),
    "outbound_chunks": (("chunk_id",), ("envelope_id", "position", "created", "sent", "body")),
    "idempotency": (("agency", "key_mac"), ("fingerprint", "message_id", "warnings", "created")),
    "inbox": (
        ("sequence",),
        (
            "agency",
            "message_id",
            "envelope_id",
            "sender",
            "case_id",
            "type",
            "version",
            "in_reply_to",
            "created",
            "expires",
            "purpose",
            "lawful_basis",
            "received",
            "stage",
            "digest",
            "body",
        ),
    ),
    "inbound_chunks": (("agency", "chunk_id"), ("expires", "body")),
    "inbox_chunks": (("agency", "chunk_id"), ("envelope_id",)),
    "receipts": (("id",), ("envelope_id", "stage", "issuer", "at", "reason", "cose")),
    "openings": (("id",), ("envelope_id", "issuer", "at", "reason", "cose", "announced")),
    "owed_receipts": (("id",), ("issuer", "recipient", "cose")),
    "owed_notes": (("id",), ("type", "agency", "recipient", "body")),
    "recalls": (("envelope_id", "sender"), ("agency", "at")),
    "dead_letters": (
        ("id",),
        ("envelope_id", "agency", "lane", "reason", "at", "expires", "size", "body", "replay"),
    ),
    "reconciliations": (("agency", "peer"), ("since", "held", "due", "attempts", "answered")),
    "mesh_sent": (
        ("message_id",),
        (
            "agency",
            "report_id",
            "mailbox",
            "recipient",
            "workflow",
            "local_mac",
            "details",
            "created",
            "closed",
        ),
    ),
    "mesh_tokens": (("digest",), ("until",)),
    "pushes": (("sequence",), ("attempts", "due")),
    "audit_entries": (("number",), ("body", "subject")),
    "audit_nodes": (("level", "position"), ("hash",)),
    "audit_checkpoints": (("origin", "size"), ("at", "note")),
    "audit_facts": (("name",), ("value",)),
    "peer_checkpoints": (("peer", "origin", "size", "root"), ("at", "fork", "note")),
    "audit_peers": (("agency", "peer"), ("origin", "confirmed", "sent")),
}
"""Each table's key and its other columns; claims are left out, they die with the process that has them."""
NUMBERED: Final = {"inbox": "sequence", "receipts": "id", "owed_receipts": "id", "owed_notes": "id"} | {
    "dead_letters": "id",
    "openings": "id",
}
"""Tables whose key the database hands out."""
JUMP: Final = 1 << 32
"""Numbers left out after a restore: local systems may hold cursors beyond what the copy knows."""
PAGE: Final = 16
"""Rows read at once: the largest hold some megabytes."""


def rows(session: Session) -> Iterator[tuple[str, list[Any]]]:
    """Every row of every table, with its table's name."""
    for table, (key, others) in TABLES.items():
        columns, order = ", ".join((*key, *others)), ", ".join(key)
        marks = ", ".join("?" * len(key))
        sql = f"SELECT {columns} FROM {table}"
        page = session.execute(f"{sql} ORDER BY {order} LIMIT {PAGE}").fetchall()
        while page:
            for row in page:
                yield table, list(row)
            after = page[-1][: len(key)]
            page = session.execute(
                f"{sql} WHERE ({order}) > ({marks}) ORDER BY {order} LIMIT {PAGE}", tuple(after)
            ).fetchall()


def put(session: Session, found: Iterable[tuple[str, Sequence[Any]]]) -> dict[str, int]:
    """Write rows into empty tables; how many went into each. Raises ValueError for a row of another shape."""
    counts = dict.fromkeys(TABLES, 0)
    for table, row in found:
        if table not in TABLES or len(row) != sum(map(len, TABLES[table])):
            raise ValueError("a row of another version")
        key, others = TABLES[table]
        names, marks = ", ".join((*key, *others)), ", ".join("?" * len(row))
        keep = KEEP_IDENTITY if table in NUMBERED else ""
        session.execute(f"INSERT INTO {table} ({names}) {keep} VALUES ({marks})", tuple(row))
        counts[table] += 1
    for table, column in NUMBERED.items():
        _jump(session, table, column)
    return counts


def is_empty(session: Session) -> bool:
    """Whether no table holds a row."""
    return all(session.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None for table in TABLES)


def _jump(session: Session, table: str, column: str) -> None:
    """Let the numbers go on well after the largest."""
    (largest,) = session.execute(f"SELECT COALESCE(MAX({column}), 0) FROM {table}").fetchone()
    following = int(largest) + JUMP
    # PostgreSQL runs what stands in the comment; SQLite's AUTOINCREMENT table is written directly.
    sequence = f"pg_get_serial_sequence('{table}', '{column}')"
    on_pg = session.execute(f"SELECT 0 {on_postgresql(f'+ setval({sequence}, {following})')}").fetchone()
    if not on_pg[0]:
        session.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        session.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, following))
