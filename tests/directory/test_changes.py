"""Who may change what: every rule, over documents and proposals made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import cose
from gateway.crypto.keys import SigningKey
from gateway.crypto.labels import ENVELOPE_CONTEXT
from gateway.crypto.proposal import LONGEST, NOTHING, Kind, Proposal, read_proposal, sign_proposal
from gateway.directory.changes import (
    MOST,
    Change,
    ChangeRefused,
    Entry,
    asked_for,
    base_of,
    canonical,
    current_key,
    differences,
    explained,
    granted,
    parts,
)
from gateway.directory.model import AgencyEntry, AgreementEntry, DirectoryDocument, KeyEntry, parse
from gateway.messages import AgencyId, LawfulBasis, Purpose, Sector
from tests.fuzz.directories import b64

NOW = 1_800_000_000_000
AT = datetime.fromtimestamp(NOW / 1000, UTC)
DAY = timedelta(days=1)
AGENCIES = ("council", "police", "school")
PAIR = ("police", "school")
KEYS = {name: SigningKey.generate("ESP256" if name == "police" else "Ed25519") for name in AGENCIES}
NEXT, STRANGER = SigningKey.generate(), SigningKey.generate()


def key_entry(key: SigningKey, starts: datetime = AT - DAY, **more: Any) -> KeyEntry:
    public = b64(key.public.public_bytes)
    return KeyEntry(use="sign", suite=key.public.suite, public=public, starts=starts, **more)


def entry(name: str, *keys: KeyEntry, **more: Any) -> AgencyEntry:
    return AgencyEntry(
        id=name, name=name, sector=Sector.HEALTH, keys=keys or (key_entry(KEYS[name]),), **more
    )


def agreement(name: str = "one", **more: Any) -> AgreementEntry:
    fields: dict[str, Any] = {
        "id": name,
        "senders": ("school",),
        "recipients": ("police",),
        "types": ("referral",),
        "purposes": (Purpose.PREVENT,),
        "lawful_bases": (LawfulBasis.PUBLIC_TASK,),
        "starts": AT,
        "ends": AT + DAY,
    }
    return AgreementEntry(**fields | more)


def directory(*instead: Entry) -> DirectoryDocument:
    found: dict[str, Entry] = {one.id: one for one in (*map(entry, AGENCIES), *instead)}
    return DirectoryDocument(
        expires=AT + DAY,
        agencies=tuple(one for one in found.values() if isinstance(one, AgencyEntry)),
        agreements=tuple(one for one in found.values() if isinstance(one, AgreementEntry)),
    )


def asked(
    by: str, wanted: Entry, published: DirectoryDocument, key: SigningKey | None = None, **more: Any
) -> bytes:
    """The proposal by which an agency asks for this entry or agreement."""
    kind = Kind.ENTRY if isinstance(wanted, AgencyEntry) else Kind.AGREEMENT
    stands = parts(published).get(("agency" if kind is Kind.ENTRY else "agreement", wanted.id))
    proposal = Proposal(kind, AgencyId(by), wanted.id, NOW, NOW + LONGEST, base_of(stands), canonical(wanted))
    return sign_proposal(replace(proposal, **more), key or KEYS[by])


def ended(by: str, current: AgreementEntry) -> bytes:
    base = base_of(current)
    return sign_proposal(
        Proposal(Kind.WITHDRAW, AgencyId(by), current.id, NOW, NOW + LONGEST, base, ""), KEYS[by]
    )


def step(published: DirectoryDocument, *proposals: bytes, now: int | None = NOW) -> DirectoryDocument:
    """What comes of the proposals alone; it is what a verifier accepts as well."""
    changes = asked_for(published, proposals, now)
    after = granted(published, published, changes)
    explained(published, after, asked_for(published, proposals, None))
    return after


RENAMED = entry("school").model_copy(update={"name": "School on the hill"})


def test_an_agency_changes_its_own_entry_and_nothing_else() -> None:
    before = directory(agreement())
    after = step(before, asked("school", RENAMED, before))
    assert parts(after) == parts(before) | {("agency", "school"): RENAMED}
    assert [one.id for one in after.agencies] == list(AGENCIES)
    assert differences(before, after) == ["~ agency school: name"]
    changes = {("agency", "school"): Change(RENAMED, (AgencyId("school"),))}
    assert explained(before, after, changes) == ["agency school: proposed by school"]  # type: ignore[arg-type]


def test_what_changes_names_every_key_by_its_id() -> None:
    """So that governors can have it read out to them."""
    before = directory()
    after = directory(
        entry("school", key_entry(KEYS["school"], revoked=AT), key_entry(NEXT, AT, ends=AT + DAY))
    )
    kid, new = KEYS["school"].kid.hex(), NEXT.kid.hex()
    assert differences(before, after) == [
        "~ agency school: keys",
        *sorted(
            [
                f"- key of school: sign Ed25519 {kid} from 2027-01-14 08:00",
                f"+ key of school: sign Ed25519 {kid} from 2027-01-14 08:00, revoked",
                f"+ key of school: sign Ed25519 {new} from 2027-01-15 08:00 to 2027-01-16 08:00",
            ],
            key=lambda line: line[2:],
        ),
    ]


def test_it_rotates_and_signs_with_the_new_key_from_then_on() -> None:
    before = directory()
    both = entry("school", key_entry(KEYS["school"]), key_entry(NEXT, AT + DAY))
    rotated = step(before, asked("school", both, before))
    again = both.model_copy(update={"name": "Again"})
    with pytest.raises(ChangeRefused, match="current key"):
        step(rotated, asked("school", again, rotated, NEXT))
    step(rotated, asked("school", again, rotated))
    tomorrow = NOW + 2 * 24 * 3_600_000
    later: dict[str, Any] = {"created": tomorrow, "expires": tomorrow + 1}
    assert step(rotated, asked("school", again, rotated, NEXT, **later), now=tomorrow)
    for signer, times in ((KEYS["school"], later), (KEYS["school"], {}), (NEXT, {})):
        with pytest.raises(ChangeRefused, match="current key"):
            step(rotated, asked("school", again, rotated, signer, **times), now=tomorrow)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"key": STRANGER}, "current key"),
        ({"key": KEYS["police"]}, "current key"),
        ({"expires": NOW, "created": NOW - 1}, "expired"),
        ({"created": NOW + 1}, "future"),
        ({"base": bytes(31) + b"\x01"}, "another state"),
        ({"base": base_of(RENAMED)}, "another state"),
        ({"agency": AgencyId("health"), "subject": "health"}, "not in the directory"),
        ({"agency": AgencyId("police"), "subject": "police", "key": KEYS["police"]}, "another state"),
        ({"text": "{}"}, "does not hold an entry"),
        ({"text": "[" * 100_000}, "does not hold an entry"),
        ({"text": canonical(entry("police"))}, "own entry"),
        ({"text": canonical(RENAMED) + " "}, "canonical"),
        ({"text": json.dumps(json.loads(canonical(RENAMED)))}, "canonical"),
        ({"text": canonical(RENAMED).replace('{"accepts"', '{"name":"","accepts"')}, "canonical"),
        ({"text": canonical(RENAMED)[:-1] + ',"trusted":1}'}, "does not hold an entry"),
    ],
)
def test_an_entry_is_refused(change: Mapping[str, Any], why: str) -> None:
    before = directory()
    fields = {"key": None, **change}
    with pytest.raises(ChangeRefused, match=why):
        step(before, asked("school", RENAMED, before, **fields))


def test_signed_by_another_key_under_the_name_of_the_current() -> None:
    before = directory()
    whole = asked("school", RENAMED, before)
    with pytest.raises(ChangeRefused, match="does not verify"):
        step(before, whole[:-64] + STRANGER.sign(b"")[:64])
    with pytest.raises(ChangeRefused, match="does not verify"):
        step(before, cose.sign1(cose.parse_sign1(whole).payload, KEYS["school"], ENVELOPE_CONTEXT))


def test_two_changes_from_one_state_do_not_undo_each_other() -> None:
    before = directory()
    one, two = RENAMED, RENAMED.model_copy(update={"sector": Sector.HOUSING})
    with pytest.raises(ChangeRefused, match="different things"):
        step(before, asked("school", one, before), asked("school", two, before))
    after = step(before, asked("school", one, before))
    for late in (asked("school", one, before), asked("school", two, before)):
        with pytest.raises(ChangeRefused, match="another state"):
            step(after, late)


REVOKED = key_entry(STRANGER, revoked=AT)


@pytest.mark.parametrize(
    "keys",
    [
        (),
        (key_entry(STRANGER),),
        (REVOKED, key_entry(STRANGER)),
        (REVOKED, key_entry(STRANGER).model_copy(update={"public": REVOKED.public + "="})),
        (REVOKED.model_copy(update={"public": REVOKED.public + "="}), key_entry(STRANGER)),
    ],
    ids=["dropped", "in force again", "beside itself", "beside itself, written otherwise", "both"],
)
def test_a_revoked_key_stays_listed_and_revoked(keys: tuple[KeyEntry, ...]) -> None:
    before = directory(entry("school", key_entry(KEYS["school"]), REVOKED))
    wanted = entry("school", key_entry(KEYS["school"]), *keys)
    with pytest.raises(ChangeRefused, match="revocation"):
        step(before, asked("school", wanted, before))
    with pytest.raises(ChangeRefused, match="current key"):
        step(before, asked("school", RENAMED, before, STRANGER))
    step(before, asked("school", entry("school", REVOKED, key_entry(KEYS["school"])), before))


def test_an_agreement_takes_everybody_it_names() -> None:
    before, wanted = directory(), agreement(recipients=("police", "council"))
    consents = [asked(name, wanted, before) for name in AGENCIES]
    after = step(before, *consents)
    assert parts(after)[("agreement", "one")] == wanted
    for missing in range(3):
        with pytest.raises(ChangeRefused, match="consent of every agency"):
            step(before, *consents[:missing], *consents[missing + 1 :])
    with pytest.raises(ChangeRefused, match="consent of every agency"):
        step(before, consents[0], consents[0], consents[1])


def test_consents_to_different_words_are_none() -> None:
    before = directory()
    other = agreement(ends=AT + 2 * DAY)
    with pytest.raises(ChangeRefused, match="different things"):
        step(before, asked("school", agreement(), before), asked("police", other, before))
    with pytest.raises(ChangeRefused, match="does not name"):
        step(before, *(asked(name, agreement(), before) for name in AGENCIES))
    with pytest.raises(ChangeRefused, match="agreement it names"):
        step(before, asked("school", agreement(), before, subject="two"))
    with pytest.raises(ChangeRefused, match="canonical"):
        step(before, *(asked(name, agreement(), before, text=canonical(agreement()) + " ") for name in PAIR))
    with pytest.raises(ChangeRefused, match="does not hold an agreement"):
        step(before, asked("school", agreement(), before, text=canonical(RENAMED)))


def test_nobody_is_left_out_of_an_agreement_by_others() -> None:
    before = directory(agreement())
    theirs = agreement(senders=("council",))
    without = [asked(name, theirs, before) for name in ("council", "police")]
    with pytest.raises(ChangeRefused, match="consent of every agency"):
        step(before, *without)
    step(before, *without, asked("school", theirs, before))
    with pytest.raises(ChangeRefused, match="another state"):
        step(before, *(asked(name, theirs, before, base=NOTHING) for name in AGENCIES))


def test_one_of_those_it_names_ends_an_agreement() -> None:
    before = directory(agreement())
    assert step(before, ended("police", agreement())).agreements == ()
    with pytest.raises(ChangeRefused, match="does not name"):
        step(before, ended("council", agreement()))
    with pytest.raises(ChangeRefused, match="another state"):
        step(directory(), ended("police", agreement()))
    with pytest.raises(ChangeRefused, match="different things"):
        step(before, ended("police", agreement()), asked("school", agreement(), before))


def by_hand(before: DirectoryDocument, after: DirectoryDocument) -> list[str]:
    assert granted(before, after, {}) == after
    return explained(before, after, {})


def test_what_governance_does_alone() -> None:
    two = entry("school", key_entry(KEYS["school"]), key_entry(NEXT))
    before = directory(agreement(), two)
    fresh = entry("health", key_entry(STRANGER))
    revoked = two.model_copy(update={"keys": (two.keys[0], key_entry(NEXT, revoked=AT))})
    fewer = two.model_copy(update={"keys": two.keys[1:]})
    assert by_hand(before, directory(agreement(), two, fresh)) == [
        "agency health: new, governance vouches for it"
    ]
    for changed in (revoked, fewer):
        assert by_hand(before, directory(agreement(), changed)) == [
            "agency school: keys removed or revoked by governance"
        ]
    assert by_hand(before, directory(two)) == ["agreement one: removed by governance"]
    gone = before.model_copy(update={"agencies": before.agencies[1:]})
    assert by_hand(before, gone) == ["agency council: removed by governance"]
    assert by_hand(before, before.model_copy(update={"expires": AT})) == []


@pytest.mark.parametrize(
    "changed",
    [
        RENAMED,
        entry("school", accepts=({"type": "referral", "versions": (1,)},)),
        entry("school", key_entry(KEYS["school"]), key_entry(NEXT)),
        entry("school", key_entry(NEXT)),
        entry("school", key_entry(KEYS["school"]), key_entry(NEXT, revoked=AT)),
        entry("school", key_entry(KEYS["school"], AT - 2 * DAY)),
        entry("school", key_entry(KEYS["school"], ends=AT)),
        entry("school", key_entry(KEYS["school"], revoked=AT), key_entry(NEXT)),
        entry("police", key_entry(KEYS["police"])),
        agreement(ends=AT + 2 * DAY),
        agreement("two"),
    ],
)
def test_what_it_does_not(changed: Entry) -> None:
    before = directory(agreement(), entry("police", key_entry(KEYS["police"], revoked=AT)))
    with pytest.raises(ChangeRefused, match="changed by hand"):
        by_hand(before, directory(*before.agreements, *before.agencies, changed))


def test_no_second_one_hides_behind_the_first() -> None:
    before = directory(agreement())
    wider = agreement(recipients=("police", "council"))
    for agreements in ((wider, agreement()), (agreement(), agreement())):
        with pytest.raises(ChangeRefused, match="listed twice"):
            explained(before, before.model_copy(update={"agreements": agreements}), {})


def test_hand_and_proposal_do_not_meet_in_one_entry() -> None:
    two = entry("school", key_entry(KEYS["school"]), key_entry(NEXT, AT + DAY))
    before = directory(two)
    edited = directory(entry("school"))
    renamed = two.model_copy(update={"name": "Renamed"})
    changes = asked_for(before, [asked("school", renamed, before)], NOW)
    with pytest.raises(ChangeRefused, match="by a proposal and by hand"):
        granted(before, edited, changes)
    other = directory(two, entry("health", key_entry(STRANGER)))
    both = granted(before, other, changes)
    assert explained(before, both, changes) == [
        "agency health: new, governance vouches for it",
        "agency school: proposed by school",
    ]


def test_a_proposal_that_is_listed_is_carried_out() -> None:
    before = directory()
    changes = asked_for(before, [asked("school", RENAMED, before)], NOW)
    for after in (before, directory(RENAMED.model_copy(update={"name": "Other"}))):
        with pytest.raises(ChangeRefused, match="not what its proposal says"):
            explained(before, after, changes)


def test_not_more_at_once_than_can_be_looked_at() -> None:
    with pytest.raises(ChangeRefused, match="at once"):
        asked_for(directory(), [b""] * (MOST + 1), NOW)
    with pytest.raises(ChangeRefused, match="not a proposal"):
        asked_for(directory(), [b""], NOW)


def test_the_current_key() -> None:
    old, new = KEYS["school"], NEXT
    of = entry("school", key_entry(old), key_entry(new, AT, ends=AT + DAY))

    def kid(at: int, one: AgencyEntry = of) -> bytes | None:
        found = current_key(one, at)
        return found.kid if found else None

    day = 24 * 3_600_000
    assert [kid(at) for at in (NOW - day - 1, NOW - day, NOW - 1, NOW, NOW + day - 1, NOW + day)] == [
        None,
        *([old.kid] * 2),
        *([new.kid] * 2),
        old.kid,
    ]
    assert kid(NOW, entry("school", key_entry(old), key_entry(new, AT, revoked=AT))) == old.kid
    assert kid(NOW, entry("school", REVOKED)) is None


def test_the_text_of_an_entry_has_what_is_set_and_no_more() -> None:
    """Else a field that a later version adds would make every proposal of before invalid."""
    assert canonical(agreement()) == (
        '{"ends":"2027-01-16T08:00:00Z","id":"one","lawful_bases":["public-task"],"purposes":["prevent"],'
        '"recipients":["police"],"senders":["school"],"starts":"2027-01-15T08:00:00Z","types":["referral"]}'
    )
    assert canonical(agreement(shares=())) != canonical(agreement())
    assert base_of(None) == NOTHING


@given(data=st.data())
def test_however_the_directory_is_changed_only_the_owner_can_have_asked(data: st.DataObject) -> None:
    """Any of the agencies asks for any of the entries, signed with any of the keys."""
    before = directory()
    by, owner, signer = (data.draw(st.sampled_from(AGENCIES)) for _ in range(3))
    wanted = entry(owner).model_copy(update={"name": data.draw(st.text("ab", min_size=1, max_size=5))})
    try:
        proposal = asked(by, wanted, before, KEYS[signer], subject=by)
        after = step(before, proposal)
    except ChangeRefused:
        assert not by == owner == signer
        return
    assert by == owner == signer
    assert {one for one in before.agencies if one.id != owner} <= set(after.agencies)
    assert parse(after.model_dump_json().encode()).document == after


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_changes_nothing(at: int, bit: int) -> None:
    before = directory()
    whole = bytearray(asked("school", RENAMED, before))
    whole[at % len(whole)] ^= 1 << bit
    with pytest.raises(ChangeRefused):
        step(before, bytes(whole))


def test_who_granted_it_then_is_checked_without_a_clock() -> None:
    before = directory()
    old = asked("school", RENAMED, before)
    assert step(before, old, now=None) == step(before, old)
    assert read_proposal(old).proposal.expires == NOW + LONGEST
