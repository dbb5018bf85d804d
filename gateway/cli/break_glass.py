"""Commands for an emergency: break-glass request, show, approve, open (docs/break-glass.md)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Annotated, TypeVar

import typer

from gateway import config
from gateway.adapters import Registry
from gateway.cli import people
from gateway.cli.common import Exit, Json, NodeFolder, fail, show, timestamp
from gateway.cli.database import in_database
from gateway.cli.people import By, PassphraseFile, RequestFile
from gateway.config import Settings
from gateway.crypto.approval import LONGEST, ApprovalInvalid, Request, approve, signer_of
from gateway.crypto.break_glass import read_opening
from gateway.crypto.fields import raw_id
from gateway.crypto.keys import VerifyKey
from gateway.directory.model import Directory
from gateway.directory.opening import open_directory
from gateway.engine import break_glass
from gateway.engine.break_glass import CannotOpen, Openable, Opening
from gateway.engine.keyring import KeyRing
from gateway.engine.opened_file import write_opened
from gateway.errors import RefusedByPeer, StartupError
from gateway.messages import UUID4, AgencyId, Emergency, MessageId, new_id
from gateway.protocol.break_glass import action
from gateway.store.base import Session
from gateway.store.opening import snapshot

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="In an emergency: open a message by a quorum of named roles.")

MINUTE = 60_000
_OptionalNode = Annotated[
    Path | None,
    typer.Option("--node", "-n", help="The node's folder: says which roles approved.", envvar="GATEWAY_NODE"),
]


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app, name="break-glass")


@app.callback()
def _root() -> None:
    """In an emergency: open a message by a quorum of named roles."""


@app.command()
def request(
    message_id: Annotated[str, typer.Argument(help="The message that waits.")],
    node: NodeFolder,
    reason: Annotated[Emergency, typer.Option(help="Why it cannot wait; the sender is told.")],
    by: By,
    passphrase_file: PassphraseFile,
    file: Annotated[Path, typer.Option("--request", help="The request's file to write, for the others.")],
    agency: Annotated[str, typer.Option(help="The agency it is for, if the node serves several.")] = "",
    minutes: Annotated[
        int, typer.Option(help="How long the request is good for.", min=1, max=LONGEST // MINUTE)
    ] = 60,
) -> None:
    """Ask for a message to be opened, and be the first to approve it."""
    settings = config.load(node)
    owner, message = _owner(settings, agency), _message(message_id)
    if file.exists():
        raise StartupError(f"{file} exists already: it is never overwritten")
    key, directory, now = people.own_key(by, passphrase_file), _directory(settings), _now()
    asked = Request(new_id(), action(reason), owner, raw_id(message), now, now + minutes * MINUTE)

    def job(session: Session) -> Openable:
        found = break_glass.find(session, directory, owner, message, now)
        if _role(found, key.kid) is None:
            raise CannotOpen(f"your key holds none of the roles of the agreement {found.agreement}")
        break_glass.ask(session, asked, reason, message)
        return found

    found = _refusing(settings, job, asked, message)
    people.new_request(file, approve(asked, key))
    typer.echo(
        f"{file}: asked as {_role(found, key.kid)}; {found.rule.threshold} of {_names(found)} must approve"
        f" by {timestamp(asked.until)}: gateway break-glass approve {file}"
    )


@app.command("show")
def show_(file: RequestFile, node: _OptionalNode = None, as_json: Json = False) -> None:
    """Show what a request asks for. With --node also which roles have approved it so far."""
    approvals = people.read_request(file)
    asked, reason, message = _read(approvals)
    kids = [signer_of(one) for one in approvals]
    found: dict[str, object] = {
        "message_id": message,
        "agency": asked.agency,
        "reason": reason.value,
        "request": asked.request_id,
        "asked": timestamp(asked.asked),
        "until": timestamp(asked.until),
        "keys": [kid.hex() for kid in kids],
    }
    if node is not None:
        settings = config.load(node)
        directory = _directory(settings)
        with snapshot(settings.database()) as session:
            try:
                one = break_glass.find(session, directory, asked.agency, message, _now())
            except CannotOpen as error:
                fail(str(error), Exit.REFUSED)
        found["agreement"], found["threshold"] = one.agreement, one.rule.threshold
        found["roles"] = [_role(one, kid) or "none of the roles" for kid in kids]
    if as_json:
        show(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:<10}  {', '.join(value) if isinstance(value, list) else value}")


@app.command("approve")
def approve_(file: RequestFile, by: By, passphrase_file: PassphraseFile) -> None:
    """Approve a request: look at it first with `show`. Needs no node, only the file and your key."""
    approvals = people.read_request(file)
    asked, reason, message = _read(approvals)
    if _now() >= asked.until:
        fail("the request has expired: ask anew", Exit.REFUSED)
    key = people.own_key(by, passphrase_file)
    if key.kid in map(signer_of, approvals):
        fail("your key has approved this request already", Exit.REFUSED)
    people.write_request(file, [*approvals, approve(asked, key)])
    typer.echo(
        f"approved: open message {message} of {asked.agency}, {reason.value}."
        f" Approvals so far: {len(approvals) + 1}"
    )


@app.command("open")
def open_(
    file: RequestFile,
    node: NodeFolder,
    out: Annotated[Path, typer.Option(help="The zip to write the message into; it must not exist.")],
) -> None:
    """Open the message, once enough roles have approved. The sender is told, and it is logged, beforehand."""
    settings = config.load(node)
    approvals = people.read_request(file)
    asked, _, message = _read(approvals)
    owner = _owner(settings, asked.agency)
    directory, now = _directory(settings), _now()
    ring = KeyRing(settings.key_store(), [owner])
    ring.choose(directory, now)
    keys = ring[owner]
    handle = _reserve(out)  # before the record: a file that cannot be written is found out first
    try:
        opening = _refusing(
            settings,
            lambda s: break_glass.record(s, directory, keys, message, approvals, now),
            asked,
            message,
        )
    except BaseException:
        handle.close()
        out.unlink(missing_ok=True)
        raise
    # From here on it is on record, and the sender will be told, whatever happens to us.
    missing = _hand_over(settings, handle, opening, ring, directory, out)
    typer.echo(
        f"{out}: message {message} of {owner}, approved by {', '.join(opening.roles)}."
        " The sender is told; the audit log has it. The message still waits for its own system."
    )
    if missing:
        typer.echo(f"attachments that are not whole here: {missing} (about.json says which)", err=True)


def _hand_over(
    settings: Settings, handle: IO[bytes], opening: Opening, ring: KeyRing, directory: Directory, out: Path
) -> int:
    """Decrypt into the file, and close it; how many attachments are not whole. A part of it is not left."""
    keys, whole = ring[opening.request.agency], False
    try:
        # Closing writes too, what is still in the buffer: a disk may be full by then.
        with handle, snapshot(settings.database()) as session:
            missing = write_opened(handle, session, opening, keys, directory.verify_key, Registry.load())
            handle.flush()
            os.fsync(handle.fileno())
        whole = True
    except RefusedByPeer as error:
        fail(f"on record, but the message does not open any more: {error.reason.value}", Exit.REFUSED)
    except (OSError, StartupError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        fail(
            f"on record, but not written to {out}: {why}; run it again, it is recorded again",
            Exit.UNAVAILABLE,
        )
    finally:
        if not whole:
            out.unlink(missing_ok=True)
    return missing


def _reserve(out: Path) -> IO[bytes]:
    """A new, empty file that nobody else can read. Raises StartupError."""
    try:
        return os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except FileExistsError:
        raise StartupError(f"{out} exists already: it is never overwritten") from None
    except OSError as error:
        raise StartupError(f"cannot write {out}: {error.strerror}") from None


def _refusing(settings: Settings, job: Callable[[Session], T], asked: Request, message: MessageId) -> T:
    """One transaction in the node's database, also while it runs; a refusal is one line, and entered."""
    try:
        return in_database(settings.database(), job)
    except (CannotOpen, ApprovalInvalid) as error:
        in_database(settings.database(), lambda s: break_glass.refuse(s, asked, message))
        fail(str(error), Exit.REFUSED)


