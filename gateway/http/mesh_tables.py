"""Who has which mailbox and what each workflow means here: the settings of the MESH face, ready to ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.messages import AgencyId, Header

FILE = "file"
"""The message type of an opaque workflow."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox: of an agency here, or of a partner."""

    id: str
    agency: AgencyId
    name: str = ""
    ods_code: str = ""


@dataclass(frozen=True, slots=True)
class Workflow:
    """What a workflow identifier stands for."""

    id: str
    purpose: str
    lawful_basis: str
    type: str = FILE
    adapter: str | None = None
    media_type: str = "application/octet-stream"
    """Of what is sent and handed over under a workflow of another type than `file`."""
    senders: frozenset[str] = frozenset()
    """Mailboxes that may send; empty: any."""
    receivers: frozenset[str] = frozenset()
    """Mailboxes that may be sent to; empty: any."""

    @property
    def opaque(self) -> bool:
        """Whether any bytes travel."""
        return self.type == FILE

    def takes(self, sender: str, recipient: str) -> tuple[bool, bool]:
        """Whether this mailbox may send, and that one be sent to."""
        return not self.senders or sender in self.senders, not self.receivers or recipient in self.receivers


@dataclass(frozen=True, slots=True)
class Tables:
    """The mailboxes served here, those of partners, the workflows."""

    own: Mapping[str, Mailbox]
    partners: Mapping[str, Mailbox]
    workflows: Mapping[str, Workflow]
    chunks: int = 200
    """Chunks a message may come in."""
    _first: Mapping[AgencyId, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        first: dict[AgencyId, str] = {}
        for one in (*self.own.values(), *self.partners.values()):
            first.setdefault(one.agency, one.id)
        object.__setattr__(self, "_first", first)

    def mailbox(self, mailbox_id: str) -> Mailbox | None:
        """A mailbox to send to."""
        return self.own.get(mailbox_id) or self.partners.get(mailbox_id)

    def mailbox_of(self, agency: AgencyId, claimed: str | None) -> str:
        """The agency's mailbox: the one claimed if it is the agency's, otherwise its first.

        An agency without a mailbox goes by its identifier.
        """
        found = self.mailbox(claimed) if claimed else None
        if found is not None and found.agency == agency:
            return found.id
        return self._first.get(agency, agency)

    def own_of(self, agency: AgencyId, named: str | None) -> str:
        """The mailbox here that a message to the agency is for: the one named, otherwise its first."""
        found = self.own.get(named) if named else None
        if found is not None and found.agency == agency:
            return found.id
        return next((one.id for one in self.own.values() if one.agency == agency), "")

    def workflow_of(self, header: Header) -> Workflow | None:
        """Under which workflow a message that no MESH mailbox sent is handed over."""
        wanted = (header.type, header.purpose, header.lawful_basis)
        for one in self.workflows.values():
            if (one.type, one.purpose, one.lawful_basis) == wanted:
                return one
        return None

    def receivers(self, workflow_id: str, ods_code: str | None = None) -> Sequence[Mailbox]:
        """The mailboxes a workflow can be sent to, of one organisation if given."""
        workflow = self.workflows.get(workflow_id)
        if workflow is None:
            return []
        return [
            one
            for one in (*self.own.values(), *self.partners.values())
            if workflow.takes("", one.id)[1] and (ods_code is None or one.ods_code == ods_code)
        ]
