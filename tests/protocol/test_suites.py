"""The order of the suites is one, and the same wherever it is asked for."""

from __future__ import annotations

import pytest

from gateway.crypto.labels import DEFAULT_SUITE, SUITES
from gateway.protocol.suites import STRONGEST_FIRST, at_least


def test_every_suite_has_its_place_and_the_default_is_the_strongest() -> None:
    assert set(STRONGEST_FIRST) == set(SUITES)
    assert STRONGEST_FIRST[0] == DEFAULT_SUITE


def test_a_floor_leaves_what_is_as_strong() -> None:
    assert at_least(None) == at_least("HPKE-7-KE") == ("HPKE-9-KE", "HPKE-7-KE")
    assert at_least("HPKE-9-KE") == ("HPKE-9-KE",)
    with pytest.raises(ValueError):
        at_least("HPKE-0-KE")
