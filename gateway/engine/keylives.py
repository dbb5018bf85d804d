"""Where the node's keys stand: entered in the audit log whenever it changes, and shown in /metrics."""

from __future__ import annotations

from gateway.crypto.key_rows import KeyRow, due, rows
from gateway.engine.parts import Parts
from gateway.messages import AgencyId
from gateway.protocol.keys import KeyState
from gateway.store import audit, key_usage
from gateway.store.base import Session

COMPARE = 3_600_000
"""Milliseconds until all we see is compared with what is entered: a twin may have entered other things."""
_FACT = "key/"
"""Begins the name under which a key's last state is remembered; agency and key id follow."""


class KeyLives:
    """States follow from dates and the directory, so nobody does anything when one changes: we look."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._entered: dict[tuple[AgencyId, bytes], tuple[str, bool | None]] = {}
        self._compared = -COMPARE
        """When that was done last."""

    async def look(self) -> None:
        """Enter what changed since the last look. Raises Unavailable."""
        parts, rules = self._parts, self._parts.rules
        if not parts.clock_believed():
            return
        now, found = parts.now(), list[KeyRow]()
        if not 0 <= now - self._compared < COMPARE:
            self._entered, self._compared = {}, now
        for agency, keys in parts.keys.items():
            revoked = parts.directory.revoked(agency)
            some = rows(keys, rules.opening_suites, now, rules.keys_retire, revoked)
            parts.metrics.keys_due(agency, [what for _, what in due(some, now, rules.keys_epoch)])
            found += some
        states = {(row.agency, row.kid): (str(row.state), self._is_listed(row, now)) for row in found}
        changed = states.items() - self._entered.items()
        if changed:
            await parts.store.write(lambda s: _enter(s, sorted(changed), now))
            self._entered = states

    def _is_listed(self, row: KeyRow, now: int) -> bool | None:
        """Whether peers seal to this key, by the directory we have. None where that says nothing.

        They do not seal to a key to sign with. One that is not in use yet they may still come to seal to.
        """
        if row.use != "seal":
            return None
        key = self._parts.directory.sealing_key(row.agency, now, [row.suite])
        if key is not None and key.kid == row.kid:
            return True
        return None if row.state in {KeyState.PENDING, KeyState.ACTIVE} else False


def _enter(
    session: Session, states: list[tuple[tuple[AgencyId, bytes], tuple[str, bool | None]]], now: int
) -> None:
    for (agency, kid), (state, listed) in states:
        if listed is not None:
            key_usage.note_listed(session, agency, kid, listed, now)
        name = f"{_FACT}{agency}/{kid.hex()}"
        if audit.fact(session, name) != state:
            audit.set_fact(session, name, state)
            audit.record(session, "key-state", agency=agency, kid=kid.hex(), code=state)