def _read(approvals: Sequence[bytes]) -> tuple[Request, Emergency, MessageId]:
    """What the file asks for. Who signed it is checked where it counts, when it is opened."""
    try:
        return read_opening(approvals[0])
    except ApprovalInvalid as error:
        fail(str(error), Exit.REFUSED)


def _owner(settings: Settings, agency: str) -> AgencyId:
    """The agency the message is for. Raises StartupError."""
    served = settings.node.agencies
    if not agency and len(served) > 1:
        raise StartupError(f"this node serves several agencies: add --agency, one of {', '.join(served)}")
    if agency and agency not in served:
        raise StartupError(f"this node does not serve {agency}")
    return AgencyId(agency or served[0])


def _message(text: str) -> MessageId:
    if not UUID4.fullmatch(text):
        raise StartupError("a message identifier looks like 1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")
    return MessageId(text)


def _role(found: Openable, kid: bytes) -> str | None:
    """The role whose key this is."""
    return next((role for role, key in found.rule.roles if VerifyKey.from_public(key).kid == kid), None)


def _names(found: Openable) -> str:
    return ", ".join(role for role, _ in found.rule.roles)


def _directory(settings: Settings) -> Directory:
    return open_directory(settings.directory()).current


def _now() -> int:
    return time.time_ns() // 1_000_000
