"""Commands for a local system: send, inbox, status, recall, example. They use the API of a running node."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import mimetypes
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import uuid4

import typer

from gateway.cli.common import Exit, Json, TokenFile, Url, fail, read_token, show
from gateway.errors import StartupError
from gateway.http.client import ApiProblem, Client, File, Unreachable
from gateway.messages import FINAL_STAGES, LawfulBasis, Purpose
from gateway.schemas import TYPES
from gateway.tls import need_tls

T = TypeVar("T")

PIECE = 256 * 1024
"""Bytes read at once from an attachment."""
POLL = 0.5
"""Seconds between looks at a status."""
_FORMATS = {".json": "application/json", ".xml": "application/fhir+xml"}
_FINAL = {stage.value for stage in FINAL_STAGES}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(send)
    app.command()(inbox)
    app.command()(status)
    app.command()(recall)
    app.command()(example)


def send(
    file: Annotated[Path, typer.Argument(help="The message, in a format the node reads.")],
    to: Annotated[list[str], typer.Option(help="Recipient agency; repeat for several.")],
    purpose: Annotated[Purpose, typer.Option(help="Why it is shared.")],
    lawful_basis: Annotated[LawfulBasis, typer.Option(help="On which lawful basis.")],
    url: Url,
    token_file: TokenFile,
    content_type: Annotated[
        str, typer.Option(help="Media type of the message; guessed from the file's name if absent.")
    ] = "",
    attach: Annotated[list[Path] | None, typer.Option(help="A file to attach; repeat for several.")] = None,
    idempotency_key: Annotated[str, typer.Option(help="The key of an earlier try, to repeat it.")] = "",
    as_json: Json = False,
) -> None:
    """Send a message: returns once the node has it durably, with the signed `accepted` receipt."""
    try:
        body = file.read_bytes()
        files = [_attachment(path, quiet=as_json) for path in attach or ()]
    except OSError as error:
        raise StartupError(f"cannot read {error.filename}: {error.strerror}") from None
    key = idempotency_key or str(uuid4())

    async def work(client: Client) -> dict[str, Any]:
        return await client.send(
            body,
            media_type=content_type or _FORMATS.get(file.suffix.lower(), "application/json"),
            to=to,
            purpose=purpose.value,
            lawful_basis=lawful_basis.value,
            idempotency_key=key,
            attachments=files,
        )

    answer = _ask(url, token_file, work, retry=f"repeat it with --idempotency-key {key}")
    if as_json:
        show(answer)
        return
    typer.echo(answer["message_id"])
    for warning in answer["warnings"]:
        typer.echo(f"warning: {warning['pointer']}: {warning['rule']}", err=True)


def inbox(
    url: Url,
    token_file: TokenFile,
    wait: Annotated[int, typer.Option(help="Seconds to wait for a message.", min=0, max=60)] = 0,
    ack: Annotated[str, typer.Option(help="Acknowledge this message: it becomes `delivered`.")] = "",
    reject: Annotated[str, typer.Option(help="Reject this message; needs --reason.")] = "",
    reason: Annotated[str, typer.Option(help="Reason code for --reject (docs/api.md).")] = "",
    show_message: Annotated[str, typer.Option("--open", help="Open this message and print it.")] = "",
    accept: Annotated[str, typer.Option(help="Format for --open.")] = "application/json",
    as_json: Json = False,
) -> None:
    """List what waits for the agency, or open, acknowledge or reject one message."""
    if reject and not reason:
        raise StartupError("--reject needs --reason (docs/api.md lists the codes)")
    if show_message:
        native = _ask(url, token_file, lambda client: client.open(show_message, accept))
        sys.stdout.buffer.write(native.body + b"\n")
        return
    if ack or reject:

        async def answer(client: Client) -> dict[str, Any]:
            if ack:
                return dict((await client.ack([ack]))["messages"][0])
            return await client.reject(reject, reason=reason)

        done = _ask(url, token_file, answer)
        show(done) if as_json else typer.echo(f"{done['message_id']}  {done['stage']}")
        return
    page = _ask(url, token_file, lambda client: client.inbox(wait=wait))
    if as_json:
        show(page)
        return
    for one in page["messages"]:
        typer.echo(
            f"{one['message_id']}  {one['type']}/{one['version']}  from {one['sender']}  {one['received']}"
        )


def status(
    message_id: Annotated[str, typer.Argument(help="The message.")],
    url: Url,
    token_file: TokenFile,
    wait: Annotated[bool, typer.Option(help="Wait until every recipient's ladder is final.")] = False,
    as_json: Json = False,
) -> None:
    """See how far a message has come. Exit 1 if a recipient's ladder ended other than `delivered`."""

    async def work(client: Client) -> dict[str, Any]:
        while True:
            answer = await client.status(message_id)
            if not wait or all(ladder["stage"] in _FINAL for ladder in answer["recipients"]):
                return answer
            await asyncio.sleep(POLL)

    answer = _ask(url, token_file, work)
    if as_json:
        show(answer)
    else:
        for ladder in answer["recipients"]:
            for receipt in ladder["receipts"]:
                why = f"  ({receipt['reason']})" if receipt["reason"] else ""
                typer.echo(f"{ladder['recipient']}  {receipt['stage']:<9}  {receipt['at']}{why}")
    if any(ladder["stage"] in _FINAL - {"delivered"} for ladder in answer["recipients"]):
        raise typer.Exit(Exit.REFUSED)


