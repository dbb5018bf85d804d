"""Where a private key is held: in the key file itself, or in a PKCS#11 token of which the file keeps the id.

A holder makes keys and finds them again from their rows in the key file. To a node every key is a Signer or
an Opener, wherever it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from gateway.crypto.key_files import decode, encode
from gateway.crypto.keys import Opener, OpeningKey, SealingKey, Signer, SigningKey, VerifyKey
from gateway.crypto.labels import SUITE_ED25519

if TYPE_CHECKING:
    from gateway.crypto.token import Token

Row = Mapping[str, Any]
"""What the key file says of one key, besides its dates."""
IN_TOKEN = "token"  # noqa: S105 - a field's name
"""The field that says that a key is in a token."""


class KeyHolder(Protocol):
    """Makes private keys, and finds them again."""

    def make_signing(self, suite: str) -> tuple[Row, Signer]:
        """A new signing key. Raises StartupError."""
        ...

    def make_opening(self, suite: str) -> tuple[Row, Opener]:
        """A new opening key. Raises StartupError."""
        ...

    def signer(self, row: Row) -> Signer:
        """A key made before. Raises StartupError; KeyError, TypeError or ValueError for a damaged row."""
        ...

    def opener(self, row: Row) -> Opener:
        """A key made before. Raises as `signer` does."""
        ...

    def destroy(self, row: Row) -> None:
        """Destroy what is held outside the row. Raises StartupError."""
        ...


class FileHolder:
    """The secret stands in the row."""

    def make_signing(self, suite: str) -> tuple[Row, Signer]:
        """See KeyHolder."""
        key = SigningKey.generate(suite)
        return {"suite": suite, "secret": encode(key.seed)}, key

    def make_opening(self, suite: str) -> tuple[Row, Opener]:
        """See KeyHolder."""
        key = OpeningKey.generate(suite)
        return {"suite": key.suite, "secret": encode(key.secret)}, key

    def signer(self, row: Row) -> Signer:
        """See KeyHolder."""
        return SigningKey.from_seed(decode(row["secret"]), row.get("suite", SUITE_ED25519))

    def opener(self, row: Row) -> Opener:
        """See KeyHolder."""
        return OpeningKey(row["suite"], decode(row["secret"]))

    def destroy(self, row: Row) -> None:
        """Nothing: the secret goes with the row."""


class TokenHolder:
    """The row names the key in the token, and holds its public half."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def make_signing(self, suite: str) -> tuple[Row, Signer]:
        """See KeyHolder."""
        key_id, key = self._token.make_signing(suite)
        return _row(key_id, key.public), key

    def make_opening(self, suite: str) -> tuple[Row, Opener]:
        """See KeyHolder."""
        key_id, key = self._token.make_opening(suite)
        return _row(key_id, key.public), key

    def signer(self, row: Row) -> Signer:
        """See KeyHolder."""
        return self._token.signing(bytes.fromhex(row[IN_TOKEN]), VerifyKey.from_public(decode(row["public"])))

    def opener(self, row: Row) -> Opener:
        """See KeyHolder."""
        public = SealingKey.from_public(row["suite"], decode(row["public"]))
        return self._token.opening(bytes.fromhex(row[IN_TOKEN]), public)

    def destroy(self, row: Row) -> None:
        """See KeyHolder."""
        self._token.destroy(bytes.fromhex(row[IN_TOKEN]))


def _row(key_id: bytes, public: VerifyKey | SealingKey) -> Row:
    return {"suite": public.suite, IN_TOKEN: key_id.hex(), "public": encode(public.public_bytes)}
