"""Destroying a key, and letting an agency's keys out of the node: what takes two people (docs/keys.md).

The approvals are entered in the audit log before the key file is touched, so that nothing happens unrecorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, Protocol, TypeVar

from gateway.config import Settings
from gateway.crypto import envelope, proof
from gateway.crypto.approval import Request
from gateway.crypto.key_document import AgencyKeys
from gateway.crypto.key_files import sync_folder, write_private
from gateway.crypto.key_rows import KeyRow
from gateway.directory import file as directory_file
from gateway.directory.model import Directory
from gateway.directory.opening import open_directory
from gateway.engine.keyring import KeyRing
from gateway.errors import StartupError
from gateway.hardening import Secret
from gateway.messages import AgencyId, Reason, Stage, moment
from gateway.protocol.keys import KeyState
from gateway.protocol.receipts import receipt_for
from gateway.store import audit, inbox, key_usage, receipts
from gateway.store.base import Session
from gateway.store.inbox import Held
from gateway.two_people import Judged, operators

DESTROY: Final = "destroy-key"
DESTROY_WITH_MESSAGES: Final = "destroy-key-and-messages"
"""The same, and what waits in the inbox for that key is rejected."""
EXPORT: Final = "export-key"
_FACT: Final = "request/"
"""Begins the name under which it is remembered how far a request was carried out."""
_BEGUN, _DONE = "begun", "done"

T = TypeVar("T")


class Database(Protocol):
    """Runs a job in the node's database, in a transaction."""

    def __call__(self, job: Callable[[Session], T], /) -> T:
        """Raises what the job raises."""
        ...


def owner_of(settings: Settings, kid: str, agency: str = "") -> tuple[AgencyId, bytes]:
    """Whose key this is, living or destroyed, and its id; `agency`: must be theirs. Raises StartupError."""
    try:
        wanted = bytes.fromhex(kid)
    except ValueError:
        raise StartupError("a key id is hexadecimal: `gateway keys list` shows them") from None
    store = settings.key_store()
    for one in map(AgencyId, settings.node.agencies):
        if agency in {"", one} and store.load(one).knows(wanted):
            return one, wanted
    raise StartupError("no agency of this node has such a key: `gateway keys list` shows them")


def rows(settings: Settings, agency: AgencyId, now: int) -> list[KeyRow]:
    """An agency's keys and where they stand; revoked ones as far as the directory can be read.

    Raises StartupError.
    """
    try:
        revoked = open_directory(settings.directory()).current.revoked(agency)
    except StartupError:
        revoked = frozenset()
    return settings.key_store().rows(agency, now, settings.times.keys_retire * 1000, revoked)


def check_destroyable(settings: Settings, agency: AgencyId, kid: bytes, now: int) -> KeyRow:
    """The key, if nobody can need it any more as far as dates and directory say. Raises StartupError."""
    directory = open_directory(settings.directory()).current
    store, overlap = settings.key_store(), settings.times.keys_retire * 1000
    found = store.rows(agency, now, overlap, directory.revoked(agency))
    row = next((one for one in found if one.kid == kid), None)
    if row is None or row.state is KeyState.DESTROYED:
        raise StartupError(f"{agency} has no such key, or it is destroyed: see `gateway keys list`")
    if row.state not in {KeyState.RETIRED, KeyState.REVOKED}:
        raise StartupError(
            f"the key is {row.state}: only retired and revoked ones are destroyed (gateway keys list)"
        )
    if row.use == "sign":
        others = [key.kid for key in store.load(agency).signing_keys if key.kid != kid]
        if not any(directory.verify_key(agency, other, now) for other in others):
            raise StartupError(
                "the directory has no other signing key in force: the node still needs this one"
            )
        return row
    listed = [directory.sealing_key(agency, now), directory.sealing_key(agency, now, [row.suite])]
    if listed[0] is None or any(key is not None and key.kid == kid for key in listed):
        raise StartupError("by the directory peers still seal to this key: a newer one must be listed")
    if row.state is KeyState.RETIRED:
        # The key file says when the new key was to take over; the directory may have had it later.
        before = directory.sealing_key(agency, now - overlap, [row.suite])
        if before is not None and before.kid == kid:
            raise StartupError(
                "by the directory peers sealed to this key less than times.keys_retire ago: what is on its"
                " way to it would be lost"
            )
    if settings.node.directory_mirror and _is_listed(directory, agency, kid, now):
        raise StartupError(
            "the directory still lists this key as in force: the next `gateway keys rotate --proposal` asks"
            " for its end, and governance can take it out"
        )
    return row


def check_let_go(session: Session, settings: Settings, row: KeyRow, now: int) -> None:
    """Raises StartupError when peers may have sealed to this key lately, as far as the node has seen.

    The dates in a mirror's directory do not tell since when they stand there: a proposal may be granted weeks
    after those it holds.
    """
    if row.use != "seal" or row.state is not KeyState.RETIRED or not settings.node.directory_mirror:
        return
    since = key_usage.let_go(session, row.agency, row.kid)
    if since is None:
        raise StartupError(
            "the node has not run yet with a directory by which peers no longer seal to this key: start it,"
            " and ask again times.keys_retire later"
        )
    earliest = since + settings.times.keys_retire * 1000
    if now < earliest:
        raise StartupError(
            f"the directory has named another key than this for too short a time: ask again after"
            f" {moment(earliest):%Y-%m-%dT%H:%M:%SZ}, since what is on its way to it would be lost"
        )


