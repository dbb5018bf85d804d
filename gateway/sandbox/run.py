"""Sets the sandbox up in a folder, runs both nodes in this process, and keeps the book of what was tried."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from gateway import __version__, config
from gateway.crypto.labels import CONFORMANCE_CONTEXT
from gateway.crypto.statement import sign_statement
from gateway.engine.tasks import Tasks
from gateway.errors import StartupError
from gateway.http import auth
from gateway.http.client import Client
from gateway.http.ports import Permission
from gateway.messages import AgencyId, LawfulBasis, Purpose, Sector
from gateway.node import Node
from gateway.observability import logs
from gateway.provisioning import NewAgency, NewAgreement, agree, init_node
from gateway.sandbox.exercises import ACCEPTS, EXERCISES, PARTNERS, STRANGER, Progress
from gateway.sandbox.partner import Follower, Partner
from gateway.schemas import files

YOURS: Final = "your-node"
THEIRS: Final = "partners"
YOUR_TOKEN: Final = Path("token")
PROGRESS: Final = "progress.json"
REPORT: Final = "report.json"
YEARS: Final = timedelta(days=3650)


async def run_sandbox(
    folder: Path,
    you: NewAgency,
    *,
    port: int,
    delay: float,
    say: Callable[[str], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Run until SIGTERM, Ctrl-C or `stop`. `delay`: seconds of the slow partner. Raises StartupError."""
    if not (folder / YOURS).exists():
        _set_up(folder, you, port)
    settings = config.load(folder / YOURS).with_ports(port or None, None)
    agency = AgencyId(settings.node.agencies[0])
    stop = stop or asyncio.Event()
    with (folder / "sandbox.log").open("a") as log:
        logs.configure(log)
        async with _running(Node(settings)) as yours, _running(Node(config.load(folder / THEIRS))) as theirs:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await _play(folder, agency, yours, theirs, delay=delay, say=say, stop=stop)


async def _play(
    folder: Path,
    agency: AgencyId,
    yours: Node,
    theirs: Node,
    *,
    delay: float,
    say: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    progress = _load(folder)
    url, there = f"http://127.0.0.1:{yours.port}", f"http://127.0.0.1:{theirs.port}"
    you = Client(url, (folder / YOUR_TOKEN).read_text().strip())
    settings = config.load(folder / THEIRS)
    settings.path(settings.node.tokens).unlink(missing_ok=True)  # those of the last run
    partners = {name: Client(there, _token(settings, name)) for name in PARTNERS if name != STRANGER}
    tasks = Tasks(
        on_failure=lambda name, error: logs.get_logger().error("internal-error", part=name, exc=error)
    )

    def changed() -> None:
        _keep(folder, agency, progress)
        say(f"  {len(progress.met)} of {len(EXERCISES)}: {EXERCISES[list(progress.met)[-1]]}")

    for partner, client in partners.items():
        tasks.spawn(Partner(partner, client, agency, progress, delay=delay, now=_now).run, partner)
    follower = Follower(you, partners, progress, now=_now)
    tasks.spawn(lambda: follower.run(changed), "follower")
    _keep(folder, agency, progress)
    _welcome(folder, agency, url, progress, say)
    try:
        await stop.wait()
    finally:
        await tasks.cancel()
        for client in (you, *partners.values()):
            await client.close()
        _keep(folder, agency, progress)
    say(f"report: {folder / REPORT}, {len(progress.met)} of {len(EXERCISES)} exercises")


def _set_up(folder: Path, you: NewAgency, port: int) -> None:
    """Keys, databases, directory and agreements of both nodes, and a token for the developer's system."""
    directory, spool = folder / "directory.json", folder / "spool"
    if you.id in PARTNERS:
        raise StartupError("that name is a partner's: choose another --agency")
    init_node(folder / YOURS, you, directory=directory, spool=spool, port=port, admin_port=0)
    for name in PARTNERS:
        init_node(
            folder / THEIRS,
            NewAgency(name, name.replace("-", " ").capitalize(), Sector.LOCAL_AUTHORITY),
            directory=directory,
            spool=spool,
            port=0,
            admin_port=0,
        )
    now = datetime.now(UTC) - timedelta(hours=1)
    friends = tuple(name for name in PARTNERS if name != STRANGER)
    types, every = tuple(files.TYPES), (tuple(Purpose), tuple(LawfulBasis))
    for direction, senders, recipients in (("you", (you.id,), friends), ("partners", friends, (you.id,))):
        agree(
            directory,
            NewAgreement(f"sandbox-{direction}", senders, recipients, types, *every, now, now + YEARS),
            replies=False,
        )
    _write(folder / YOUR_TOKEN, _token(config.load(folder / YOURS), you.id))


def _token(settings: config.Settings, agency: AgencyId) -> str:
    return auth.create_token(
        settings.path(settings.node.tokens),
        agency,
        frozenset({Permission.SEND, Permission.RECEIVE}),
        int(datetime.now(UTC).timestamp() * 1000),
    )


@asynccontextmanager
async def _running(node: Node) -> AsyncIterator[Node]:
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


def _load(folder: Path) -> Progress:
    file = folder / PROGRESS
    return Progress(**json.loads(file.read_text("utf-8"))) if file.exists() else Progress()


def _keep(folder: Path, agency: AgencyId, progress: Progress) -> None:
    """What was seen, and the report on it, signed with the key of the partner that accepts."""
    _write(folder / PROGRESS, json.dumps(asdict(progress)))
    settings = config.load(folder / THEIRS)
    signer = settings.key_store().load(ACCEPTS).signing
    report = progress.report(agency, __version__, _now())
    document = {"report": report, **sign_statement(report, signer, CONFORMANCE_CONTEXT)}
    _write(folder / REPORT, json.dumps(document, indent=1))


def _write(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(f"{text}\n", "utf-8")
    os.replace(part, file)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _welcome(
    folder: Path, agency: AgencyId, url: str, progress: Progress, say: Callable[[str], None]
) -> None:
    say(f"The node of {agency} answers at {url} (API: {url}/docs); its token is in {folder / YOUR_TOKEN}.")
    say("Nothing leaves this machine. Send to:")
    for name, what in PARTNERS.items():
        say(f"  {name:<18}{what}")
    say("Try:")
    say(f"  gateway send FILE --url {url} --token-file {folder / YOUR_TOKEN} \\")
    say(f"      --to {ACCEPTS} --purpose early-help --lawful-basis public-task")
    say(f"  gateway inbox --url {url} --token-file {folder / YOUR_TOKEN}")
    say(f"{len(progress.met)} of {len(EXERCISES)} exercises so far; left:")
    for exercise in progress.left:
        say(f"  {EXERCISES[exercise]}")
    say(f"Ctrl-C stops it. The signed report is {folder / REPORT}; what was set up stays in {folder}.")
