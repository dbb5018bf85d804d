"""Every reader of foreign bytes, with noise, damaged examples, and examples of another structure.

`make fuzz` runs the same with many more inputs. What it finds gets a test of its own in test_found.py.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given

from gateway.crypto import backup, protected
from tests.fuzz import directories, files, sealed
from tests.fuzz.kit import CANARY, CONSTANT, Reader, attempt, bounded
from tests.fuzz.mutations import HOSTILE, damaged, noise, restructured

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of an input that failed
MAKERS = sealed.READERS | files.READERS | directories.READERS


@pytest.fixture(scope="module", autouse=True)
def measured() -> Iterator[None]:
    """Memory is traced, and scrypt is cheap: its own cost is not what is tried."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((protected, "_N"), (protected, "_LEAST"), (protected, "_MOST"), (backup, "_N")):
            patch.setattr(module, name, 1 << 10)
        tracemalloc.start()
        yield
        tracemalloc.stop()


@pytest.fixture(scope="module", params=MAKERS)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return MAKERS[request.param](tmp_path_factory.mktemp("fuzz"))


def test_it_takes_an_example(reader: Reader) -> None:
    """Else it would be tried at its door only."""
    assert any(attempt(reader, one) for one in reader.examples)


def test_known_bad_bytes(reader: Reader) -> None:
    for one in HOSTILE:
        attempt(reader, one)


def test_noise(reader: Reader) -> None:
    @bounded
    @given(noise())
    def run(data: bytes) -> None:
        attempt(reader, data)

    run()


def test_damaged_examples(reader: Reader) -> None:
    @bounded
    @given(damaged(reader.examples))
    def run(data: bytes) -> None:
        attempt(reader, data)

    run()


def test_another_structure(reader: Reader) -> None:
    if reader.form == "text":
        return

    @bounded
    @given(restructured(reader.examples, reader.form))
    def run(data: bytes) -> None:
        attempt(reader, data)

    run()


def too_much_memory(data: bytes) -> object:
    return bytearray(2 * CONSTANT)


def echo(data: bytes) -> object:
    raise ValueError(f"cannot read {CANARY}")


def echo_in_a_cause(data: bytes) -> object:
    try:
        return echo(data)
    except ValueError as error:
        raise ValueError("cannot read it") from error


def several_lines(data: bytes) -> object:
    raise ValueError("cannot\nread it")


def another_error(data: bytes) -> object:
    raise KeyError("a")


def endless(data: bytes) -> object:
    return endless(data)


@pytest.mark.parametrize(
    "read", [too_much_memory, echo, echo_in_a_cause, several_lines, another_error, endless]
)
def test_a_reader_that_breaks_its_promise_is_found(read: Callable[[bytes], object]) -> None:
    with pytest.raises((AssertionError, KeyError, RecursionError)):
        attempt(Reader(read, ValueError, (b"",)), b"x")


def test_a_plain_refusal_is_none() -> None:
    def read(data: bytes) -> None:
        raise ValueError("cannot read it")

    assert not attempt(Reader(read, ValueError, (b"",)), CANARY.encode())
    assert attempt(Reader(len, ValueError, (b"",)), CANARY.encode())
