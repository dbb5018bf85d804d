"""The checker finds each kind of broken promise, and nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.history import History, check


def good() -> History:
    history = History()
    history.answered("key", "one")
    history.answered("key", "one")
    history.acknowledged["one"] += 1
    history.final["one"] = "delivered"
    return history


def never_handed_over(history: History) -> None:
    del history.acknowledged["one"]


def never_final(history: History) -> None:
    history.final["one"] = "received"


def two_for_one_key(history: History) -> None:
    history.answered("key", "two")
    history.acknowledged["two"] += 1
    history.final["two"] = "delivered"


def twice(history: History) -> None:
    history.acknowledged["one"] += 1


def shown_again(history: History) -> None:
    history.listed_after_ack["one"] += 1


def from_nowhere(history: History) -> None:
    history.acknowledged["stranger"] += 1


def forged(history: History) -> None:
    history.unverified += 1


def test_a_good_run_is_clean() -> None:
    assert check(good()).clean
    assert check(History()).clean


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (never_handed_over, "lost"),
        (never_final, "lost"),
        (two_for_one_key, "duplicated"),
        (twice, "duplicated"),
        (shown_again, "duplicated"),
        (from_nowhere, "unexplained"),
        (forged, "unexplained"),
    ],
)
def test_each_broken_promise_is_found(spoil: Callable[[History], None], kind: str) -> None:
    history = good()
    spoil(history)
    findings = check(history)
    assert not findings.clean
    assert getattr(findings, kind)
