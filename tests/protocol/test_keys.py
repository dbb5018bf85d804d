"""The life of keys: whatever the dates, at most one key is active, and a revoked one never."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.keys import Dates, KeyState, states

keys = st.lists(st.builds(Dates, st.integers(0, 20), st.booleans()), max_size=6)
FORWARD = {
    KeyState.PENDING: {KeyState.PENDING, KeyState.ACTIVE, KeyState.RETIRING},
    KeyState.ACTIVE: {KeyState.ACTIVE, KeyState.RETIRING},
    KeyState.RETIRING: {KeyState.RETIRING},
    KeyState.REVOKED: {KeyState.REVOKED},
}


@given(keys, st.integers(0, 20))
def test_one_key_is_active_when_any_can_be(known: list[Dates], now: int) -> None:
    found = states(known, now)
    possible = [key for key in known if not key.revoked and key.starts <= now]
    assert found.count(KeyState.ACTIVE) == bool(possible)
    for key, state in zip(known, found, strict=True):
        assert (state is KeyState.REVOKED) == key.revoked
        assert (state is KeyState.PENDING) == (key.starts > now and not key.revoked)
        if state is KeyState.ACTIVE:
            assert key.starts == max(one.starts for one in possible)


@given(keys, st.integers(0, 20), st.integers(0, 20))
def test_time_only_moves_a_key_forward(known: list[Dates], now: int, later: int) -> None:
    for before, after in zip(states(known, now), states(known, max(now, later)), strict=True):
        assert after in FORWARD[before]