def _is_listed(directory: Directory, agency: AgencyId, kid: bytes, now: int) -> bool:
    at = moment(now)
    entries = [key for entry in directory.document.agencies if entry.id == agency for key in entry.keys]
    return any(key.kid == kid and directory_file.is_in_force(key, at) for key in entries)


def waiting(session: Session, agency: AgencyId, kid: bytes) -> Iterator[Held]:
    """The messages in the inbox that open with this key and no other."""
    for held, body in inbox.unanswered(session, agency):
        if envelope.peek(body).kid == kid:
            yield held


def check_waiting(session: Session, agency: AgencyId, kid: bytes) -> None:
    """Raises StartupError while messages sealed to this key wait to be collected."""
    count = sum(1 for _ in waiting(session, agency, kid))
    if count:
        raise StartupError(
            f"{count} message(s) sealed to this key wait in the inbox of {agency}: its system must collect or"
            " reject them first, or they must expire; --with-messages asks to lose them"
        )


def _reject_waiting(session: Session, keys: AgencyKeys, kid: bytes, now: int) -> None:
    """Answer what waits for this key, so that its senders know. The node sends the receipts."""
    for held in waiting(session, keys.agency, kid):
        receipt = receipt_for(held.header, held.digest, Stage.REJECTED, now, Reason.UNKNOWN_KEY)
        cose = proof.sign_receipt(receipt, keys.signing)
        inbox.finish(session, held, Stage.REJECTED)
        receipts.keep(session, receipt, cose)
        receipts.owe(session, receipt, cose)


# --- carrying it out ---


def destroy(settings: Settings, judged: Judged, database: Database, now: int) -> None:
    """Destroy the key. Raises StartupError.

    A crash leaves a request begun: confirmed again, it is finished. From the first step on no node takes in
    anything sealed to the key, so that nothing is received that cannot be handed over.
    """
    request = judged.request
    agency, kid = request.agency, request.subject
    begun = database(lambda s: _state(s, request)) == _BEGUN
    if not begun:
        row = check_destroyable(settings, agency, kid, now)
        database(lambda s: check_let_go(s, settings, row, now))

    ring = KeyRing(settings.key_store(), [agency])
    ring.choose(open_directory(settings.directory()).current, now)
    keys = ring[agency]

    def begin(session: Session) -> None:
        if _state(session, request) == _BEGUN:
            return
        key_usage.close(session, agency, kid, now)
        _note_approvals(session, settings, judged)
        if request.action == DESTROY_WITH_MESSAGES:
            _reject_waiting(session, keys, kid, now)
        check_waiting(session, agency, kid)
        audit.set_fact(session, _FACT + request.request_id, _BEGUN)

    def end(session: Session) -> None:
        _note(session, "key-destroyed", request)
        audit.set_fact(session, _FACT + request.request_id, _DONE)

    database(begin)
    file = None if settings.node.directory_mirror else settings.path(settings.node.directory)
    if file:
        directory_file.end_key(file, agency, kid, moment(now))
    settings.key_store().destroy(agency, kid, now)
    if file:
        directory_file.drop_sealing_key(file, agency, kid)
    database(end)


def export(settings: Settings, judged: Judged, database: Database, to: Path, passphrase: Secret) -> None:
    """Write the agency's keys into a new file under another passphrase. Raises StartupError.

    Entered before it is written, and once: should the writing fail, two people must agree anew.
    """
    request = judged.request
    store = settings.key_store()
    if store.load(request.agency).digest() != request.subject:
        raise StartupError(f"the keys of {request.agency} have changed since it was asked for: ask anew")
    if to.exists() or not to.absolute().parent.is_dir():
        raise StartupError(f"{to} exists already, or its folder does not")
    document = store.export(request.agency, passphrase)

    def once(session: Session) -> None:
        _state(session, request)
        _note_approvals(session, settings, judged)
        _note(session, "key-exported", request)
        audit.set_fact(session, _FACT + request.request_id, _DONE)

    database(once)
    try:
        write_private(to, json.dumps(document, indent=2) + "\n")
        sync_folder(to.absolute().parent)
    except OSError as error:
        raise StartupError(
            f"cannot write {to}: {error.strerror}; it is entered as exported: ask anew"
        ) from None


def _state(session: Session, request: Request) -> str | None:
    """How far a request was carried out. Raises StartupError when it is done."""
    found = audit.fact(session, _FACT + request.request_id)
    if found == _DONE:
        raise StartupError("this request was carried out already: ask anew")
    return found


def note_asked(session: Session, request: Request, operator: str) -> None:
    """Enter that somebody asked."""
    _note(session, "approval-asked", request, operator=operator, code=request.action)


def _note_approvals(session: Session, settings: Settings, judged: Judged) -> None:
    keys = operators(settings, judged.request.action)
    for name in sorted(judged.by):
        # Which credential it was, too: names stand in a settings file that can be edited.
        digest = keys[name].kid.hex()
        _note(
            session,
            "approval-given",
            judged.request,
            operator=name,
            code=judged.request.action,
            digest=digest,
        )


def _note(session: Session, kind: str, request: Request, **fields: str) -> None:
    kid = None if request.action == EXPORT else request.subject.hex()
    audit.record(session, kind, agency=request.agency, request=request.request_id, kid=kid, **fields)


def note_keys(session: Session, kind: str, agency: AgencyId, kids: Collection[bytes]) -> None:
    """Enter what an operator did with keys: an entry for each."""
    for kid in kids:
        audit.record(session, kind, agency=agency, kid=kid.hex())
