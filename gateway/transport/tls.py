"""TLS towards the broker, version 1.3 or nothing, its name always checked; and towards local systems."""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.errors import StartupError


def client_context(
    ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """What a client needs to connect. Raises StartupError, which names the file that is at fault.

    Without `ca_file` the machine's own authorities are trusted.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(f"cannot use the authorities in {ca_file}: {_why(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if cert_file is not None:
        try:
            # An encrypted key would ask at the terminal; a node has none.
            context.load_cert_chain(cert_file, key_file, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise StartupError(
                f"cannot use the certificate {cert_file} with its key {key_file}: {_why(error)}"
            ) from None
    return context


def server_context(cert_file: Path, key_file: Path, client_ca_file: Path | None) -> ssl.SSLContext:
    """How we answer over TLS; with authorities, only to who has a certificate of one. Raises StartupError.

    TLS 1.2 is allowed: the systems that call are not all ours to renew.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise StartupError(
            f"cannot use the certificate {cert_file} with its key {key_file}: {_why(error)}"
        ) from None
    if client_ca_file is not None:
        try:
            context.load_verify_locations(client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise StartupError(f"cannot use the authorities in {client_ca_file}: {_why(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "they are not PEM, or do not belong together"
    return error.strerror or "cannot be read"
