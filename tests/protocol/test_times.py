"""Deadlines and retry: `now` in, a decision out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.messages import AgencyId, CaseId, EnvelopeId, Header, MessageId, Reason, new_id
from gateway.protocol import retry
from gateway.protocol.deadlines import DAY, MAX_CLOCK_SKEW, MAX_LIFETIME, judge

NOW = 1_800_000_000_000
TWO_HOURS = 2 * 3600 * 1000


def header(created: int, expires: int) -> Header:
    return Header(
        MessageId(new_id()),
        EnvelopeId(new_id()),
        "referral",
        1,
        AgencyId("a"),
        AgencyId("b"),
        CaseId(new_id()),
        None,
        created,
        expires,
        "prevent",
        "public-task",
    )


def test_a_clock_two_hours_ahead_is_refused_and_named() -> None:
    assert judge(header(NOW + TWO_HOURS, NOW + DAY), NOW) is Reason.CLOCK_SKEW


def test_a_clock_two_hours_behind_only_shortens_the_time_left() -> None:
    assert judge(header(NOW - TWO_HOURS, NOW + DAY), NOW) is None


def test_small_differences_of_clocks_are_tolerated() -> None:
    assert judge(header(NOW + MAX_CLOCK_SKEW, NOW + DAY), NOW) is None


def test_an_envelope_is_expired_from_its_expiry_on() -> None:
    assert judge(header(NOW - DAY, NOW), NOW) is Reason.EXPIRED
    assert judge(header(NOW - DAY, NOW + 1), NOW) is None


def test_lifetimes_without_end_or_backwards_are_refused() -> None:
    assert judge(header(NOW, NOW + MAX_LIFETIME + 1), NOW) is Reason.INVALID
    assert judge(header(NOW, NOW), NOW) is Reason.INVALID


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_delays_are_bounded_and_never_zero(attempts: int, jitter: float) -> None:
    assert retry.FIRST / 2 <= retry.delay(attempts, jitter) <= retry.LONGEST


def test_delays_grow() -> None:
    delays = [retry.delay(attempt, 0.5) for attempt in range(1, 12)]
    assert delays == sorted(delays)
