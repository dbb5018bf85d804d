"""Promise 4: no agreement, purpose and lawful basis, no message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.messages import AgencyId, LawfulBasis, Purpose, Sector
from gateway.protocol.policy import Agency, Agreement, Allowed, Denied, Question, decide

SCHOOL, POLICE, HOUSING = AgencyId("school"), AgencyId("police"), AgencyId("housing")
AGENCIES = {
    id_: Agency(id_, id_.title(), sector, {"referral": frozenset({1})})
    for id_, sector in ((SCHOOL, Sector.EDUCATION), (POLICE, Sector.POLICE), (HOUSING, Sector.HOUSING))
}
AGREEMENT = Agreement(
    "school-police",
    frozenset({SCHOOL}),
    frozenset({POLICE}),
    frozenset({"referral"}),
    frozenset({Purpose.PREVENT}),
    frozenset({LawfulBasis.PUBLIC_TASK}),
    starts=1000,
    ends=2000,
)
QUESTION = Question(SCHOOL, POLICE, "referral", 1, "prevent", "public-task")


def ask(question: Question = QUESTION, now: int = 1500) -> Allowed | Denied:
    return decide(question, AGENCIES, (AGREEMENT,), now)


def test_what_the_agreement_covers_is_allowed_and_named() -> None:
    assert ask() == Allowed("school-police")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sender": AgencyId("nobody")}, "no-agreement"),
        ({"recipient": AgencyId("nobody")}, "unknown-recipient"),
        ({"recipient": HOUSING}, "no-agreement"),
        ({"sender": POLICE, "recipient": SCHOOL}, "no-agreement"),
        ({"type": "decision"}, "type-not-accepted"),
        ({"version": 2}, "type-not-accepted"),
        ({"purpose": "curiosity"}, "unknown-purpose"),
        ({"purpose": "early-help"}, "no-agreement"),
        ({"lawful_basis": "because"}, "unknown-lawful-basis"),
        ({"lawful_basis": "consent"}, "no-agreement"),
    ],
)
def test_whatever_differs_is_denied(change: dict[str, Any], code: str) -> None:
    answer = ask(replace(QUESTION, **change))
    assert isinstance(answer, Denied)
    assert answer.code == code


@pytest.mark.parametrize(("now", "allowed"), [(999, False), (1000, True), (1999, True), (2000, False)])
def test_an_agreement_is_in_force_from_its_start_until_its_end(now: int, allowed: bool) -> None:
    answer = ask(now=now)
    if allowed:
        assert isinstance(answer, Allowed)
    else:
        assert isinstance(answer, Denied)
        assert answer.code == "agreement-not-in-force"


@given(
    st.builds(
        Question,
        *[st.sampled_from([SCHOOL, POLICE, HOUSING])] * 2,
        st.text(),
        st.integers(),
        st.text(),
        st.text(),
    )
)
def test_without_agreements_nothing_is_allowed(question: Question) -> None:
    assert isinstance(decide(question, AGENCIES, (), 1500), Denied)
