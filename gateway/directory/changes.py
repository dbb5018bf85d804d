"""Who may change what in the directory: rules over two versions and the proposals between them. No I/O.

An agency changes its own entry, and agencies agree with each other, by proposals they have signed.
Governance, which signs every version, does alone only what nobody could ask for yet, a new agency, and what
takes trust away: an agency, an agreement or a key removed, a key revoked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NoReturn, TypeVar

from pydantic import ValidationError

from gateway.crypto.keys import VerifyKey
from gateway.crypto.proposal import NOTHING, Kind, Proposal, ProposalInvalid, read_proposal
from gateway.directory.model import NEVER, AgencyEntry, AgreementEntry, DirectoryDocument, to_ms
from gateway.messages import AgencyId
from gateway.protocol.keys import Dates, KeyState, lives

Entry = AgencyEntry | AgreementEntry
E = TypeVar("E", AgencyEntry, AgreementEntry)
Subject = tuple[Literal["agency", "agreement"], str]
"""What stands in a directory: which kind of thing, and its identifier."""
MOST: Final = 200
"""Proposals of one version."""


class ChangeRefused(Exception):
    """The change is not allowed. The text says why and names no more than identifiers."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was asked for, by all who must ask for it."""

    value: Entry | None
    """None: that it ends."""
    by: tuple[AgencyId, ...]


def canonical(entry: Entry) -> str:
    """The one text of an entry: JSON, keys in order, no spaces; what is not set is left out.

    Left out, so that a field which a later version adds does not change the text of what has none.
    """
    value = entry.model_dump(mode="json", exclude_none=True)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def base_of(entry: Entry | None) -> bytes:
    """What a proposal to change this entry names as its base."""
    return NOTHING if entry is None else hashlib.sha256(canonical(entry).encode()).digest()


def current_key(entry: AgencyEntry, at: int) -> VerifyKey | None:
    """The key an agency signs with at this time (milliseconds): the newest that is in force, not revoked."""
    revoked = {key.public_bytes for key in entry.keys if key.revoked}  # it may be listed twice
    signing = [key for key in entry.keys if key.use == "sign" and key.public_bytes not in revoked]
    in_force = [key for key in signing if at < (to_ms(key.ends) if key.ends else NEVER)]
    found = lives([Dates(to_ms(key.starts)) for key in in_force], at)
    for key, life in zip(in_force, found, strict=True):
        if life.state is KeyState.ACTIVE:
            return VerifyKey.from_public(key.public_bytes)
    return None


def asked_for(
    published: DirectoryDocument, proposals: Sequence[bytes], now: int | None
) -> dict[Subject, Change]:
    """The changes that these proposals add up to. Raises ChangeRefused unless each may be granted.

    `now` in milliseconds; None when it was granted in the past: then each counts as of when it was made.
    """
    if len(proposals) > MOST:
        raise ChangeRefused(f"more than {MOST} proposals at once")
    before = parts(published)
    by_subject: dict[Subject, list[Proposal]] = {}
    for data in proposals:
        proposal = _genuine(data, before, now)
        subject: Subject = ("agency" if proposal.kind is Kind.ENTRY else "agreement", proposal.subject)
        by_subject.setdefault(subject, []).append(proposal)
    return {subject: _change(before.get(subject), found) for subject, found in by_subject.items()}


def granted(
    published: DirectoryDocument, edited: DirectoryDocument, changes: Mapping[Subject, Change]
) -> DirectoryDocument:
    """`edited`, which is what governance itself changed, with these changes. Raises ChangeRefused."""
    before, after = parts(published), parts(edited)
    for (kind, name), change in changes.items():
        if after.get((kind, name)) != before.get((kind, name)):
            raise ChangeRefused(f"{kind} {name} is changed by a proposal and by hand: one after the other")
        if change.value is None:
            del after[kind, name]
        else:
            after[kind, name] = change.value
    return edited.model_copy(
        update={
            "agencies": tuple(one for one in after.values() if isinstance(one, AgencyEntry)),
            "agreements": tuple(one for one in after.values() if isinstance(one, AgreementEntry)),
        }
    )


def explained(old: DirectoryDocument, new: DirectoryDocument, changes: Mapping[Subject, Change]) -> list[str]:
    """Who each difference comes from, a line each. Raises ChangeRefused for one that nobody may make."""
    before, after = parts(old), parts(new)
    if len(after) != len(new.agencies) + len(new.agreements):
        raise ChangeRefused("an agency or an agreement is listed twice")
    for (kind, name), change in changes.items():
        if after.get((kind, name)) != change.value:
            raise ChangeRefused(f"{kind} {name} is not what its proposal says")
    return [
        f"{kind} {name}: {_reason((kind, name), before, after, changes)}"
        for kind, name in sorted(before.keys() | after.keys())
        if before.get((kind, name)) != after.get((kind, name))
    ]


def _reason(
    subject: Subject,
    before: Mapping[Subject, Entry],
    after: Mapping[Subject, Entry],
    changes: Mapping[Subject, Change],
) -> str:
    was, now = before.get(subject), after.get(subject)
    if subject in changes:
        return f"proposed by {', '.join(changes[subject].by)}"
    if now is None:
        return "removed by governance"
    if was is None and isinstance(now, AgencyEntry):
        return "new, governance vouches for it"
    if isinstance(was, AgencyEntry) and isinstance(now, AgencyEntry) and _only_less(was, now):
        return "keys removed or revoked by governance"
    kind, name = subject
    raise ChangeRefused(f"{kind} {name} was changed by hand: it takes a proposal (docs/directory.md)")


def _only_less(was: AgencyEntry, now: AgencyEntry) -> bool:
    """Whether keys were removed or revoked, and nothing else was done."""
    if now.model_copy(update={"keys": was.keys}) != was:
        return False
    return all(
        key in was.keys or (key.revoked and key.model_copy(update={"revoked": None}) in was.keys)
        for key in now.keys
    )


