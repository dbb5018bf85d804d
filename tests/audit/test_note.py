"""Signed notes: a published one verifies, ours are of the same form, what was altered is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.crypto.audit_key import AuditKey
from gateway.crypto.keys import SigningKey, VerifyKey
from gateway.crypto.note import (
    BAD_SIGNATURE,
    NOT_SIGNED,
    Note,
    NoteInvalid,
    NoteKeys,
    read_note,
    sign_note,
    verify_any,
)

SIGNING, AUDIT = SigningKey.from_seed(b"\x01" * 32), AuditKey(b"\x02" * 32)
KEYS = NoteKeys(SIGNING.public, AUDIT.public)
ORIGIN = "referral-gateway/audit/1"
NOTE = sign_note(ORIGIN, 7, bytes(32), [(SIGNING, AUDIT)])


def test_the_note_of_golang_org_x_mod_sumdb_verifies() -> None:
    # The example of that package; its verifier is PeterNeumann+c74f20a3+ and these bytes.
    public = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    signature = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    name = "PeterNeumann"
    note = Note(name, 0, b"", text, ((name, signature[:4], signature[4:]),))
    note.verify(NoteKeys(VerifyKey.from_public(public[1:])))
    assert public[0] == 1
    assert signature[:4].hex() == "c74f20a3"


def test_the_ecdsa_note_of_transparency_dev_verifies() -> None:
    # The example of github.com/transparency-dev/formats/note, made by Sigstore's log; the verifier is
    # rekor.sigstore.dev+c0d23d6a+ and these bytes: signature type 0x02, then a SubjectPublicKeyInfo.
    spki = base64.b64decode(
        "AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj"
        "//QP22Ni4Qt9DPfkWLc="
    )
    signature = base64.b64decode(
        "wNI9ajBEAiARInWIWyCdyG27CO6LPnPekyw20qO0YJfoaPaowGp/XgIgc+qEHS3+GKVClgqq20uDLet7MCoTURUCRdxwWBHHufk="
    )
    name, text = "rekor.sigstore.dev", "Rekor\n798034\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=\n"
    key = VerifyKey.from_public(spki[-65:])
    Note(name, 0, b"", text, ((name, signature[:4], signature[4:]),)).verify(NoteKeys(key))
    assert (spki[:1], key.spki) == (b"\x02", spki[1:])
    with pytest.raises(NoteInvalid, match=BAD_SIGNATURE):
        Note(name, 0, b"", text.upper(), ((name, signature[:4], signature[4:]),)).verify(NoteKeys(key))


def test_a_node_that_signs_with_p256_signs_checkpoints_with_it() -> None:
    signing = SigningKey.from_seed(b"\x01" * 32, "ESP256")
    note = sign_note(ORIGIN, 7, bytes(32), [(signing, AUDIT), (SIGNING, AUDIT)])
    for public in (signing.public, SIGNING.public):
        read_note(note).verify(NoteKeys(public, AUDIT.public))
    line = note.splitlines()[4]
    written = base64.b64decode(line.split(" ")[2])
    for wrong in (written[:4], written[:4] + signing.sign(note.encode()), written + b"\0", written[:-1]):
        with pytest.raises(NoteInvalid, match=BAD_SIGNATURE):
            read_note(note.replace(line, f"— {ORIGIN} {base64.b64encode(wrong).decode()}")).verify(
                NoteKeys(signing.public, AUDIT.public)
            )


def test_a_checkpoint_is_three_lines_and_two_signatures() -> None:
    text, _, signatures = NOTE.partition("\n\n")
    assert text == f"{ORIGIN}\n7\n{base64.b64encode(bytes(32)).decode()}"
    lines = signatures.splitlines()
    assert [line.split(" ")[:2] for line in lines] == [["—", ORIGIN]] * 2
    assert [len(base64.b64decode(line.split(" ")[2])) for line in lines] == [4 + 64, 4 + 3309]
    note = read_note(NOTE)
    assert (note.origin, note.size, note.root) == (ORIGIN, 7, bytes(32))
    note.verify(KEYS)


def test_both_signatures_are_needed() -> None:
    head, one, two = NOTE.rpartition("\n\n")[0], *NOTE.splitlines()[-2:]
    for kept in (one, two):
        with pytest.raises(NoteInvalid, match=NOT_SIGNED):
            read_note(f"{head}\n\n{kept}\n").verify(KEYS)
    read_note(f"{head}\n\n{one}\n").verify(NoteKeys(SIGNING.public))  # a directory without an audit key


def test_another_size_or_root_or_key_does_not_verify() -> None:
    root = base64.b64encode(b"\x01" * 32).decode()
    for changed in (NOTE.replace("\n7\n", "\n8\n"), NOTE.replace(base64.b64encode(bytes(32)).decode(), root)):
        with pytest.raises(NoteInvalid, match=BAD_SIGNATURE):
            read_note(changed).verify(KEYS)
    with pytest.raises(NoteInvalid, match=NOT_SIGNED):
        read_note(NOTE).verify(NoteKeys(SIGNING.public, AuditKey(b"\x03" * 32).public))


def test_the_audit_key_comes_of_the_agencys_secret_alone() -> None:
    assert AuditKey(b"\x02" * 32).public.public_bytes == AUDIT.public.public_bytes
    assert AuditKey(b"\x03" * 32).public.public_bytes != AUDIT.public.public_bytes
    assert "02" not in repr(AUDIT)


@given(st.text(max_size=300))
def test_random_text_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteInvalid):
        read_note(text)


@settings(max_examples=200)
@given(st.integers(0, len(NOTE) - 1), st.characters(max_codepoint=0x2FF))
def test_no_changed_character_passes(at: int, character: str) -> None:
    changed = NOTE[:at] + character + NOTE[at + 1 :]
    if changed == NOTE:
        return
    with pytest.raises(NoteInvalid):
        read_note(changed).verify(KEYS)


def test_of_many_signatures_those_of_one_agency_stand_alone() -> None:
    """C2SP signed-note asks for 16 signatures at least; a node may serve far more agencies."""
    signers = [(SigningKey.from_seed(bytes([n]) * 32), AuditKey(bytes([n]) * 32)) for n in range(100)]
    note = read_note(sign_note(ORIGIN, 7, bytes(32), signers))
    pairs = [NoteKeys(signing.public, own.public) for signing, own in signers]
    alone = read_note(note.only([pairs[42]]))
    assert len(alone.signatures) == 2
    alone.verify(pairs[42])
    with pytest.raises(NoteInvalid):
        alone.verify(pairs[43])
    assert verify_any(note, pairs[42:]) == pairs[42]
