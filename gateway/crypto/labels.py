"""Every algorithm identifier, COSE label and domain-separation string, with where it comes from."""

from __future__ import annotations

from typing import Final

# --- COSE tags, RFC 9052 section 2 ---
TAG_ENCRYPT0: Final = 16
TAG_SIGN1: Final = 18
TAG_ENCRYPT: Final = 96

# --- COSE header labels, RFC 9052 section 3.1 ---
ALG: Final = 1
KID: Final = 4
IV: Final = 5
EK: Final = -4
"""The encapsulated key: draft-ietf-cose-hpke, IANA considerations (assumed value)."""

ROUTING: Final = "rg"
"""Our own label in the outer protected header: [version, envelope id, recipient, expires]."""

# --- COSE algorithms ---
A256GCM: Final = 3
"""AES-GCM with a 256-bit key: RFC 9053 section 4.1."""
ED25519: Final = -19
"""Ed25519, fully specified: RFC 9864 section 2.2. Not the older EdDSA (-8), which RFC 9864 deprecates because
it leaves the curve to the key: here one number means one algorithm, and a reader has nothing to choose."""
ESP256: Final = -9
"""ECDSA with P-256 and SHA-256, fully specified: RFC 9864 section 2.1. Not the older ES256 (-7), for the same
reason. Its signatures are r and s, 32 bytes each (RFC 9053 section 2.1)."""
HPKE_7_KE: Final = 53
"""DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM: draft-ietf-cose-hpke (assumed value)."""
HPKE_9_KE: Final = 57
"""MLKEM768-X25519, SHAKE256, AES-256-GCM: draft-ietf-cose-hpke-pq-pqt (assumed value, still provisional)."""

SUITE_HYBRID: Final = "HPKE-9-KE"
SUITE_P256: Final = "HPKE-7-KE"
DEFAULT_SUITE: Final = SUITE_HYBRID
"""Hybrid, so that what is recorded today stays closed if either ML-KEM or X25519 falls."""
SUITES: Final = {SUITE_HYBRID: HPKE_9_KE, SUITE_P256: HPKE_7_KE}

SUITE_ED25519: Final = "Ed25519"
SUITE_ESP256: Final = "ESP256"
SIGNING_SUITES: Final = {SUITE_ED25519: ED25519, SUITE_ESP256: ESP256}
"""What messages and receipts are signed with: each name, as the directory writes it, and its algorithm."""

# --- COSE_Key parameters: RFC 9052 section 7.1, RFC 9053 section 7; kty 7 from draft-ietf-cose-dilithium ---
KTY: Final = 1
KEY_ALG: Final = 3
OKP: Final = 1
EC2: Final = 2
AKP: Final = 7
CRV_ED25519: Final = 6
CRV_P256: Final = 1

# --- domain separation ---
HPKE_RECIPIENT: Final = "HPKE Recipient"
"""First item of Recipient_structure, which becomes HPKE's info: draft-ietf-cose-hpke section 3.3.1."""
ENVELOPE_CONTEXT: Final = b"referral-gateway envelope v1"
"""external_aad of the signature inside an envelope. A receipt's differs, so that neither can stand in
for the other."""
RECEIPT_CONTEXT: Final = b"referral-gateway receipt v1"
"""external_aad of a receipt's signature."""
CHUNK_CONTEXT: Final = b"referral-gateway chunk v1"
"""Begins the external_aad of a sealed chunk."""
OWN_CONTEXT: Final = b"referral-gateway own v1"
"""Begins the external_aad of what a node keeps for itself, and the derivation of its key."""
KEY_FILE_CONTEXT: Final = b"referral-gateway key file v1"
"""Begins the external_aad of a protected key file."""

APPROVAL_CONTEXT: Final = b"referral-gateway approval v1"
"""external_aad of a person's approval of a grave action."""
PROPOSAL_CONTEXT: Final = b"referral-gateway proposal v1"
"""external_aad of an agency's proposal to change the directory."""
CONFORMANCE_CONTEXT: Final = b"referral-gateway conformance report v1"
"""external_aad of a conformance report's signature."""
AUDIT_KEY_CONTEXT: Final = b"referral-gateway audit key v1"
"""HKDF's info when the ML-DSA key of the audit log is derived from an agency's secret."""

# --- signed notes: https://c2sp.org/signed-note ---
NOTE_ED25519: Final = b"\x01"
"""Signature type of Ed25519."""
# ECDSA has signature type 0x02, but its key id is made of the key alone: gateway/crypto/note.py.
NOTE_ML_DSA_65: Final = b"\xffreferral-gateway ML-DSA-65"
"""Signature type of ML-DSA-65 (FIPS 204) over the note's text, empty context: none is assigned, so 0xff and a
longer name, as the specification recommends."""
SUITE_ML_DSA_65: Final = "ML-DSA-65"
"""As the directory calls it."""

ENVELOPE_VERSION: Final = 1
RECEIPT_VERSION: Final = 1
CONTENT_VERSION: Final = 1
APPROVAL_VERSION: Final = 1
PROPOSAL_VERSION: Final = 1

MAX_ENVELOPE: Final = 16 * 1024 * 1024
"""Bytes of a sealed envelope: far below AES-GCM's 64 GiB for one nonce, and what a broker carries."""
MAX_RECEIPT: Final = 4096
"""Bytes of a signed receipt."""
