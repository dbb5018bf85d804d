"""AS2 without its HTTP: pyas2lib signs, encrypts, decrypts, verifies, and a signed MDN goes back.

Run by the peers' Python. Reads one JSON line {"body" (base64), "seconds"}, answers with one line.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


def _import_as2() -> Any:
    """oscrypto 1.3.0 does not know OpenSSL 3.0.10 and later (wbond/oscrypto#78): helped while it loads."""
    search = re.search

    def helped(pattern: Any, text: Any, flags: int = 0) -> Any:
        if isinstance(pattern, str):
            pattern = pattern.replace(r"\d\.\d\.\d[a-z]*", r"\d\.\d+\.\d+[a-z]*")
        return search(pattern, text, flags)

    re.search = helped  # type: ignore[assignment]
    try:
        from pyas2lib import as2  # type: ignore[import-not-found]  # noqa: PLC0415
    finally:
        re.search = search
    return as2


def _pair(name: str) -> tuple[bytes, bytes]:
    """A key with its self-signed certificate, and the certificate alone: RSA, the kind AS2 partners use."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    cert = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    kind = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*kind) + cert, cert


class Exchange:
    """Two organisations that are each other's partner."""

    def __init__(self) -> None:
        self._as2 = _import_as2()
        ours, theirs = _pair("sender"), _pair("recipient")
        self._sender, self._recipient = (
            self._as2.Organization(
                name, sign_key=keys, sign_key_pass="", decrypt_key=keys, decrypt_key_pass=""
            )
            for name, (keys, _) in (("sender", ours), ("recipient", theirs))
        )
        # Checking certificates for each message would cost more: they are left unchecked.
        common = {
            "validate_certs": False,
            "sign": True,
            "digest_alg": "sha256",
            "encrypt": True,
            "enc_alg": "aes_256_cbc",
            "mdn_mode": "SYNC",
            "mdn_digest_alg": "sha256",
        }
        self._to, self._from = (
            self._as2.Partner(name, verify_cert=cert, encrypt_cert=cert, **common)
            for name, cert in (("recipient", theirs[1]), ("sender", ours[1]))
        )

    def once(self, body: bytes) -> None:
        """There, and the MDN back."""
        sent = self._as2.Message(self._sender, self._to)
        sent.build(body, content_type="application/json")
        arrived = self._as2.Message()
        status, _, mdn = arrived.parse(
            sent.headers_str + b"\r\n" + sent.content,
            find_org_cb=lambda _: self._recipient,
            find_partner_cb=lambda _: self._from,
        )
        if status != "processed" or arrived.content != body:
            raise SystemExit(f"AS2: {status}")
        receipt = self._as2.Mdn()
        status, _ = receipt.parse(mdn.headers_str + b"\r\n" + mdn.content, lambda *_: sent)
        if status != "processed":
            raise SystemExit(f"the MDN: {status}")


def main() -> None:
    """Measure for as long as asked."""
    asked = json.loads(sys.stdin.readline())
    body, exchange = base64.b64decode(asked["body"]), Exchange()
    for _ in range(10):
        exchange.once(body)
    count, cpu, started = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - started < asked["seconds"]:
        exchange.once(body)
        count += 1
    answer = {
        "count": count,
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
