"""The tables of stages: what follows from what, and what never changes (promise 1)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.messages import FINAL_STAGES, Stage
from gateway.protocol.delivery import IllegalTransition, advance_inbound, advance_outbound, overdue

STATED = [Stage.RECEIVED, Stage.DELIVERED, Stage.REJECTED, Stage.EXPIRED]


def run(receipts: list[Stage]) -> Stage:
    """The stage after these receipts from the recipient, contradictions left out."""
    stage = Stage.ACCEPTED
    for stated in receipts:
        try:
            stage = advance_outbound(stage, stated, presumed=False)
        except IllegalTransition:
            continue
    return stage


@pytest.mark.parametrize("order", list(itertools.permutations([Stage.RECEIVED, Stage.DELIVERED])))
def test_receipts_that_overtake_each_other_end_the_same(order: list[Stage]) -> None:
    assert run(list(order)) is Stage.DELIVERED


@given(st.lists(st.sampled_from(STATED), max_size=12))
def test_a_final_stage_never_changes(receipts: list[Stage]) -> None:
    stage, final = Stage.ACCEPTED, None
    for stated in receipts:
        try:
            stage = advance_outbound(stage, stated, presumed=False)
        except IllegalTransition:
            pass
        if final is not None:
            assert stage is final
        elif stage in FINAL_STAGES:
            final = stage


@pytest.mark.parametrize("presumed", [Stage.EXPIRED, Stage.FAILED])
def test_the_recipients_word_replaces_the_senders_own_conclusion(presumed: Stage) -> None:
    assert advance_outbound(presumed, Stage.DELIVERED, presumed=True) is Stage.DELIVERED
    assert advance_outbound(presumed, Stage.RECEIVED, presumed=True) is presumed


@pytest.mark.parametrize("final", [Stage.DELIVERED, Stage.REJECTED, Stage.EXPIRED])
def test_an_answered_message_takes_no_other_answer(final: Stage) -> None:
    for other in {Stage.DELIVERED, Stage.REJECTED, Stage.EXPIRED} - {final}:
        with pytest.raises(IllegalTransition):
            advance_inbound(final, other)
    assert advance_inbound(final, final) is final


def test_every_stage_has_its_row() -> None:
    for stage in Stage:
        for stated in Stage:
            try:
                assert advance_outbound(stage, stated, presumed=False) in Stage
            except IllegalTransition:
                pass


def test_what_never_left_has_failed_and_what_left_has_expired() -> None:
    assert overdue(sent=False) is Stage.FAILED
    assert overdue(sent=True) is Stage.EXPIRED


@pytest.mark.parametrize("presumed", [True, False])
@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.OPENED])
def test_news_of_an_emergency_opening_is_always_taken_and_moves_nothing(stage: Stage, presumed: bool) -> None:
    assert advance_outbound(stage, Stage.OPENED, presumed=presumed) is stage
