"""The sections of faces that existing clients speak with: FHIR, MESH, push, folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config.secrets import url_parts
from gateway.config.sections import Id, MailboxId, MediaType, Name, Section, WorkflowId
from gateway.http.fhir_routing import Addressing
from gateway.messages import AgencyId, LawfulBasis, Purpose
from gateway.schemas import TYPES
from gateway.tls import is_here


class FhirUseCase(Section):
    """Why messages of one BaRS use case are shared."""

    purpose: Purpose
    lawful_basis: LawfulBasis


class FhirSection(Section):
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


class MeshPartner(Section):
    """A mailbox of another agency, for `Mex-To` and for looking it up."""

    id: MailboxId = Field(description="The mailbox: upper-case letters, digits, `_` and `-`.")
    agency: Id = Field(description="The agency in the directory that it belongs to.")
    name: Name = Field("", description="Its name, for people.")
    ods_code: Name = Field("", description="The organisation's ODS code, by which it is looked up.")


class MeshMailbox(MeshPartner):
    """A mailbox of an agency that this node serves."""

    password_file: Path = Field(description="File (mode 0600) that holds the mailbox's password.")


class MeshWorkflow(Section):
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


class MeshSection(Section):
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


class PushSection(Section):
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
        parts = url_parts(self.url)
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


class FolderSection(Section):
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
