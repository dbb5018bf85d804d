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
from gateway.cli import governance as governance_commands
from gateway.cli import inspect, sandbox
from gateway.crypto import cose, proof, protected
from gateway.crypto.audit_key import AuditKey
from gateway.crypto.keystore import FileKeyStore
from gateway.crypto.note import NoteInvalid, NoteKeys, read_note, sign_note
from gateway.crypto.statement import CONFORMANCE_CONTEXT, sign_statement
from gateway.directory import file as directory_file
from gateway.directory import repository
from gateway.directory.mirror import DirectoryMirror
from gateway.errors import StartupError
from gateway.http import auth
from tests.fuzz.kit import Reader
from tests.vectors import parts

PASSPHRASE = b"correct horse battery staple"
NOW = 1_795_000_000_000
ORIGIN = "referral-gateway/audit/3f1c2a44-90d7-4b0e-8f6a-5c1d2e3f4a5b"
SIGNERS = [(parts.SIGNING[parts.POLICE], AuditKey(b"\x02" * 32))]


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def document() -> dict[str, Any]:
    """A directory that knows two agencies, one with an audit key."""

    def agency(name: str, *keys: tuple[str, str, bytes]) -> dict[str, Any]:
        rows = [
            {"use": use, "suite": suite, "public": _b64(public), "starts": "2026-01-01T00:00:00Z"}
            for use, suite, public in keys
        ]
        accepts = [{"type": "referral", "versions": [1]}]
        return {"id": name, "name": name, "sector": "police", "keys": rows, "accepts": accepts}

    school, police = parts.SIGNING[parts.SCHOOL].public, parts.SIGNING[parts.POLICE].public
    return {
        "format": "referral-gateway-directory",
        "version": 1,
        "expires": "2036-01-01T00:00:00Z",
        "agencies": [
            agency(parts.SCHOOL, ("sign", "Ed25519", school.public_bytes)),
            agency(
                parts.POLICE,
                ("sign", "Ed25519", police.public_bytes),
                ("audit", "ML-DSA-65", SIGNERS[0][1].public.public_bytes),
                ("seal", "HPKE-7-KE", parts.P256.public.public_bytes),
            ),
        ],
        "agreements": [
            {
                "id": "one",
                "senders": [parts.SCHOOL],
                "recipients": [parts.POLICE],
                "types": ["referral"],
                "purposes": ["prevent"],
                "lawful_bases": ["public-task"],
                "starts": "2026-01-01T00:00:00Z",
                "ends": "2036-01-01T00:00:00Z",
                "shares": None,
            }
        ],
    }


