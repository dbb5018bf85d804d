"""The error tree: stable code, HTTP status, what to do next. Never a value from a message.

    GatewayError
      ├── RefusedByUs      the caller must change something (4xx)
      ├── RefusedByPeer    an envelope that arrived is not acceptable (a receipt says so)
      └── Unavailable      try again later (429, 503); carries Retry-After

`CODES` is the whole list of problem types: the HTTP layer, the docs and the tests read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.messages import Header, Problem, Reason


@dataclass(frozen=True, slots=True)
class Code:
    """One stable problem type (RFC 9457 section 3.1.1)."""

    status: int
    title: str
    hint: str


CODES: dict[str, Code] = {
    # what the request itself lacks
    "not-authenticated": Code(
        401,
        "No valid access token",
        "Send `Authorization: Bearer` with a token made by `gateway token create`.",
    ),
    "not-permitted": Code(
        403,
        "The token does not allow this",
        "Use a token of the right agency with the permission this needs.",
    ),
    "not-found": Code(404, "Not found", "Check the identifier; a token sees only its own agency's messages."),
    "method-not-allowed": Code(405, "Method not allowed", "See /openapi.json for the methods of this path."),
    "not-acceptable": Code(
        406,
        "No adapter writes the format asked for",
        "Ask for application/json, or for a format the message's type can be written in.",
    ),
    "request-timeout": Code(
        408, "The body did not arrive in time", "Send it again with the same Idempotency-Key."
    ),
    "body-too-large": Code(
        413,
        "The body is larger than this node takes",
        "Send large files as attachments, within the limits the node states.",
    ),
    "incomplete-body": Code(
        400, "The body ended early", "Send it again, whole, with the same Idempotency-Key."
    ),
    "bad-request": Code(400, "The request is not well formed", "See the problems listed and /openapi.json."),
    "missing-parameter": Code(
        400, "A required parameter is missing", "See the problems listed and /openapi.json."
    ),
    "idempotency-key-required": Code(
        400,
        "Idempotency-Key is required",
        "Send a fresh random key with each new message and the same key with each retry.",
    ),
    "idempotency-key-reused": Code(
        422, "This Idempotency-Key came with a different request", "Use a fresh key for a new message."
    ),
    # formats and content
    "unsupported-format": Code(
        415,
        "No adapter reads this format",
        "Set Content-Type to a format the node lists, or name the adapter.",
    ),
    "ambiguous-format": Code(
        400, "More than one adapter reads this format", "Name one with the `adapter` parameter."
    ),
    "malformed-body": Code(
        400, "The body cannot be parsed", "Send well-formed, UTF-8 encoded content of the stated type."
    ),
    "unknown-type": Code(
        422,
        "Unknown message type or version",
        "See docs/messages.md for the types and versions this node knows.",
    ),
    "invalid-content": Code(
        422,
        "The content does not satisfy the rules of its type",
        "See the problems listed: each names the field and the rule.",
    ),
    "unmappable-content": Code(
        422, "The adapter cannot map this document", "See the problems listed and the adapter's mapping page."
    ),
    "attachment-mismatch": Code(
        422, "An attachment is not what was announced", "Check Content-Digest (RFC 9530) and send it again."
    ),
    # policy
    "unknown-recipient": Code(
        422,
        "No such agency in the directory",
        "Check the recipient's identifier with `gateway directory show`.",
    ),
    "unknown-purpose": Code(422, "Unknown purpose", "Use one of the purposes listed in docs/messages.md."),
    "unknown-lawful-basis": Code(
        422, "Unknown lawful basis", "Use one of the lawful bases listed in docs/messages.md."
    ),
    "type-not-accepted": Code(
        403,
        "The recipient does not accept this message type",
        "Ask the recipient which types and versions it accepts.",
    ),
    "no-agreement": Code(
        403,
        "No sharing agreement allows this",
        "The agencies' information governance leads must agree it and have it entered in the directory.",
    ),
    "agreement-not-in-force": Code(
        403, "The sharing agreement is not in force today", "Have the agreement renewed in the directory."
    ),
    "no-suitable-key": Code(
        403,
        "The recipient has no key that this message may be sealed to",
        "The recipient must add a key of a suite that the sharing agreement and your node allow: docs/keys.md.",
    ),
    "clock-unsure": Code(
        503,
        "The node's clock jumped",
        "The operator must look at the node's time; it goes on by itself then.",
    ),
    "directory-expired": Code(
        503, "The directory has expired", "The operator must install a current directory."
    ),
    # inbox
    "already-final": Code(
        409, "The message has already been answered", "Read its status; a final answer cannot change."
    ),
    "unknown-reason": Code(422, "Unknown reason code", "Use one of the reason codes listed in docs/api.md."),
    "expired": Code(
        410,
        "The message expired before it was acknowledged",
        "The sender has been told; it must be sent again.",
    ),
    # capacity and faults
    "rate-limited": Code(
        429, "Too many requests", "Wait as Retry-After says, then repeat with the same Idempotency-Key."
    ),
    "outbox-full": Code(
        503,
        "The node has too much waiting to be sent",
        "Wait as Retry-After says, then repeat with the same Idempotency-Key.",
    ),
    "busy": Code(
        503,
        "The node is at its limit",
        "Wait as Retry-After says, then repeat with the same Idempotency-Key.",
    ),
    "store-unavailable": Code(
        503,
        "The node cannot store anything now",
        "Wait as Retry-After says; the operator's /readyz says more.",
    ),
    "key-token-unavailable": Code(
        503,
        "The node cannot reach the token that holds its keys",
        "Wait as Retry-After says, then repeat with the same Idempotency-Key; /readyz says more.",
    ),
    "shutting-down": Code(
        503, "The node is stopping", "Wait as Retry-After says, then repeat with the same Idempotency-Key."
    ),
    "internal-error": Code(
        500,
        "The node failed",
        "Repeat with the same Idempotency-Key; if it fails again tell the operator the time and path.",
    ),
}


class GatewayError(Exception):
    """Base of everything the product raises on purpose. `code` is a key of CODES."""

    def __init__(
        self, code: str, *, problems: Sequence[Problem] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.problems = tuple(problems)
        self.retry_after = retry_after
        """Seconds, for 429 and 503."""

    @property
    def status(self) -> int:
        """The HTTP status this maps to."""
        return CODES[self.code].status

    @property
    def title(self) -> str:
        """What is wrong, in a few words."""
        return CODES[self.code].title

    @property
    def hint(self) -> str:
        """What to do next."""
        return CODES[self.code].hint


class RefusedByUs(GatewayError):
    """The caller asked for something this node will not do."""


class Unavailable(GatewayError):
    """The node cannot do it now; nothing was accepted, and the same request may succeed later."""

    def __init__(self, code: str, *, retry_after: int = 5) -> None:
        super().__init__(code, retry_after=retry_after)


class RefusedByPeer(Exception):
    """An envelope that arrived is refused. `header` is set only if its signature was verified."""

    def __init__(self, reason: Reason, header: Header | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.header = header


class ReceiptInvalid(Exception):
    """A receipt does not verify. The argument is one constant sentence."""


class StartupError(Exception):
    """The node or command cannot start; the message is one line for a person, with what to do next."""
