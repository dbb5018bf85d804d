"""JSON is read in one way only, and never at any cost."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters import strict_json
from gateway.adapters.base import AdapterError
from gateway.adapters.strict_json import MAX_DEPTH, MAX_VALUES

CANARY = "Zebedee"


def refusal(body: bytes) -> str:
    """The rule that `body` breaks."""
    with pytest.raises(AdapterError) as caught:
        strict_json.loads(body)
    assert caught.value.malformed
    # Neither the error nor anything it drags along may hold the document.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    (problem,) = caught.value.problems
    assert problem.pointer == ""
    return problem.rule


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "JSON syntax: see line 1, column 1"),
        (b'{"a": 1', "JSON syntax: see line 1, column 8"),
        (b'{\n"a": Zebedee}', "JSON syntax: see line 2, column 6"),
        (b"{} {}", "JSON syntax: see line 1, column 4"),
        (b'{"a": "\x01"}', "JSON syntax: see line 1, column 8"),
        (b"\xef\xbb\xbf{}", "UTF-8 without a byte order mark"),
        (b'{"a": "\xe9"}', "UTF-8 encoding"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8 encoding"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8 encoding"),
        (b'{"Zebedee": 1, "Zebedee": 2}', "each name once in an object"),
        (b'[{"a": {"b": 1, "\\u0062": 2}}]', "each name once in an object"),
        (b"[NaN]", "no NaN and no infinity"),
        (b"[-Infinity]", "no NaN and no infinity"),
        (b"[1e999]", "numbers within the range of a 64-bit float"),
        (b"[1234567890123456789]", "whole numbers of at most 18 digits"),
        (b"[" + b"9" * 100_000 + b"]", "whole numbers of at most 18 digits"),
        (b'["\\ud83d"]', "no half of a surrogate pair"),
        (b'{"\\uDE00": 1}', "no half of a surrogate pair"),
        (b'["\\ude00\\ud83d"]', "no half of a surrogate pair"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), f"nesting at most {MAX_DEPTH} deep"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, f"nesting at most {MAX_DEPTH} deep"),
    ],
)
def test_refused(body: bytes, rule: str):
    assert refusal(body) == rule


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' [1, -2.5e3, true, null, "\\ud83d\\ude00", "\\\\ud83d"] ',
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b'{"text": "' + b"[{" * 5_000 + b'"}',
        b'["' + b'\\"[' * 5_000 + b'"]',
        b"[" + b"[]," * 1_000 + b"[]]",
        b"[999999999999999999, -999999999999999999]",
        '{"name": "Zoë Ní Bhriain"}'.encode(),
    ],
)
def test_read(body: bytes):
    assert strict_json.loads(body) == json.loads(body)


FIFTY_MB = 50_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * FIFTY_MB,
        b"[" + b"[]," * (FIFTY_MB // 3),
        b'{"a":' * (FIFTY_MB // 5),
        b"[" + b"1," * (FIFTY_MB // 2),
        b"[]," * 70 + b'"' + b'\\"' * (FIFTY_MB // 2),
        b"[]," * 70 + b'"' * (FIFTY_MB + 1),
        b"[]," * 70 + b"]" * FIFTY_MB,
        b"[]," * 70 + b" " * FIFTY_MB,
    ],
    ids=[
        "lists in lists",
        "many lists",
        "objects in objects",
        "many numbers",
        "escaped quotes",
        "quotes",
        "closing brackets",
        "spaces",
    ],
)
def test_fifty_megabytes_are_refused_at_little_cost(body: bytes):
    tracemalloc.start()
    started = time.process_time()
    try:
        refusal(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 5  # processor time; without tracing it is below half a second
    assert peak < 3 * FIFTY_MB  # the text beside the body, and no more


def test_the_number_of_values_is_bounded():
    assert len(strict_json.loads(b"[" + b"1," * (MAX_VALUES - 2) + b"1]")) == MAX_VALUES - 1
    assert refusal(b"[" + b"1," * MAX_VALUES + b"1]") == f"at most {MAX_VALUES} values"


TEXTS = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=5)
    ),
)


@given(value=json_values, ascii_only=st.booleans())
@settings(deadline=None)
def test_whatever_json_can_say_is_read_as_it_was_written(value: object, ascii_only: bool):
    assert strict_json.loads(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(body=st.binary(max_size=60) | st.text('[]{}",:\\u0dD8aZ1eN-. \n').map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_as_the_standard_library_reads_them_or_refused(body: bytes):
    try:
        value = strict_json.loads(body)
    except AdapterError as error:
        assert error.malformed
    else:
        assert value == json.loads(body)


def test_a_refusal_repeats_nothing():
    bodies = [
        b'{"Zebedee": Zebedee}',
        b'{"Zebedee": 1, "Zebedee": "Zebedee"}',
        b'{"Zebedee": "\xff"}',
        b'["Zebedee", NaN]',
    ]
    assert not any(CANARY in refusal(body) for body in bodies)
