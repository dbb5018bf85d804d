"""NHS England's own MESH client, unmodified, against two nodes in processes of their own over RabbitMQ."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from mesh_client import MeshClient, MeshError

from bench.nodes import RECIPIENT, SENDER, BenchNode, provision_pair, restart, start
from gateway import config
from gateway.messages import LawfulBasis, Purpose
from gateway.provisioning import NewAgreement, agree
from gateway.transport import topology
from tests.certificates import Authority
from tests.road import referral

T = TypeVar("T")
MIB = 1024 * 1024
HERE, THERE, OTHER = "X26ABC1", "X26ABC2", "X26ABC3"
AGENCIES = {HERE: SENDER, THERE: RECIPIENT}
WORKFLOW, REFERRAL = "TEST_WORKFLOW", "TEST_REFERRAL"
SETTINGS = """
[mesh]
shared_key_file = "shared-key"
upload_timeout = 600

[[mesh.mailboxes]]
id = "{own}"
agency = "{agency}"
name = "Mailbox {own}"
ods_code = "X26"
password_file = "mailbox-password"

[[mesh.partners]]
id = "{partner}"
agency = "{other}"
name = "Mailbox {partner}"
ods_code = "X27"

[[mesh.partners]]
id = "X26ABC3"
agency = "nobody-here"

[[mesh.workflows]]
id = "TEST_WORKFLOW"
purpose = "health-care"
lawful_basis = "public-task"

[[mesh.workflows]]
id = "TEST_REFERRAL"
purpose = "prevent"
lawful_basis = "public-task"
type = "referral"
media_type = "application/json"
receivers = ["X26ABC2"]

