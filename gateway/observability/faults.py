"""A fault in a command: one line with its class and place, and nothing of its text, which may quote anything.

Apart from logs.py, because commands start quicker without what that needs.
"""

from __future__ import annotations

import logging
import sys
import threading


def take_over() -> None:
    """What libraries log, and what fails in a thread or a finaliser, is no longer printed with its text."""
    logging.getLogger().addHandler(logging.NullHandler())
    threading.excepthook = lambda thread: report(thread.exc_value)
    sys.unraisablehook = lambda unraisable: report(unraisable.exc_value)


def report(error: BaseException | None) -> None:
    """One line on standard error."""
    if sys.is_finalizing():
        return
    from gateway.observability import logs  # noqa: PLC0415 - needed in a fault only

    logs.configure(sys.stderr)
    logs.get_logger().error("internal-error", part="command", exc=error)
