"""Promise 3 at the log: whatever a caller, a library or an exception says, only listed words come out."""

from __future__ import annotations

import ast
import asyncio
import gc
import io
import json
import logging
import subprocess
import sys
import textwrap
import threading
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.messages import Reason, Stage
from gateway.observability import logs
from gateway.observability.vocabulary import EVENTS, FIELDS, OWN_FIELDS

CANARY = "Zebedee O'Canary 943 476 5919"
ROOT = Path(__file__).parents[2]

GOOD: dict[str, object] = {
    "message_id": "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b",
    "envelope_id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    "agency": "northtown-academy",
    "sender": "northtown-academy",
    "recipient": "northtown-police",
    "sector": "education",
    "type": "referral",
    "version": 1,
    "lane": "messages",
    "stage": Stage.RECEIVED,
    "reason": Reason.BAD_SIGNATURE,
    "code": "no-agreement",
    "count": 3,
    "bytes": 4096,
    "ms": 12,
    "attempt": 2,
    "part": "outbox-scan",
    "port": 8080,
}


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """The log, configured onto a buffer; what `configure` takes over is given back afterwards."""
    root = logging.getLogger()
    before = (sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning)
    handlers, level, raising, sink = list(root.handlers), root.level, logging.raiseExceptions, logs._sink
    stream = io.StringIO()
    logs.configure(stream)
    yield stream
    sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning = before
    root.handlers[:], logging.raiseExceptions, logs._sink = handlers, raising, sink
    root.setLevel(level)


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    """What was written so far, each line parsed."""
    return [json.loads(line) for line in output.getvalue().splitlines()]


def fail(text: str) -> Exception:
    """An exception that was really raised, with content in every place an exception has."""
    try:
        try:
            raise KeyError(text)
        except KeyError as cause:
            error = ValueError(text, {"name": text})
            error.add_note(text)
            raise error from cause
    except ValueError as error:
        return error


def test_every_listed_field_is_written_as_given(output: io.StringIO) -> None:
    logs.get_logger().info("message-accepted", **GOOD)
    (line,) = lines(output)
    assert set(GOOD) == set(FIELDS), "the example covers every field"
    assert {name: line[name] for name in GOOD} == GOOD
    assert set(line) == set(GOOD) | {"time", "level", "event"}
    assert (line["level"], line["event"]) == ("info", "message-accepted")


def test_none_means_not_given(output: io.StringIO) -> None:
    logs.get_logger().info("envelope-refused", message_id=None, reason=Reason.MALFORMED)
    (line,) = lines(output)
    assert line["reason"] == "malformed"
    assert "message_id" not in line
    assert "dropped" not in line


@pytest.mark.parametrize(
    "name", [*FIELDS, *OWN_FIELDS, "name", "exc_info", "stack_info", "fields", "own", "self"]
)
@pytest.mark.parametrize(
    "value", [CANARY, {"name": CANARY}, [CANARY], CANARY.encode(), 9434765919, True, 1.5, object], ids=repr
)
def test_a_value_that_breaks_its_rule_is_dropped_and_counted(
    output: io.StringIO, name: str, value: object
) -> None:
    before = logs.dropped_total()
    logs.get_logger().info(
        "message-accepted", **{name: value, "count": 1} if name != "count" else {name: value}
    )
    (line,) = lines(output)
    assert line["dropped"] == 1
    assert logs.dropped_total() == before + 1
    assert set(line) - {"count"} == {"time", "level", "event", "dropped"}
    assert line["event"] == "message-accepted"


def test_an_unregistered_event_is_not_written(output: io.StringIO) -> None:
    logs.get_logger().warning(f"accepted referral of {CANARY}", agency="northtown-academy")
    (line,) = lines(output)
    assert line["event"] == "unregistered-event"
    assert line["agency"] == "northtown-academy"