def _by_file(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of files as one of bytes."""
    file = folder / name
    file.touch(mode=0o600)

    def of(data: bytes) -> object:
        file.write_bytes(data)
        return read(file)

    return of


def directory(folder: Path) -> Reader:
    return Reader(
        _by_file(folder, "directory.json", directory_file.load),
        StartupError,
        (json.dumps(document()).encode(),),
        "json",
    )


def key_file(folder: Path) -> Reader:
    store = FileKeyStore(folder)
    store.create(parts.POLICE, NOW)
    plain = (folder / f"{parts.POLICE}.json").read_bytes()
    store.rotate(parts.POLICE, NOW + 1, NOW + 2)
    rotated = (folder / f"{parts.POLICE}.json").read_bytes()
    in_token = json.loads(rotated) | {"version": 3}
    in_token["signing"][0] = {"suite": "ESP256", "token": "00", "public": "AA", "created": 1, "starts": 1}
    examples = (plain, rotated, json.dumps(in_token).encode())
    name = f"{parts.POLICE}.json"
    return Reader(_by_file(folder, name, lambda _: store.load(parts.POLICE)), StartupError, examples, "json")


def protected_key_file(folder: Path) -> Reader:
    store = FileKeyStore(folder, PASSPHRASE)
    store.create(parts.POLICE, NOW)
    name = f"{parts.POLICE}.json"
    example = (folder / name).read_bytes()
    return Reader(
        _by_file(folder, name, lambda _: store.load(parts.POLICE)), StartupError, (example,), "json"
    )


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
        made["scrypt"]["salt"], made["sealed"] = _b64(salt), _b64(sealed)
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
    read = _by_file(folder, "report.json", lambda file: sandbox._show(file, as_json=False))
    return Reader(read, (StartupError, typer.Exit), (example,), "json")


def report_signed(folder: Path) -> Reader:
    """Whatever it says, its signature holds: anybody can sign with a key of their own."""
    show = _by_file(folder, "signed.json", lambda file: sandbox._show(file, as_json=False))

    def read(data: bytes) -> object:
        made = _report_of({})
        those = signed(data)
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            told = None
        return show(json.dumps(made | those | {"report": told}).encode())

    return Reader(read, (StartupError, typer.Exit), (json.dumps(_REPORT).encode(),), "json")


def signed(payload: bytes) -> dict[str, str]:
    return {
        "signed": _b64(cose.sign1(payload, parts.STRANGER, CONFORMANCE_CONTEXT)),
        "key": _b64(parts.STRANGER.public.public_bytes),
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
    return Reader(_by_file(folder, "evidence.zip", evidence_commands._unpack), EvidenceInvalid, examples)


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
    read = _by_file(folder, "log", lambda file: audit_commands._verified(file, None, None))
    return Reader(read, (LogInvalid, StartupError), ("\n".join(lines).encode(),), "lines")


def checkpoint(folder: Path) -> Reader:
    keys = NoteKeys(SIGNERS[0][0].public, SIGNERS[0][1].public)

    def read(data: bytes) -> None:
        read_note(data.decode("utf-8", "surrogateescape")).verify(keys)

    return Reader(read, NoteInvalid, (sign_note(ORIGIN, 2, bytes(32), SIGNERS).encode(),))


def kept_checkpoint(folder: Path) -> Reader:
    example = sign_note(ORIGIN, 2, bytes(32), SIGNERS).encode()
    return Reader(_by_file(folder, "kept.note", audit_commands._kept), StartupError, (example,))


def receipts_in_a_file(folder: Path) -> Reader:
    signed = _b64(proof.sign_receipt(parts.RECEIPT, parts.SIGNING[parts.POLICE]))
    example = json.dumps({"receipts": [{"stage": "received", "receipt": signed}, {"receipt": [1]}]}).encode()
    return Reader(_by_file(folder, "receipts", inspect._receipts_in), StartupError, (example,), "json")


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
"""
    return Reader(_by_file(folder, "gateway.toml", config.load), StartupError, (example,))


def access_tokens(folder: Path) -> Reader:
    row = {"sha256": "0" * 64, "id": "one", "agency": parts.POLICE, "may": ["send"], "created": 1}
    example = json.dumps({"tokens": [row]}).encode()
    return Reader(_by_file(folder, "tokens.json", auth._load), StartupError, (example,), "json")


def governance_public_key(folder: Path) -> Reader:
    raw = parts.STRANGER.public.public_bytes
    example = json.dumps({"ed25519": base64.b64encode(raw).decode(), "keyid": "0"}).encode()
    return Reader(
        _by_file(folder, "ann.pub", lambda file: governance_commands._public(repository, file)),
        StartupError,
        (example,),
        "json",
    )


def published(folder: Path) -> Path:
    """A repository with the directory above; its root is version 1."""
    made = repository.Repository(folder / "repo")
    governor, publisher = (parts.SIGNING[name]._key for name in (parts.SCHOOL, parts.POLICE))
    public = [
        repository.public(parts.SIGNING[name].public.public_bytes) for name in (parts.SCHOOL, parts.POLICE)
    ]
    now = repository.now()
    made.init([public[0]], 1, public[1], json.dumps(document()).encode(), now)
    made.sign(governor)
    made.publish(publisher, now)
    return folder / "repo"


def _mirrored(name: str) -> Callable[[Path], Reader]:
    """A file of the mirror: what is wrong with it is refused, and the node keeps what it has."""

    def make(folder: Path) -> Reader:
        repo = published(folder)
        root = folder / "root.json"
        root.write_bytes((repo / "metadata" / "1.root.json").read_bytes())
        node = DirectoryMirror(str(repo), root, folder / "cache")
        (file,) = repo.glob(f"*/{name}")
        original = file.read_bytes()
        cached = folder / "cache" / "directory.json"

        def read(data: bytes) -> None:
            for old in (folder / "cache").iterdir():  # so that it is fetched, not remembered
                if old.is_file() and old.name != "good.json":
                    old.unlink()
            file.write_bytes(data)
            before = node.current.document
            node.refresh()
            assert node.current.document == before
            assert not cached.exists() or json.loads(cached.read_bytes())

        return Reader(read, (), (original,), "json")

    return make


def trusted_root(folder: Path) -> Reader:
    repo = published(folder)
    example = (repo / "metadata" / "1.root.json").read_bytes()
    counter = iter(range(10**9))

    def read(file: Path) -> object:
        return DirectoryMirror(str(repo), file, folder / f"cache{next(counter)}")

    return Reader(_by_file(folder, "root.json", read), StartupError, (example,), "json")


def last_good_copy(folder: Path) -> Reader:
    """The mirror is away, and the node's own copy is not what it was."""
    root = folder / "root.json"
    root.write_bytes((published(folder) / "metadata" / "1.root.json").read_bytes())
    cache = folder / "cache"
    cache.mkdir()
    example = json.dumps({"until": NOW, "directory": json.dumps(document())}).encode()
    return Reader(
        _by_file(cache, "good.json", lambda _: DirectoryMirror(str(folder / "away"), root, cache)),
        StartupError,
        (example,),
        "json",
    )


def staged_metadata(folder: Path) -> Reader:
    """What governors hand to each other to sign."""
    repo = published(folder)
    made = repository.Repository(repo)
    made.propose(json.dumps(document()).encode(), repository.now())
    file = repo / "staged" / "targets.json"
    example = file.read_bytes()

    def read(data: bytes) -> None:
        file.write_bytes(data)
        made.staged()
        made.status()
        repository.differences(made.directory(), made.directory(staged=True))

    return Reader(read, StartupError, (example,), "json")


READERS: dict[str, Callable[[Path], Reader]] = {
    made.__name__: made
    for made in (
        *(directory, key_file, protected_key_file, inside_a_protected_key_file, report, report_signed),
        *(evidence_document, evidence_entry, evidence_archive, audit_log, checkpoint, kept_checkpoint),
        *(receipts_in_a_file, settings_file, access_tokens, governance_public_key),
        *(trusted_root, last_good_copy, staged_metadata),
    )
} | {
    f"mirror_{name.split('.')[-2].lstrip('*')}": _mirrored(name)
    for name in ("timestamp.json", "1.snapshot.json", "1.targets.json", "1.root.json", "*.directory.json")
}
