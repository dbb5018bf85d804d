"""Which suites a message may be sealed with: their order, and how far down it an agreement lets one go."""

from __future__ import annotations

from typing import Final

STRONGEST_FIRST: Final = ("HPKE-9-KE", "HPKE-7-KE")
"""The hybrid one stays closed if either ML-KEM or X25519 falls; P-256 alone falls to a quantum computer."""


def at_least(weakest: str | None) -> tuple[str, ...]:
    """The suites as strong as this one, strongest first; None: all. Raises ValueError for an unknown one."""
    return STRONGEST_FIRST if weakest is None else STRONGEST_FIRST[: STRONGEST_FIRST.index(weakest) + 1]
