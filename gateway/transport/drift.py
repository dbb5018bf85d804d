"""How a live broker differs from the definitions it should follow. Pure; one line for a person each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from gateway.transport.definitions import Account, Document, password_matches

Entry = dict[str, Any]

COPIES: Final = 3
"""Nodes that hold a queue; RabbitMQ's own choice when there are as many."""


def differences(wanted: Document, live: Document, accounts: Sequence[Account]) -> list[str]:
    """What is missing, too much, or different. Empty when the broker is as it should be.

    `live` holds one virtual host, and the accounts of the whole broker.
    """
    # The broker has exchanges of its own, and binds each queue to the nameless one by itself.
    exchanges = [one for one in live["exchanges"] if one["name"] and not one["name"].startswith("amq.")]
    bindings = [one for one in live["bindings"] if one["source"]]
    return [
        *_vhosts(wanted, live),
        *_users(wanted, live, accounts),
        *_compare("permissions of", wanted["permissions"], live["permissions"], lambda one: str(one["user"])),
        *_compare("parameter", wanted["parameters"], live["parameters"], _parameter),
        *_compare("policy", wanted["policies"], live["policies"], _name),
        *_compare("exchange", wanted["exchanges"], exchanges, _name),
        *_compare("queue", wanted["queues"], live["queues"], _name),
        *_copies(live),
        *_compare("binding", wanted["bindings"], bindings, _binding),
    ]


def _vhosts(wanted: Document, live: Document) -> Iterator[str]:
    there = {one["name"]: one for one in live["vhosts"]}
    for one in wanted["vhosts"]:
        if one["name"] not in there:
            yield f"virtual host {one['name']}: missing"
        elif there[one["name"]].get("tracing"):
            yield f"virtual host {one['name']}: tracing is on, which copies every message"


def _users(wanted: Document, live: Document, accounts: Sequence[Account]) -> Iterator[str]:
    there = {one["name"]: one for one in live["users"]}
    passwords = {account.name: account.password for account in accounts}
    for one in wanted["users"]:
        name = one["name"]
        if name not in there:
            yield f"account {name}: missing"
            continue
        found = there[name]
        kept = found.get("password_hash") or ""
        if not passwords[name] and kept:
            yield f"account {name}: has a password, wanted none"
        elif passwords[name] and not password_matches(passwords[name], kept):
            yield f"account {name}: has not the password of its file"
        tags = found.get("tags") or []
        if tags:
            yield f"account {name}: has the tags {_text(tags)}, wanted none"
        yield from _fields(f"account {name}: limits", one["limits"], found.get("limits") or {})


def _copies(live: Document) -> Iterator[str]:
    """A queue made before its cluster was whole stays on the nodes there were, and is lost with them."""
    nodes = min(COPIES, len(live["nodes"]))
    for one in sorted(live["queues"], key=_name):
        members = len(one.get("members", ()))
        if 0 < members < nodes:
            yield f"queue {one['name']}: {members} of {nodes} copies; see `rabbitmq-queues grow`"


def _compare(
    kind: str, wanted: Sequence[Entry], live: Sequence[Entry], key: Callable[[Entry], str]
) -> Iterator[str]:
    there = {key(one): one for one in live}
    for one in wanted:
        name = key(one)
        found = there.pop(name, None)
        if found is None:
            yield f"{kind} {name}: missing"
        else:
            # A live object says more about itself than its definition: how it fares.
            yield from _fields(f"{kind} {name}", one, {field: found.get(field) for field in one})
    for name in sorted(there):
        yield f"{kind} {name}: not wanted"


def _fields(what: str, wanted: Entry, live: Entry) -> Iterator[str]:
    for field in sorted(wanted.keys() | live.keys()):
        want, found = wanted.get(field), live.get(field)
        if isinstance(want, dict) and isinstance(found, dict):
            yield from _fields(f"{what}: {field}", want, found)
        elif want != found:
            yield f"{what}: {field} is {_text(found)}, wanted {_text(want)}"


def _text(value: object) -> str:
    return "absent" if value is None else json.dumps(value)


def _name(one: Entry) -> str:
    return str(one["name"])


def _parameter(one: Entry) -> str:
    return f"{one['component']} {one['name']}"


def _binding(one: Entry) -> str:
    extra = f" {_text(one['arguments'])}" if one["arguments"] else ""
    return f"{one['source']} -> {one['destination_type']} {one['destination']} ({one['routing_key']}){extra}"
