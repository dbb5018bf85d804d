"""What a process that holds keys and plaintext asks of the system: that its memory is not written to disk."""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""prctl(2)."""


def no_dumps() -> None:
    """No core dump of this process, no debugger of another user in it. Swap is the operator's to encrypt."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # Core handlers that are pipes do not heed the limit: this they do.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
