"""Promises 1 and 2, checked over every state that one envelope's road can reach.

The model is the road without its bytes: two nodes, a transport that repeats, a clock that runs out, crashes
between any two steps (a step that a crash cut off did not happen, or happens again). What stage follows from
what is decided by the product's own rules in gateway.protocol.delivery; a wrong entry there shows here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from gateway.messages import FINAL_STAGES, Stage
from gateway.protocol import delivery
from gateway.protocol.delivery import IllegalTransition, advance_inbound, advance_outbound, overdue

COPIES = 2
"""Copies of the envelope in the transport at most: enough for one repeat to be under way."""
Stages = frozenset[Stage]
NONE: Stages = frozenset()


class Road(NamedTuple):
    """Everything that survives a crash of either node."""

    # the sender's database
    stage: Stage = Stage.ACCEPTED
    presumed: bool = False
    sent: bool = False
    recalled: bool = False
    recall_owed: bool = False
    # the transport
    copies: int = 0
    recall_under_way: bool = False
    receipts_under_way: Stages = NONE
    # the recipient's database
    held: Stage | None = None
    withdrawn: bool = False
    """A recall came before its envelope."""
    signed: Stages = NONE
    owed: Stages = NONE
    # the recipient's own system
    handed_over: int = 0
    # time
    expired: bool = False
    settled: bool = False

    @property
    def last_word(self) -> Stage | None:
        """The final stage that the recipient signed."""
        final = self.signed & FINAL_STAGES
        return next(iter(final)) if final else None


def steps(road: Road) -> Iterator[Road]:
    """Every state that may follow. Raises IllegalTransition when honest nodes contradict each other."""
    yield from sender(road)
    yield from recipient(road)
    if road.expired and road.copies:
        yield road._replace(copies=road.copies - 1)  # the transport's own dead letter
    if not road.expired:
        yield road._replace(expired=True)
    elif not road.settled:
        yield road._replace(settled=True)


def sender(road: Road) -> Iterator[Road]:
    """What the sender's node may do next."""
    waiting = road.stage in {Stage.ACCEPTED, Stage.RECEIVED}
    if waiting and not road.sent and not road.expired and road.copies < COPIES:
        published = road._replace(copies=road.copies + 1)
        yield published  # the confirm, or the mark, got lost
        yield published._replace(sent=True)
    if waiting and not road.recalled:
        yield road._replace(recalled=True, recall_owed=True)
    if road.recall_owed:
        yield road._replace(recall_under_way=True)  # not settled: it goes out again
        yield road._replace(recall_under_way=True, recall_owed=False)
    for stated in road.receipts_under_way:
        after = advance_outbound(road.stage, stated, presumed=road.presumed)
        known = road if after is road.stage else road._replace(stage=after, presumed=False, sent=True)
        yield known  # recorded, not acknowledged: it comes again
        yield known._replace(receipts_under_way=road.receipts_under_way - {stated})
    if road.settled and waiting:
        yield road._replace(stage=overdue(sent=road.sent), presumed=True, sent=True)


def recipient(road: Road) -> Iterator[Road]:
    """What the recipient's node, or its system, may do next."""
    if road.copies:
        taken = take(road)
        yield taken  # committed, not acknowledged: it comes again
        yield taken._replace(copies=road.copies - 1)
    if road.recall_under_way:
        withdrawn = recall(road)
        yield withdrawn
        yield withdrawn._replace(recall_under_way=False)
    if road.held is not None and not road.expired:
        for answer in (Stage.DELIVERED, Stage.REJECTED):
            try:
                after = advance_inbound(road.held, answer)
            except IllegalTransition:
                continue  # refused: answered otherwise before
            if after is not road.held:
                handed = road.handed_over + (after is Stage.DELIVERED)
                yield sign(road._replace(held=after, handed_over=handed), after)
    if road.expired and road.held is Stage.RECEIVED:
        yield sign(road._replace(held=advance_inbound(road.held, Stage.EXPIRED)), Stage.EXPIRED)
    for stated in road.owed:
        under_way = road.receipts_under_way | {stated}
        yield road._replace(receipts_under_way=under_way)  # not settled: it goes out again
        yield road._replace(receipts_under_way=under_way, owed=road.owed - {stated})


def take(road: Road) -> Road:
    """An envelope arrives: hold it, refuse it, or repeat what was said."""
    if road.signed:
        return road._replace(owed=road.owed | road.signed)
    if road.withdrawn:
        return sign(road, Stage.REJECTED)
    if road.expired:
        return sign(road, Stage.EXPIRED)
    return sign(road._replace(held=Stage.RECEIVED), Stage.RECEIVED)


