"""The circuit breaker and the rules of a push: pure, so that every order of events can be tried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import breaker, pushing, retry
from gateway.protocol.breaker import LONGEST_REST, TRIPS, Breaker, State
from gateway.protocol.pushing import DONE, LONGEST_RETRY_AFTER, Outcome

STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "succeed", "fail", "abandon"]), st.integers(0, 200_000)), max_size=60
)


@given(STEPS)
def test_an_open_breaker_lets_one_try_at_a_time_and_always_one_in_the_end(steps) -> None:
    now, under_way, one = 0, 0, Breaker()
    for step, passed in steps:
        now += passed
        if step == "begin":
            begun = breaker.begin(one, now)
            assert (begun is not None) == (breaker.room(one, now, 1) == 1)
            if begun is not None:
                under_way += 1
                if one.state is State.OPEN:
                    assert now >= one.until
                    assert begun.state is State.HALF_OPEN
                one = begun
        elif under_way:
            under_way -= 1
            if step == "succeed":
                one = breaker.succeeded(one)
                assert one == Breaker()
            elif step == "fail":
                one = breaker.failed(one, now)
            else:
                one = breaker.abandoned(one, now)
        if one.state is State.HALF_OPEN:
            assert under_way >= 1  # somebody will say how it went
            assert breaker.begin(one, now) is None
        assert one.failures < TRIPS
        assert one.until <= now + LONGEST_REST
    # Whatever happened: once nothing is under way, it lets something through after its rest.
    for _ in range(under_way):
        one = breaker.failed(one, now)
    assert breaker.begin(one, now + LONGEST_REST) is not None


def test_it_opens_after_failures_in_a_row_and_rests_longer_each_time() -> None:
    one = Breaker()
    for _ in range(TRIPS - 1):
        one = breaker.failed(one, 0)
    assert breaker.failed(breaker.succeeded(one), 0).state is State.CLOSED
    one = breaker.failed(one, 0)
    assert (one.state, one.until) == (State.OPEN, breaker.FIRST_REST)
    assert breaker.begin(one, one.until - 1) is None
    again = breaker.begin(one, one.until)
    assert again is not None
    later = breaker.failed(again, one.until)
    assert later.until - one.until == 2 * breaker.FIRST_REST


@given(st.integers(100, 599), st.booleans())
def test_only_a_2xx_or_a_duplicate_counts_as_delivered(status: int, duplicate: bool) -> None:
    outcome = pushing.judge(status, duplicate=duplicate)
    assert (outcome in DONE) == (200 <= status < 300 or (status == 409 and duplicate))
    soon = pushing.wait(outcome, 30, None, 0.999).message <= 60_000
    if 400 <= status < 500:
        assert soon == (status in {408, 409, 425, 429})


@given(st.sampled_from(sorted(set(Outcome) - DONE)), st.integers(1, 10_000), st.floats(0, 0.999))
def test_a_wait_honours_retry_after_up_to_a_cap(outcome: Outcome, attempts: int, jitter: float) -> None:
    assert pushing.wait(outcome, attempts, 30_000, jitter).message >= 30_000
    assert pushing.wait(outcome, attempts, 10**12, jitter).message <= max(LONGEST_RETRY_AFTER, 3_600_000)
    assert 0 <= retry.full_jitter(attempts, jitter, first=500, longest=60_000) < 60_000


def test_retry_after_is_seconds_or_a_date_and_nothing_else() -> None:
    now = 1_700_000_000_000
    assert pushing.retry_after("7", now) == 7000
    assert pushing.retry_after("Tue, 14 Nov 2023 22:13:30 GMT", now) == 10_000
    assert pushing.retry_after("Tue, 14 Nov 2000 22:13:30 GMT", now) == 0
    assert pushing.retry_after("9" * 5000, now) == LONGEST_RETRY_AFTER
    for junk in (None, "", "-1", "soon", "1.5", "٣", "Tue, 99 Nov 2023 22:13:30 GMT"):
        assert pushing.retry_after(junk, now) is None


def test_a_request_id_is_a_uuid_that_stays() -> None:
    first = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"
    assert pushing.request_id(first) == pushing.request_id(first) != first  # type: ignore[arg-type]