def recall(
    message_id: Annotated[str, typer.Argument(help="The message.")],
    url: Url,
    token_file: TokenFile,
    as_json: Json = False,
) -> None:
    """Ask for a message back that has not been delivered; `gateway status` shows what came of it."""
    answer = _ask(url, token_file, lambda client: client.recall(message_id))
    show(answer) if as_json else typer.echo(f"{message_id}  asked for at {answer['recalled']}")


def example(
    message_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="referral, decision or file.")
    ] = "referral",
) -> None:
    """Print a complete, fictional example of a message type."""
    folder = resources.files("gateway.schemas") / "examples" / message_type
    if message_type not in TYPES:
        raise StartupError(f"there are examples of: {', '.join(TYPES)}")
    first = min((entry for entry in folder.iterdir() if entry.name.endswith(".json")), key=lambda e: e.name)
    typer.echo(first.read_text("utf-8"), nl=False)


def _ask(url: str, token_file: Path, work: Callable[[Client], Awaitable[T]], retry: str = "") -> T:
    """Run one conversation with the node; what goes wrong is one line and an exit code."""
    need_tls("--url", url)

    async def run() -> T:
        client = Client(url, read_token(token_file))
        try:
            return await work(client)
        finally:
            await client.close()

    try:
        return asyncio.run(run())
    except ApiProblem as problem:
        where = "".join(f"; {one.pointer}: {one.rule}" for one in problem.problems)
        code = Exit.UNAVAILABLE if problem.status in {429, 503} else Exit.REFUSED
        title = problem.title or f"{url} answered {problem.status}: is it a node's API?"
        fail(f"{title} ({problem.code}){where}. {problem.hint}".rstrip(), code)
    except Unreachable:
        again = f"; {retry}" if retry else ""
        fail(f"the node at {url} does not answer: is it running?{again}", Exit.UNAVAILABLE)


def _attachment(path: Path, *, quiet: bool) -> File:
    """A file to stream, with its digest, so that the node checks what arrives."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    field = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return File(path.name, media_type, _stream(path, size, quiet=quiet), field)


async def _stream(path: Path, size: int, *, quiet: bool) -> AsyncIterator[bytes]:
    """The file in pieces; on a terminal it shows how far it is."""
    done = 0
    progress = not quiet and sys.stderr.isatty() and size > PIECE
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
            done += len(piece)
            if progress:
                print(f"\rsending {done * 100 // size:3d} %", end="", file=sys.stderr)
    if progress:
        print(file=sys.stderr)
