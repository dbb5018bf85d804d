"""Builds one node from its settings and runs it; the only file that knows all the parts."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.adapters import Registry
from gateway.config import Settings
from gateway.config.faces import MeshPartner, MeshSection
from gateway.directory.opening import open_directory
from gateway.engine import recall, receipting, reconcile, witness
from gateway.engine.audit import Auditor
from gateway.engine.chunked import ChunkedSends
from gateway.engine.claims import Claims
from gateway.engine.inbound import Arrivals
from gateway.engine.intake import Intake
from gateway.engine.keyring import KeyRing
from gateway.engine.mailbox import Mailbox
from gateway.engine.mesh import MeshRecords
from gateway.engine.notes import NoteSender
from gateway.engine.outbound import Backlog, Publisher
from gateway.engine.parts import Parts, Rules
from gateway.engine.recall import Recall
from gateway.engine.receipting import ReceiptSender, Recorder
from gateway.engine.reconcile import Reconciler
from gateway.engine.tasks import Tasks
from gateway.engine.ticker import Ticker
from gateway.engine.watch import DirectoryWatch
from gateway.engine.witness import Witness
from gateway.errors import StartupError, Unavailable
from gateway.faces import Faces
from gateway.http.admin import make_admin_app
from gateway.http.app import ROUTES, Server, make_app, serve
from gateway.http.auth import TokenFile
from gateway.http.fhir_face import ROUTES as FHIR_ROUTES
from gateway.http.limits import Limits
from gateway.http.mesh_auth import MeshAuth, read_secret
from gateway.http.mesh_face import MESH_ROUTES
from gateway.http.mesh_headers import OCTETS
from gateway.http.mesh_keys import Mesh
from gateway.http.mesh_opened import Opener
from gateway.http.mesh_tables import Mailbox as MeshMailbox
from gateway.http.mesh_tables import Tables, Workflow
from gateway.messages import AgencyId
from gateway.observability.logs import Log, get_logger
from gateway.observability.metrics import Metrics
from gateway.protocol.clock import ClockWatch
from gateway.store.opening import open_store
from gateway.transport.base import Transport, TransportError
from gateway.transport.embedded import EmbeddedTransport
from gateway.transport.rabbitmq import RabbitTransport


def now_ms() -> int:
    """The wall clock, in milliseconds."""
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    """A clock nobody sets, which goes on while the machine sleeps, in milliseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Node:
    """One running node: the API for local systems, the road in both directions, the port for operators."""

    def __init__(self, settings: Settings, log: Log | None = None) -> None:
        """Load everything a node needs. Raises StartupError; creates nothing."""
        self._metrics = Metrics()
        self._watch = ClockWatch(now_ms(), _steady_ms())
        self.log = log or get_logger()
        self._settings = settings
        faces = (*(FHIR_ROUTES if settings.fhir else ()), *(MESH_ROUTES if settings.mesh else ()))
        self._metrics.add_routes(path for _, path, _ in (*ROUTES, *faces))
        self._tasks = Tasks(self._task_failed)
        self._stopping = False
        self._servers: list[Server] = []
        node = settings.node
        store = open_store(settings.database(), self._metrics.commit)
        self.parts = Parts(
            rules=_rules(settings),
            keys=KeyRing(settings.key_store(), [AgencyId(agency) for agency in node.agencies]),
            source=open_directory(
                settings.directory(), on_refused=lambda: self.log.error("directory-refused")
            ),
            registry=Registry.load(),
            store=store,
            claims=Claims(store),
            transport=_transport(settings),
            metrics=self._metrics,
            log=self.log,
            now=now_ms,
            clock_believed=self._clock_believed,
        )
        self.parts.keys.choose(self.parts.directory, now_ms())
        self._backlog = Backlog(self.parts)
        self._publisher = Publisher(self.parts, self._backlog)
        self._receipts = ReceiptSender(self.parts)
        self._auditor = Auditor(
            self.parts, settings.model_dump_json(exclude={"base"}).encode(), settings.path(node.tokens)
        )
        watch = DirectoryWatch(self.parts, self._auditor)
        self._mailbox = Mailbox(self.parts, self._receipts, watch)
        self._notes = NoteSender(self.parts)
        self._recall = Recall(self.parts, self._notes, self._receipts)
        self._reconciler = Reconciler(self.parts, self._notes, self._receipts, self._mailbox.ring)
        self._witness = Witness(self.parts, self._notes)
        handlers = {
            receipting.TYPE: Recorder(self.parts).take,
            recall.TYPE: self._recall.take,
            reconcile.ASK: self._reconciler.take_ask,
            reconcile.ANSWER: self._reconciler.take_answer,
            reconcile.RESEND: self._reconciler.take_resend,
            witness.SHOW: self._witness.take_shown,
            witness.CONFIRM: self._witness.take_confirmed,
        }
        self._arrivals = Arrivals(self.parts, self._receipts, handlers, self._mailbox.ring, watch)
        self._ticker = Ticker(
            self.parts,
            self._backlog,
            self._receipts,
            self._arrivals,
            self._reconciler,
            self._auditor,
            self._witness,
            watch,
        )
        self._tokens = TokenFile(settings.path(node.tokens))
        self._intake = Intake(self.parts, self._backlog, self._publisher, self._recall)
        limits = settings.limits
        self._limits = Limits(
            message_bytes=limits.message_bytes,
            attachment_bytes=limits.attachment_bytes,
            requests=limits.requests,
            read_timeout=limits.read_timeout,
        )
        self._tls = settings.http_tls()
        self._chunked, self._mesh = self._make_mesh()
        self._faces = Faces(settings, self.parts, self._intake, self._mailbox)
        for agency in node.agencies:
            if AgencyId(agency) not in self.parts.directory.agencies:
                place = node.directory_mirror or settings.path(node.directory)
                raise StartupError(f"{agency} is not in the directory {place}")

    @property
    def port(self) -> int:
        """The port the API listens on."""
        return self._servers[0].port

    @property
    def admin_port(self) -> int:
        """The port of /metrics, /healthz and /readyz."""
        return self._servers[1].port

    async def start(self) -> None:
        """Connect, subscribe, listen. Raises StartupError.

        A broker that is away is none: what is accepted waits in the outbox, and /readyz says so.
        """
        parts, http = self.parts, self._settings.http
        try:
            await parts.transport.start()
            await self._begin_audit()
            await self._arrivals.start()
        except TransportError as error:
            await self.stop()
            raise StartupError(f"the transport is not usable: {error}") from None
        await self._backlog.recount()
        parts.claims.start(self._tasks)
        self._publisher.start(self._tasks)
        self._receipts.start(self._tasks)
        self._notes.start(self._tasks)
        self._ticker.start(self._tasks)
        if self._chunked is not None:
            self._chunked.start(self._tasks)
        self._faces.start(self._tasks)
        app = make_app(
            sending=self._intake,
            receiving=self._mailbox,
            authenticator=self._tokens,
            limits=self._limits,
            observe=self._metrics.request,
            on_error=lambda error: self.log.error("internal-error", part="http", exc=error),
            fhir=self._settings.fhir.addressing() if self._settings.fhir else None,
            mesh=self._mesh,
        )
        try:
            self._servers.append(await serve(app, http.host, http.port, tls=self._tls))
            self._servers.append(await serve(make_admin_app(self), http.admin_host, http.admin_port))
        except OSError as error:
            await self.stop()
            raise StartupError(f"cannot listen on {http.host}: {error.strerror}") from None
        for _ in parts.registry.broken:
            self.log.warning("adapter-refused")
        self.log.info("node-started", port=self.port, count=len(parts.keys))

    async def stop(self) -> None:
        """Stop in the order that loses nothing: intake, then arrivals, then what is under way."""
        if self._stopping:
            return
        self._stopping = True
        self.log.info("node-stopping")
        self._mailbox.close()
        for server in self._servers:
            await server.close()
        await self.parts.transport.close()
        await self._tasks.cancel()
        if self._chunked is not None:
            await self._chunked.close()
        await self._faces.close()
        with contextlib.suppress(Unavailable):  # what is entered already is safe; its checkpoint comes later
            await self._auditor.end()
        await self.parts.store.close()
        self.log.info("node-stopped")

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        await self.start()
        await asked.wait()
        await self.stop()

    def ready(self) -> tuple[bool, dict[str, bool]]:
        """See gateway.http.ports.Health."""
        parts = {
            "store": self.parts.store.healthy,
            "transport": self.parts.transport.connected,
            "directory": self.parts.directory.expires > now_ms(),
            "keys": self.parts.keys.usable,
            "clock": self.parts.clock_believed(),
            "running": not self._stopping,
        }
        return all(parts.values()), parts

    def metrics(self) -> tuple[bytes, str]:
        """See gateway.http.ports.Health."""
        self._metrics.ready(self.ready()[1])
        return self._metrics.exposition()

    async def _begin_audit(self) -> None:
        try:
            await self._auditor.begin()
        except Unavailable:
            self.log.warning("store-unavailable")  # nothing is accepted either until it can be written

    def _make_mesh(self) -> tuple[ChunkedSends | None, Mesh | None]:
        """The MESH face, if the settings have one. Raises StartupError."""
        wanted, parts = self._settings.mesh, self.parts
        if wanted is None:
            return None, None
        path = self._settings.path
        passwords = {one.id: read_secret(path(one.password_file)) for one in wanted.mailboxes}
        shared_key = read_secret(path(wanted.shared_key_file)).encode()
        tables, records = _tables(wanted), MeshRecords(parts)
        chunked = ChunkedSends(self._intake, most=wanted.uploads, lifetime=wanted.upload_timeout)
        return chunked, Mesh(
            tables=tables,
            auth=MeshAuth(passwords, shared_key, records, now_ms),
            records=records,
            chunked=chunked,
            sending=self._intake,
            receiving=self._mailbox,
            opener=Opener(tables, self._mailbox),
            limits=self._limits,
            now=now_ms,
        )

    def _clock_believed(self) -> bool:
        return self._watch.believes(now_ms(), _steady_ms())

    def _task_failed(self, name: str, error: Exception) -> None:
        self.log.error("internal-error", part=name, exc=error)


