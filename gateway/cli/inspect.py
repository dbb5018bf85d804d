"""Commands that check evidence offline: receipts verify."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.common import Exit, Json, fail, show, timestamp
from gateway.crypto import proof
from gateway.crypto.approval import ApprovalInvalid
from gateway.crypto.break_glass import confirm
from gateway.directory import file as directory_file
from gateway.directory.model import Directory
from gateway.errors import ReceiptInvalid, StartupError
from gateway.messages import Receipt

receipts_app = typer.Typer(no_args_is_help=True, help="Signed receipts.")

LARGEST = 16 * 1024 * 1024
"""Bytes of a file of receipts."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(receipts_app, name="receipts")


@receipts_app.callback()
def _receipts() -> None:
    """Signed receipts."""


@receipts_app.command("verify")
def verify(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Answers of the API or of `gateway status --json`, or raw COSE receipts; - is stdin."
        ),
    ],
    directory: Annotated[Path, typer.Option("--directory", "-d", help="The directory file.")],
    as_json: Json = False,
) -> None:
    """Verify receipts offline, with nothing but the directory. Exit 1 if any does not verify.

    Nor does one of an emergency opening whose quorum the directory does not confirm.
    """
    trusted = directory_file.load(directory)
    results: list[dict[str, Any]] = []
    for path in files:
        results += [_verified(cose, trusted) for cose in _receipts_in(path)]
    if not results:
        fail("there is no receipt in what was given", Exit.USAGE)
    if as_json:
        show({"valid": all(r["valid"] for r in results), "receipts": results})
    else:
        for r in results:
            if r["valid"]:
                reason = f"  ({r['reason']})" if r["reason"] else ""
                typer.echo(
                    f"valid    {r['stage']:<9}  {r['at']}  message {r['message_id']}"
                    f"  {r['sender']} -> {r['recipient']}  signed by {r['issuer']}{reason}"
                    + (f"  approved by {', '.join(r['approved_by'])}" if "approved_by" in r else "")
                )
            else:
                typer.echo(f"INVALID  {r['why']}")
    if not all(r["valid"] for r in results):
        raise typer.Exit(Exit.REFUSED)


def _verified(cose: bytes, directory: Directory) -> dict[str, Any]:
    try:
        receipt = proof.verify_receipt(cose, directory.verify_key)
        found = _describe(receipt)
        if receipt.quorum is not None:
            found["agreement"] = receipt.quorum.agreement
            found["approved_by"] = sorted(confirm(receipt, directory.break_glass))
    except ReceiptInvalid as error:
        return {"valid": False, "why": str(error)}
    except ApprovalInvalid as error:
        return {"valid": False, "why": f"signed by {receipt.issuer}, but there is no quorum: {error}"}
    return {"valid": True, **found}


def _receipts_in(path: Path) -> list[bytes]:
    """Every receipt in a file: raw COSE, or wherever a JSON document has a "receipt" field."""
    try:
        data = sys.stdin.buffer.read(LARGEST) if str(path) == "-" else path.read_bytes()[:LARGEST]
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}") from None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return [data]
    found: list[bytes] = []
    waiting: deque[Any] = deque([document])
    while waiting:
        value = waiting.popleft()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += [inner for key, inner in value.items() if key != "receipt"]
            if isinstance(text := value.get("receipt"), str):
                found.append(_decode(text))
            elif text is not None:
                waiting.append(text)
    return found


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""  # does not verify


def _describe(receipt: Receipt) -> dict[str, Any]:
    return {
        "stage": receipt.stage.value,
        "message_id": receipt.message_id,
        "envelope_id": receipt.envelope_id,
        "envelope_sha256": receipt.envelope_digest.hex(),
        "sender": receipt.sender,
        "recipient": receipt.recipient,
        "issuer": receipt.issuer,
        "at": timestamp(receipt.at),
        "reason": receipt.reason.value if receipt.reason else None,
    }
