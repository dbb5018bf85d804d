"""What an envelope carries comes out as it went in; anything else is refused without naming a value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import cbor
from gateway.crypto.content import (
    MAX_CHUNKS,
    MAX_ITEMS,
    decode_content,
    decode_receipts,
    encode_content,
    encode_receipts,
)
from gateway.crypto.labels import MAX_RECEIPT
from gateway.messages import Attachment, Content, EnvelopeId, Original, Problem, Sensitive, new_id

IDS = st.uuids(version=4).map(str).map(EnvelopeId)
CONTENTS = st.builds(
    Content,
    document=st.binary(max_size=200).map(Sensitive),
    warnings=st.lists(st.builds(Problem, st.text(), st.text()), max_size=3).map(tuple),
    original=st.none() | st.builds(Original, st.text(), st.text(), st.binary().map(Sensitive)),
    attachments=st.lists(
        st.builds(
            Attachment,
            name=st.text(),
            media_type=st.text(),
            size=st.integers(0, 2**40),
            sha256=st.binary(min_size=32, max_size=32),
            key=st.binary(min_size=32, max_size=32),
            chunks=st.lists(IDS, min_size=1, max_size=4).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
)

CHUNK = bytes(6) + b"\x40\0\x80" + bytes(7)
ATTACHMENT = ["a.pdf", "application/pdf", 4, bytes(32), bytes(32), CHUNK]


@given(CONTENTS)
def test_content_comes_back(content: Content) -> None:
    assert decode_content(encode_content(content)) == content


@given(st.lists(st.binary(max_size=MAX_RECEIPT), max_size=5))
def test_receipts_come_back_in_order(receipts: list[bytes]) -> None:
    assert decode_receipts(encode_receipts(receipts)) == receipts


def test_the_sample_below_is_good() -> None:
    assert decode_content(cbor.encode([1, b"{}", [], None, [ATTACHMENT]])).attachments[0].size == 4


@pytest.mark.parametrize(
    "value",
    [
        [2, b"{}", [], None, []],
        [1, b"{}", [], None],
        [1, b"{}", [], None, [], 0],
        {1: b"{}"},
        [1, "{}", [], None, []],
        [1, b"{}", [["/a"]], None, []],
        [1, b"{}", [["/a", 1]], None, []],
        [1, b"{}", [["/a", "b"]] * (MAX_ITEMS + 1), None, []],
        [1, b"{}", [], ["json", "text/plain", "body"], []],
        [1, b"{}", [], ["json", b"text/plain", b"body"], []],
        [1, b"{}", [], [], []],
        [1, b"{}", [], None, None],
        [1, b"{}", [], None, [ATTACHMENT[:5]]],
    ],
)
def test_other_content_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        decode_content(cbor.encode(value))


BAD_FIELDS: dict[str, tuple[int, list[Any]]] = {
    "name": (0, [b"name", None]),
    "media type": (1, [1]),
    "size": (2, [-1, 2**53, "4"]),
    "sha256": (3, [bytes(31), "x" * 32]),
    "key": (4, [bytes(31), bytes(33)]),
    "chunks": (5, [b"", bytes(15), bytes(16), CHUNK * (MAX_CHUNKS + 1), [CHUNK]]),
}


@pytest.mark.parametrize("field", sorted(BAD_FIELDS))
def test_another_attachment_is_refused(field: str) -> None:
    at, bads = BAD_FIELDS[field]
    for bad in bads:
        attachment = [*ATTACHMENT[:at], bad, *ATTACHMENT[at + 1 :]]
        with pytest.raises(ValueError):
            decode_content(cbor.encode([1, b"{}", [], None, [attachment]]))


@pytest.mark.parametrize(
    "value", [b"", {}, [1], ["text"], [None], [b""] * (MAX_ITEMS + 1), [bytes(MAX_RECEIPT + 1)]]
)
def test_another_batch_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        decode_receipts(cbor.encode(value))


def test_refusals_name_no_value() -> None:
    canary = [*ATTACHMENT[:2], "Canary", *ATTACHMENT[3:]]
    with pytest.raises(ValueError) as refused:
        decode_content(cbor.encode([1, b"{}", [], None, [canary]]))
    assert "Canary" not in repr(refused.value)


def test_content_prints_nothing_personal() -> None:
    content = Content(
        Sensitive(b"Canary"),
        original=Original("json", "application/json", Sensitive(b"Canary")),
        attachments=(
            Attachment(
                "Canary.pdf", "application/pdf", 1, bytes(32), b"Canary".ljust(32), (EnvelopeId(new_id()),)
            ),
        ),
    )
    assert "Canary" not in repr(decode_content(encode_content(content)))
