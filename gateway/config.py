"""A node's settings: one TOML file, read strictly. Paths to secrets, never secrets.

Relative paths are taken from the folder the file stands in. `gateway config describe` and
docs/config.md are generated from the descriptions here.
"""

from __future__ import annotations

import os
import re
import ssl
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, get_args, get_origin
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit, urlunsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from gateway.crypto import webhook
from gateway.crypto.keystore import FileKeyStore, Kinds
from gateway.crypto.labels import SUITE_P256
from gateway.directory.opening import DirectoryPlace
from gateway.errors import StartupError
from gateway.hardening import read_secret
from gateway.http.fhir_routing import Addressing
from gateway.messages import AGENCY_ID, AgencyId, LawfulBasis, Purpose, Sensitive, field_name
from gateway.schemas import TYPES
from gateway.tls import broker_context, is_here, server_context

if TYPE_CHECKING:
    from gateway.crypto.token import Token

Id = Annotated[str, StringConstraints(pattern=f"^{AGENCY_ID.pattern}$")]
MediaType = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}$", to_lower=True)
]
Suite = Literal["HPKE-9-KE", "HPKE-7-KE"]
Port = Annotated[int, Field(ge=0, le=65535)]
MailboxId = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_-]{1,100}$")]
WorkflowId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,255}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,300}$")]

FILE_NAME = "gateway.toml"
CREDENTIAL = r"^[A-Za-z0-9_.-]{0,100}$"
"""The name of a systemd credential."""


def _url(text: str) -> SplitResult:
    """The parts of a URL. Raises ValueError, which does not repeat it as the library's own would."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("not a URL") from None
    return parts


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NodeSection(_Section):
    """Who this node serves and where it keeps things."""

    agencies: Annotated[tuple[Id, ...], Field(min_length=1)] = Field(
        description="Identifiers of the agencies this node serves; each has its own keys."
    )
    directory: Path = Field(
        Path("directory.json"), description="The directory file: agencies, public keys, sharing agreements."
    )
    directory_mirror: str = Field(
        "",
        description="A TUF repository to take the directory from instead: a folder or an https:// URL.",
    )
    directory_root: Path | None = Field(
        None, description="The trusted root.json of that repository, from governance, once."
    )
    keys: Path = Field(Path("keys"), description="Folder of the agencies' private keys (files of mode 0600).")
    keys_passphrase_file: Path | None = Field(
        None,
        description="File (mode 0600) that holds the passphrase the private keys are sealed under;"
        " without one or a credential they lie there in plain.",
    )
    keys_passphrase_credential: Annotated[str, StringConstraints(pattern=CREDENTIAL)] = Field(
        "", description="The same as a systemd credential: its name, in `$CREDENTIALS_DIRECTORY`."
    )
    signing_suite: Literal["Ed25519", "ESP256"] = Field(
        "Ed25519", description="What new signing keys are for; `ESP256` is ECDSA on P-256 (docs/keys.md)."
    )
    opening_suites: Annotated[tuple[Suite, ...], Field(min_length=1)] = Field(
        ("HPKE-9-KE",),
        description="The suites that new opening keys are made for, one key each: `HPKE-9-KE`, `HPKE-7-KE`"
        " or both. `gateway keys rotate` puts a change into effect.",
    )
    sealing_suites: Annotated[tuple[Suite, ...], Field(min_length=1)] = Field(
        ("HPKE-9-KE", "HPKE-7-KE"),
        description="The suites that messages may be sealed with; the strongest of the recipient's is taken."
        " Without `HPKE-7-KE` nothing is sent to agencies that have no hybrid key.",
    )
    database: str = Field(
        "gateway.db",
        description="The database that `gateway init` made: a path (SQLite, for one process) or a"
        " postgresql:// URL without a password (for several processes that share the work); over a network"
        " with `?sslmode=verify-full`.",
    )
    database_password_file: Path | None = Field(
        None, description="File that holds the password for a postgresql:// URL."
    )
    tokens: Path = Field(Path("tokens.json"), description="Access tokens of local systems, as hashes.")
    directory_refresh: Annotated[float, Field(gt=0)] = Field(
        2.0,
        description="Seconds between looks at the directory file; at a mirror no more than once a minute.",
    )

    @field_validator("database")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if is_postgresql(value) and _url(value).password is not None:
            raise ValueError("must not hold a password: name a database_password_file")
        if is_postgresql(value) and not _is_guarded(value):
            raise ValueError("over a network needs TLS: add ?sslmode=verify-full (or verify-ca, require)")
        return value

    @model_validator(mode="after")
    def _one_passphrase(self) -> Self:
        if self.keys_passphrase_file and self.keys_passphrase_credential:
            raise ValueError("either keys_passphrase_file or keys_passphrase_credential")
        return self


class TokenSection(_Section):
    """A PKCS#11 token that holds the private keys; with it, new keys are made there (docs/keys.md)."""

    module: Path = Field(description="The vendor's PKCS#11 module, such as /usr/lib/softhsm/libsofthsm2.so.")
    label: Annotated[str, StringConstraints(min_length=1, max_length=32)] = Field(
        description="The token's label."
    )
    pin_file: Path | None = Field(None, description="File (mode 0600) that holds the user PIN.")
    pin_credential: Annotated[str, StringConstraints(pattern=CREDENTIAL)] = Field(
        "", description="The same as a systemd credential: its name, in `$CREDENTIALS_DIRECTORY`."
    )

    @model_validator(mode="after")
    def _one_pin(self) -> Self:
        if (self.pin_file is None) == (self.pin_credential == ""):
            raise ValueError("either pin_file or pin_credential")
        return self


