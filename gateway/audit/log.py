"""The log as a tree over its rows: checkpoints and proofs, at the cost of what is new."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.audit import merkle
from gateway.audit.merkle import Read
from gateway.crypto.audit_key import AuditKey
from gateway.crypto.keys import Signer
from gateway.crypto.note import sign_note
from gateway.messages import new_id
from gateway.store import audit
from gateway.store.audit import Checkpoint
from gateway.store.base import Session

KEPT_LEVEL = 4
"""Subtrees of 2^4 entries and more are kept; smaller ones are made from the entries when asked for."""
ROUND = 5_000
"""Entries a checkpoint takes in at most, so that one transaction stays short; the next takes the rest."""
_ORIGIN_FACT = "origin"


class LogDamaged(ValueError):
    """Entries that the log had are gone: nothing more can be signed. `gateway audit verify` says which."""


Signers = Sequence[tuple[Signer, AuditKey]]


def origin(session: Session) -> str:
    """The log's name; made when it is first asked for."""
    found = audit.fact(session, _ORIGIN_FACT)
    if found is None:
        found = audit.ORIGIN + new_id()
        audit.set_fact(session, _ORIGIN_FACT, found)
    return found


def restart(session: Session) -> None:
    """Go on under a new name: after a restore the log lacks entries that peers may have seen.

    Peers see that an agency's log has a new name; under the old one it would look like a forgery.
    """
    audit.set_fact(session, _ORIGIN_FACT, audit.ORIGIN + new_id())
    audit.record(session, "log-restarted")


def checkpoint(session: Session, signers: Signers, now: int) -> Checkpoint | None:
    """Sign what the log holds now; None when nothing is new. Raises LogDamaged."""
    name, before = origin(session), audit.latest(session)
    done, held = before.size if before else 0, audit.size(session)
    if held < done:
        raise LogDamaged
    size = min(held, done + ROUND)
    if before and before.origin == name and before.size >= size:
        return None
    fresh = [
        merkle.leaf_hash(one.text.encode())
        for one in audit.entries(session, done >> KEPT_LEVEL << KEPT_LEVEL, size)
    ]
    if len(fresh) != size - (done >> KEPT_LEVEL << KEPT_LEVEL):
        raise LogDamaged
    known: dict[tuple[int, int], bytes] = {
        (0, (done >> KEPT_LEVEL << KEPT_LEVEL) + offset): one for offset, one in enumerate(fresh)
    }
    read = reader(session, known)
    completed = merkle.completed(done, size)
    for level, position in completed:
        known[level, position] = merkle.node_hash(
            read(level - 1, 2 * position), read(level - 1, 2 * position + 1)
        )
    audit.put_nodes(
        session,
        [(level, at, known[level, at]) for level, at in completed if level >= KEPT_LEVEL],
    )
    made = Checkpoint(name, size, now, sign_note(name, size, merkle.root(size, read), signers))
    audit.put_checkpoint(session, made)
    return made


def reader(session: Session, known: dict[tuple[int, int], bytes] | None = None) -> Read:
    """Hashes of complete subtrees up to the latest checkpoint, from the rows. It raises LogDamaged."""
    memory = {} if known is None else known

    def read(level: int, position: int) -> bytes:
        found = memory.get((level, position))
        if found is None:
            found = _stored(session, level, position)
            memory[level, position] = found
        return found

    return read


def _stored(session: Session, level: int, position: int) -> bytes:
    kept = audit.node(session, level, position) if level >= KEPT_LEVEL else None
    if kept is not None:
        return kept
    span = 1 << level
    leaves = [
        merkle.leaf_hash(one.text.encode())
        for one in audit.entries(session, position * span, (position + 1) * span)
    ]
    if len(leaves) != span:
        raise LogDamaged
    return memory_reader(leaves)(level, 0)


def memory_reader(leaves: Sequence[bytes]) -> Read:
    """The same over leaf hashes in memory, each level made once."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        row = levels[-1]
        levels.append([merkle.node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])
    return lambda level, position: levels[level][position]
