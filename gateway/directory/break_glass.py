"""The section `break_glass` of a sharing agreement, as a directory document has it (docs/break-glass.md)."""

from __future__ import annotations

import base64
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from gateway.crypto.keys import VerifyKey
from gateway.protocol.break_glass import LEAST, MAX_ROLES, BreakGlass


class RoleEntry(BaseModel):
    """A role that may approve an emergency opening, with the Ed25519 key of whoever holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    role: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    public: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
    """Base64url without padding."""

    @property
    def public_bytes(self) -> bytes:
        """The raw public key."""
        return base64.urlsafe_b64decode(self.public + "=")


class BreakGlassEntry(BaseModel):
    """Who may open a message in an emergency: so many of these roles together."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    threshold: Annotated[int, Field(ge=LEAST, le=MAX_ROLES)]
    roles: Annotated[tuple[RoleEntry, ...], Field(max_length=MAX_ROLES)]

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        keys = {one.public_bytes for one in self.roles}
        if not len({one.role for one in self.roles}) == len(keys) == len(self.roles):
            raise PydanticCustomError("roles", "each role and each key stands once")
        if self.threshold > len(self.roles):
            raise PydanticCustomError("threshold", "not more than there are roles")
        try:
            for key in keys:
                VerifyKey.from_public(key)
        except ValueError:
            raise PydanticCustomError("roles", "an Ed25519 public key each") from None
        return self

    @classmethod
    def of(cls, rule: BreakGlass) -> dict[str, object]:
        """The same as the document has it, not validated."""
        roles = [
            {"role": role, "public": base64.urlsafe_b64encode(public).rstrip(b"=").decode()}
            for role, public in rule.roles
        ]
        return {"threshold": rule.threshold, "roles": roles}

    def rule(self) -> BreakGlass:
        """The same as the policy knows it."""
        return BreakGlass(self.threshold, tuple((one.role, one.public_bytes) for one in self.roles))
