"""People's keys as cheap as they can be: what scrypt costs is not what these tests are about."""

from __future__ import annotations

import pytest

from gateway.crypto import governance


@pytest.fixture(autouse=True)
def cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of a second for each key that is made or read, less."""
    monkeypatch.setattr(governance, "_N", 2)
    monkeypatch.setattr(governance, "_P", 1)
