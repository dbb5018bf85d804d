"""The life of keys: whatever the dates, at most one key is active, and a revoked or destroyed one never."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.deadlines import MAX_LIFETIME
from gateway.protocol.keys import OVERLAP, Dates, KeyState, Life, lives

LAP = 5
keys = st.lists(
    st.builds(Dates, st.integers(0, 20), st.booleans(), st.none() | st.integers(0, 20)), max_size=6
)
FORWARD = {
    KeyState.PENDING: {KeyState.PENDING, KeyState.ACTIVE, KeyState.RETIRING, KeyState.RETIRED},
    KeyState.ACTIVE: {KeyState.ACTIVE, KeyState.RETIRING, KeyState.RETIRED},
    KeyState.RETIRING: {KeyState.RETIRING, KeyState.RETIRED},
    KeyState.RETIRED: {KeyState.RETIRED},
    KeyState.REVOKED: {KeyState.REVOKED},
    KeyState.DESTROYED: {KeyState.DESTROYED},
}


def states(known: list[Dates], now: int) -> list[KeyState]:
    return [one.state for one in lives(known, now, LAP)]


@given(keys, st.integers(0, 30))
def test_one_key_is_active_when_any_can_be(known: list[Dates], now: int) -> None:
    found = states(known, now)
    possible = [key for key in known if not key.revoked and key.destroyed is None and key.starts <= now]
    assert found.count(KeyState.ACTIVE) == bool(possible)
    for key, state in zip(known, found, strict=True):
        assert (state is KeyState.DESTROYED) == (key.destroyed is not None)
        assert (state is KeyState.REVOKED) == (key.revoked and key.destroyed is None)
        if state is KeyState.ACTIVE:
            assert key.starts == max(one.starts for one in possible)


@given(keys, st.integers(0, 30), st.integers(0, 30))
def test_time_only_moves_a_key_forward(known: list[Dates], now: int, later: int) -> None:
    for before, after in zip(states(known, now), states(known, max(now, later)), strict=True):
        assert after in FORWARD[before]


@given(keys, st.integers(0, 30))
def test_a_key_retires_the_overlap_after_the_next_took_over_and_not_before(
    known: list[Dates], now: int
) -> None:
    for key, one in zip(known, lives(known, now, LAP), strict=True):
        newer = [k.starts for k in known if not k.revoked and k.destroyed is None and k.starts > key.starts]
        if one.state is KeyState.RETIRED:
            assert one.since is not None
            assert key.starts + LAP <= one.since <= now
        elif one.state is KeyState.RETIRING:
            assert one.since is not None
            assert one.since <= now < one.since + LAP
        elif one.state is KeyState.ACTIVE:
            assert not [start for start in newer if start <= now]


@given(keys, st.integers(0, 30), st.integers(0, 5))
def test_a_key_that_is_revoked_or_destroyed_replaces_none(known: list[Dates], now: int, which: int) -> None:
    """Otherwise a thief's rotation, revoked at once, would retire the key that is needed."""
    gone = [replace(key, revoked=True) if i == which else key for i, key in enumerate(known)]
    without = [key for i, key in enumerate(known) if i != which]
    found = lives(gone, now, LAP)
    assert [one for i, one in enumerate(found) if i != which] == lives(without, now, LAP)


def test_by_itself_a_key_outlives_every_message_sealed_to_it() -> None:
    old, new = Dates(0), Dates(100)
    assert OVERLAP > MAX_LIFETIME
    last = 100 + OVERLAP
    assert lives([old, new], last - 1)[0] == Life(KeyState.RETIRING, 100)
    assert lives([old, new], last)[0] == Life(KeyState.RETIRED, last)
