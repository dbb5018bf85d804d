"""An exported log: JSON lines that verify anywhere, with nothing but the file. docs/audit.md 5.

A head with the keys; every entry on its own line, exactly as it was hashed; after the entries that a
checkpoint covers, the checkpoint; an end. Read in one pass, in little memory, however long the log is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.audit import merkle
from gateway.crypto.audit_key import AuditVerifyKey
from gateway.crypto.keys import VerifyKey
from gateway.crypto.note import MAX_NOTE, MAX_SIZE, Note, NoteInvalid, NoteKeys, read_note, verify_any
from gateway.messages import AGENCY_ID
from gateway.store import audit
from gateway.store.base import Session

FORMAT: Final = "referral-gateway-audit"
VERSION: Final = 1
MAX_LINE: Final = 4 * MAX_NOTE
"""Bytes of a line."""
MAX_KEYS: Final = 5_000
"""Pairs of keys in the head, of less than 3,000 bytes: each agency has one more after each rotation."""
PAGE: Final = 1000
_ENTRY: Final = '{"index":'

AgencyKeysOf = Mapping[str, Sequence[NoteKeys]]


class LogInvalid(Exception):
    """The file is not the log that was signed; the argument says what is wrong, and where."""


@dataclass(slots=True)
class Verified:
    """What a file was found to hold."""

    entries: int = 0
    covered: int = 0
    """Entries under the last checkpoint; those after it are not signed yet."""
    checkpoints: int = 0
    origin: str = ""
    last: str = ""
    """The last checkpoint."""
    keys: dict[str, list[NoteKeys]] = field(default_factory=dict)
    leaves: list[bytes] = field(default_factory=list)
    """Leaf hashes, if they were asked for."""
    wanted: list[tuple[int, str]] = field(default_factory=list)
    """Entries that were asked for."""


def lines(session: Session, keys: AgencyKeysOf) -> Iterator[str]:
    """The lines of a file, from a snapshot of the database."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "keys": [{"agency": agency, **keys_json(pair)} for agency, pairs in keys.items() for pair in pairs],
    }
    yield _dump(head)
    at, total = 0, audit.size(session)
    for checkpoint in audit.checkpoints(session):
        yield from _entries(session, at, checkpoint.size)
        at = checkpoint.size
        yield _dump({"checkpoint": checkpoint.note})
    yield from _entries(session, at, total)
    yield _dump({"end": total})


def _entries(session: Session, begin: int, end: int) -> Iterator[str]:
    for at in range(begin, end, PAGE):
        for entry in audit.entries(session, at, min(at + PAGE, end)):
            yield entry.text


def verify(
    found: Iterable[str],
    *,
    trusted: AgencyKeysOf | None = None,
    revoked: AgencyKeysOf | None = None,
    kept: Sequence[Note] = (),
    keep_leaves: bool = False,
    want: str | None = None,
) -> Verified:
    """Check a whole file. Raises LogInvalid with one line.

    `trusted` are the keys that count instead of the file's own; `revoked` are keys whose checkpoints are
    believed if a later one covers them; `kept` are checkpoints that somebody else kept; `want` is an index or
    a message id whose entries are to be handed back.
    """
    reading = _Reading(trusted, revoked, kept, keep_leaves=keep_leaves, want=want)
    for number, line in enumerate(found, start=1):
        reading.take(number, line.removesuffix("\n"))
    return reading.finish()


