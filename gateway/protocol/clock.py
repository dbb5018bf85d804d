"""When the clock can be believed: a wall clock that jumps must not expire what people still wait for."""

from __future__ import annotations

from gateway.protocol.deadlines import MAX_CLOCK_SKEW

BELIEVE = 60 * 60 * 1000
"""Milliseconds a new time must last before it is believed without a restart."""


class ClockWatch:
    """Compares the wall clock with the machine's steady one, which nobody sets. Both in milliseconds."""

    def __init__(self, wall: int, steady: int) -> None:
        """Now: what the clock says at the start is believed."""
        self._offset = wall - steady
        self._new_offset = self._offset
        self._new_since = steady

    def believes(self, wall: int, steady: int) -> bool:
        """Whether the wall clock went on as time did since it was last believed.

        Small steps, as time servers make them, are followed. A jump of more than nodes' clocks may differ is
        believed when the clock came back, or when it has kept its new time for BELIEVE.
        """
        offset = wall - steady
        if abs(offset - self._offset) <= MAX_CLOCK_SKEW:
            self._offset = offset
            self._new_offset, self._new_since = offset, steady
            return True
        if abs(offset - self._new_offset) > MAX_CLOCK_SKEW or self._new_offset == self._offset:
            self._new_offset, self._new_since = offset, steady
        if steady - self._new_since < BELIEVE:
            return False
        self._offset = offset
        return True
