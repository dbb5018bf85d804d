"""Nodes as witnesses of each other's audit logs: each keeps what the others signed, and compares.

Who rewrites the past of a log must also change the checkpoints its peers keep, which it cannot reach. A
checkpoint travels with proof that it continues the one its receiver confirmed; what does not is a fork,
kept as evidence. A confirmation says what is kept, so that an altered log is also found out at home.
"""

from __future__ import annotations

from gateway.audit import log, merkle
from gateway.crypto import witness as form
from gateway.crypto.note import Note, NoteInvalid, read_note, verify_any
from gateway.crypto.witness import Confirmed, Shown
from gateway.engine.notes import NoteSender
from gateway.engine.parts import Parts
from gateway.errors import RefusedByPeer
from gateway.messages import AgencyId, Header, Reason
from gateway.protocol.deadlines import MAX_CLOCK_SKEW
from gateway.store import audit, notes
from gateway.store.audit import Checkpoint
from gateway.store.base import Session

SHOW = "audit-checkpoint"
CONFIRM = "audit-confirmed"

KEEP = 10
"""Checkpoints kept of a peer; each contains those before it."""
UNPROVEN = 5
"""Checkpoints in a row without the proof that was asked for, before they count as a fork."""
EVIDENCE = 100
"""Contradicting checkpoints kept of a peer."""


class Witness:
    """Both ends of the exchange."""

    def __init__(self, parts: Parts, sender: NoteSender) -> None:
        self._parts = parts
        self._sender = sender
        self._due = 0

    async def tick(self, now: int) -> None:
        """Show peers our latest checkpoint when it is time. Raises Unavailable."""
        if now < self._due:
            return
        interval = self._parts.rules.checkpoint_exchange
        self._due = now + interval

        def job(session: Session) -> bool:
            latest = audit.latest(session)
            if latest is None:
                return False
            due = [
                one
                for one in audit.due_peers(session, latest.origin, latest.size, before=now - interval)
                if one.agency in self._parts.keys and one.peer not in self._parts.keys
            ]
            for one in due:
                since = min(one.confirmed, latest.size)
                proof = merkle.consistency_proof(since, latest.size, log.reader(session))
                shown = form.encode_shown(Shown(latest.note, since, tuple(proof)))
                notes.owe(session, SHOW, one.agency, one.peer, shown)
                audit.peer_sent(session, one, latest.origin, at=now)
            return bool(due)

        if await self._parts.store.write(job):
            self._sender.wake()

    async def take_shown(self, header: Header, payload: bytes) -> None:
        """A peer shows a checkpoint of its log. Raises RefusedByPeer when it is not one of the peer's."""
        try:
            shown = form.decode_shown(payload)
            note = read_note(shown.note)
            verify_any(note, self._parts.directory.note_keys(header.sender))
        except (ValueError, NoteInvalid):
            raise RefusedByPeer(Reason.INVALID) from None
        now = self._parts.now()
        outcome = await self._parts.store.write(lambda s: _judge(s, header, shown, note, now))
        self._parts.metrics.checkpoint(outcome)
        if outcome == "fork":
            self._parts.log.error("peer-log-forked", agency=header.recipient, sender=header.sender)
        elif outcome == "restarted":
            self._parts.log.warning("peer-log-restarted", agency=header.recipient, sender=header.sender)
        self._sender.wake()

    async def take_confirmed(self, header: Header, payload: bytes) -> None:
        """A peer says what it keeps of our log. Raises RefusedByPeer."""
        try:
            confirmed = form.decode_confirmed(payload)
        except ValueError:
            raise RefusedByPeer(Reason.INVALID) from None

        def job(session: Session) -> bool:
            latest = audit.latest(session)
            if latest is None or latest.origin != confirmed.origin:
                return True  # of a log we no longer continue
            # Also when it contradicts us: the next proof begins there, so that the peer finds out too.
            audit.peer_confirmed(session, header.recipient, header.sender, confirmed.origin, confirmed.size)
            if confirmed.size > latest.size or _root(session, confirmed.size) != confirmed.root:
                audit.record_change(
                    session,
                    "own-log-contradicted",
                    f"contradicted/{header.sender}",
                    confirmed.root.hex(),
                    peer=header.sender,
                    size=confirmed.size,
                )
                return False
            return True

        if not await self._parts.store.write(job):
            self._parts.metrics.checkpoint("contradicted")
            self._parts.log.error("own-log-contradicted", agency=header.recipient, sender=header.sender)


def _judge(session: Session, header: Header, shown: Shown, note: Note, now: int) -> str:
    """Keep a peer's checkpoint, or the evidence that it contradicts an earlier one; what it was."""
    peer, last = header.sender, audit.peer_latest(session, header.sender)
    if _is_repeated(session, header, now):
        return "unproven"
    made = Checkpoint(note.origin, note.size, now, shown.note)
    if last is None or last[0].origin != note.origin:
        audit.put_peer_checkpoint(session, peer, made, note.root.hex(), fork=False)
        _confirm(session, header, Confirmed(note.origin, note.size, note.root))
        if last is None:
            return "first"
        audit.record(session, "peer-log-restarted", peer=peer, origin=note.origin, size=note.size)
        return "restarted"
    kept, root = last[0], bytes.fromhex(last[1])
    outcome = "taken"
    if note.size == kept.size:
        outcome = "known" if note.root == root else "fork"
    elif note.size < kept.size or shown.since != kept.size:
        outcome = "unproven"  # it crossed our confirmation: the next comes with the proof we need
    elif not merkle.verify_consistency(kept.size, note.size, shown.proof, root, note.root):
        outcome = "fork"
    streak = int(audit.fact(session, f"unproven/{peer}") or 0) + 1 if outcome == "unproven" else 0
    audit.set_fact(session, f"unproven/{peer}", str(streak))
    if streak >= UNPROVEN:
        outcome = "fork"  # it was told often enough from where we need proof
    if outcome == "taken":
        audit.put_peer_checkpoint(session, peer, made, note.root.hex(), fork=False)
        audit.drop_superseded(session, peer, keep=KEEP)
        kept, root = made, note.root
    elif outcome == "fork" and audit.count_forks(session, peer) < EVIDENCE:
        audit.put_peer_checkpoint(session, peer, made, note.root.hex(), fork=True)
        audit.record(
            session, "peer-log-forked", peer=peer, origin=note.origin, size=note.size, root=note.root.hex()
        )
    _confirm(session, header, Confirmed(kept.origin, kept.size, root))
    return outcome


def _is_repeated(session: Session, header: Header, now: int) -> bool:
    """Whether this note is no newer than one before it: the broker's doing then, not the peer's."""
    name = f"shown/{header.recipient}/{header.sender}"
    before = int(audit.fact(session, name) or -1)
    if header.created <= before:
        return True
    # Not the time of a clock that ran ahead: what its peer says once it is right would count for nothing.
    audit.set_fact(session, name, str(min(header.created, now + MAX_CLOCK_SKEW)))
    return False


def _confirm(session: Session, header: Header, confirmed: Confirmed) -> None:
    payload = form.encode_confirmed(confirmed)
    notes.owe(session, CONFIRM, AgencyId(header.recipient), AgencyId(header.sender), payload)


def _root(session: Session, size: int) -> bytes | None:
    """The root of our log when it had so many entries."""
    try:
        return merkle.root(size, log.reader(session))
    except ValueError:
        return None