class _Reading:
    """One pass over a file."""

    def __init__(
        self,
        trusted: AgencyKeysOf | None,
        revoked: AgencyKeysOf | None,
        kept: Sequence[Note],
        *,
        keep_leaves: bool,
        want: str | None,
    ) -> None:
        self._result = Verified()
        self._trusted = trusted
        self._revoked = revoked or {}
        self._believed = True
        self._keep_leaves = keep_leaves
        self._want = want
        self._tops: list[tuple[int, bytes]] = []  # complete subtrees, largest first: size, hash
        self._last: Note | None = None
        self._ended = False
        self._kept: dict[int, list[Note]] = {}
        for note in kept:
            self._kept.setdefault(note.size, []).append(note)
        self._headed = False

    def take(self, number: int, line: str) -> None:
        if len(line) > MAX_LINE:
            raise LogInvalid(f"line {number} is longer than any line of an audit log")
        if self._ended:
            raise LogInvalid(f"line {number}: something follows the end")
        if self._headed and line.startswith(_ENTRY):
            self._entry(number, line)
            return
        value = _load(number, line)
        if not self._headed:
            self._result.keys = _head(value)
            self._headed = True
        elif value.keys() == {"checkpoint"} and isinstance(value["checkpoint"], str):
            self._checkpoint(value["checkpoint"])
        elif value.keys() == {"end"}:
            if value["end"] != self._result.entries:
                raise LogInvalid(
                    f"the file says it has {_shown(value['end'])} entries and holds {self._result.entries}"
                )
            self._ended = True
        else:
            raise LogInvalid(f"line {number} is neither an entry nor a checkpoint")

    def _entry(self, number: int, line: str) -> None:
        value, expected = _load(number, line), self._result.entries
        if value.get("index") != expected:
            raise LogInvalid(
                f"line {number}: entry {expected} should stand here, entry {_shown(value.get('index'))} does:"
                " one was dropped, added or moved"
            )
        leaf = merkle.leaf_hash(line.encode())
        if self._keep_leaves:
            self._result.leaves.append(leaf)
        if self._want is not None and self._want in {str(expected), value.get("message_id")}:
            self._result.wanted.append((expected, line))
        self._result.entries += 1
        span = 1
        while self._tops and self._tops[-1][0] == span:
            leaf, span = merkle.node_hash(self._tops.pop()[1], leaf), span * 2
        self._tops.append((span, leaf))
        self._compare_kept()

    def _compare_kept(self) -> None:
        for note in self._kept.get(self._result.entries, ()):
            if note.root != self._root():
                raise LogInvalid(
                    f"the first {note.size} entries are not those of the checkpoint that was kept elsewhere:"
                    " the log was rewritten"
                )

    def _checkpoint(self, text: str) -> None:
        try:
            note = read_note(text)
        except NoteInvalid as error:
            raise LogInvalid(f"after entry {self._result.entries - 1}: {error}") from None
        where = f"the checkpoint of {note.size} entries"
        try:
            self._believed = self._is_believed(note)
        except NoteInvalid as error:
            raise LogInvalid(f"{where}: {error}") from None
        last = self._last
        if last and last.size == note.size and last.root != note.root:
            raise LogInvalid(f"the log was forked: two signed checkpoints of {note.size} entries differ")
        if note.size != self._result.entries:
            raise LogInvalid(f"{where} stands after {self._result.entries}: entries were dropped or added")
        if note.root != self._root():
            since = last.size if last else 0
            raise LogInvalid(
                f"the entries do not match {where}: one from {since} to {note.size - 1} was changed,"
                " or the order was"
            )
        self._last = note
        self._result.checkpoints += 1
        self._result.covered, self._result.last, self._result.origin = note.size, text, note.origin

    def _is_believed(self, note: Note) -> bool:
        """Whether keys that count signed it, not ones that counted once. Raises NoteInvalid."""
        former = [pair for agency in self._result.keys for pair in self._revoked.get(agency, ())]
        try:
            verify_any(note, [pair for pairs in self._keys().values() for pair in pairs])
        except NoteInvalid:
            if not former:
                raise
            verify_any(note, former)
            return False
        return True

    def _keys(self) -> AgencyKeysOf:
        """The keys that count, of the agencies the file says it is of."""
        if self._trusted is None:
            return self._result.keys
        return {agency: self._trusted.get(agency, ()) for agency in self._result.keys}

    def _root(self) -> bytes:
        if not self._tops:
            return merkle.EMPTY_ROOT
        found = self._tops[-1][1]
        for _, top in reversed(self._tops[:-1]):
            found = merkle.node_hash(top, found)
        return found

    def finish(self) -> Verified:
        if not self._ended:
            raise LogInvalid("the file is cut off: it has no end")
        if self._last is None:
            raise LogInvalid("no checkpoint is in the file: nothing vouches for its entries")
        if not self._believed:
            raise LogInvalid("the last checkpoint is signed with a key that was revoked: export the log anew")
        largest = max(self._kept, default=0)
        if largest > self._result.entries:
            raise LogInvalid(
                f"a checkpoint that was kept elsewhere has {largest} entries, the file only"
                f" {self._result.entries}: the end of the log is missing"
            )
        return self._result


def keys_json(pair: NoteKeys) -> dict[str, str]:
    """Public keys as they stand in a file."""
    found = {"signing": base64.b64encode(pair.signing.public_bytes).decode()}
    if pair.audit is not None:
        found["audit"] = base64.b64encode(pair.audit.public_bytes).decode()
    return found


def read_keys(value: Any) -> NoteKeys:
    """The same back. Raises ValueError."""
    if not isinstance(value, dict) or not isinstance(value.get("signing"), str):
        raise ValueError("not keys")  # noqa: TRY004 - of a file, not of a caller
    audit_key = value.get("audit")
    if audit_key is not None and not isinstance(audit_key, str):
        raise ValueError("not keys")
    try:
        return NoteKeys(
            VerifyKey.from_public(base64.b64decode(value["signing"], validate=True)),
            None
            if audit_key is None
            else AuditVerifyKey.from_public(base64.b64decode(audit_key, validate=True)),
        )
    except binascii.Error:
        raise ValueError("not keys") from None


def _head(value: dict[str, Any]) -> dict[str, list[NoteKeys]]:
    if value.get("format") != FORMAT:
        raise LogInvalid("this is not an audit log that `gateway audit export` wrote")
    if value.get("version") != VERSION:
        raise LogInvalid("the file is of a version this gateway cannot read: use a newer one")
    found = value.get("keys")
    keys: dict[str, list[NoteKeys]] = {}
    if not isinstance(found, list) or not 0 < len(found) <= MAX_KEYS:
        raise LogInvalid("the file holds no keys")
    for one in found:
        try:
            pair, agency = read_keys(one), one.get("agency")
        except ValueError:
            raise LogInvalid("a key in the file is not a key") from None
        if not isinstance(agency, str) or not AGENCY_ID.fullmatch(agency):
            raise LogInvalid("a key in the file belongs to no agency")
        keys.setdefault(agency, []).append(pair)
    return keys


def _shown(number: object) -> str:
    """A number of entries, for a person; nothing else that a file may hold is repeated."""
    return str(number) if type(number) is int and 0 <= number < MAX_SIZE else "?"


def _load(number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise LogInvalid(f"line {number} is not a line of an audit log")
    return value


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)