# Text that no rule lets through: what people write has capitals, spaces or is not ASCII. Texts that look
# exactly like an agency id or a short word are what those fields are for.
personal = st.text(min_size=6).filter(lambda s: not s.isascii() or any(c.isupper() or c.isspace() for c in s))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    event=personal,
    fields=st.dictionaries(
        st.sampled_from([*FIELDS, *OWN_FIELDS]) | st.text(min_size=1),
        st.recursive(
            personal, lambda inner: st.lists(inner) | st.dictionaries(personal, inner), max_leaves=4
        ),
    ),
)
def test_nothing_personal_comes_out_whatever_is_logged(
    output: io.StringIO, event: str, fields: dict[str, Any]
) -> None:
    fields.pop("exc", None)
    output.seek(0)
    output.truncate()
    log = logs.get_logger()
    log.info(event, **fields)
    log.error("internal-error", exc=fail(event), **fields)
    first, second = lines(output)
    assert first["event"] == "unregistered-event"
    assert second["event"] == "internal-error"
    assert set(first) <= {"time", "level", "event", "dropped"}
    assert set(second) <= {"time", "level", "event", "dropped", "error", "where"}
    assert first.get("dropped", 0) == len(fields)
    assert (second["error"], second["where"].split(":")[0]) == ("ValueError", __name__)


def test_where_is_the_innermost_frame_of_the_product(output: io.StringIO) -> None:
    raises_in_stdlib = compile("def call(f):\n    f()\n", "probe.py", "exec")
    frame: dict[str, Any] = {"__name__": "gateway.probe"}
    exec(raises_in_stdlib, frame)  # a stand-in for a module of ours
    try:
        frame["call"](lambda: json.loads("{"))
    except ValueError as error:
        logs.get_logger().error("internal-error", exc=error)
    (line,) = lines(output)
    assert (line["error"], line["where"]) == ("JSONDecodeError", "gateway.probe:2")


def test_other_libraries_records_come_out_without_their_text(output: io.StringIO) -> None:
    library = logging.getLogger("asyncio")
    library.warning("task %s for %s", {"name": CANARY}, CANARY)
    library.error(f"failed for {CANARY}", exc_info=fail(CANARY), extra={"person": CANARY})
    library.critical(CANARY, stack_info=True)
    logging.getLogger("aiohttp.access").warning(f"GET /v1/messages?name={CANARY}")
    logging.getLogger(CANARY).error("named after a person")
    assert "Canary" not in output.getvalue()
    assert [(line["event"], line["level"], line["logger"]) for line in lines(output)] == [
        ("library", "warning", "asyncio"),
        ("library", "error", "asyncio"),
        ("library", "critical", "asyncio"),
        ("library", "warning", "aiohttp" if "aiohttp" in sys.modules else "other"),
        ("library", "error", "other"),
    ]
    assert lines(output)[1]["error"] == "ValueError"


