"""Readers of files: JSON, text, archives. People are sent them, or a mirror serves them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from gateway import config
from gateway.audit import evidence, merkle
from gateway.audit.evidence import EvidenceInvalid
from gateway.audit.export import LogInvalid
from gateway.cli import audit as audit_commands
from gateway.cli import evidence as evidence_commands
from gateway.cli import inspect, people, sandbox
from gateway.crypto import cose, proof, protected
from gateway.crypto.approval import ApprovalInvalid, Request, approve
from gateway.crypto.break_glass import read_opening
from gateway.crypto.fields import raw_id
from gateway.crypto.keystore import FileKeyStore
from gateway.crypto.labels import CONFORMANCE_CONTEXT
from gateway.crypto.note import NoteInvalid, NoteKeys, read_note, sign_note
from gateway.crypto.statement import sign_statement
from gateway.errors import StartupError
from gateway.http import auth
from tests.fuzz.directories import AUDIT_KEY, NOW, b64, by_file, document
from tests.fuzz.kit import Reader
from tests.vectors import parts

PASSPHRASE = b"correct horse battery staple"
ORIGIN = "referral-gateway/audit/3f1c2a44-90d7-4b0e-8f6a-5c1d2e3f4a5b"
SIGNERS = [(parts.SIGNING[parts.POLICE], AUDIT_KEY)]


def key_file(folder: Path) -> Reader:
    store = FileKeyStore(folder)
    store.create(parts.POLICE, NOW)
    plain = (folder / f"{parts.POLICE}.json").read_bytes()
    store.rotate(parts.POLICE, NOW + 1, NOW + 2)
    rotated = (folder / f"{parts.POLICE}.json").read_bytes()
    in_token = json.loads(rotated) | {"version": 3}
    in_token["signing"][0] = {"suite": "ESP256", "token": "00", "public": "AA", "created": 1, "starts": 1}
    store.destroy(parts.POLICE, next(iter(store.load(parts.POLICE).opening)), NOW + 3)
    with_tombstone = (folder / f"{parts.POLICE}.json").read_bytes()
    examples = (plain, rotated, json.dumps(in_token).encode(), with_tombstone)
    name = f"{parts.POLICE}.json"
    return Reader(by_file(folder, name, lambda _: store.load(parts.POLICE)), StartupError, examples, "json")


def protected_key_file(folder: Path) -> Reader:
    store = FileKeyStore(folder, PASSPHRASE)
    store.create(parts.POLICE, NOW)
    name = f"{parts.POLICE}.json"
    example = (folder / name).read_bytes()
    return Reader(by_file(folder, name, lambda _: store.load(parts.POLICE)), StartupError, (example,), "json")


def inside_a_protected_key_file(folder: Path) -> Reader:
    plain = FileKeyStore(folder)
    plain.create(parts.POLICE, NOW)
    name = f"{parts.POLICE}.json"
    example = (folder / name).read_bytes()
    store = FileKeyStore(folder, PASSPHRASE)

    def read(data: bytes) -> object:
        salt = bytes(16)
        key = protected._key(PASSPHRASE, salt, protected._N)
        context = protected._context(parts.POLICE, salt, protected._N)
        sealed = cose.encrypt0(data, key, protected._NONCE, context)
        made = protected.protect({}, PASSPHRASE, parts.POLICE)
        made["scrypt"]["salt"], made["sealed"] = b64(salt), b64(sealed)
        (folder / name).write_text(json.dumps(made), "utf-8")
        return store.load(parts.POLICE)

    return Reader(read, StartupError, (example,), "json")


_REPORT = {
    "agency": parts.SCHOOL,
    "made": "2026-01-01T00:00:00Z",
    "gateway": "1",
    "exercises": [{"what": "sent", "met": "2026-01-01T00:00:00Z"}],
}


def _report_of(statement: Any) -> dict[str, Any]:
    return {"report": statement, **sign_statement(statement, parts.STRANGER, CONFORMANCE_CONTEXT)}


def report(folder: Path) -> Reader:
    example = json.dumps(_report_of(_REPORT)).encode()
    read = by_file(folder, "report.json", lambda file: sandbox._show(file, as_json=False))
    return Reader(read, (StartupError, typer.Exit), (example,), "json")


def report_signed(folder: Path) -> Reader:
    """Whatever it says, its signature holds: anybody can sign with a key of their own."""
    show = by_file(folder, "signed.json", lambda file: sandbox._show(file, as_json=False))

    def read(data: bytes) -> object:
        made = _report_of({})
        those = signed(data)
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            told = None
        return show(json.dumps(made | those | {"report": told}).encode())

    return Reader(read, (StartupError, typer.Exit), (json.dumps(_REPORT).encode(),), "json", copies=4)


def signed(payload: bytes) -> dict[str, str]:
    return {
        "signed": b64(cose.sign1(payload, parts.STRANGER, CONFORMANCE_CONTEXT)),
        "key": b64(parts.STRANGER.public.public_bytes),
    }


def _log(entries: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """A checkpoint over a log of two entries, and the entries with their proofs."""
    leaves = [merkle.leaf_hash(one.encode("utf-8", "surrogatepass")) for one in entries]
    note = sign_note(ORIGIN, 2, merkle.node_hash(*leaves), SIGNERS)
    proved = [{"index": at, "entry": one, "proof": [leaves[1 - at].hex()]} for at, one in enumerate(entries)]
    return note, proved


def pack(entries: list[str] | None = None) -> dict[str, Any]:
    """Evidence of one receipt, under a log of two entries."""
    text = json.dumps(document())
    signed = proof.sign_receipt(parts.RECEIPT, parts.SIGNING[parts.POLICE])
    told = {
        "kind": "receipt",
        "digest": hashlib.sha256(signed).hexdigest(),
        "message_id": parts.RECEIPT.message_id,
        "envelope_id": parts.RECEIPT.envelope_id,
        "issuer": parts.RECEIPT.issuer,
        "stage": parts.RECEIPT.stage.value,
        "stated": parts.RECEIPT.at,
        "at": NOW,
    }
    changed = {"kind": "directory-changed", "digest": hashlib.sha256(text.encode()).hexdigest(), "at": NOW}
    note, proved = _log(entries or [json.dumps({"index": 0} | changed), json.dumps({"index": 1} | told)])
    return {
        "format": evidence.FORMAT,
        "version": evidence.VERSION,
        "message_id": parts.RECEIPT.message_id,
        "agencies": [parts.POLICE],
        "receipts": [base64.b64encode(signed).decode()],
        "directories": [text],
        "checkpoint": note,
        "entries": proved,
    }


def evidence_document(folder: Path) -> Reader:
    def read(data: bytes) -> object:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise EvidenceInvalid("not JSON: _unpack says so") from None
        return evidence.check(value)

    evidence.check(pack())
    return Reader(read, EvidenceInvalid, (json.dumps(pack()).encode(),), "json")


def evidence_entry(folder: Path) -> Reader:
    """An entry of a log that somebody signed with such entries in it."""
    good = pack()["entries"][0]["entry"]
    other = pack()["entries"][1]["entry"]

    def read(data: bytes) -> object:
        return evidence.check(pack([data.decode("utf-8", "surrogatepass"), other]))

    return Reader(
        lambda data: read(data) if _is_text(data) else None, EvidenceInvalid, (good.encode(),), "json"
    )


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def evidence_archive(folder: Path) -> Reader:
    def archive(method: int) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", method) as file:
            file.writestr(evidence_commands.EVIDENCE, json.dumps(pack()))
            file.writestr(evidence_commands.REPORT, "<!doctype html>")
        return made.getvalue()

    examples = tuple(map(archive, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)))
    return Reader(by_file(folder, "evidence.zip", evidence_commands._unpack), EvidenceInvalid, examples)


def exported(kind: str) -> tuple[list[str], str]:
    """The lines of a log of two entries of this kind, and its checkpoint."""
    entries = [json.dumps({"index": at, "at": NOW, "kind": kind}, separators=(",", ":")) for at in (0, 1)]
    note, _ = _log(entries)
    signing, own = SIGNERS[0]
    head = {
        "format": "referral-gateway-audit",
        "version": 1,
        "keys": [
            {
                "agency": parts.POLICE,
                "signing": base64.b64encode(signing.public.public_bytes).decode(),
                "audit": base64.b64encode(own.public.public_bytes).decode(),
            }
        ],
    }
    return [json.dumps(head), *entries, json.dumps({"checkpoint": note}), '{"end":2}'], note


def audit_log(folder: Path) -> Reader:
    lines, _ = exported("test")
    read = by_file(folder, "log", lambda file: audit_commands._verified(file, None, None))
    return Reader(read, (LogInvalid, StartupError), ("\n".join(lines).encode(),), "lines")


def checkpoint(folder: Path) -> Reader:
    keys = NoteKeys(SIGNERS[0][0].public, SIGNERS[0][1].public)

    def read(data: bytes) -> None:
        read_note(data.decode("utf-8", "surrogateescape")).verify(keys)

    return Reader(read, NoteInvalid, (sign_note(ORIGIN, 2, bytes(32), SIGNERS).encode(),))


def kept_checkpoint(folder: Path) -> Reader:
    example = sign_note(ORIGIN, 2, bytes(32), SIGNERS).encode()
    return Reader(by_file(folder, "kept.note", audit_commands._kept), StartupError, (example,))


def receipts_in_a_file(folder: Path) -> Reader:
    signed = b64(proof.sign_receipt(parts.RECEIPT, parts.SIGNING[parts.POLICE]))
    example = json.dumps({"receipts": [{"stage": "received", "receipt": signed}, {"receipt": [1]}]}).encode()
    return Reader(by_file(folder, "receipts", inspect._receipts_in), StartupError, (example,), "json")


def settings_file(folder: Path) -> Reader:
    example = b"""[node]
