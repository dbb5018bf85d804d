"""Commands for proof of one message: evidence, evidence verify (docs/evidence.md)."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway import config
from gateway.audit import evidence, log, page
from gateway.audit.evidence import EvidenceInvalid
from gateway.cli.audit import write_whole
from gateway.cli.common import Exit, Json, NodeFolder, approved, fail, show, timestamp
from gateway.cli.database import in_database
from gateway.directory import file as directory_file
from gateway.directory.opening import open_directory
from gateway.engine.keyring import KeyRing
from gateway.errors import StartupError
from gateway.messages import UUID4, AgencyId
from gateway.store import audit
from gateway.store.base import Session


class _MakeByDefault(TyperGroup):
    """`gateway evidence ID` is `gateway evidence make ID`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front of an identifier."""
        if args and UUID4.fullmatch(args[0]):
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_MakeByDefault,
    no_args_is_help=True,
    help="Proof of one message's way: `gateway evidence MESSAGE_ID` makes it, anybody can check it.",
)

EVIDENCE, REPORT = "evidence.json", "report.html"
LARGEST = 64 * 1024 * 1024
"""Bytes of a file, and of what it unpacks to."""
PIECES = 2_000_000
"""Commas and brackets of the document: each may cost some hundred bytes of memory once it is read."""
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(ValueError, RecursionError, NotImplementedError, RuntimeError, KeyError, struct.error),
)
"""What reading an archive of anybody's raises."""


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app, name="evidence")


@app.callback()
def _root() -> None:
    """Proof of one message's way: `gateway evidence MESSAGE_ID` makes it, anybody can check it."""


@app.command("make")
def make_(
    message_id: Annotated[str, typer.Argument(help="The message's identifier.")],
    node: NodeFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; it must not exist.")],
) -> None:
    """Write what proves a message's way: receipts, directory, audit entries, and a page to read."""
    settings, now = config.load(node), time.time_ns() // 1_000_000
    current = open_directory(settings.directory()).current
    ring = KeyRing(settings.key_store(), [AgencyId(agency) for agency in settings.node.agencies])
    ring.choose(current, now)  # as the node does: a key that is not listed yet vouches for nothing
    signers = [(keys.signing, keys.audit_key()) for keys in ring.values()]
    directory = current.document.model_dump_json()

    def job(session: Session) -> dict[str, Any] | None:
        audit.note_directory(session, directory)  # the node may not have seen it yet
        while log.checkpoint(session, signers, now) is not None:
            pass
        latest = audit.latest(session)
        assert latest is not None  # one was made above, if none was there
        return evidence.make(session, message_id, settings.node.agencies, latest, directory)

    try:
        made = in_database(settings.database(), job)
    except log.LogDamaged:
        fail(
            "entries of the audit log are gone: `gateway audit verify` of an export says which", Exit.REFUSED
        )
    if made is None:
        fail(f"the audit log has no entry of a message {message_id}", Exit.REFUSED)
    try:
        found = evidence.check(made)
    except EvidenceInvalid as error:
        fail(f"the evidence would not verify: {error}", Exit.REFUSED)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(EVIDENCE, json.dumps(made, indent=1))
        archive.writestr(REPORT, page.render(found))
    write_whole(output, [packed.getvalue()])
    typer.echo(
        f"{output}: {len(found.receipts)} receipts. Check it anywhere: gateway evidence verify {output}"
    )


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A file that `gateway evidence make` wrote.")],
    directory: Annotated[
        Path | None,
        typer.Option("--directory", "-d", help="A directory file you trust: its keys count, no others."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify evidence offline: every receipt, its entry in the audit log, the log's signature, the page."""
    trusted = directory_file.load(directory) if directory is not None else None
    try:
        document, report = _unpack(file)
        found = evidence.check(document, trusted)
        if report != page.render(found):
            raise EvidenceInvalid(f"{REPORT} does not say what {EVIDENCE} proves: do not rely on it")
    except EvidenceInvalid as error:
        if as_json:
            show({"valid": False, "why": str(error)})
            raise typer.Exit(Exit.REFUSED) from None
        fail(f"{file}: {error}", Exit.REFUSED)
    if as_json:
        stages: list[dict[str, Any]] = [
            {"stage": r.stage, "issuer": r.issuer, "at": timestamp(r.at)} for r in found.receipts
        ]
        for stage, receipt, roles in zip(stages, found.receipts, found.quorums, strict=True):
            if receipt.quorum is not None:
                stage["approved_by"] = list(roles) if roles else None
        show({"valid": True, "message_id": found.message_id, "receipts": stages})
        return
    for one, roles in zip(found.receipts, found.quorums, strict=True):
        reason = f"  ({one.reason})" if one.reason else ""
        typer.echo(
            f"valid    {one.stage:<9}  {timestamp(one.at)}  {one.sender} -> {one.recipient}"
            f"  signed by {one.issuer}{reason}{approved(one, roles)}"
        )
    trust = "" if trusted else "; the keys are the file's own: give --directory to check them too"
    typer.echo(f"message {found.message_id}, in the audit log of {', '.join(found.agencies)}{trust}")


def _unpack(file: Path) -> tuple[Any, str]:
    """The document and the page. Raises EvidenceInvalid, StartupError."""
    try:
        data = file.read_bytes() if file.stat().st_size <= LARGEST else b""
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = {one.filename: one.file_size for one in archive.infolist()}
            # Other ways to pack may ask for gigabytes of memory before the first byte comes out.
            plain = all(one.compress_type in _PACKED for one in archive.infolist())
            whole = plain and len(archive.infolist()) == 2 and sizes.keys() == {EVIDENCE, REPORT}
            if not whole or max(sizes.values()) > LARGEST:
                raise EvidenceInvalid(f"it does not hold {EVIDENCE} and {REPORT}, and nothing else")
            document, report = (_read(archive, name, sizes[name]) for name in (EVIDENCE, REPORT))
            if sum(document.count(one) for one in b",[{") > PIECES:
                raise EvidenceInvalid(f"its {EVIDENCE} holds far more than evidence does")
            return json.loads(document), report.decode("utf-8")
    except _DAMAGED:
        raise EvidenceInvalid(
            "this is not evidence that `gateway evidence` wrote, or it is damaged"
        ) from None


def _read(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """A file of the archive, which must be as large as the archive says: a bomb lies about that."""
    with archive.open(name) as file:
        data = file.read(size)  # never read(): that unpacks all there is before it looks at the size
        if len(data) != size or file.read(1):
            raise zipfile.BadZipFile
    return data
