"""Every word that logs and metrics may write: label values, log fields and log events.

A word may stand here only if it is a constant of the product: never something a message or a caller said.
docs/observability.md is generated from these lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import CODES
from gateway.messages import AGENCY_ID, UUID4, Emergency, Reason, Sector, Stage
from gateway.protocol.pushing import Outcome

OTHER = "other"
"""Stands in a label for whatever is not in its set, so that no stray text becomes a series."""

LANES = ("messages", "receipts")
"""The two queues of an agency (gateway.transport.base.Lane)."""

PUBLISH_FAILURES: dict[str, str] = {
    "unroutable": "the recipient has no queue",
    "full": "the recipient's queue is at its limit",
    "unavailable": "not reachable, or no confirmation came in time",
    "notes": "a note to another node (a recall) was not confirmed, whatever the cause",
    "receipts": "a batch of receipts was not confirmed, whatever the cause",
}
"""Why the transport did not confirm."""

RECEIPT_REFUSALS: dict[str, str] = {
    "invalid": "not a receipt, or its signature does not verify",
    "unmatched": "for no envelope that this agency sent",
    "contradictory": "states what cannot follow from the stage already known",
}
"""Why a receipt that arrived is not taken."""

PUSH_OUTCOMES: dict[str, str] = {
    Outcome.DELIVERED: "2xx: the agency's server has it, and it was acknowledged",
    Outcome.DUPLICATE: "a FHIR server had it before: the same as delivered",
    Outcome.BUSY: "429 or 503; tried again soon, not before its Retry-After",
    Outcome.FAILED: "another 5xx, 408, 409, 425, or no HTTP status that means anything; tried again soon",
    Outcome.UNREACHABLE: "no connection, no TLS with a name we trust, or no HTTP; tried again soon",
    Outcome.TIMED_OUT: "no answer in time; tried again soon",
    Outcome.REFUSED: "another 4xx: its system does not take this message; tried again slowly",
    Outcome.DENIED: "401, 403, 404, 405, 407 or 410: it does not take anything from us; tried again slowly",
    Outcome.REDIRECTED: "3xx, which is not followed: the setting is wrong; tried again slowly",
    Outcome.UNSENDABLE: "too large, files in a format other than JSON, or no form in the format: pull it",
}
"""How an attempt to push a message ended."""

FOLDER_OUTCOMES: dict[str, str] = {
    "taken": "a file was submitted and accepted",
    "quarantined": "a file was refused; a problem document beside it says why",
    "deferred": "a file could not be taken just now and stays where it is",
    "written": "a message was written for the agency and acknowledged",
    "unwritable": "a message could not be written: the disk, or no form in the format; it can be pulled",
}
"""What became of a file in a folder."""

CHECKPOINTS: dict[str, str] = {
    "first": "the first of a peer: kept",
    "taken": "it continues the one before: kept",
    "known": "the same as the one kept",
    "unproven": "it crossed our confirmation; the next comes with the proof that is needed",
    "restarted": "the peer's log has a new name, as after a restore: kept beside the old one",
    "fork": "it contradicts what the peer had signed before: kept as evidence",
    "contradicted": "what a peer keeps of our own log is not what our log says",
    "damaged": "none could be made: our own log lacks entries that it had",
}
"""What a checkpoint of an audit log was when it arrived, or its confirmation."""

BREAK_GLASS: dict[str, str] = {
    "opened": "a quorum opened a message of an agency here",
    "noticed": "a recipient tells that a quorum opened a message from here; the approvals verify",
    "no-quorum": "a recipient tells of an opening, and the directory here does not confirm the quorum",
}
"""What became known of emergency openings."""

KEYS_DUE: dict[str, str] = {
    "rotate": "an opening key was used for `times.keys_epoch`",
    "destroy": "a key is retired",
}
"""What is to be done with a key."""

STEPS: dict[str, str] = {
    "adapt": "native format read into the canonical message",
    "validate": "schema and check digits",
    "policy": "the sharing agreement looked up, at the sender's node",
    "seal": "signed and encrypted, all recipients of one message together",
    "publish": "handed to the transport until it confirmed",
    "open": "decrypted and its signature verified, at the recipient's node",
    "check": "times, agreement and schema, at the recipient's node",
}
"""The steps of the road that are timed."""

STAGES = tuple(stage.value for stage in Stage)
REASONS = tuple(reason.value for reason in Reason)
EMERGENCIES = tuple(reason.value for reason in Emergency)
SECTORS = tuple(sector.value for sector in Sector)
PROBLEMS = tuple(CODES)


@dataclass(frozen=True, slots=True)
class Field:
    """One field that may be logged: what its values look like, and what it means."""

    rule: str
    meaning: str
    allows: Callable[[object], bool]


def _text(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _one_of(*values: str) -> Callable[[object], bool]:
    allowed = frozenset(values)
    return lambda value: isinstance(value, str) and value in allowed


def _whole(limit: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and 0 <= value <= limit


WORD = re.compile(r"[a-z][a-z0-9-]{0,31}")
# No number field is wide enough for an NHS number: those of England begin at 4,000,000,000.
_LARGEST = 2**31 - 1
_UUID, _AGENCY, _CODE = (
    _text(UUID4),
    _text(AGENCY_ID),
    _one_of(*PROBLEMS, *PUBLISH_FAILURES, *RECEIPT_REFUSALS, *PUSH_OUTCOMES, *FOLDER_OUTCOMES, *BREAK_GLASS),
)

FIELDS: dict[str, Field] = {
    "message_id": Field("UUID, version 4", "the message, the same at every node", _UUID),
    "envelope_id": Field("UUID, version 4", "the sealed envelope, as the broker knows it", _UUID),
    "agency": Field("agency id", "the agency of this node on whose behalf it happened", _AGENCY),
    "sender": Field("agency id", "the agency that sent the message", _AGENCY),
    "recipient": Field("agency id", "the agency the envelope is for", _AGENCY),
    "sector": Field("a sector", "the agency's sector", _one_of(*SECTORS)),
    "type": Field("short word", "message type", _text(WORD)),
    "version": Field("0 to 9999", "message type's version", _whole(9999)),
    "lane": Field("`messages`, `receipts`", "which of the agency's two queues", _one_of(*LANES)),
    "stage": Field("a stage", "the stage reached", _one_of(*STAGES)),
    "reason": Field(
        "a reason code",
        "why an envelope was refused, or opened in an emergency",
        _one_of(*REASONS, *EMERGENCIES),
    ),
    "code": Field("a code of errors.CODES, or a label of the metrics below", "why it failed", _CODE),
    "count": Field("whole number below 2^31", "how many", _whole(_LARGEST)),
    "bytes": Field("whole number below 2^31", "size, bytes", _whole(_LARGEST)),
    "ms": Field("whole number below 2^31", "duration, milliseconds", _whole(_LARGEST)),
    "attempt": Field("whole number below 2^31", "which attempt this was, from 1", _whole(_LARGEST)),
    "part": Field("short word", "the part or task of the node", _text(WORD)),
    "port": Field("0 to 65535", "TCP port", _whole(65535)),
}
"""What a caller may log. A field that is not here does not exist."""

OWN_FIELDS: dict[str, str] = {
    "time": "when, UTC, milliseconds",
    "level": "`info`, `warning` or `error`; a library's record may also say `critical`",
    "event": "one of the events below",
    "error": "class of the exception, never its text",
    "where": "module and line: of the innermost gateway frame, otherwise of the innermost frame",
    "logger": "the library that logged",
    "dropped": "how many fields were left out of this line because they broke a rule",
}
"""What the logger itself adds; a caller cannot set these."""

UNREGISTERED = "unregistered-event"

EVENTS: dict[str, str] = {
    "node-started": "The node serves its agencies.",
    "node-stopping": "The node takes nothing new and finishes what is under way.",
    "node-stopped": "The node has stopped in good order.",
    "adapter-refused": "An adapter of another package did not load, or takes a name in use; it is left out.",
    "message-accepted": "A local system's message is sealed and durable; it has its `202`.",
    "message-refused": "A local system's message was refused; `code` says why.",
    "envelope-published": "The transport confirmed an envelope.",
    "publish-deferred": "An envelope was not confirmed and will be published again.",
    "envelope-received": "An envelope was opened, verified and stored.",
    "envelope-duplicate": "An envelope arrived again and was set aside.",
    "envelope-refused": "An envelope that arrived is not acceptable; `reason` says why.",
    "dead-letter-replayed": "An operator had a refused envelope taken again.",
    "reconciled": "After a restore: the peer has said all it knows, what waited for that is handed over.",
    "envelopes-resent": "A peer that was restored lacked envelopes; they are published again.",
    "message-delivered": "The recipient's own system acknowledged a message.",
    "message-rejected": "The recipient's own system rejected a message.",
    "message-expired": "A message was not collected in time.",
    "message-failed": "The sender's node gave a message up.",
    "receipt-recorded": "A receipt from the recipient verified and is kept.",
    "break-glass": "A message was opened in an emergency, here or at its recipient; `code` says which.",
    "receipt-refused": "A receipt that arrived does not verify.",
    "note-sent": "A note to another node, such as a recall, is on its way.",
    "recall-asked": "A local system asked for a message back.",
    "message-recalled": "A message was withdrawn by its sender before it was delivered.",
    "push-deferred": "The agency's own server did not take a message; `code` says why.",
    "push-paused": "The agency's own server does not work: nothing is pushed for a while.",
    "folder-unusable": "A folder of files cannot be read or written; the node goes on trying.",
    "folder-refused": "A file in a folder was refused and put into quarantine; `code` says why.",
    "folder-deferred": "A file in a folder, or a message for it, waits; it is tried again.",
    "receipts-sent": "A batch of receipts is on its way back.",
    "peer-log-forked": "A peer signed a checkpoint that contradicts an earlier one: its past was rewritten.",
    "peer-log-restarted": "A peer's audit log goes on under a new name, as after a restore: ask the peer.",
    "own-log-damaged": "Our audit log lacks entries that it had: it is not signed until they are back.",
    "own-log-contradicted": "A peer keeps a checkpoint of our audit log that the log does not match.",
    "transport-connected": "The transport is usable.",
    "transport-lost": "The transport is not usable; the node goes on trying.",
    "clock-jumped": "The wall clock jumped: nothing expires, nothing new is taken until it can be believed.",
    "store-unavailable": "The store did not take a write.",
    "directory-loaded": "A directory is in use.",
    "directory-refused": "A new directory is not acceptable; the last good one stays in use.",
    "keys-refused": "A file of private keys changed and cannot be used; the keys read before stay in use.",
    "internal-error": "A request or task failed in a way nobody foresaw.",
    "library": "A record or warning of a library, without its text.",
    "unhandled": "An exception nobody caught.",
    UNREGISTERED: "An event that is not in this list was logged: a defect.",
}
"""What can happen, and what it means."""
