"""What fuzzing found, each in the smallest form: a refusal now, where there was another error or an echo."""

from __future__ import annotations

import json
import traceback
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway import config
from gateway.adapters import fhir_write_parts
from gateway.audit import evidence, export
from gateway.audit.evidence import EvidenceInvalid
from gateway.audit.export import LogInvalid
from gateway.cli import evidence as commands
from gateway.cli import governance, inspect, people, sandbox
from gateway.cli.common import timestamp
from gateway.crypto import backup
from gateway.crypto.backup import BackupInvalid
from gateway.crypto.labels import CONFORMANCE_CONTEXT
from gateway.crypto.statement import StatementInvalid, read_statement
from gateway.directory import mirror, model, repository
from gateway.directory.changes import ChangeRefused, asked_for
from gateway.directory.mirror import DirectoryMirror
from gateway.directory.model import DirectoryInvalid
from gateway.directory.repository import Repository
from gateway.errors import StartupError
from gateway.http import auth, mesh_headers, render
from gateway.messages import LAST_TIME
from tests.fuzz import directories, files, sealed
from tests.fuzz.kit import CANARY

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"receipts": ["é"]},
        {"directories": ["\ud800"]},
        {"checkpoint": ["not text"]},
        {"entries": [{"index": 10**400, "entry": f'{{"index":1{"0" * 400}}}', "proof": []}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_evidence_of_odd_text(change: dict[str, Any]) -> None:
    evidence.check(files.pack())
    with pytest.raises(EvidenceInvalid) as refused:
        evidence.check(files.pack() | change)
    assert len(str(refused.value)) < 100


def test_an_entry_whose_digest_is_a_list_though_its_log_is_signed() -> None:
    one, other = (entry["entry"] for entry in files.pack()["entries"])
    listed = json.dumps(json.loads(one) | {"digest": []})
    with pytest.raises(EvidenceInvalid, match="directory"):
        evidence.check(files.pack([listed, other]))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_evidence_packed_in_another_way(tmp_path: Path, method: int) -> None:
    """A few bytes of LZMA may declare a dictionary of 4 GB."""
    with zipfile.ZipFile(tmp_path / "evidence.zip", "w", method) as archive:
        for name in (commands.EVIDENCE, commands.REPORT):
            archive.writestr(name, "{}")
    with pytest.raises(EvidenceInvalid, match="nothing else"):
        commands._unpack(tmp_path / "evidence.zip")


def test_a_directory_larger_than_any() -> None:
    with pytest.raises(DirectoryInvalid):
        model.parse(json.dumps(directories.document()).encode().ljust(model.LARGEST + 1))


@pytest.mark.parametrize("payload", [b"[]", b"{", b"\xff", DEEP], ids=["list", "half", "noise", "deep"])
def test_anybody_may_sign_what_is_no_statement(payload: bytes) -> None:
    with pytest.raises(StatementInvalid, match="not a statement"):
        read_statement(files.signed(payload), CONFORMANCE_CONTEXT)


def test_a_signed_statement_that_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"report": {"agency": "a"}} | files.signed(b'{"agency":"a"}')))
    with pytest.raises(typer.Exit):
        sandbox._show(file, as_json=False)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "gateway: what was signed is not a report of the sandbox\n")


def test_a_report_cannot_write_all_over_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"agency": "a\x1b[2J", "made": "\r", "gateway": "1", "exercises": [{"what": "\x9b2J", "met": ""}]}
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"report": told} | files.signed(json.dumps(told).encode())))
    sandbox._show(file, as_json=False)
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


READERS: dict[str, Callable[[Path], object]] = {
    "report.json": lambda file: sandbox._show(file, as_json=False),
    "tokens.json": auth._load,
    "role.pub": people.public_key,
    "ann.pub": lambda file: governance._public(repository, file),
    "gateway.toml": config.load,
}


@pytest.mark.parametrize("name", READERS)
def test_nesting_to_the_limit_of_the_stack(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes((b"a = " if name.endswith("toml") else b"") + DEEP)
    with pytest.raises(StartupError):
        READERS[name](file)


@pytest.mark.parametrize(
    "line",
    [
        f'url = "amqps://{CANARY}\u2100b/"',
        f'url = "amqps://[{CANARY}]/"',
        f'url = "amqps://broker:{CANARY}/"',
        f'"{CANARY}\\n" = 1',
        f"prefetch = {'9' * 5000}",
    ],
    ids=["host", "address", "port", "name", "number"],
)
def test_settings_are_not_repeated(tmp_path: Path, line: str) -> None:
    with pytest.raises(StartupError) as refused:
        config.parse(f'[node]\nagencies = ["a"]\n[transport]\nkind = "rabbitmq"\n{line}\n', tmp_path / "a")
    assert CANARY not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [CANARY, "a\nb", "a" * 5000])
