"""What every reader of foreign bytes promises, and how it is tried.

A reader takes the bytes or says no with its own exceptions: no other error, no endless recursion, no memory
beyond a small multiple of what came, and no word of the input in what it says.
"""

from __future__ import annotations

import os
import traceback
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, settings

MANY = os.environ.get("FUZZ_EXAMPLES", "")
"""How many inputs of each kind for each reader `make fuzz` asks for, new ones each time; else few, always the
same: what a change is refused for is then the change's own doing."""
CANARY = "qzCANARYqz"
"""Stands for whatever must not be repeated. No identifier looks like it."""
CANARY_NUMBER = 98765432198765432198
FACTOR, CONSTANT = 64, 6 * 1024 * 1024
"""Bytes of memory for a byte of input (an empty list in JSON has 2 of the latter and 64 of the former), and
for none: what a reader holds at once, such as a bounded number of items."""

bounded = settings(
    max_examples=int(MANY or 15),
    derandomize=not MANY,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # to make a failing input small can take much longer than to find it
)


@dataclass(frozen=True, slots=True)
class Reader:
    """One reader, and what it takes."""

    read: Callable[[bytes], object]
    refusals: type[Exception] | tuple[type[Exception], ...]
    examples: tuple[bytes, ...]
    """Inputs that it takes, or almost."""
    form: str = "text"
    """How examples can be taken apart: `cbor`, `json`, `lines` (of JSON) or `text`."""
    copies: int = 1
    """How often the input is taken apart and put together around the reader, to get it there."""


def attempt(reader: Reader, data: bytes) -> bool:
    """Read; whether the reader took it. AssertionError, or whatever the reader let through."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    said = ""
    try:
        reader.read(data)
    except reader.refusals as error:
        # With all that Python would print of it, the errors it came of included.
        said = "".join(traceback.format_exception(error))
        assert "\n" not in str(error), "a refusal is one line"
        assert len(str(error)) < 600, "a refusal is a sentence"
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before <= CONSTANT + FACTOR * reader.copies * len(data), (
        f"{peak - before} bytes for {len(data)}"
    )
    assert CANARY not in said
    assert str(CANARY_NUMBER) not in said
    return said == ""
