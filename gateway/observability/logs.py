"""Logs: one JSON object a line, of registered events with listed fields, and nothing else.

What is not on the lists in vocabulary.py is not written: an unlisted field, or a listed field whose value
breaks its rule, is left out and counted in `dropped`. Exceptions appear as class and place, never as text,
and so do the records of other libraries, warnings, and whatever would otherwise end in a traceback. Promise
3 rests on this file: nothing else in the product may write to a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import structlog

from gateway.observability.vocabulary import EVENTS, FIELDS, UNREGISTERED

_dropped_total = 0


def dropped_total() -> int:
    """Fields left out since the process started, all lines together."""
    return _dropped_total


def _admit(_logger: object, level: str, given: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """The gate, first in structlog's chain: whatever reaches it leaves as listed fields and a count."""
    global _dropped_total  # noqa: PLW0603 - one process, one log
    event, fields, own = given.get("event"), given.get("fields", {}), given.get("own", {})
    line: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "event": event if isinstance(event, str) and event in EVENTS else UNREGISTERED,
    }
    dropped = 0
    for name, value in fields.items():
        field = FIELDS.get(name)
        if value is None:
            continue
        if field is not None and field.allows(value):
            line[name] = value
        else:
            dropped += 1
    line.update(own)
    if dropped:
        line["dropped"] = dropped
        _dropped_total += dropped
    return line


class Log:
    """Writes events. Before `configure` nothing is written. Never raises, whatever it is given."""

    def info(self, event: str, /, **fields: object) -> None:
        """Something happened as it should. A field that is None is left out."""
        _write(logging.INFO, event, fields)

    def warning(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        """Something was refused, put off or degraded. Of `exc` only class and place are written."""
        _write(logging.WARNING, event, fields, exc)

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        """Something failed that an operator should look at. Of `exc` only class and place are written."""
        _write(logging.ERROR, event, fields, exc)


_LOG = Log()
_sink: Any = None


def get_logger() -> Log:
    """The process's log."""
    return _LOG


def _write(
    level: int,
    event: str,
    fields: Mapping[str, object],
    exc: BaseException | None = None,
    own: Mapping[str, object] = types.MappingProxyType({}),
) -> None:
    if _sink is None:
        return
    about = {**own, **_describe(exc)} if isinstance(exc, BaseException) else own
    # A full disk or a closed pipe must not stop the road.
    with contextlib.suppress(OSError, ValueError):
        _sink.log(level, event, fields=fields, own=about)


def _describe(exc: BaseException) -> dict[str, str]:
    """Class and place of an exception. Its arguments, notes and causes may quote content: never read."""
    frames = [
        (frame.f_globals.get("__name__", "?"), line) for frame, line in traceback.walk_tb(exc.__traceback__)
    ]
    ours = [(module, line) for module, line in frames if module.partition(".")[0] == "gateway"]
    described = {"error": type(exc).__qualname__}
    if frames:
        module, line = (ours or frames)[-1]
        described["where"] = f"{module}:{line}"
    return described


class _LibraryHandler(logging.Handler):
    """Takes the records of other libraries. A record's message and arguments are never formatted."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            exc = record.exc_info[1] if record.exc_info else None
            own = {
                "logger": _module_of(record.name),
                "where": f"{Path(record.pathname).stem}:{record.lineno}",
            }
            level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
            _write(level, "library", {}, exc, own)
        except Exception:  # noqa: BLE001 - a record must never harm whoever logs it
            self.handleError(record)  # silent: logging.raiseExceptions is off


def _module_of(name: str) -> str:
    """The loaded module a logger is named after: a logger's name is a string like any other."""
    while name and name not in sys.modules:
        name = name.rpartition(".")[0]
    return name or "other"


def configure(stream: TextIO | None = None, level: str = "info") -> None:
    """Write to `stream` (default: standard error) from `level` (`info`, `warning`, `error`) upwards.

    Takes over everything in the process that would write text of its own: the logging module, warnings,
    and the hooks for exceptions nobody caught. Call it once, first thing.
    """
    global _sink  # noqa: PLW0603 - one process, one log
    threshold = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}[level]
    structlog.configure(
        processors=[_admit, structlog.processors.JSONRenderer(sort_keys=False)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    _sink = structlog.get_logger().bind()
    _take_over_logging()
    warnings.showwarning = _on_warning
    sys.excepthook = _on_exception
    sys.unraisablehook = _on_unraisable
    threading.excepthook = _on_thread_exception


def install_loop_handler(loop: asyncio.AbstractEventLoop) -> None:
    """Report what asyncio finds nobody awaited, as class and place."""
    loop.set_exception_handler(
        lambda _loop, context: _write(logging.ERROR, "unhandled", {}, context.get("exception"))
    )


def _take_over_logging() -> None:
    """One handler for every logger there is. Handlers of their own would write the text."""
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler()]
    root.setLevel(logging.WARNING)
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    logging.raiseExceptions = False  # otherwise a failing handler prints a traceback with the message


def _on_warning(
    message: Warning | str,  # noqa: ARG001 - may hold anything: never read
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    own = {"logger": "py.warnings", "error": category.__name__, "where": f"{Path(filename).stem}:{lineno}"}
    _write(logging.WARNING, "library", {}, None, own)


def _on_exception(_kind: type[BaseException], exc: BaseException, trace: types.TracebackType | None) -> None:
    _write(logging.ERROR, "unhandled", {}, exc.with_traceback(trace))


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    _write(logging.ERROR, "unhandled", {}, unraisable.exc_value)


def _on_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:  # as threading itself does
        _write(logging.ERROR, "unhandled", {}, args.exc_value)
