"""What every part of the engine is given: the outside world behind interfaces, and the node's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.adapters import Registry
from gateway.crypto.keys import VerifyKey
from gateway.directory.file import DirectorySource
from gateway.directory.model import Directory
from gateway.engine.claims import Claims
from gateway.engine.keyring import KeyRing
from gateway.errors import Unavailable
from gateway.messages import AgencyId
from gateway.observability.logs import Log
from gateway.observability.metrics import Metrics
from gateway.store.base import Store
from gateway.transport.base import Transport


@dataclass(frozen=True, slots=True)
class Rules:
    """The node's limits and times, in milliseconds and bytes."""

    expires_in: int
    settle: int
    idempotency: int
    tick: float
    """Seconds."""
    directory_refresh: float
    """Seconds."""
    outbox_envelopes: int
    outbox_bytes: int
    attachment_bytes: int
    prefetch: int
    concurrency: int
    checkpoint: int
    checkpoint_exchange: int
    keys_retire: int
    keys_epoch: int
    opening_suites: tuple[str, ...]
    """Suites of new opening keys."""
    sealing_suites: tuple[str, ...]
    """Suites that messages may be sealed with."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts, each owned by the node that built them."""

    rules: Rules
    keys: KeyRing
    source: DirectorySource
    registry: Registry
    store: Store
    claims: Claims
    transport: Transport
    metrics: Metrics
    log: Log
    now: Callable[[], int]
    clock_believed: Callable[[], bool]
    """False while the wall clock stands far from where the time that passed should have brought it."""

    def need_clock(self) -> None:
        """Raises Unavailable("clock-unsure") while times mean nothing."""
        if not self.clock_believed():
            raise Unavailable("clock-unsure", retry_after=60)

    @property
    def directory(self) -> Directory:
        """The last good directory."""
        return self.source.current

    def find_verify_key(self, agency: AgencyId, kid: bytes) -> VerifyKey | None:
        """A signing key the directory lists for this agency."""
        return self.source.current.verify_key(agency, kid)
