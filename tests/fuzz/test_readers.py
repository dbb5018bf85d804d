"""Every reader of foreign bytes, with noise, damaged examples, and examples of another structure.

`make fuzz` runs the same with many more inputs. What it finds gets a test of its own in test_found.py.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import backup, protected
from tests.fuzz import files, sealed
from tests.fuzz.kit import CANARY, CONSTANT, Reader, attempt, bounded
from tests.fuzz.mutations import HOSTILE, damaged, noise, restructured

MAKERS = sealed.READERS | files.READERS


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


def test_its_examples_are_what_it_reads(reader: Reader) -> None:
    taken = [attempt(reader, one) for one in reader.examples]
    assert len(taken) > 0


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


@pytest.mark.parametrize(
    "bad",
    [
        lambda data: [bytes(CONSTANT + 100 * len(data))],
        lambda data: (_ for _ in ()).throw(ValueError(f"cannot read {CANARY}")),
        lambda data: (_ for _ in ()).throw(KeyError("a")),
        lambda data: [].append(int("a")),
    ],
    ids=["memory", "an echo", "another error", "a cause"],
)
def test_a_reader_that_breaks_its_promise_is_found(bad: object) -> None:
    def read(data: bytes) -> None:
        try:
            assert callable(bad)
            bad(data)
        except ValueError as error:
            raise ValueError("no") from (error if CANARY in str(error) else None)
        except KeyError:
            raise

    reader = Reader(read, ValueError, (b"",))
    if bad is not None and "int" in getattr(bad, "__code__", reader).co_names:  # type: ignore[union-attr]
        assert not attempt(reader, b"x"), "a plain refusal is none"
    else:
        with pytest.raises((AssertionError, KeyError)):
            attempt(reader, b"x")


def test_every_kind_of_mutation_is_drawn() -> None:
    @bounded
    @given(st.data())
    def run(data: st.DataObject) -> None:
        assert isinstance(data.draw(damaged((b"abc",))), bytes)

    run()