def test_a_record_that_cannot_be_formatted_says_nothing_more(
    output: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("asyncio").error("%d %d", CANARY)
    broken = logging.LogRecord("asyncio", 40, None, 1, CANARY, (), None)  # type: ignore[arg-type]
    logging.getLogger("asyncio").handle(broken)
    assert "Canary" not in output.getvalue()
    assert capfd.readouterr() == ("", "")


def test_a_handler_that_a_library_had_before_is_gone(output: io.StringIO) -> None:
    own = io.StringIO()
    library = logging.getLogger("gateway-test-library")
    library.addHandler(logging.StreamHandler(own))
    library.propagate = False
    logs.configure(output)
    library.error(CANARY)
    assert own.getvalue() == ""
    assert [line["event"] for line in lines(output)] == ["library"]


def test_warnings_come_out_as_category_and_place(output: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._on_warning
        warnings.warn(f"{CANARY} is deprecated", DeprecationWarning, stacklevel=1)
    (line,) = lines(output)
    assert (line["logger"], line["error"], line["where"].split(":")[0]) == (
        "py.warnings",
        "DeprecationWarning",
        "test_logs",
    )


def test_uncaught_exceptions_of_threads_finalisers_and_tasks_are_lines(output: io.StringIO) -> None:
    thread = threading.Thread(target=lambda: (_ for _ in ()).throw(ValueError(CANARY)))
    thread.start()
    thread.join()

    class Finalised:
        def __del__(self) -> None:
            raise LookupError(CANARY)

    Finalised()
    gc.collect()
    assert "Canary" not in output.getvalue()
    assert [(line["event"], line["error"]) for line in lines(output)] == [
        ("unhandled", "ValueError"),
        ("unhandled", "LookupError"),
    ]


def test_a_task_nobody_awaited_is_a_line(output: io.StringIO) -> None:
    async def lose_a_task() -> None:
        logs.install_loop_handler(asyncio.get_running_loop())

        async def work() -> None:
            raise ValueError(CANARY)

        task = asyncio.get_running_loop().create_task(work(), name=CANARY)
        await asyncio.wait({task})
        del task
        gc.collect()
        asyncio.get_running_loop().call_exception_handler({"message": CANARY})

    asyncio.run(lose_a_task())
    assert "Canary" not in output.getvalue()
    assert [(line["event"], line.get("error")) for line in lines(output)] == [
        ("unhandled", "ValueError"),
        ("unhandled", None),
    ]


def test_a_process_that_dies_prints_one_line_and_no_traceback() -> None:
    program = f"""
        from gateway.observability import logs
        logs.configure()
        def read(name):
            raise ValueError(name)
        read({CANARY!r})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    line = json.loads(done.stderr)
    assert (line["event"], line["error"], line["where"]) == ("unhandled", "ValueError", "__main__:5")


def test_the_leak_check_finds_a_planted_leak(output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: a field that lets anything through is found by them."""
    anything = FIELDS["part"]
    monkeypatch.setitem(FIELDS, "part", type(anything)("anything", "planted", lambda value: True))
    logs.get_logger().info("message-accepted", part=CANARY)
    assert CANARY in output.getvalue()


def test_levels_below_the_threshold_are_not_written(output: io.StringIO) -> None:
    logs.configure(output, "error")
    log = logs.get_logger()
    log.info("node-started")
    log.warning("transport-lost")
    log.error("internal-error")
    assert [line["event"] for line in lines(output)] == ["internal-error"]


@pytest.mark.parametrize("broken", [OSError(28, "No space left"), ValueError("I/O operation on closed file")])
def test_a_stream_that_fails_does_not_stop_the_road(output: io.StringIO, broken: Exception) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise broken

    logs.configure(Broken())
    logs.get_logger().info("node-started")  # does not raise


def test_concurrent_writers_do_not_mix_their_lines(output: io.StringIO) -> None:
    def write() -> None:
        for _ in range(50):
            logs.get_logger().info("message-accepted", message_id=str(uuid.uuid4()))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(output)) == 200


def _log_calls() -> Iterator[tuple[str, ast.Call]]:
    for file in sorted((ROOT / "gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                target = ast.unparse(node.func.value)
                if node.func.attr in {"info", "warning", "error"} and target.split(".")[-1] in {
                    "log",
                    "_log",
                }:
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def test_every_call_in_the_product_logs_registered_events_with_listed_fields() -> None:
    problems, calls = [], list(_log_calls())
    for where, call in calls:
        event = call.args[0]
        if isinstance(event, ast.Constant) and event.value not in EVENTS:
            problems.append(f"{where}: {event.value!r}")
        for word in call.keywords:
            field = FIELDS.get(word.arg or "")
            if field is None and word.arg != "exc":
                problems.append(f"{where}: {word.arg}")
            if field and isinstance(word.value, ast.Constant) and word.value.value is not None:
                problems += [f"{where}: {word.arg}"] * (not field.allows(word.value.value))
    assert problems == []
    assert len(calls) > 10