agencies = ["northtown-police"]
database = "postgresql://gateway@[::1]:5432/gateway"
[transport]
kind = "rabbitmq"
url = "amqps://police@broker:5671/northtown"
[[push]]
agency = "northtown-police"
url = "https://police.example/hook?x=1"
secret_file = "secret"
[times]
tick = 1.5
[[operators]]
id = "ada"
public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
may = ["destroy-key"]
"""
    return Reader(by_file(folder, "gateway.toml", config.load), StartupError, (example,))


def access_tokens(folder: Path) -> Reader:
    row = {"sha256": "0" * 64, "id": "one", "agency": parts.POLICE, "may": ["send"], "created": 1}
    example = json.dumps({"tokens": [row]}).encode()
    return Reader(by_file(folder, "tokens.json", auth._load), StartupError, (example,), "json")


def request_file(folder: Path) -> Reader:
    """People send it to each other, each with one approval more."""
    asked = Request(
        parts.OTHER_ID, "break-glass/risk-to-life", parts.POLICE, raw_id(parts.RECEIPT.message_id), 1, 2
    )

    def read(file: Path) -> None:
        for approval in people.read_request(file):
            read_opening(approval)

    file = folder / "ask.json"
    people.new_request(file, approve(asked, parts.STRANGER))
    example = file.read_bytes()
    return Reader(by_file(folder, "request.json", read), (StartupError, ApprovalInvalid), (example,), "json")


def role_public_key(folder: Path) -> Reader:
    """Of whoever holds a role, for an agreement's break-glass."""
    example = json.dumps({"ed25519": base64.b64encode(parts.STRANGER.public.public_bytes).decode()}).encode()
    return Reader(by_file(folder, "role.pub", people.public_key), StartupError, (example,), "json")


READERS: dict[str, Callable[[Path], Reader]] = {
    made.__name__: made
    for made in (
        *(key_file, protected_key_file, inside_a_protected_key_file, report, report_signed),
        *(evidence_document, evidence_entry, evidence_archive, audit_log, checkpoint, kept_checkpoint),
        *(receipts_in_a_file, settings_file, access_tokens, request_file, role_public_key),
    )
}