def _tables(wanted: MeshSection) -> Tables:
    def mailboxes(found: Sequence[MeshPartner]) -> dict[str, MeshMailbox]:
        return {one.id: MeshMailbox(one.id, AgencyId(one.agency), one.name, one.ods_code) for one in found}

    workflows = [
        Workflow(
            one.id,
            one.purpose,
            one.lawful_basis,
            one.type,
            one.adapter,
            one.media_type or OCTETS,
            frozenset(one.senders),
            frozenset(one.receivers),
        )
        for one in wanted.workflows
    ]
    return Tables(
        mailboxes(wanted.mailboxes),
        mailboxes(wanted.partners),
        {one.id: one for one in workflows},
        wanted.chunks,
    )


def _transport(settings: Settings) -> Transport:
    transport = settings.transport
    if transport.kind == "rabbitmq":
        url, *more_urls = settings.broker_urls()
        return RabbitTransport(
            url,
            tuple(more_urls),
            tls=settings.broker_tls(),
            external=transport.cert_file is not None,
            user_id=settings.broker_account(),
            patient=True,
        )
    spool: Path = settings.path(transport.spool)
    if not spool.is_dir():
        raise StartupError(f"there is no spool folder at {spool}: `gateway init` makes one")
    return EmbeddedTransport(spool)


def _rules(settings: Settings) -> Rules:
    limits, times, transport = settings.limits, settings.times, settings.transport
    return Rules(
        expires_in=times.expires_in * 1000,
        settle=int(times.settle * 1000),
        idempotency=times.idempotency * 1000,
        tick=times.tick,
        directory_refresh=max(
            settings.node.directory_refresh, 60.0 if settings.node.directory_mirror else 0.0
        ),
        outbox_envelopes=limits.outbox_envelopes,
        outbox_bytes=limits.outbox_bytes,
        attachment_bytes=limits.attachment_bytes,
        prefetch=transport.prefetch,
        concurrency=transport.concurrency,
        checkpoint=int(times.checkpoint * 1000),
        checkpoint_exchange=int(times.checkpoint_exchange * 1000),
        keys_retire=times.keys_retire * 1000,
        keys_epoch=times.keys_epoch * 1000,
        opening_suites=settings.node.opening_suites,
        sealing_suites=settings.node.sealing_suites,
    )
