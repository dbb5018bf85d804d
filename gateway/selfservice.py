"""What an agency asks of a directory that others govern: proposals to change it, signed with its current key.

Where the directory comes from a mirror no node can write to it. What is made here is handed to governance
(`gateway directory propose`), which checks it against what is published.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway import config, provisioning
from gateway.crypto.proposal import LONGEST, Kind, Proposal, read_proposal, sign_proposal
from gateway.directory.changes import Entry, base_of, canonical, current_key, parts
from gateway.directory.file import signed_until, with_keys, without_destroyed, without_key
from gateway.directory.model import (
    AgencyEntry,
    AgreementEntry,
    DirectoryDocument,
    DirectoryInvalid,
    make_agency,
)
from gateway.directory.opening import open_directory
from gateway.errors import StartupError
from gateway.messages import AgencyId, Sector
from gateway.protocol.deadlines import DAY
from gateway.store import audit
from gateway.store.base import Session


class Desk:
    """Makes the proposals of one agency of this node."""

    def __init__(self, settings: config.Settings, agency: AgencyId, now: int) -> None:
        """Looks at the mirror; `now` in milliseconds. Raises StartupError if the agency cannot propose."""
        if not settings.node.directory_mirror:
            raise StartupError("this node's directory is a file: it is changed there, without proposals")
        self.settings: Final = settings
        self.agency: Final = agency
        self._now = now
        self._store = settings.key_store()
        self._document: DirectoryDocument = open_directory(settings.directory()).current.document
        entry = parts(self._document).get(("agency", agency))
        if not isinstance(entry, AgencyEntry):
            raise StartupError(f"{agency} is not in the published directory: ask those who govern it")
        self._entry = entry
        current = current_key(entry, now)
        signers = [one for one in self._store.load(agency).signing_keys if current and one.kid == current.kid]
        if not signers:
            raise StartupError(
                f"this node does not hold the key {agency} signs with now: ask those who govern the directory"
            )
        self._signer = signers[0]

    @property
    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._now / 1000, UTC)

    def kids(self) -> frozenset[bytes]:
        """The ids of the private keys this node has for the agency."""
        return frozenset(self._store.load(self.agency).dates)

    def enter(self, proposal: bytes) -> Callable[[Session], None]:
        """What enters in the audit log that this was proposed."""
        digest = read_proposal(proposal).digest.hex()
        return lambda session: audit.record(session, "proposal-made", agency=self.agency, digest=digest)

    def rotation(self, lead: int) -> bytes:
        """New keys, in use `lead` milliseconds from now; those before them end, and destroyed ones go.

        If keys that are here are not in the published directory, no more are made: it asks for those.
        Raises StartupError.
        """
        known = provisioning.public_keys(self._store.load(self.agency))
        listed = {key.public for key in self._entry.keys}
        if all(key.public in listed for key in known):
            known = provisioning.public_keys(self._store.rotate(self.agency, self._now, self._now + lead))
        starts = datetime.fromtimestamp((self._now + lead) / 1000, UTC)
        late = [key.model_copy(update={"starts": starts}) for key in known]
        new = [key for key in late if key.public not in listed]
        # With an end, so that governance need not be asked again before the old ones are destroyed.
        end = provisioning.given_up(self.settings, known) | {key.suite for key in new if key.use == "seal"}
        entry = without_destroyed(self._entry, {key.public for key in known}, self._moment)
        if any(key.use == "sign" for key in new):
            # The old one signs until the proposal is granted, perhaps when it has almost run out, and seen.
            overlap = max(self.settings.times.keys_retire * 1000, LONGEST + DAY)
            entry = signed_until(entry, starts + timedelta(milliseconds=overlap))
        return self._for_entry(with_keys(entry, late, end=end, at=starts))

    def revocation(self, kid: bytes) -> bytes:
        """Its key with this id revoked, and keys that the directory lacks entered. Raises StartupError."""
        at = self._moment
        keys = provisioning.public_keys(self._store.load(self.agency))
        return self._for_entry(without_key(with_keys(self._entry, keys, at=at), kid, at))

    def change(
        self,
        *,
        name: str | None = None,
        sector: Sector | None = None,
        accept: Mapping[str, Collection[int]],
        decline: Collection[str] = (),
    ) -> bytes:
        """Another name or sector, message types accepted, in which versions, or no longer.

        Raises StartupError.
        """
        accepts = {one.type: set(one.versions) for one in self._entry.accepts if one.type not in decline}
        for kind, versions in accept.items():
            accepts[kind] = accepts.get(kind, set()) | set(versions)
        try:
            entry = make_agency(
                id=self._entry.id,
                name=self._entry.name if name is None else name,
                sector=self._entry.sector if sector is None else sector,
                keys=self._entry.keys,
                accepts=[{"type": kind, "versions": sorted(them)} for kind, them in accepts.items()],
            )
        except DirectoryInvalid as error:
            first = error.problems[0]
            raise StartupError(f"the entry is not valid: {first.pointer}: {first.rule}") from None
        if entry == self._entry:
            raise StartupError("this changes nothing: the published entry says so already")
        return self._for_entry(entry)

    def consent(self, agreement: AgreementEntry) -> bytes:
        """Consent to an agreement as it is written. Raises StartupError."""
        if self.agency not in (*agreement.senders, *agreement.recipients):
            raise StartupError(f"the agreement does not name {self.agency}")
        return self._signed(Kind.AGREEMENT, agreement.id, canonical(agreement))

    def withdrawal(self, name: str) -> bytes:
        """No longer in an agreement, which then ends. Raises StartupError."""
        agreement = parts(self._document).get(("agreement", name))
        if not isinstance(agreement, AgreementEntry):
            raise StartupError("the published directory has no such agreement")
        if self.agency not in (*agreement.senders, *agreement.recipients):
            raise StartupError(f"the agreement does not name {self.agency}")
        return self._signed(Kind.WITHDRAW, name, "")

    def _for_entry(self, entry: AgencyEntry) -> bytes:
        return self._signed(Kind.ENTRY, self.agency, canonical(entry))

    def _signed(self, kind: Kind, subject: str, text: str) -> bytes:
        stands: Entry | None = parts(self._document).get(
            ("agency" if kind is Kind.ENTRY else "agreement", subject)
        )
        until = self._now + LONGEST
        proposal = Proposal(kind, self.agency, subject, self._now, until, base_of(stands), text)
        try:
            return sign_proposal(proposal, self._signer)
        except ValueError:
            raise StartupError("this is too large for a proposal") from None