def recall(road: Road) -> Road:
    """A recall arrives: drop what is not answered, repeat what was."""
    if road.held is None:
        return road._replace(withdrawn=True)
    try:
        after = advance_inbound(road.held, Stage.REJECTED)
    except IllegalTransition:
        after = road.held
    if after is road.held:
        return road._replace(owed=road.owed | road.signed)
    return sign(road._replace(held=after), after)


def sign(road: Road, stage: Stage) -> Road:
    """State a stage, in the transaction that makes it true."""
    return road._replace(signed=road.signed | {stage}, owed=road.owed | {stage})


def explore() -> dict[Road, set[Road]]:
    """Every reachable state with what follows it."""
    graph: dict[Road, set[Road]] = {}
    waiting = [Road()]
    while waiting:
        road = waiting.pop()
        if road in graph:
            continue
        graph[road] = set(steps(road))
        waiting += graph[road] - graph.keys()
    return graph


@pytest.fixture(scope="module")
def graph() -> dict[Road, set[Road]]:
    return explore()


def quiet(road: Road) -> bool:
    """Nothing is under way or owed, and all time has passed."""
    under_way = road.copies or road.recall_under_way or road.recall_owed or road.receipts_under_way
    return road.settled and not under_way and not road.owed


def test_it_is_the_whole_road(graph: dict[Road, set[Road]]) -> None:
    assert len(graph) > 5_000
    steps = set(Stage) - {Stage.OPENED}  # an emergency opening is news, no step: test_delivery.py
    assert {road.stage for road in graph} == steps
    assert {road.held for road in graph} == {None, *steps} - {Stage.ACCEPTED, Stage.FAILED}


def test_nothing_is_handed_over_twice_and_nothing_that_was_refused(graph: dict[Road, set[Road]]) -> None:
    for road in graph:
        assert road.handed_over <= 1
        assert not road.handed_over or road.last_word is Stage.DELIVERED
        assert len(road.signed & FINAL_STAGES) <= 1, "the recipient has one last word"


def test_a_final_word_never_changes(graph: dict[Road, set[Road]]) -> None:
    for road, following in graph.items():
        for after in following:
            if road.last_word is not None:
                assert after.last_word is road.last_word
            if road.stage in FINAL_STAGES and not road.presumed:
                assert after.stage is road.stage


def test_the_sender_never_knows_better_than_the_recipient(graph: dict[Road, set[Road]]) -> None:
    for road in graph:
        if road.stage in FINAL_STAGES and not road.presumed:
            assert road.stage is road.last_word


def test_every_road_ends_and_both_ends_agree(graph: dict[Road, set[Road]]) -> None:
    """From every state the end can be reached; and wherever it has become quiet, it is the right end."""
    ends = {road for road in graph if quiet(road) and road.stage in FINAL_STAGES}
    assert ends
    for road in ends:
        assert road.stage is (road.last_word or road.stage)
        assert road.last_word is not None or road.presumed
    before: dict[Road, set[Road]] = {}
    for road, following in graph.items():
        for after in following:
            before.setdefault(after, set()).add(road)
    reaching, waiting = set(ends), list(ends)
    while waiting:
        for earlier in before.get(waiting.pop(), set()) - reaching:
            reaching.add(earlier)
            waiting.append(earlier)
    assert reaching == graph.keys(), "some state has no way to a final stage"


@pytest.mark.parametrize(
    ("table", "now", "stated", "wrong"),
    [
        ("INBOUND", Stage.DELIVERED, Stage.REJECTED, Stage.REJECTED),
        ("INBOUND", Stage.REJECTED, Stage.DELIVERED, Stage.DELIVERED),
        ("OUTBOUND", Stage.DELIVERED, Stage.RECEIVED, Stage.RECEIVED),
        ("OUTBOUND", Stage.RECEIVED, Stage.DELIVERED, None),
        ("PRESUMED", Stage.FAILED, Stage.DELIVERED, Stage.FAILED),
        ("PRESUMED", Stage.EXPIRED, Stage.RECEIVED, None),
    ],
)
def test_a_wrong_rule_shows(
    monkeypatch: pytest.MonkeyPatch, table: str, now: Stage, stated: Stage, wrong: Stage | None
) -> None:
    rules = {stage: dict(entries) for stage, entries in getattr(delivery, table).items()}
    if wrong is None:
        del rules[now][stated]
    else:
        rules[now][stated] = wrong
    monkeypatch.setattr(delivery, table, rules)
    monkeypatch.setattr(sys.modules[__name__], "COPIES", 1)  # enough to show it
    with pytest.raises((AssertionError, IllegalTransition)):
        check(explore())


def check(graph: dict[Road, set[Road]]) -> None:
    test_nothing_is_handed_over_twice_and_nothing_that_was_refused(graph)
    test_a_final_word_never_changes(graph)
    test_the_sender_never_knows_better_than_the_recipient(graph)
    test_every_road_ends_and_both_ends_agree(graph)
