"""People's key files: standard tools read them, and guessing a passphrase costs something."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from gateway.crypto.governance import load_key, new_key
from gateway.errors import StartupError

PASSPHRASE = b"correct horse battery staple"


def test_a_key_file_is_pkcs_8_under_scrypt() -> None:
    pem, key = new_key(PASSPHRASE)
    assert load_key(pem, PASSPHRASE).private_bytes_raw() == key.private_bytes_raw()
    with pytest.raises(StartupError, match="passphrase"):
        load_key(pem, PASSPHRASE + b"r")
    lines = pem.decode().splitlines()
    assert max(map(len, lines)) <= 64
    der = base64.b64decode("".join(lines[1:-1]))
    costs = bytes.fromhex("02024000020108020105")  # n 16384, r 8, p 5
    assert bytes.fromhex("2b06010401da47040b") in der
    assert costs in der
    assert new_key(PASSPHRASE)[0] != pem


def test_openssl_reads_it(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl")
    pem, key = new_key(PASSPHRASE)
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    done = subprocess.run(
        [openssl, "pkey", "-passin", f"file:{tmp_path / 'passphrase'}", "-outform", "DER"],
        input=pem,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout[-32:] == key.private_bytes_raw()


def test_a_file_of_before_is_still_read() -> None:
    """The library's own choice, with PBKDF2."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))
    assert load_key(pem, PASSPHRASE).private_bytes_raw() == key.private_bytes_raw()
