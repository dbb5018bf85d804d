"""What the handlers of the MESH face are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.http.limits import Limits
from gateway.http.mesh_auth import MeshAuth
from gateway.http.mesh_opened import Opener
from gateway.http.mesh_ports import Chunked, Records
from gateway.http.mesh_tables import Mailbox, Tables
from gateway.http.ports import Receiving, Sending


@dataclass(frozen=True, slots=True)
class Mesh:
    """The node's services and settings behind the MESH face."""

    tables: Tables
    auth: MeshAuth
    records: Records
    chunked: Chunked
    sending: Sending
    receiving: Receiving
    opener: Opener
    limits: Limits
    now: Callable[[], int]
    """The wall clock, milliseconds since the epoch."""


MESH = web.AppKey("mesh", Mesh)
MAILBOX = web.RequestKey("mailbox", Mailbox)
"""The mailbox that asks, authenticated."""
