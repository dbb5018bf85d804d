"""The document a broker is set up from: topology.py's exchanges and queues, one account for each agency, and
what that account may do. Pure: management.py sends it, drift.py compares it.

An account reads its own queues, writes to the one exchange, and configures nothing. So whoever takes an
agency's node over can neither read what goes to others, nor make, bind, empty or delete anything.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import StartupError
from gateway.messages import AGENCY_ID, AgencyId
from gateway.transport import topology
from gateway.transport.base import Lane

VHOST: Final = "gateway"
"""The virtual host, unless the operator says otherwise."""
OPERATOR: Final = "gateway-operator"
"""The account that may read the dead letters and send them again, and nothing else."""
LIMITS: Final = "gateway-limits"
"""The operator policy that bounds an agency's queues even if they were declared without limits."""

CONNECTIONS: Final = 16
"""Connections of one account: two for each process of a node, with room for a restart."""
SHORTEST_PASSWORD: Final = 16
"""Characters. The broker keeps one round of SHA-256, so only length protects a password."""

_NOTHING: Final = "^$"
_HASHING: Final = "rabbit_password_hashing_sha256"

Document = dict[str, list[dict[str, Any]]]
"""RabbitMQ's definitions: lists of objects under `vhosts`, `users`, `permissions`, `queues` and so on."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who connects, and which agencies it serves. A certificate's CN is the account's name."""

    name: str
    agencies: tuple[AgencyId, ...] = ()
    password: str = field(default="", repr=False)
    """Empty: only by certificate."""


def accounts(
    agencies: Collection[AgencyId], hosted: Mapping[str, Sequence[AgencyId]], passwords: Mapping[str, str]
) -> list[Account]:
    """One account for each agency, except that a node named in `hosted` has one for all it serves.

    Raises StartupError when that does not fit together.
    """
    mapping = {name: tuple(served) for name, served in hosted.items()}
    taken = [agency for served in mapping.values() for agency in served]
    for agency in taken:
        if agency not in agencies:
            raise StartupError(f"account for {agency}: it is not in the directory")
        if taken.count(agency) > 1:
            raise StartupError(f"account for {agency}: it is served by more than one")
    for agency in set(agencies).difference(taken):
        if agency in mapping:
            raise StartupError(f"account {agency}: the agency of that name has an account of its own")
        mapping[agency] = (agency,)
    if OPERATOR in mapping:
        raise StartupError(f"account {OPERATOR}: the name is the operator's")
    mapping[OPERATOR] = ()
    _check_names(mapping, passwords)
    return [Account(name, mapping[name], passwords.get(name, "")) for name in sorted(mapping)]


def _check_names(names: Collection[str], passwords: Mapping[str, str]) -> None:
    for name in names:
        if not AGENCY_ID.fullmatch(name):
            raise StartupError(f"account {name}: lower-case letters, digits and hyphens, 63 at most")
    for name, password in passwords.items():
        if name not in names:
            raise StartupError(f"password of {name}: there is no such account")
        if len(password) < SHORTEST_PASSWORD:
            raise StartupError(f"password of {name}: {SHORTEST_PASSWORD} characters or more, and random")


def document(accounts: Sequence[Account], vhost: str, salts: Mapping[str, bytes]) -> Document:
    """Everything the broker should hold. `salts` has four random bytes for each account with a password."""
    agencies = sorted(agency for account in accounts for agency in account.agencies)
    here = {"vhost": vhost}
    queue = here | {"durable": True, "auto_delete": False}
    exchange = queue | {"internal": False, "arguments": {}}
    binding = here | {"destination_type": "queue", "arguments": {}}
    lanes = [(agency, lane) for agency in agencies for lane in Lane]
    return {
        "vhosts": [{"name": vhost}],
        "users": [_user(account, salts.get(account.name, b"")) for account in accounts],
        "permissions": [here | _permission(account) for account in accounts],
        "parameters": [here | _limits()],
        "policies": [],
        "exchanges": [
            exchange | {"name": topology.EXCHANGE, "type": "direct"},
            exchange | {"name": topology.DEAD, "type": "fanout"},
        ],
        "queues": [
            queue | {"name": topology.DEAD, "arguments": topology.dead_arguments()},
            *(
                queue
                | {"name": topology.queue_name(agency, lane), "arguments": topology.queue_arguments(lane)}
                for agency, lane in lanes
            ),
        ],
        "bindings": [
            binding | {"source": topology.DEAD, "destination": topology.DEAD, "routing_key": ""},
            *(
                binding
                | {
                    "source": topology.EXCHANGE,
                    "destination": topology.queue_name(agency, lane),
                    "routing_key": topology.routing_key(agency, lane),
                }
                for agency, lane in lanes
            ),
        ],
    }


def password_hash(password: str, salt: bytes) -> str:
    """As the broker keeps it: a salt of four bytes and one SHA-256."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def password_matches(password: str, kept: str) -> bool:
    """Whether the broker's hash is of this password."""
    try:
        salt = base64.b64decode(kept, validate=True)[:4]
    except ValueError:
        return False
    return hmac.compare_digest(password_hash(password, salt), kept)


def _user(account: Account, salt: bytes) -> dict[str, Any]:
    # To publish, its successor while it ends, one for each queue.
    channels = CONNECTIONS * (2 + len(Lane) * max(1, len(account.agencies)))
    return {
        "name": account.name,
        # Empty means that no password is ever right; a certificate still is.
        "password_hash": password_hash(account.password, salt) if account.password else "",
        "hashing_algorithm": _HASHING,
        "tags": [],
        "limits": {"max-connections": CONNECTIONS, "max-channels": channels},
    }


def _permission(account: Account) -> dict[str, Any]:
    if account.name == OPERATOR:
        return {
            "user": OPERATOR,
            "configure": _NOTHING,
            # To send one again. Who writes here can add ciphertext that no node accepts, and read nothing.
            "write": _only(topology.EXCHANGE),
            "read": _only(topology.DEAD),
        }
    queues = [topology.queue_name(agency, lane) for agency in account.agencies for lane in Lane]
    return {
        "user": account.name,
        "configure": _NOTHING,
        "write": _only(topology.EXCHANGE),
        "read": _only(*queues),
    }


def _only(*names: str) -> str:
    """A pattern of exactly these names, which hold letters, digits, hyphens and dots."""
    return f"^({'|'.join(name.replace('.', '[.]') for name in names)})$"


def _limits() -> dict[str, Any]:
    return {
        "component": "operator_policy",
        "name": LIMITS,
        "value": {
            "pattern": f"^{topology.EXCHANGE}[.].+[.]({'|'.join(lane.value for lane in Lane)})$",
            "apply-to": "queues",
            "priority": 0,
            "definition": {
                "max-length": max(topology.MAX_LENGTH.values()),
                "max-length-bytes": topology.MAX_BYTES,
                "delivery-limit": topology.DELIVERY_LIMIT,
            },
        },
    }
