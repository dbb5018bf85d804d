"""What `gateway keys list` says of an agency's keys: one row a key, the destroyed ones first. No secrets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.crypto.key_document import AgencyKeys, KeyDates
from gateway.messages import AgencyId
from gateway.protocol.keys import Dates, KeyState, lives
from gateway.protocol.suites import STRONGEST_FIRST


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key and where it stands."""

    agency: AgencyId
    use: str
    """`sign` or `seal`."""
    suite: str
    kid: bytes
    created: int
    """Milliseconds since the epoch, as the next two."""
    starts: int
    since: int | None
    """When `state` began; of a pending key, when it begins to be used. None for a revoked one."""
    state: KeyState


class Due(StrEnum):
    """What is to be done with a key."""

    ROTATE = "rotate"
    """It was used as long as the settings say."""
    DESTROY = "destroy"
    """It is retired."""


@dataclass(frozen=True, slots=True)
class _Known:
    suite: str
    kid: bytes
    made: KeyDates
    destroyed: int | None = None


def rows(
    keys: AgencyKeys, suites: Collection[str], now: int, overlap: int, revoked: Collection[bytes] = ()
) -> list[KeyRow]:
    """Rows of all keys; `suites` are those of new opening keys, `overlap` is in milliseconds."""
    gone = {
        use: [
            _Known(d.public.suite, d.public.kid, d.dates, d.destroyed) for d in keys.destroyed if d.use == use
        ]
        for use in ("sign", "seal")
    }
    signing = [_Known(key.public.suite, key.kid, keys.dates[key.kid]) for key in keys.signing_keys]
    opening = [_Known(key.suite, key.kid, keys.dates[key.kid]) for key in keys.opening.values()]
    found = _rows(keys.agency, "sign", [*gone["sign"], *signing], now, overlap, revoked)
    sealing = [*gone["seal"], *opening]
    for suite in STRONGEST_FIRST:
        # One suite's keys do not take over from another's, unless the settings gave that one up.
        rivals = [one for one in sealing if one.suite == suite or suite not in suites]
        shown = _rows(keys.agency, "seal", rivals, now, overlap, revoked)
        found += [row for row in shown if row.suite == suite]
    return found


def due(found: Sequence[KeyRow], now: int, epoch: int) -> list[tuple[KeyRow, Due]]:
    """What is to be done with an agency's keys. Opening keys are used for `epoch` milliseconds at most."""
    ready = any(row.use == "seal" and row.state is KeyState.PENDING for row in found)
    old = [row for row in found if row.use == "seal" and row.state is KeyState.ACTIVE]
    return [
        *((row, Due.ROTATE) for row in old if now - row.starts >= epoch and not ready),
        *((row, Due.DESTROY) for row in found if row.state is KeyState.RETIRED),
    ]


def _rows(
    agency: AgencyId, use: str, keys: list[_Known], now: int, overlap: int, revoked: Collection[bytes]
) -> list[KeyRow]:
    dates = [Dates(one.made.starts, one.kid in revoked, one.destroyed) for one in keys]
    return [
        KeyRow(agency, use, one.suite, one.kid, one.made.created, one.made.starts, life.since, life.state)
        for one, life in zip(keys, lives(dates, now, overlap), strict=True)
    ]
