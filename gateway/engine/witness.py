"""Nodes as witnesses of each other's audit logs: each keeps what the others signed, and compares.

Who rewrites the past of a log must also change the checkpoints its peers keep, which it cannot reach. A
checkpoint travels with proof that it continues the one its receiver confirmed; what does not is a fork,
kept as evidence. A confirmation says what is kept, so that an altered log is also found out at home.
"""

from __future__ import annotations

from gateway.audit import log, merkle
from gateway.crypto import witness as form
from gateway.crypto.note import Note, NoteInvalid, NoteKeys, read_note, verify_any
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
"""Checkpoints kept of a peer's log; each contains those before it."""
LOGS = 100
"""Names a peer's log may have had, one more after each restore. More count as a fork, and are not kept."""
UNPROVEN = 5
"""Checkpoints in a row without the proof that was asked for, before they count as a fork."""
EVIDENCE = 100
"""Contradicting checkpoints kept of a peer, and contradictions of ours by it that are entered."""
ROUND = 2_000
"""Receipts looked at in one transaction for peers that are new."""


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

        while await self._parts.store.write(lambda s: audit.meet_peers(s, limit=ROUND)):
            pass

        def job(session: Session) -> bool:
            latest = audit.latest(session)
            if latest is None:
                return False
            note = read_note(latest.note)
            due = [
                one
                for one in audit.due_peers(session, latest.origin, latest.size, before=now - interval)
                if one.agency in self._parts.keys and one.peer not in self._parts.keys
            ]
            for one in due:
                since = min(one.confirmed, latest.size)
                proof = merkle.consistency_proof(since, latest.size, log.reader(session))
                keys = self._parts.keys[one.agency]
                pairs = [NoteKeys(key, keys.audit_key().public) for key in keys.verify_keys()]
                shown = form.encode_shown(Shown(note.only(pairs), since, tuple(proof)))
                notes.owe(session, SHOW, one.agency, one.peer, shown)
                audit.peer_sent(session, one, latest.origin, at=now)
            return bool(due)

        try:
            if await self._parts.store.write(job):
                self._sender.wake()
        except log.LogDamaged:
            self._parts.metrics.checkpoint("damaged")
            self._parts.log.error("own-log-damaged")

    async def take_shown(self, header: Header, payload: bytes) -> None:
        """A peer shows a checkpoint of its log. Raises RefusedByPeer when it is not one of the peer's."""
        try:
            shown = form.decode_shown(payload)
            note = read_note(shown.note)
            pair = verify_any(note, self._parts.directory.note_keys(header.sender))
        except (ValueError, NoteInvalid):
            raise RefusedByPeer(Reason.INVALID) from None
        if not audit.FIELDS["origin"].fullmatch(note.origin):
            raise RefusedByPeer(Reason.INVALID)  # it is kept, entered and shown: no place for anything else
        # Only what the peer itself signed, once: anybody could add lines without end.
        made = Checkpoint(note.origin, note.size, self._parts.now(), note.only([pair]))
        outcome = await self._parts.store.write(lambda s: _judge(s, header, shown, note, made))
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
                _enter_contradiction(session, header.sender, confirmed)
                return False
            return True

        if not await self._parts.store.write(job):
            self._parts.metrics.checkpoint("contradicted")
            self._parts.log.error("own-log-contradicted", agency=header.recipient, sender=header.sender)


def _judge(session: Session, header: Header, shown: Shown, note: Note, made: Checkpoint) -> str:
    """Keep a peer's checkpoint, or the evidence that it contradicts an earlier one; what it was."""
    peer = header.sender
    if _is_repeated(session, header, made.at):
        return "unproven"
    last = audit.peer_latest(session, peer, note.origin)
    if last is None:
        return _take_new(session, header, note, made)
    kept, root = last[0], bytes.fromhex(last[1])
    outcome = "taken"
    if note.size == kept.size:
        outcome = "known" if note.root == root else "fork"
    elif note.size < kept.size or shown.since != kept.size:
        outcome = "unproven"  # it crossed our confirmation: the next comes with the proof we need
    elif not merkle.verify_consistency(kept.size, note.size, shown.proof, root, note.root):
        outcome = "fork"
    if _unproven(session, header, made.at, again=outcome == "unproven") >= UNPROVEN:
        outcome = "fork"  # it was told often enough from where we need proof
    if outcome == "taken":
        audit.put_peer_checkpoint(session, peer, made, note.root.hex(), fork=False)
        audit.drop_superseded(session, peer, note.origin, keep=KEEP)
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


def _take_new(session: Session, header: Header, note: Note, made: Checkpoint) -> str:
    """The first checkpoint of a log. The peer's other logs stay the measure, should they come back."""
    peer, logs = header.sender, audit.count_peer_logs(session, header.sender)
    if logs >= LOGS:
        return "fork"
    audit.put_peer_checkpoint(session, peer, made, note.root.hex(), fork=False)
    _confirm(session, header, Confirmed(note.origin, note.size, note.root))
    if not logs:
        return "first"
    audit.record(session, "peer-log-restarted", peer=peer, origin=note.origin, size=note.size)
    return "restarted"


def _unproven(session: Session, header: Header, now: int, *, again: bool) -> int:
    """How many checkpoints in a row lacked the proof that the peer had been told is needed.

    Not those made before it was told: after an outage of ours many arrive at once.
    """
    streak, told = f"unproven/{header.sender}", f"told/{header.sender}"
    count = int(audit.fact(session, streak) or 0)
    if not again:
        count = 0
    elif header.created > int(audit.fact(session, told) or 0):
        count += 1
    audit.set_fact(session, streak, str(count))
    audit.set_fact(session, told, str(now))
    return count


def _enter_contradiction(session: Session, peer: AgencyId, confirmed: Confirmed) -> None:
    """What a peer says it keeps of our log, once; a peer can say what it likes, so not without end."""
    name = f"contradictions/{peer}"
    count = int(audit.fact(session, name) or 0)
    if count < EVIDENCE and audit.record_change(
        session,
        "own-log-contradicted",
        f"contradicted/{peer}",
        confirmed.root.hex(),
        peer=peer,
        size=confirmed.size,
    ):
        audit.set_fact(session, name, str(count + 1))


def _confirm(session: Session, header: Header, confirmed: Confirmed) -> None:
    payload = form.encode_confirmed(confirmed)
    notes.owe(session, CONFIRM, AgencyId(header.recipient), AgencyId(header.sender), payload)


def _root(session: Session, size: int) -> bytes | None:
    """The root of our log when it had so many entries."""
    try:
        return merkle.root(size, log.reader(session))
    except ValueError:
        return None
