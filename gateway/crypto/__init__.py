"""Keys, envelopes, receipts. The only place that imports `cryptography` and `cbor2`.

Only published constructions: COSE (RFC 9052), HPKE (RFC 9180), deterministic CBOR (RFC 8949 section 4.2).
docs/envelope.md and docs/receipts.md specify every byte.
"""