def test_the_name_of_an_unknown_field_is_somebody_elses(name: str) -> None:
    with pytest.raises(DirectoryInvalid) as refused:
        model.parse(json.dumps(directories.document() | {name: 1}).encode())
    assert [one.pointer for one in refused.value.problems] == ["/(other)"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"agencies":[' + b"{}," * 10_000 + b"{}]}",
        b"{" + b",".join(b'"%d":1' % i for i in range(9999)) + b"}",
    ],
    ids=["entries", "fields"],
)
def test_problems_are_not_listed_without_end(data: bytes) -> None:
    with pytest.raises(DirectoryInvalid) as refused:
        model.parse(data)
    assert 0 < len(refused.value.problems) < 10


def test_a_sealed_record_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_N", 1 << 10)
    reader = sealed.backup_record(Path())
    reader.read(reader.examples[0])
    with pytest.raises(BackupInvalid, match="a record that is none"):
        reader.read(b"\xff")


@pytest.mark.parametrize(
    "kept",
    ['{"until": Infinity, "directory": DIRECTORY}', '{"until": 1, "directory": 1}', "[" * 100_000],
    ids=["endless", "no text", "deep"],
)
def test_a_last_good_copy_that_is_damaged_is_none(tmp_path: Path, kept: str) -> None:
    (tmp_path / "root.json").write_bytes(b"{}")
    text = json.dumps(json.dumps(directories.document()))
    (tmp_path / "good.json").write_text(kept.replace("DIRECTORY", text))
    with pytest.raises(StartupError, match="no last good copy"):
        DirectoryMirror(str(tmp_path / "away"), tmp_path / "root.json", tmp_path)


def test_a_mirror_that_is_no_url(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_bytes(b"{}")
    with pytest.raises(StartupError, match="a folder or an https"):
        DirectoryMirror("https://[", tmp_path / "root.json", tmp_path)


def test_a_small_file_of_a_mirror_takes_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 100_000)
    tracemalloc.start()
    try:
        pieces = list(mirror._Folder()._fetch(str(file)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert b"".join(pieces) == b"x" * 100_000
    assert peak < 1024 * 1024


@pytest.mark.parametrize(
    "targets",
    [{}, {"directory.json": {"length": 1, "hashes": {"sha256": "../../secret"}}}],
    ids=["nothing", "a path"],
)
def test_staged_targets_that_name_no_directory(tmp_path: Path, targets: dict[str, Any]) -> None:
    made = Repository(directories.published(tmp_path))
    made.propose(json.dumps(directories.document()).encode(), [], repository.now())
    file = tmp_path / "repo" / "staged" / "targets.json"
    document = json.loads(file.read_text())
    document["signed"]["targets"] = targets
    file.write_text(json.dumps(document))
    with pytest.raises(StartupError, match="list no directory"):
        made.directory(staged=True)


def test_a_proposed_entry_is_not_quoted() -> None:
    """Nor is the error of the library, which names its fields."""
    with pytest.raises(ChangeRefused, match="does not hold an entry") as refused:
        asked_for(directories.PUBLISHED, [directories.proposed(f'{{"{CANARY}":0}}')], directories.NOW)
    assert CANARY not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("version", [1.5, "\ud83d"])
def test_staged_metadata_that_cannot_be_signed(tmp_path: Path, version: object) -> None:
    made = Repository(directories.published(tmp_path))
    made.propose(json.dumps(directories.document()).encode(), [], repository.now())
    file = tmp_path / "repo" / "staged" / "targets.json"
    document = json.loads(file.read_text())
    document["signed"]["other"] = version
    file.write_text(json.dumps(document))
    with pytest.raises(StartupError, match="not TUF metadata"):
        made.staged()


@pytest.mark.parametrize(
    "line", [json.dumps({"end": CANARY}), f'{{"index":"{CANARY}"}}', f'{{"index":{10**400}}}']
)
def test_a_log_is_not_quoted(line: str) -> None:
    lines, _ = files.exported("test")
    with pytest.raises(LogInvalid) as refused:
        export.verify([*lines[:3], line])
    assert CANARY not in str(refused.value)
    assert len(str(refused.value)) < 150


def test_a_file_of_a_million_values_is_looked_through_in_one_go(tmp_path: Path) -> None:
    """Taken from the front of a list one by one, this would outlast any test."""
    (tmp_path / "receipts").write_bytes(b"[" + b"0," * 2_000_000 + b"0]")
    assert inspect._receipts_in(tmp_path / "receipts") == []


def test_times_that_no_calendar_has_are_shown_as_its_last_second() -> None:
    """A peer's receipt may state them."""
    shown: list[Callable[[int], str]] = [timestamp, render.time, mesh_headers.iso]
    for at in (LAST_TIME, LAST_TIME + 1000, (1 << 53) - 1):
        assert [show(at) for show in shown] == ["9999-12-31T23:59:59.000Z"] * 3
        assert mesh_headers.stamp(at) == "99991231235959"
        assert fhir_write_parts.instant(at).startswith("9999-12-31T23:59:59.")
    assert fhir_write_parts.instant(1_795_000_000_007) == timestamp(1_795_000_000_007)