class HttpSection(_Section):
    """The API for local systems, and the port for operators."""

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: Port = Field(8080, description="Port of the API; 0 takes a free one.")
    admin_host: str = Field("127.0.0.1", description="Address of /metrics, /healthz and /readyz.")
    admin_port: Port = Field(9090, description="Port of /metrics, /healthz and /readyz; 0 takes a free one.")
    cert_file: Path | None = Field(
        None, description="Our certificate, PEM: with it the API answers over HTTPS only, TLS 1.2 or 1.3."
    )
    key_file: Path | None = Field(None, description="Its private key, PEM, not encrypted.")
    client_ca_file: Path | None = Field(
        None, description="Authorities, PEM: only who has a certificate of one of them may connect."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.client_ca_file and not self.cert_file:
            raise ValueError("client_ca_file needs cert_file")
        return self


class TransportSection(_Section):
    """How sealed envelopes travel between nodes."""

    kind: Literal["embedded", "rabbitmq"] = Field(
        "embedded", description="`embedded`: a spool folder for nodes on one machine. `rabbitmq`: AMQP 0-9-1."
    )
    spool: Path = Field(Path("spool"), description="The shared spool folder of the embedded transport.")
    url: str = Field("", description="amqp:// or amqps:// URL without a password, for `rabbitmq`.")
    more_urls: tuple[str, ...] = Field(
        (), description="The same for the other nodes of a cluster; they are tried in random order."
    )
    allow_amqp: bool = Field(
        False, description="Allow amqp://, without TLS, to a broker that is not on this machine."
    )
    password_file: Path | None = Field(None, description="File that holds the broker password.")
    ca_file: Path | None = Field(
        None, description="Authorities the broker's certificate may be of, PEM; without it the machine's own."
    )
    cert_file: Path | None = Field(
        None, description="Our certificate, PEM: the broker account is the one its CN names (EXTERNAL)."
    )
    key_file: Path | None = Field(None, description="Its private key, PEM, not encrypted.")
    user_id: bool = Field(
        True,
        description="State the account that `url` names on each message; the broker refuses a forged one.",
    )
    prefetch: Annotated[int, Field(ge=1, le=2000)] = Field(
        128, description="Deliveries a queue may have under way at once."
    )
    concurrency: Annotated[int, Field(ge=1, le=1000)] = Field(
        64, description="Envelopes published at once, each waiting for its confirmation."
    )

    @field_validator("url", "more_urls")
    @classmethod
    def _no_password(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for url in (value,) if isinstance(value, str) else value:
            parts = _url(url)
            if url and parts.scheme not in {"amqp", "amqps"}:
                raise ValueError("must begin with amqp:// or amqps://")
            if parts.password is not None:
                raise ValueError("must not hold a password: name a password_file")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        named = [_url(url) for url in (self.url, *self.more_urls)]
        if len({(one.scheme, one.username, one.path) for one in named}) > 1:
            raise ValueError("url and more_urls must differ in nothing but host and port")
        plain = [one.hostname or "localhost" for one in named if one.scheme == "amqp"]
        if not self.allow_amqp and not all(map(is_here, plain)):
            raise ValueError("a broker elsewhere needs amqps://, unless allow_amqp says otherwise")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.cert_file and self.password_file:
            raise ValueError("either cert_file or password_file: an account logs in one way")
        if (self.ca_file or self.cert_file) and named[0].scheme != "amqps":
            raise ValueError("ca_file and cert_file need amqps://")
        return self


class LimitsSection(_Section):
    """Where the node says no rather than drops."""

    message_bytes: Annotated[int, Field(ge=1024, le=4 * 1024 * 1024)] = Field(
        4 * 1024 * 1024, description="Largest message body, bytes."
    )
    attachment_bytes: Annotated[int, Field(ge=0, le=1024**3)] = Field(
        100 * 1024 * 1024, description="Largest total of a message's attachments, bytes."
    )
    outbox_envelopes: Annotated[int, Field(ge=1)] = Field(
        10_000,
        description="Envelopes accepted but not yet confirmed by the transport, before intake says 503.",
    )
    outbox_bytes: Annotated[int, Field(ge=1)] = Field(
        2 * 1024**3, description="The same in bytes, attachments included."
    )
    requests: Annotated[int, Field(ge=1)] = Field(256, description="HTTP requests under way at once.")
    read_timeout: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Seconds a sender may pause within a body."
    )


class TimesSection(_Section):
    """How long things last."""

    expires_in: Annotated[int, Field(ge=1, le=30 * 86400)] = Field(
        5 * 86400,
        description="Seconds until a message nobody collected becomes `expired`, unless it says otherwise.",
    )
    settle: Annotated[float, Field(ge=0)] = Field(
        3600.0,
        description="Seconds after expiry that the sender's node waits for the recipient's last word"
        " before it concludes `expired` or `failed` itself.",
    )
    checkpoint: Annotated[float, Field(gt=0)] = Field(
        60.0, description="Seconds between signed checkpoints of the audit log, while there is anything new."
    )
    checkpoint_exchange: Annotated[float, Field(gt=0)] = Field(
        600.0, description="Seconds between checkpoints sent to one peer, to keep as a witness."
    )
    tick: Annotated[float, Field(gt=0)] = Field(5.0, description="Seconds between looks at what is due.")
    idempotency: Annotated[int, Field(ge=3600)] = Field(
        7 * 86400, description="Seconds an Idempotency-Key is remembered."
    )


class FhirUseCase(_Section):
    """Why messages of one BaRS use case are shared."""

    purpose: Purpose
    lawful_basis: LawfulBasis


class FhirSection(_Section):
    """The FHIR face for systems that speak BaRS (docs/fhir.md). Without this section it is not served."""

    purpose: Purpose = Field(
        Purpose.HEALTH_CARE, description="Why messages are shared, unless their use case says otherwise."
    )
    lawful_basis: LawfulBasis = Field(
        LawfulBasis.PUBLIC_TASK, description="The lawful basis, unless their use case says otherwise."
    )
    use_cases: dict[str, FhirUseCase] = Field(
        default_factory=dict,
        description="By code of usecases-categories-bars, e.g. `a1t1`: its purpose and lawful_basis.",
    )
    recipients: dict[str, Id] = Field(
        default_factory=dict,
        description="By DoS service id or ODS code, or system, bar and value: the agency it stands for.",
    )

    def addressing(self) -> Addressing:
        """The section as the face wants it."""
        return Addressing(
            self.purpose,
            self.lawful_basis,
            {code: (use.purpose, use.lawful_basis) for code, use in self.use_cases.items()},
            {identifier: AgencyId(agency) for identifier, agency in self.recipients.items()},
        )


class MeshPartner(_Section):
    """A mailbox of another agency, for `Mex-To` and for looking it up."""

    id: MailboxId = Field(description="The mailbox: upper-case letters, digits, `_` and `-`.")
    agency: Id = Field(description="The agency in the directory that it belongs to.")
    name: Name = Field("", description="Its name, for people.")
    ods_code: Name = Field("", description="The organisation's ODS code, by which it is looked up.")


class MeshMailbox(MeshPartner):
    """A mailbox of an agency that this node serves."""

    password_file: Path = Field(description="File (mode 0600) that holds the mailbox's password.")


class MeshWorkflow(_Section):
    """What a workflow identifier stands for."""

    id: WorkflowId = Field(description="The identifier, as in `Mex-WorkflowID`.")
    purpose: Purpose = Field(description="The purpose every message under it is sent for.")
    lawful_basis: LawfulBasis = Field(description="Its lawful basis.")
    type: str = Field(
        "file", description="The message type. `file`: any bytes travel, and nobody looks into them."
    )
    adapter: str | None = Field(None, description="The adapter that reads what is sent; not for `file`.")
    media_type: str | None = Field(
        None, description="The format that is sent and handed over; needed for any type but `file`."
    )
    senders: tuple[MailboxId, ...] = Field((), description="Mailboxes that may send; none: any here.")
    receivers: tuple[MailboxId, ...] = Field((), description="Mailboxes it can be sent to; none: any known.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.type not in TYPES:
            raise ValueError("type must be a known message type")
        if (self.type == "file") != (self.media_type is None) or (self.type == "file" and self.adapter):
            raise ValueError("any type but `file` has a media_type; `file` has neither that nor an adapter")
        return self


class MeshSection(_Section):
    """The mailbox API of NHS MESH (docs/mesh.md). Without this section the node does not speak it."""

    shared_key_file: Path = Field(description="File (mode 0600) that holds the key shared by all mailboxes.")
    chunks: Annotated[int, Field(ge=1, le=1000)] = Field(
        200, description="Chunks one message may come in; their total is bounded by limits.attachment_bytes."
    )
    uploads: Annotated[int, Field(ge=1, le=1000)] = Field(
        8, description="Chunked messages under way at once; with more, sending answers 503."
    )
    upload_timeout: Annotated[float, Field(gt=0, le=43200)] = Field(
        3600.0, description="Seconds from the first chunk to the last, before what came is dropped."
    )
    mailboxes: Annotated[tuple[MeshMailbox, ...], Field(min_length=1)] = Field(
        description="Mailboxes served here."
    )
    partners: tuple[MeshPartner, ...] = Field((), description="Mailboxes of other agencies.")
    workflows: Annotated[tuple[MeshWorkflow, ...], Field(min_length=1)] = Field(description="Workflows.")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        ids = [one.id for one in (*self.mailboxes, *self.partners)]
        if len(set(ids)) != len(ids) or len({one.id for one in self.workflows}) != len(self.workflows):
            raise ValueError("a mailbox or workflow stands there twice")
        return self


class PushSection(_Section):
    """An agency's own server that its messages are pushed to (docs/push.md); one for each agency."""

    agency: Id = Field(description="The agency, one of `node.agencies`.")
    url: str = Field(
        description="https:// URL of its server; for `fhir` the base, without `$process-message`."
    )
    kind: Literal["webhook", "fhir"] = Field(
        "webhook",
        description="`webhook`: signed as Standard Webhooks. `fhir`: to `$process-message`, as BaRS.",
    )
    format: MediaType = Field(
        "application/json", description="Media type: canonical JSON, or one that an adapter writes."
    )
    secret_file: Path | None = Field(
        None,
        description="File (mode 0600) with the webhook secret, `whsec_...`, on a line; a second line while"
        " one secret replaces another. Required for `webhook`.",
    )
    token_file: Path | None = Field(None, description="File (mode 0600) with a bearer token to send along.")
    ca_file: Path | None = Field(
        None, description="Authorities the server's certificate may be of, PEM; without it the machine's own."
    )
    allow_http: bool = Field(False, description="Allow http:// to a server that is not on this machine.")
    original: bool = Field(
        False, description="Send what the sender's system wrote along, in base64; application/json only."
    )
    timeout: Annotated[float, Field(gt=0, le=300)] = Field(30.0, description="Seconds to answer in.")
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Requests at once.")
    message_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = Field(
        10 * 1024 * 1024,
        description="Largest request, attachments in base64 included, bytes; what is larger can only be"
        " pulled. A request under way takes about five times its size of memory.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        parts = _url(self.url)
        if parts.scheme not in {"https", "http"} or not parts.hostname or parts.fragment:
            raise ValueError("url must begin with https:// and name a server")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url must not hold a password: name a token_file")
        if parts.scheme == "http" and not (self.allow_http or is_here(parts.hostname)):
            raise ValueError("url must begin with https://, unless allow_http says otherwise")
        if parts.scheme == "http" and self.ca_file:
            raise ValueError("ca_file needs https://")
        if (self.kind == "webhook") != (self.secret_file is not None):
            raise ValueError("kind webhook needs a secret_file, kind fhir has none")
        if self.kind == "fhir" and parts.query:
            raise ValueError("kind fhir takes a base URL without a query")
        if self.kind == "fhir" and not self.format.startswith("application/fhir+"):
            raise ValueError("kind fhir takes the format application/fhir+json or application/fhir+xml")
        if self.original and self.format != "application/json":
            raise ValueError("original needs the format application/json")
        return self


class FolderSection(_Section):
    """Files in folders, for an agency's system that can only export and import them (docs/folders.md)."""

    agency: Id = Field(description="The agency, one of `node.agencies`.")
    in_dir: Path | None = Field(None, description="Folder whose files are sent. It must exist.")
    format: MediaType = Field("application/json", description="Media type of those files.")
    adapter: str | None = Field(
        None, description="The adapter that reads them, where the media type alone does not say."
    )
    to: tuple[Id, ...] = Field((), max_length=20, description="The agencies they are sent to.")
    purpose: Purpose | None = Field(None, description="The purpose they are sent for.")
    lawful_basis: LawfulBasis | None = Field(None, description="Its lawful basis.")
    expires_in: Annotated[int, Field(ge=1, le=30 * 86400)] | None = Field(
        None, description="Seconds until they expire; none: as `times.expires_in`."
    )
    keep: bool = Field(
        False, description="Keep accepted files in `done/`; otherwise only their receipts stay there."
    )
    out_dir: Path | None = Field(
        None, description="Folder that the agency's messages are written to. It must exist."
    )
    out_format: MediaType = Field(
        "application/json",
        description="Media type they are written in; canonical JSON for what it has no form for.",
    )
    interval: Annotated[float, Field(ge=0.05, le=3600)] = Field(5.0, description="Seconds between looks.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.in_dir is None and self.out_dir is None:
            raise ValueError("in_dir, out_dir or both")
        if self.in_dir is not None and not (self.to and self.purpose and self.lawful_basis):
            raise ValueError("in_dir needs to, purpose and lawful_basis")
        if len(set(self.to)) != len(self.to):
            raise ValueError("to names an agency twice")
        return self


class Settings(_Section):
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


def _is_guarded(url: str) -> bool:
    """Whether a database is on this machine, or libpq will insist on TLS."""
    parts = _url(url)
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


def describe() -> str:
    """Every setting with its default and meaning, as Markdown."""
    lines = [
        "# Settings",
        "",
        f"A node reads one TOML file, `{FILE_NAME}`. Relative paths start at the folder it stands in.",
        "Unknown settings are refused. This page is generated by `gateway config describe`.",
    ]
    for name, field in Settings.model_fields.items():
        if (section := _section(field.annotation)) is not None:
            listed = get_origin(field.annotation) is tuple
            lines += _described(f"[[{name}]]" if listed else f"[{name}]", section)
    return "\n".join(lines) + "\n"


def _described(heading: str, section: type[_Section]) -> list[str]:
    """A section's table, and those of the sections that it lists."""
    lines, inner = ["", f"## {heading}", "", (section.__doc__ or "").strip(), ""], []
    lines += ["| setting | default | meaning |", "|---|---|---|"]
    for setting, info in section.model_fields.items():
        value = info.get_default(call_default_factory=True)
        default = "required" if info.is_required() else f"`{_toml(value)}`"
        lines.append(f"| `{setting}` | {default} | {info.description} |")
        listed = _section(info.annotation)
        if listed is not None:
            inner += _described(f"[[{heading.strip('[]')}.{setting}]]", listed)
    return lines + inner


def _section(annotation: object) -> type[_Section] | None:
    """The section that a field holds: one, one or none, or a list of them."""
    if get_origin(annotation) is dict:
        return None
    found = [
        one
        for one in (annotation, *get_args(annotation))
        if isinstance(one, type) and issubclass(one, _Section)
    ]
    return found[0] if found else None


def _toml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, (int, float)) else f'"{value}"'
