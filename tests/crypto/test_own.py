"""What a node keeps for itself opens for itself alone."""

from __future__ import annotations

import pytest

from gateway.crypto.own import open_own, seal_own

SECRET = bytes(range(32))


def test_it_opens_under_the_same_secret_and_name_only() -> None:
    sealed = seal_own(SECRET, "m1", b"canary")
    assert open_own(SECRET, "m1", sealed) == b"canary"
    assert b"canary" not in sealed
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for secret, name, data in [
        (bytes(32), "m1", sealed),
        (SECRET, "m2", sealed),
        (SECRET, "m1", altered),
        (SECRET, "m1", b""),
    ]:
        with pytest.raises(ValueError):
            open_own(secret, name, data)


def test_no_two_seals_are_alike() -> None:
    assert seal_own(SECRET, "m1", b"same")[16:] != seal_own(SECRET, "m1", b"same")[16:]
