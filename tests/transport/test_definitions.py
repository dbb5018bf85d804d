"""Accounts and what they may do, as a document, and how differences read: without a broker."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from gateway.errors import StartupError
from gateway.messages import AgencyId
from gateway.tls import broker_context
from gateway.transport import definitions, drift
from gateway.transport.definitions import OPERATOR
from tests.certificates import Authority

A, B, C = AgencyId("a"), AgencyId("b"), AgencyId("a-b")
LONG = "a-password-of-length"


def permission(name: str, hosted: dict[str, list[AgencyId]] | None = None) -> dict[str, str]:
    accounts = definitions.accounts([A, B, C], hosted or {}, {})
    document = definitions.document(accounts, "v", {})
    (found,) = (one for one in document["permissions"] if one["user"] == name)
    return {kind: found[kind] for kind in ("configure", "write", "read")}


def may(pattern: str, *names: str) -> list[str]:
    """Which of these a pattern allows; RabbitMQ searches, it does not match from the start."""
    return [name for name in names if re.search(pattern, name)]


QUEUES = [f"gateway.{agency}.{lane}" for agency in (A, B, C) for lane in ("messages", "receipts")]
NAMES = [*QUEUES, "gateway", "gateway.dead", "gatewayX", "xgateway", "amq.topic", "amq.default", "amq.gen-x"]


def test_each_agency_reads_its_own_queues_writes_to_the_exchange_and_configures_nothing() -> None:
    found = permission("a")
    assert may(found["read"], *NAMES) == ["gateway.a.messages", "gateway.a.receipts"]
    assert may(found["write"], *NAMES) == ["gateway"]
    assert may(found["configure"], *NAMES) == []


def test_a_node_with_several_agencies_reads_the_queues_of_each() -> None:
    assert may(permission("node", {"node": [A, C]})["read"], *NAMES) == [*QUEUES[:2], *QUEUES[4:]]


def test_the_operator_reads_the_dead_letters_sends_them_again_and_nothing_else() -> None:
    found = permission(OPERATOR)
    assert [may(found[kind], *NAMES) for kind in found] == [[], ["gateway"], ["gateway.dead"]]


@pytest.mark.parametrize(
    ("hosted", "passwords", "why"),
    [
        ({"node": [AgencyId("absent")]}, {}, "not in the directory"),
        ({"node": [A], "other": [A]}, {}, "more than one"),
        ({"a": [B]}, {}, "account of its own"),
        ({OPERATOR: [A]}, {}, "the operator's"),
        ({"a|.*": [A]}, {}, "letters, digits"),
        ({}, {"absent": LONG}, "no such account"),
        ({}, {"a": "short"}, "16 characters"),
        ({}, {"a": ""}, "16 characters"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    hosted: dict[str, list[AgencyId]], passwords: dict[str, str], why: str
) -> None:
    with pytest.raises(StartupError, match=re.escape(why)) as caught:
        definitions.accounts([A, B], hosted, passwords)
    assert "short" not in str(caught.value)


def test_a_password_is_kept_as_the_broker_keeps_it() -> None:
    kept = definitions.password_hash(LONG, b"salt")
    raw = base64.b64decode(kept)
    assert raw == b"salt" + hashlib.sha256(b"salt" + LONG.encode()).digest()
    assert definitions.password_matches(LONG, kept)
    assert not definitions.password_matches(LONG + "x", kept)
    assert not definitions.password_matches(LONG, "not base64")
    assert not definitions.password_matches(LONG, "")


def test_a_password_is_neither_shown_nor_in_the_document() -> None:
    accounts = definitions.accounts([A], {}, {"a": LONG})
    document = definitions.document(accounts, "v", {"a": b"salt"})
    assert LONG not in repr(accounts) + repr(document)
    assert [one["name"] for one in document["users"] if one["password_hash"]] == ["a"]


def test_a_queue_with_fewer_copies_than_the_cluster_could_hold_is_told() -> None:
    accounts = definitions.accounts([A], {}, {})
    wanted = definitions.document(accounts, "v", {})
    live = wanted | {"nodes": [{}] * 5, "queues": [one | {"members": ["x"]} for one in wanted["queues"]]}
    found = drift.differences(wanted, live, accounts)
    assert found[0] == "queue gateway.a.messages: 1 of 3 copies; see `rabbitmq-queues grow`"
    assert len(found) == 3


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    a, b = authority.issue("a"), other.issue("b")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    broker_context(authority.ca, a.cert, a.key)
    for files in [
        (nonsense, None, None),
        (tmp_path / "absent.pem", None, None),
        (authority.ca, a.cert, b.key),
        (authority.ca, nonsense, a.key),
        (authority.ca, a.cert, tmp_path / "absent.pem"),
    ]:
        with pytest.raises(StartupError, match=r"cannot use the .*pem"):
            broker_context(*files)