def _genuine(data: bytes, before: Mapping[Subject, Entry], now: int | None) -> Proposal:
    """A proposal by who it says, for the state that is, in its time. Raises ChangeRefused."""
    try:
        signed = read_proposal(data)
    except ProposalInvalid as error:
        raise ChangeRefused(str(error)) from None
    proposal = signed.proposal
    if now is not None and now >= proposal.expires:
        _refuse(proposal, "has expired: it must be made anew")
    if now is not None and now < proposal.created:
        _refuse(proposal, "is dated in the future: check the clocks")
    author = before.get(("agency", proposal.agency))
    if not isinstance(author, AgencyEntry):
        _refuse(proposal, "is by an agency that is not in the directory")
    key = current_key(author, proposal.created)
    later = key if now is None else current_key(author, now)
    if key is None or later is None or not key.kid == later.kid == signed.kid:
        _refuse(proposal, "is not signed with the agency's current key")
    if not signed.verify(key):
        _refuse(proposal, "does not verify: it was altered, or another key signed it")
    stands = before.get(("agency" if proposal.kind is Kind.ENTRY else "agreement", proposal.subject))
    if proposal.base != base_of(stands):
        _refuse(proposal, "is for another state of the directory: it must be made anew")
    return proposal


def _change(current: Entry | None, proposals: Sequence[Proposal]) -> Change:
    """What all proposals about one thing ask for. Raises ChangeRefused."""
    first = proposals[0]
    if any((one.kind, one.text) != (first.kind, first.text) for one in proposals):
        _refuse(first, "and another ask for different things")
    by = tuple(sorted({one.agency for one in proposals}))
    if first.kind is Kind.ENTRY:
        return Change(_own_entry(current, first), by)
    named = _named(current)
    agreement = None if first.kind is Kind.WITHDRAW else _agreement(first)
    named |= _named(agreement)
    if not named >= set(by):
        _refuse(first, "is about an agreement that does not name every agency which proposes it")
    if agreement is not None and named != set(by):
        _refuse(first, "needs the consent of every agency that the agreement names or named")
    return Change(agreement, by)


def _own_entry(current: Entry | None, proposal: Proposal) -> AgencyEntry:
    entry = _read(AgencyEntry, proposal.text)
    if entry is None:
        _refuse(proposal, "does not hold an entry")
    if entry.id != proposal.agency or canonical(entry) != proposal.text:
        _refuse(proposal, "does not hold the agency's own entry in its canonical form")
    before = current.keys if isinstance(current, AgencyEntry) else ()
    # By their bytes: a key can be written in more than one way, and be listed again beside itself.
    revoked = {key.public_bytes for key in before if key.revoked}
    kept = {key.public_bytes for key in entry.keys if key.revoked}
    if not revoked <= kept or revoked & {key.public_bytes for key in entry.keys if not key.revoked}:
        _refuse(proposal, "gives up a revocation: a revoked key stays listed and revoked")
    return entry


def _agreement(proposal: Proposal) -> AgreementEntry:
    agreement = _read(AgreementEntry, proposal.text)
    if agreement is None:
        _refuse(proposal, "does not hold an agreement")
    if agreement.id != proposal.subject or canonical(agreement) != proposal.text:
        _refuse(proposal, "does not hold the agreement it names in its canonical form")
    return agreement


def _read(kind: type[E], text: str) -> E | None:
    try:
        return kind.model_validate_json(text)
    except ValidationError:  # not the cause of a refusal: it repeats names of fields
        return None


def _named(entry: Entry | None) -> set[AgencyId]:
    if not isinstance(entry, AgreementEntry):
        return set()
    return set(map(AgencyId, (*entry.senders, *entry.recipients)))


def _refuse(proposal: Proposal, why: str) -> NoReturn:
    raise ChangeRefused(f"the proposal of {proposal.agency} ({proposal.kind}) {why}")


def parts(document: DirectoryDocument) -> dict[Subject, Entry]:
    """Everything that stands in a directory."""
    found: dict[Subject, Entry] = {("agency", one.id): one for one in document.agencies}
    return found | {("agreement", one.id): one for one in document.agreements}


def differences(old: DirectoryDocument, new: DirectoryDocument) -> list[str]:
    """What a new directory adds, changes and removes, a line each; of keys also which."""
    before, after = parts(old), parts(new)
    lines = [f"+ {kind} {name}" for kind, name in after.keys() - before.keys()]
    lines += [f"- {kind} {name}" for kind, name in before.keys() - after.keys()]
    for kind, name in after.keys() & before.keys():
        was, now = (one[kind, name].model_dump(mode="json") for one in (before, after))
        fields = {**was, **now}  # what is gone counts too
        lines += [f"~ {kind} {name}: {field}" for field in fields if was.get(field) != now.get(field)]
    keys_before, keys_after = _keys_of(old), _keys_of(new)
    lines += [f"+ {key}" for key in keys_after - keys_before]
    lines += [f"- {key}" for key in keys_before - keys_after]
    if old.expires != new.expires:
        lines.append(f"~ expires {new.expires.date()}")
    return sorted(lines, key=lambda line: line[2:])


def _keys_of(document: DirectoryDocument) -> set[str]:
    """Every key in words, with the id that an agency can read out to whoever asks it back."""
    return {
        f"key of {agency.id}: {key.use} {key.suite} {key.kid.hex()} from {key.starts:%Y-%m-%d %H:%M}"
        + (f" to {key.ends:%Y-%m-%d %H:%M}" if key.ends else "")
        + (", revoked" if key.revoked else "")
        for agency in document.agencies
        for key in agency.keys
    }
