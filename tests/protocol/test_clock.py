"""A clock that jumps is not believed until it came back or kept its new time for an hour."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.clock import BELIEVE, ClockWatch
from gateway.protocol.deadlines import DAY, MAX_CLOCK_SKEW

WALL, STEADY = 1_790_000_000_000, 5_000
MINUTE = 60_000


def watch() -> ClockWatch:
    return ClockWatch(WALL, STEADY)


@given(st.lists(st.tuples(st.integers(0, DAY), st.integers(-MAX_CLOCK_SKEW, MAX_CLOCK_SKEW)), max_size=20))
def test_small_steps_are_followed_however_far_they_lead(steps: list[tuple[int, int]]) -> None:
    clock, wall, steady = watch(), WALL, STEADY
    for passed, step in steps:
        wall, steady = wall + passed + step, steady + passed
        assert clock.believes(wall, steady)


@given(
    st.integers(MAX_CLOCK_SKEW + 1, 3650 * DAY).flatmap(lambda jump: st.sampled_from([jump, -jump])),
    st.integers(0, BELIEVE - 1),
)
def test_a_jump_is_not_believed_for_an_hour_and_forgotten_when_the_clock_comes_back(
    jump: int, lasts: int
) -> None:
    clock = watch()
    assert not clock.believes(WALL + jump, STEADY)
    assert not clock.believes(WALL + lasts + jump, STEADY + lasts)
    assert clock.believes(WALL + lasts, STEADY + lasts)
    assert not clock.believes(WALL + lasts + jump, STEADY + lasts), "and the next jump counts anew"


def test_a_new_time_that_lasts_is_believed() -> None:
    clock = watch()
    for passed in range(0, BELIEVE, MINUTE):
        assert not clock.believes(WALL + passed + DAY, STEADY + passed)
    assert clock.believes(WALL + BELIEVE + DAY, STEADY + BELIEVE)
    assert clock.believes(WALL + BELIEVE + DAY + 1, STEADY + BELIEVE + 1)
    assert not clock.believes(WALL + BELIEVE, STEADY + BELIEVE), "the old time is the jump now"


def test_a_clock_that_keeps_jumping_is_never_believed() -> None:
    clock = watch()
    for step in range(1, 100):
        passed = step * BELIEVE
        assert not clock.believes(WALL + passed + step * DAY, STEADY + passed)
