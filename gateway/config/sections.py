"""The sections of the settings that every node may have; docs/config.md is made of the descriptions."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from gateway.config.secrets import is_guarded, is_postgresql, url_parts
from gateway.crypto.keys import VerifyKey
from gateway.messages import AGENCY_ID
from gateway.protocol.keys import OVERLAP
from gateway.tls import is_here

Id = Annotated[str, StringConstraints(pattern=f"^{AGENCY_ID.pattern}$")]
MediaType = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}$", to_lower=True)
]
Suite = Literal["HPKE-9-KE", "HPKE-7-KE"]
Port = Annotated[int, Field(ge=0, le=65535)]
MailboxId = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_-]{1,100}$")]
WorkflowId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,255}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,300}$")]


_ED25519_LENGTH = 32
"""Bytes of a public key (RFC 8032)."""
CREDENTIAL = r"^[A-Za-z0-9_.-]{0,100}$"
"""The name of a systemd credential."""


class Section(BaseModel):
    """A table of the file. What it does not know is refused; errors do not repeat what stands there."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NodeSection(Section):
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
        if is_postgresql(value) and url_parts(value).password is not None:
            raise ValueError("must not hold a password: name a database_password_file")
        if is_postgresql(value) and not is_guarded(value):
            raise ValueError("over a network needs TLS: add ?sslmode=verify-full (or verify-ca, require)")
        return value

    @model_validator(mode="after")
    def _one_passphrase(self) -> Self:
        if self.keys_passphrase_file and self.keys_passphrase_credential:
            raise ValueError("either keys_passphrase_file or keys_passphrase_credential")
        return self


class TokenSection(Section):
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


class HttpSection(Section):
    """The API for local systems, and the port for operators."""

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: Port = Field(8080, description="Port of the API; 0 takes a free one.")
    admin_host: str = Field("127.0.0.1", description="Address of /metrics, /healthz and /readyz.")
    admin_port: Port = Field(9090, description="Port of /metrics, /healthz and /readyz; 0 takes a free one.")
    cert_file: Path | None = Field(
        None, description="Our certificate, PEM: with it the API answers over HTTPS only, TLS 1.2 or 1.3."
    )
    key_file: Path | None = Field(
        None, description="Its private key (file of mode 0600), PEM, not encrypted."
    )
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


class TransportSection(Section):
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
    key_file: Path | None = Field(
        None, description="Its private key (file of mode 0600), PEM, not encrypted."
    )
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
            parts = url_parts(url)
            if url and parts.scheme not in {"amqp", "amqps"}:
                raise ValueError("must begin with amqp:// or amqps://")
            if parts.password is not None:
                raise ValueError("must not hold a password: name a password_file")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        named = [url_parts(url) for url in (self.url, *self.more_urls)]
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


class LimitsSection(Section):
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


class TimesSection(Section):
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
    keys_epoch: Annotated[int, Field(ge=1)] = Field(
        30 * 86400,
        description="Seconds an opening key is used: afterwards `gateway keys list` and a metric say that it"
        " is time for `gateway keys rotate`. Nothing rotates by itself.",
    )
    keys_retire: Annotated[int, Field(ge=1)] = Field(
        OVERLAP // 1000,
        description="Seconds after a newer key took over until the older one is `retired` and may be"
        " destroyed: 30 days, the longest life of a message, and a day for peers with an old directory. With"
        " less, what is still on its way may become unreadable.",
    )
    tick: Annotated[float, Field(gt=0)] = Field(5.0, description="Seconds between looks at what is due.")
    idempotency: Annotated[int, Field(ge=3600)] = Field(
        7 * 86400, description="Seconds an Idempotency-Key is remembered."
    )


class OperatorSection(Section):
    """A person who may approve what takes two: destroying or exporting keys (docs/keys.md)."""

    id: Id = Field(description="A name for the person, of lower-case letters, digits and hyphens.")
    public: str = Field(description="Their public key, as `gateway operator key` prints it.")
    may: Annotated[
        tuple[Literal["destroy-key", "destroy-key-and-messages", "export-key"], ...], Field(min_length=1)
    ] = Field(
        description="What they may approve: `destroy-key`, `destroy-key-and-messages` (also while messages"
        " wait for the key: they are rejected), `export-key`."
    )

    @field_validator("public")
    @classmethod
    def _is_a_key(cls, value: str) -> str:
        try:
            data = base64.b64decode(value, validate=True)
            if len(data) != _ED25519_LENGTH:
                raise ValueError
            VerifyKey.from_public(data)
        except ValueError:
            raise ValueError("an Ed25519 public key in base64") from None
        return value

    def key(self) -> VerifyKey:
        """The public key."""
        return VerifyKey.from_public(base64.b64decode(self.public))
