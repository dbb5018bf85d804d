"""Builds from the settings what hands messages over, or takes them, without being asked over HTTP."""

from __future__ import annotations

from gateway.config import Settings
from gateway.config.faces import FolderSection, PushSection
from gateway.config.secrets import bearer_token, webhook_secrets
from gateway.engine.folder_in import InFolder, InSettings
from gateway.engine.folder_out import OutFolder, OutSettings
from gateway.engine.intake import Intake
from gateway.engine.mailbox import Mailbox
from gateway.engine.parts import Parts
from gateway.engine.push import Destination, Pusher
from gateway.engine.tasks import Tasks
from gateway.errors import RefusedByUs, StartupError
from gateway.http.push_client import PushClient
from gateway.messages import AgencyId
from gateway.tls import web_context


class Faces:
    """The pushes and folders of one node."""

    def __init__(self, settings: Settings, parts: Parts, intake: Intake, mailbox: Mailbox) -> None:
        """Raises StartupError."""
        self._settings = settings
        self._parts = parts
        self._intake = intake
        self._mailbox = mailbox
        self._pushers = [self._pusher(one) for one in settings.push]
        self.folders = [face for one in settings.folder for face in self._folder(one)]

    def start(self, tasks: Tasks) -> None:
        """Start all."""
        for one in (*self._pushers, *self.folders):
            one.start(tasks)

    async def close(self) -> None:
        """Close connections, let go of folders."""
        for pusher in self._pushers:
            await pusher.close()
        for folder in self.folders:
            folder.close()

    def _pusher(self, wanted: PushSection) -> Pusher:
        path, fhir = self._settings.path, wanted.kind == "fhir"
        self._need_writer(wanted.format)
        tls = web_context(path(wanted.ca_file) if wanted.ca_file else None)
        url = wanted.url.rstrip("/") + "/$process-message" if fhir else wanted.url
        destination = Destination(
            agency=AgencyId(wanted.agency),
            fhir=fhir,
            format=wanted.format,
            original=wanted.original,
            most=wanted.message_bytes,
            concurrency=wanted.concurrency,
            secrets=webhook_secrets(path(wanted.secret_file)) if wanted.secret_file else (),
            token=bearer_token(path(wanted.token_file)) if wanted.token_file else None,
        )
        client = PushClient(url, tls, timeout=wanted.timeout, connections=wanted.concurrency)
        return Pusher(self._parts, self._mailbox, destination, client)

    def _folder(self, wanted: FolderSection) -> list[InFolder | OutFolder]:
        faces: list[InFolder | OutFolder] = []
        path = self._settings.path
        for folder in (wanted.in_dir, wanted.out_dir):
            if folder is not None and not path(folder).is_dir():
                raise StartupError(f"there is no folder {path(folder)}: make it, or mount it")
        if wanted.in_dir is not None:
            faces.append(InFolder(self._parts, self._intake, self._in_settings(wanted)))
        if wanted.out_dir is not None:
            self._need_writer(wanted.out_format)
            agency, out_dir = AgencyId(wanted.agency), path(wanted.out_dir)
            out = OutSettings(agency, out_dir, wanted.out_format, wanted.interval)
            faces.append(OutFolder(self._parts, self._mailbox, out))
        return faces

    def _in_settings(self, wanted: FolderSection) -> InSettings:
        if wanted.in_dir is None or wanted.purpose is None or wanted.lawful_basis is None:
            raise StartupError("folder: in_dir needs to, purpose and lawful_basis")
        try:
            self._parts.registry.choose(wanted.format, wanted.adapter)
        except RefusedByUs:
            raise StartupError(
                f"no adapter, or more than one, reads {wanted.format}: docs/adapters.md lists the formats"
            ) from None
        return InSettings(
            agency=AgencyId(wanted.agency),
            folder=self._settings.path(wanted.in_dir),
            media_type=wanted.format,
            adapter=wanted.adapter,
            to=tuple(map(AgencyId, wanted.to)),
            purpose=wanted.purpose,
            lawful_basis=wanted.lawful_basis,
            expires_in=wanted.expires_in,
            interval=wanted.interval,
            keep=wanted.keep,
            most=self._settings.limits.message_bytes,
        )

    def _need_writer(self, media_type: str) -> None:
        if media_type != "application/json" and not self._parts.registry.writers(media_type):
            raise StartupError(f"no adapter writes {media_type}: docs/adapters.md lists the formats")
