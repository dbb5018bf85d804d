"""Where the node's keys stand: entered in the audit log whenever it changes, and shown in /metrics."""

from __future__ import annotations

from gateway.crypto.key_rows import KeyRow, due, rows
from gateway.engine.parts import Parts
from gateway.messages import AgencyId
from gateway.store import audit
from gateway.store.base import Session

_FACT = "key/"
"""Begins the name under which a key's last state is remembered; agency and key id follow."""


class KeyLives:
    """States follow from dates and the directory, so nobody does anything when one changes: we look."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._entered: dict[tuple[AgencyId, bytes], str] = {}

    async def look(self) -> None:
        """Enter what changed since the last look. Raises Unavailable."""
        parts, rules = self._parts, self._parts.rules
        if not parts.clock_believed():
            return
        now, found = parts.now(), list[KeyRow]()
        for agency, keys in parts.keys.items():
            revoked = parts.directory.revoked(agency)
            some = rows(keys, rules.opening_suites, now, rules.keys_retire, revoked)
            parts.metrics.keys_due(agency, [what for _, what in due(some, now, rules.keys_epoch)])
            found += some
        states = {(row.agency, row.kid): str(row.state) for row in found}
        changed = states.items() - self._entered.items()
        if changed:
            await parts.store.write(lambda s: _enter(s, sorted(changed)))
            self._entered = states


def _enter(session: Session, states: list[tuple[tuple[AgencyId, bytes], str]]) -> None:
    for (agency, kid), state in states:
        name = f"{_FACT}{agency}/{kid.hex()}"
        if audit.fact(session, name) != state:
            audit.set_fact(session, name, state)
            audit.record(session, "key-state", agency=agency, kid=kid.hex(), code=state)
