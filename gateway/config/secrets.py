"""Files with secrets, and URLs that take a password from one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit, urlunsplit

from gateway.crypto import webhook
from gateway.errors import StartupError
from gateway.hardening import read_secret
from gateway.messages import Sensitive
from gateway.tls import is_here


def url_parts(text: str) -> SplitResult:
    """The parts of a URL. Raises ValueError, which does not repeat it as the library's own would."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("not a URL") from None
    return parts


def webhook_secrets(file: Path) -> tuple[Sensitive, ...]:
    """The secrets of a file, a line each. Raises StartupError."""
    lines = [line for line in private_text(file).splitlines() if line.strip()]
    if not 1 <= len(lines) <= 2:
        raise StartupError(f"{file} must hold one webhook secret, or two while one replaces the other")
    try:
        return tuple(map(webhook.read_secret, lines))
    except ValueError as error:
        raise StartupError(f"{file}: {error}") from None


def bearer_token(file: Path) -> Sensitive:
    """The token of a file (RFC 6750 section 2.1). Raises StartupError."""
    token = private_text(file).strip()
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token):
        raise StartupError(f"{file} must hold a bearer token and nothing else")
    return Sensitive(token.encode())


def private_text(file: Path) -> str:
    """A file for its owner's eyes only. Raises StartupError."""
    try:
        if file.stat().st_mode & 0o077:
            raise StartupError(f"others can read {file}: chmod 600 it")
        return file.read_text("utf-8")
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartupError(f"{file} is not text") from None


def is_guarded(url: str) -> bool:
    """Whether a database is on this machine, or libpq will insist on TLS."""
    parts = url_parts(url)
    modes = parse_qs(parts.query).get("sslmode", [])
    hosts = parse_qs(parts.query).get("host", [parts.hostname or ""])
    here = all(not host or host.startswith("/") or is_here(host) for host in hosts)
    return here or modes in (["require"], ["verify-ca"], ["verify-full"])


def is_postgresql(database: str) -> bool:
    """Whether a database is named by a URL rather than a path."""
    return database.startswith(("postgresql://", "postgres://"))


def with_password(url: str, password_file: Path) -> str:
    """Put the password from a file into a URL. Raises StartupError."""
    try:
        password = password_file.read_text("utf-8").strip()
    except OSError as error:
        raise StartupError(f"cannot read the password file {password_file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartupError(f"the password file {password_file} is not text") from None
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else (parts.hostname or "")
    user = parts.username or ("guest" if parts.scheme.startswith("amqp") else "gateway")
    netloc = f"{user}:{quote(password, safe='')}@{host}" + (f":{parts.port}" if parts.port else "")
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))


def private_bytes(file: Path, *, private: bool) -> bytearray:
    """A passphrase or PIN from its file; `private`: nobody else may read it. Raises StartupError."""
    try:
        with file.open("rb", buffering=0) as handle:
            if private and os.fstat(handle.fileno()).st_mode & 0o077:
                raise StartupError(f"{file} can be read by others: chmod 600 it")
            return read_secret(handle, 4096)
    except OSError as error:
        raise StartupError(f"cannot read the secret in {file}: {error.strerror}") from None


def split_password(url: str) -> tuple[str, str]:
    """A URL without its password, and the password (decoded; "" when there is none)."""
    parts = urlsplit(url)
    if parts.password is None:
        return url, ""
    netloc = f"{parts.username or ''}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, "")), unquote(parts.password)
