"""The whole file of settings, and what a node makes of it."""

from __future__ import annotations

import os
import ssl
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, ValidationError, model_validator

from gateway.config.faces import FhirSection, FolderSection, MeshSection, PushSection
from gateway.config.secrets import is_postgresql, private_bytes, with_password
from gateway.config.sections import (
    HttpSection,
    LimitsSection,
    NodeSection,
    OperatorSection,
    Section,
    TimesSection,
    TokenSection,
    TransportSection,
)
from gateway.crypto.keystore import FileKeyStore, Kinds
from gateway.crypto.labels import SUITE_P256
from gateway.directory.opening import DirectoryPlace
from gateway.errors import StartupError
from gateway.messages import field_name
from gateway.tls import broker_context, server_context

if TYPE_CHECKING:
    from gateway.crypto.token import Token

FILE_NAME = "gateway.toml"


class Settings(Section):
    """The whole file."""

    node: NodeSection
    token: TokenSection | None = Field(None, description="A PKCS#11 token for the private keys.")
    http: HttpSection = HttpSection()
    transport: TransportSection = TransportSection()
    limits: LimitsSection = LimitsSection()
    times: TimesSection = TimesSection()
    fhir: FhirSection | None = None
    mesh: MeshSection | None = Field(None, description="The mailbox API of NHS MESH.")
    push: tuple[PushSection, ...] = ()
    folder: tuple[FolderSection, ...] = ()
    operators: tuple[OperatorSection, ...] = ()
    base: Path = Field(Path(), exclude=True, description="The folder the file stands in; not a setting.")

    @model_validator(mode="after")
    def _mailboxes_are_ours(self) -> Self:
        if self.mesh and not {one.agency for one in self.mesh.mailboxes} <= set(self.node.agencies):
            raise ValueError("a mailbox of mesh.mailboxes is of an agency that this node does not serve")
        return self

    @model_validator(mode="after")
    def _takers_are_ours(self) -> Self:
        named = [one.agency for one in self.push] + [one.agency for one in self.folder]
        if not set(named) <= set(self.node.agencies):
            raise ValueError("push or folder: an agency that this node does not serve")
        takers = [one.agency for one in self.push] + [one.agency for one in self.folder if one.out_dir]
        if len(set(takers)) != len(takers):
            raise ValueError("push or folder.out_dir: an agency's messages go to one place")
        folders = [self.path(one) for f in self.folder for one in (f.in_dir, f.out_dir) if one]
        if len(set(folders)) != len(folders):
            raise ValueError("folder: each in_dir and out_dir is a folder of its own")
        return self

    @model_validator(mode="after")
    def _token_does_p256(self) -> Self:
        if self.token and self.node.opening_suites != (SUITE_P256,):
            raise ValueError(
                f'with [token], node.opening_suites must be ["{SUITE_P256}"]: tokens have no other'
            )
        return self

    @model_validator(mode="after")
    def _operators_are_different_people(self) -> Self:
        for what in ({one.id for one in self.operators}, {one.key().kid for one in self.operators}):
            if len(what) != len(self.operators):
                raise ValueError("operators: each has an id and a key of their own")
        return self

    def path(self, value: Path) -> Path:
        """A path of the file, made absolute."""
        return (self.base / value).resolve()

    def with_ports(self, port: int | None, admin_port: int | None) -> Settings:
        """The same settings on other ports, where given."""
        given = {"port": port, "admin_port": admin_port}
        http = self.http.model_copy(
            update={name: value for name, value in given.items() if value is not None}
        )
        return self.model_copy(update={"http": http})

    def database(self) -> Path | str:
        """Where the database is: a path, or a URL with its password. Raises StartupError. Never log it."""
        database, password_file = self.node.database, self.node.database_password_file
        if not is_postgresql(database):
            return self.path(Path(database))
        return with_password(database, self.path(password_file)) if password_file else database

    def key_store(self) -> FileKeyStore:
        """Where the private keys are. Raises StartupError."""
        made = Kinds(self.node.signing_suite, self.node.opening_suites)
        open_token = self._open_token if self.token else None
        return FileKeyStore(self.path(self.node.keys), self._keys_passphrase(), made, open_token)

    def _open_token(self) -> Token:
        assert self.token is not None
        try:
            from gateway.crypto.token import Token  # noqa: PLC0415 - an extra of the package
        except ImportError:
            raise StartupError(
                "keys in a token need PKCS#11: pip install 'referral-gateway[token]'"
            ) from None
        pin = self._secret(self.token.pin_file, self.token.pin_credential)
        return Token(self.path(self.token.module), self.token.label, pin or b"")

    def _keys_passphrase(self) -> bytearray | None:
        return self._secret(self.node.keys_passphrase_file, self.node.keys_passphrase_credential)

    def _secret(self, file: Path | None, credential: str) -> bytearray | None:
        """From the file or the systemd credential that is named; None for neither. Raises StartupError."""
        if credential:
            folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
            if not folder or credential in {".", ".."}:
                raise StartupError(
                    f"no credential {credential}: run under systemd with LoadCredentialEncrypted={credential}"
                )
            return private_bytes(Path(folder) / credential, private=False)  # systemd keeps others out
        return private_bytes(self.path(file), private=True) if file else None

    def directory(self) -> DirectoryPlace:
        """Where the directory is."""
        node = self.node
        local = "://" not in node.directory_mirror
        mirror = (
            str(self.path(Path(node.directory_mirror)))
            if node.directory_mirror and local
            else node.directory_mirror
        )
        root = self.path(node.directory_root) if node.directory_root else None
        return DirectoryPlace(self.path(node.directory), mirror, root, self.path(Path("directory-cache")))

    def broker_urls(self) -> tuple[str, ...]:
        """The broker's URLs with the password from its file. Raises StartupError. Never log them."""
        transport = self.transport
        urls = (transport.url, *transport.more_urls)
        if not transport.password_file:
            return urls
        return tuple(with_password(url, self.path(transport.password_file)) for url in urls)

    def broker_tls(self) -> ssl.SSLContext | None:
        """How to speak TLS with the broker; None for plain amqp://. Raises StartupError."""
        transport = self.transport
        if urlsplit(transport.url).scheme != "amqps":
            return None
        files = (transport.ca_file, transport.cert_file, transport.key_file)
        return broker_context(*(self.path(file) if file else None for file in files))

    def http_tls(self) -> ssl.SSLContext | None:
        """How the API answers over TLS; None for plain HTTP. Raises StartupError."""
        http = self.http
        if http.cert_file is None or http.key_file is None:
            return None
        authorities = self.path(http.client_ca_file) if http.client_ca_file else None
        return server_context(self.path(http.cert_file), self.path(http.key_file), authorities)

    def broker_account(self) -> str:
        """The account to state on each message, or nothing."""
        return unquote(urlsplit(self.transport.url).username or "") if self.transport.user_id else ""


def load(file: Path) -> Settings:
    """Read a settings file. Raises StartupError with one line for a person."""
    if file.is_dir():
        file = file / FILE_NAME
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}; `gateway init` makes one") from None
    except UnicodeDecodeError:
        raise StartupError(f"{file} is not valid TOML") from None
    return parse(text, file)


def parse(text: str, file: Path) -> Settings:
    """Check the text of a settings file that stands, or will stand, at `file`. Raises StartupError."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError):  # TOMLDecodeError is a ValueError; a number may be too long
        raise StartupError(f"{file} is not valid TOML") from None
    try:
        settings = Settings.model_validate({**data, "base": file.resolve().parent})
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        where = ".".join(map(field_name, first["loc"]))
        raise StartupError(f"{file}: {where}: {first['msg']} (docs/config.md lists the settings)") from None
    if settings.transport.kind == "rabbitmq" and not settings.transport.url:
        raise StartupError(f"{file}: transport.url: required for rabbitmq")
    return settings
