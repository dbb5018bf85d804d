"""Every TLS setting of the gateway; nothing else makes a context (a test looks).

Towards the broker, which is ours, TLS 1.3 or nothing. Towards systems that are not all ours to renew, 1.2 is
allowed as well. Certificates and names are always checked; cipher suites are OpenSSL's choice, which follows
RFC 9325. The database's TLS alone is not made here: libpq makes its own (`sslmode` in its URL).
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from gateway.errors import StartupError


def broker_context(
    ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """How we connect to the broker. Raises StartupError, which names the file that is at fault.

    Without `ca_file` the machine's own authorities are trusted.
    """
    context = _trusting(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if cert_file is not None:
        _show(context, cert_file, key_file)
    return context


def web_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """How we connect to an agency's server, a directory's mirror, or from a person's command to a node.

    Without `ca_file` the machine's own authorities are trusted, or those in the file that SSL_CERT_FILE
    names. Raises StartupError.
    """
    context = _trusting(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def server_context(cert_file: Path, key_file: Path, client_ca_file: Path | None) -> ssl.SSLContext:
    """How we answer over TLS; with authorities, only to who has a certificate of one. Raises StartupError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _show(context, cert_file, key_file)
    if client_ca_file is not None:
        try:
            context.load_verify_locations(client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise StartupError(f"cannot use the authorities in {client_ca_file}: {_why(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def is_here(host: str) -> bool:
    """Whether a host is this machine, so that nobody on a network reads along."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def need_tls(option: str, url: str) -> None:
    """Raises StartupError for a URL that would take a password or token over a network in clear."""
    try:
        parts = urlsplit(url)
        open_to_all = parts.scheme in {"http", "amqp"} and not is_here(parts.hostname or "localhost")
    except ValueError:
        raise StartupError(f"{option} is not a URL") from None
    if open_to_all:
        raise StartupError(f"{option} leaves this machine: begin it with {parts.scheme}s://")


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(f"cannot use the authorities in {ca_file}: {_why(error)}") from None


def _show(context: ssl.SSLContext, cert_file: Path, key_file: Path | None) -> None:
    key = key_file or cert_file  # it may stand beside the certificate
    try:
        if key.stat().st_mode & 0o077:
            raise StartupError(f"{key} can be read by others: chmod 600 it")
        # An encrypted key would ask at the terminal; a node has none.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise StartupError(
            f"cannot use the certificate {cert_file} with its key {key_file}: {_why(error)}"
        ) from None


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "they are not PEM, or do not belong together"
    return error.strerror or "cannot be read"
