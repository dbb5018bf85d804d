"""What a process that holds keys and plaintext asks of the system: that its memory is not written to disk.

And the little that Python lets it do itself: overwrite secrets that it holds in buffers of its own. What the
libraries return is immutable and goes when memory is used again (docs/crypto.md section 7).
"""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""prctl(2)."""
_WHITE: Final = b" \t\n\r\v\f"
Secret = bytes | bytearray
"""A passphrase or key: a bytearray where it is ours to overwrite."""


def no_dumps() -> None:
    """No core dump of this process, no debugger of another user in it. Swap is the operator's to encrypt."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # Core handlers that are pipes do not heed the limit: this they do.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def wiped(secret: bytearray) -> Iterator[bytearray]:
    """Use a secret, then overwrite it with zeros, whatever happened."""
    try:
        yield secret
    finally:
        secret[:] = bytes(len(secret))  # as long as it was: in place


def read_secret(file: FileIO, most: int) -> bytearray:
    """The first `most` bytes of an unbuffered file, without white space around; no other copy is left of it.

    Raises OSError.
    """
    with wiped(bytearray(most)) as buffer:
        view, held = memoryview(buffer), 0
        while held < most and (count := file.readinto(view[held:])):
            held += count
        view.release()
        begin, end = 0, held
        while begin < end and buffer[begin] in _WHITE:
            begin += 1
        while begin < end and buffer[end - 1] in _WHITE:
            end -= 1
        return buffer[begin:end]