[times]
tick = 0.2
expires_in = {expires_in}
"""


def set_up(folder: Path, broker: str, *, expires_in: int = 3600, http: str = "") -> None:
    """Two nodes with a mailbox each."""
    provision_pair(folder, broker)
    today = datetime.now(UTC) - timedelta(hours=1)
    both = (SENDER, RECIPIENT)
    for kind in ("file", "referral"):
        agree(
            folder / "directory.json",
            NewAgreement(
                kind,
                both,
                both,
                (kind,),
                tuple(Purpose),
                tuple(LawfulBasis),
                today,
                today + timedelta(days=2),
            ),
            replies=False,
        )
    for own, partner in ((HERE, THERE), (THERE, HERE)):
        node = folder / AGENCIES[own]
        file = node / config.FILE_NAME
        text = SETTINGS.format(
            own=own,
            partner=partner,
            agency=AGENCIES[own],
            other=AGENCIES[partner],
            expires_in=expires_in,
        )
        file.write_text(file.read_text().replace("[http]\n", f"[http]\n{http}") + text)
        for name, secret in (("shared-key", "BackBone"), ("mailbox-password", f"password of {own}")):
            (node / name).touch(mode=0o600)
            (node / name).write_text(secret)


def client(node: BenchNode, mailbox: str, **change: Any) -> MeshClient:
    arguments: dict[str, Any] = {"password": f"password of {mailbox}", "shared_key": b"BackBone"}
    return MeshClient(node.url, mailbox, max_retries=0, **(arguments | change))


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[list[BenchNode]]:
    """Two nodes for all tests of this file: each test finds its messages by their identifier."""
    rabbit = request.getfixturevalue("rabbit")
    broker, folder = rabbit.create_vhost(), tmp_path_factory.mktemp("mesh")
    asyncio.run(topology.declare(broker, [SENDER, RECIPIENT]))
    set_up(folder, broker)
    nodes = [start(folder / SENDER), start(folder / RECIPIENT)]
    yield nodes
    for node in nodes:
        node.stop()


@pytest.fixture
def here(pair: list[BenchNode]) -> Iterator[MeshClient]:
    with client(pair[0], HERE) as found:
        yield found


@pytest.fixture
def there(pair: list[BenchNode]) -> Iterator[MeshClient]:
    with client(pair[1], THERE) as found:
        yield found


def until(condition: Callable[[], T], what: str, timeout: float = 30.0) -> T:
    """Wait for a value that counts as true."""
    ends = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < ends, f"never happened: {what}"
        time.sleep(0.05)
    return value


def arrived(there: MeshClient, message_id: str, timeout: float = 30.0) -> None:
    until(lambda: message_id in there.list_messages(max_results=5000), "arrival", timeout)


def test_the_handshake_succeeds_and_the_node_answers_a_ping(here: MeshClient) -> None:
    assert here.handshake() == b"hello"
    assert here.ping()["internalID"]


def test_a_wrong_password_or_key_is_refused(pair: list[BenchNode]) -> None:
    for change in ({"password": "canary"}, {"shared_key": b"canary"}):
        with client(pair[0], HERE, **change) as wrong, pytest.raises(requests.HTTPError) as refused:
            wrong.handshake()
        answer = refused.value.response
        assert answer is not None
        assert answer.status_code == 403
        assert "canary" not in answer.text


def test_a_message_is_sent_listed_retrieved_acknowledged_and_tracked(
    here: MeshClient, there: MeshClient
) -> None:
    message_id = here.send_message(
        THERE,
        b"id,outcome\n1,seen\n",
        workflow_id=WORKFLOW,
        filename="list.csv",
        local_id="local-1",
        subject="The list",
        content_type="text/csv",
        checksum="b10a8db164e0754105b7a99be72e3fe5",
        encrypted=True,
        compressed=True,
        partner_id="partner-1",
    )
    assert here.track_message(message_id)["status"] == "accepted"
    arrived(there, message_id)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        assert there.count_messages() >= 1
    with there.retrieve_message(message_id) as message:
        assert message.read() == b"id,outcome\n1,seen\n"
        assert (message.sender, message.recipient) == (HERE, THERE)
        assert (message.workflow_id, message.filename, message.local_id, message.subject) == (
            WORKFLOW,
            "list.csv",
            "local-1",
            "The list",
        )
        assert (message.message_id, message.message_type) == (message_id, "DATA")
        assert (message.content_type, message.partner_id) == ("text/csv", "partner-1")
        assert message.mex_header("content-checksum") == "b10a8db164e0754105b7a99be72e3fe5"
        assert message.encrypted
        assert message.compressed
    assert message_id not in there.list_messages()  # closing it acknowledged it
    until(lambda: here.track_message(message_id)["status"] == "acknowledged", "acknowledged")
    tracked = here.track_message(message_id)
    assert tracked["local_id"] == "local-1"
    assert tracked["filename"] == "list.csv"
    assert (tracked["workflow_id"], tracked["recipient"]) == (WORKFLOW, THERE)
    assert (tracked["recipient_name"], tracked["recipient_ods_code"]) == ("Mailbox X26ABC2", "X27")
    assert tracked["status_success"] is True
    there.acknowledge_message(message_id)  # again: the same answer


def test_the_same_local_id_is_sent_once(here: MeshClient, there: MeshClient) -> None:
    send = partial(here.send_message, THERE, workflow_id=WORKFLOW, local_id="local-2")
    message_id = send(b"once")
    assert send(b"once") == message_id
    with pytest.raises(MeshError) as refused:
        send(b"canary")
    assert refused.value.args[1]["detail"][0]["code"] == "idempotency-key-reused"
    assert "canary" not in str(refused.value.args)
    arrived(there, message_id)


@pytest.mark.parametrize("compress", [False, True])
def test_a_message_in_chunks_arrives_whole(here: MeshClient, there: MeshClient, *, compress: bool) -> None:
    data = random.Random(1).randbytes(3 * MIB + 17)
    message_id = here.send_message(
        THERE,
        data,
        workflow_id=WORKFLOW,
        filename="scan.bin",
        max_chunk_size=MIB,
        compress=compress,
        local_id=f"chunked-{compress}",
    )
    arrived(there, message_id)
    first = there.retrieve_message_chunk(message_id, 1)
    assert (first.status_code, first.headers["Mex-Chunk-Range"]) == (206, "1:4")
    assert (first.headers.get("Content-Encoding") == "gzip") is compress
    first.close()
    with there.retrieve_message(message_id) as message:
        assert message.filename == "scan.bin"
        assert hashlib.sha256(message.read()).digest() == hashlib.sha256(data).digest()
    # The same again, by a sender that never saw the answer: every chunk, and still one message.
    again = here.send_message(
        THERE,
        data,
        workflow_id=WORKFLOW,
        filename="scan.bin",
        max_chunk_size=MIB,
        compress=compress,
        local_id=f"chunked-{compress}",
    )
    assert again == message_id


def test_a_message_sent_in_gzip_reaches_a_client_that_takes_none(here: MeshClient, there: MeshClient) -> None:
    message_id = here.send_message(THERE, b"plain " * 1000, workflow_id=WORKFLOW, compress=True)
    arrived(there, message_id)
    there._session.headers["Accept-Encoding"] = "identity"
    with there.retrieve_message(message_id) as message:
        assert message.read() == b"plain " * 1000
        assert not message.compressed


def test_a_gzip_file_stays_a_gzip_file(here: MeshClient, there: MeshClient) -> None:
    data = gzip.compress(b"archive")
    message_id = here.send_message(
        THERE, data, workflow_id=WORKFLOW, compressed=True, content_type="application/gzip"
    )
    arrived(there, message_id)
    with there.retrieve_message(message_id) as message:
        assert message.compressed
        assert message.read() == data


def test_all_pages_of_an_inbox_are_walked_and_filtered(here: MeshClient, there: MeshClient) -> None:
    sent = [here.send_message(THERE, b"x", workflow_id=WORKFLOW) for _ in range(12)]
    other = here.send_message(THERE, json.dumps(referral()).encode(), workflow_id=REFERRAL)
    for message_id in [*sent, other]:
        arrived(there, message_id)
    walked = list(there.iterate_message_ids(batch_size=10))
    assert len(walked) == len(set(walked))
    assert {*sent, other} <= set(walked)
    assert set(sent) <= set(there.iterate_message_ids(workflow_filter="TEST_W*", batch_size=10))
    only = list(there.iterate_message_ids(workflow_filter=f"!{WORKFLOW}", batch_size=10))
    assert other in only
    assert not set(sent) & set(only)


def test_a_workflow_with_an_adapter_carries_a_typed_message(here: MeshClient, there: MeshClient) -> None:
    body = json.dumps(referral()).encode()
    message_id = here.send_message(THERE, body, workflow_id=REFERRAL, local_id="referral-1")
    arrived(there, message_id)
    with there.retrieve_message(message_id) as message:
        assert message.read() == body
        assert (message.workflow_id, message.content_type) == (REFERRAL, "application/json")
    with pytest.raises(MeshError) as refused:
        here.send_message(THERE, b'{"type": "referral", "version": 1, "canary": 1}', workflow_id=REFERRAL)
    assert refused.value.args[1]["detail"][0]["code"] == "invalid-content"


@pytest.mark.parametrize(
    ("to", "workflow", "code"),
    [("X26NOBODY", WORKFLOW, "12"), (OTHER, WORKFLOW, "12"), (THERE, "OTHER", "17"), (HERE, REFERRAL, "17")],
)
def test_what_cannot_be_sent_is_refused_with_its_code(
    here: MeshClient, to: str, workflow: str, code: str
) -> None:
    with pytest.raises(MeshError) as refused:
        here.send_message(to, b"canary", workflow_id=workflow)
    assert refused.value.args[1]["detail"][0]["code"] == code


def test_mailboxes_are_looked_up(here: MeshClient) -> None:
    found = here.lookup_endpoint("X27", WORKFLOW)["results"]
    assert found == [{"mailbox_id": THERE, "mailbox_name": "Mailbox X26ABC2"}]
    assert here.lookup_endpoint("X99", WORKFLOW)["results"] == []
    assert here.lookup_endpoint("X26", REFERRAL)["results"] == []


async def test_what_expires_comes_back_as_a_report(tmp_path: Path, broker_url: str) -> None:
    await topology.declare(broker_url, [SENDER, RECIPIENT])
    set_up(tmp_path, broker_url, expires_in=2)
    nodes = [start(tmp_path / SENDER), start(tmp_path / RECIPIENT)]
    try:
        await asyncio.to_thread(_expire, nodes[0])
    finally:
        for node in nodes:
            node.stop()


def _expire(node: BenchNode) -> None:
    with client(node, HERE) as here:
        message_id = here.send_message(
            THERE, b"late", workflow_id=WORKFLOW, local_id="late-1", subject="Late"
        )
        (report_id,) = until(here.list_messages, "a report")
        assert report_id != message_id
        report = here.retrieve_message(report_id)
        assert report.read() == b""
        assert (report.message_type, report.local_id, report.subject) == ("REPORT", "late-1", "Late")
        headers = dict(report.mex_headers())
        assert headers["linkedmsgid"] == message_id
        assert (headers["statuscode"], headers["statussuccess"]) == ("14", "ERROR")
        assert headers["statusdescription"] == "Undelivered message: expired"
        tracked = here.track_message(message_id)
        assert (tracked["status"], tracked["status_success"]) == ("undeliverable", False)
        report.acknowledge()
        assert here.list_messages() == []


async def test_a_message_that_was_accepted_survives_kill_9(tmp_path: Path, broker_url: str) -> None:
    await topology.declare(broker_url, [SENDER, RECIPIENT])
    set_up(tmp_path, broker_url)
    nodes = [start(tmp_path / SENDER), start(tmp_path / RECIPIENT)]
    try:
        nodes = await asyncio.to_thread(_kill, nodes)
    finally:
        for node in nodes:
            node.stop()


def _kill(nodes: list[BenchNode]) -> list[BenchNode]:
    data = random.Random(2).randbytes(2 * MIB)
    with client(nodes[0], HERE) as here:
        token = here._session.auth
        message_id = here.send_message(THERE, data, workflow_id=WORKFLOW, max_chunk_size=MIB)
        used = token.generate_token()
        url = f"{here._url}/messageexchange/{HERE}"
        assert requests.post(url, headers={"Authorization": used}, timeout=10).status_code == 200
    nodes[0].process.kill()
    nodes[0].process.wait(30)
    nodes[0] = restart(nodes[0])
    assert requests.post(url, headers={"Authorization": used}, timeout=10).status_code == 403
    with client(nodes[0], HERE) as here, client(nodes[1], THERE) as there:
        arrived(there, message_id)
        with there.retrieve_message(message_id) as message:
            assert message.read() == data
        until(lambda: here.track_message(message_id)["status"] == "acknowledged", "acknowledged")
    return nodes


async def test_it_speaks_https_with_certificates_on_both_sides(tmp_path: Path, broker_url: str) -> None:
    authority = Authority(tmp_path / "tls")
    server, mine = authority.issue("node"), authority.issue("client")
    settings = f'cert_file = "{server.cert}"\nkey_file = "{server.key}"\nclient_ca_file = "{authority.ca}"\n'
    await topology.declare(broker_url, [SENDER, RECIPIENT])
    set_up(tmp_path, broker_url, http=settings)
    node = start(tmp_path / SENDER)
    node.url = node.url.replace("http://", "https://")
    try:
        tls: dict[str, Any] = {"verify": str(authority.ca), "cert": (str(mine.cert), str(mine.key))}
        with client(node, HERE, **tls) as here:
            assert await asyncio.to_thread(here.handshake) == b"hello"
        with client(node, HERE, **(tls | {"cert": None})) as here, pytest.raises(requests.ConnectionError):
            await asyncio.to_thread(here.handshake)
    finally:
        node.stop()


def test_a_hundred_megabytes_cross_in_less_than_three_hundred_of_memory(
    pair: list[BenchNode], here: MeshClient, there: MeshClient, tmp_path: Path
) -> None:
    noise, file, digest = random.Random(3), tmp_path / "scan.bin", hashlib.sha256()
    with file.open("wb") as out:
        for _ in range(100):
            piece = noise.randbytes(MIB)
            digest.update(piece)
            out.write(piece)
    with file.open("rb") as data:
        message_id = here.send_message(
            THERE, data, workflow_id=WORKFLOW, filename="scan.bin", max_chunk_size=30 * MIB
        )
    arrived(there, message_id, timeout=120)
    received = hashlib.sha256()
    with there.retrieve_message(message_id) as message:
        while piece := message.read(MIB):
            received.update(piece)
    assert received.digest() == digest.digest()
    for node in pair:
        assert node.peak() < 300 * MIB
