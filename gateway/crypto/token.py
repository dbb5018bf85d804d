"""Private keys that never leave a PKCS#11 token (OASIS PKCS #11 v3.1): a smart card, an HSM, SoftHSM.

The token makes the keys, signs, and does the Diffie-Hellman step of HPKE-7-KE; the rest is arithmetic on
public values and runs here (dhkem.py). Signatures are Ed25519 or ECDSA with P-256, as the token can.

PKCS#11 knows no time limits: a call takes as long as the vendor's module lets it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import pkcs11
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from pkcs11 import KDF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.exceptions import (
    MechanismInvalid,
    MultipleObjectsReturned,
    MultipleTokensReturned,
    NoSuchKey,
    NoSuchToken,
    PinIncorrect,
    PinLenRange,
    PinLocked,
    PKCS11Error,
    UserAlreadyLoggedIn,
)

from gateway.crypto.dhkem import open_single
from gateway.crypto.keys import OpenFailed, SealingKey, VerifyKey
from gateway.crypto.labels import ED25519, SUITE_ED25519, SUITE_ESP256, SUITE_P256
from gateway.errors import StartupError, Unavailable
from gateway.hardening import Secret

ID_LENGTH: Final = 16
"""Bytes of CKA_ID, random: what the key file knows a key of the token by."""
UNAVAILABLE: Final = "key-token-unavailable"
_P256: Final = bytes.fromhex("06082a8648ce3d030107")
"""CKA_EC_PARAMS: the object identifier of prime256v1 (RFC 5480 section 2.1.1.1)."""
_ED25519: Final = bytes.fromhex("06032b6570")
"""id-Ed25519 (RFC 8410 section 3)."""
_STAYS: Final = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
_POINT: Final = 65
_OCTET_STRING: Final = 0x04
_Result = TypeVar("_Result")


class Token:
    """A token we are logged in to. One session, one call at a time: sessions are not thread-safe."""

    def __init__(self, module: Path, label: str, pin: Secret) -> None:
        """Log in. Raises StartupError when the module, the token or the PIN is not right."""
        self._module, self._label, self._pin = module, label, pin
        self._lock = threading.Lock()
        self._keys: dict[bytes, Any] = {}
        self._session: pkcs11.Session | None = None
        self._locked_out = False
        self._failed: bytes | None = None
        with self._lock:
            self._log_in()

    def make_signing(self, suite: str) -> tuple[bytes, TokenSigningKey]:
        """A new signing key in the token, with the id it has there. Raises StartupError."""
        mechanism, params, kind = {
            SUITE_ED25519: (Mechanism.EC_EDWARDS_KEY_PAIR_GEN, _ED25519, KeyType.EC_EDWARDS),
            SUITE_ESP256: (Mechanism.EC_KEY_PAIR_GEN, _P256, KeyType.EC),
        }[suite]
        key_id, point = self._make(kind, params, mechanism, MechanismFlag.SIGN | MechanismFlag.VERIFY)
        return key_id, self.signing(key_id, VerifyKey.from_public(point))

    def make_opening(self, suite: str) -> tuple[bytes, TokenOpeningKey]:
        """A new opening key in the token, with the id it has there. Raises StartupError."""
        if suite != SUITE_P256:
            raise StartupError(f"a token holds opening keys of {SUITE_P256} only: set node.suites to it")
        key_id, point = self._make(KeyType.EC, _P256, Mechanism.EC_KEY_PAIR_GEN, MechanismFlag.DERIVE)
        return key_id, self.opening(key_id, SealingKey.from_public(suite, point))

    def signing(self, key_id: bytes, public: VerifyKey) -> TokenSigningKey:
        """The signing key with this id. Raises StartupError unless it is there, stays there, and fits."""
        key = TokenSigningKey(self, key_id, public)
        probe = os.urandom(32)
        if not public.verify(self._try(lambda: self._sign(key_id, public.alg, probe), key_id), probe):
            raise StartupError(f"key {key_id.hex()} of token {self._label} is not the one in the key file")
        return key

    def opening(self, key_id: bytes, public: SealingKey) -> TokenOpeningKey:
        """The opening key with this id. Raises StartupError unless it is there, stays there, and fits."""
        key = TokenOpeningKey(self, key_id, public)
        probe, info = os.urandom(32), b""
        enc, sealed = public.seal(probe, info)
        point = public.public_bytes
        try:
            self._try(
                lambda: open_single(lambda to: self._exchange(key_id, to), point, enc, sealed, info), key_id
            )
        except OpenFailed:
            raise StartupError(
                f"key {key_id.hex()} of token {self._label} is not the one in the key file"
            ) from None
        return key

    def destroy(self, key_id: bytes) -> None:
        """Destroy a key for good; one that is not there is destroyed already. Raises StartupError."""

        def job(session: pkcs11.Session) -> None:
            self._keys.pop(key_id, None)
            for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
                for found in list(session.get_objects({Attribute.CLASS: kind, Attribute.ID: key_id})):
                    found.destroy()

        self._try(lambda: self._call(job), key_id)

    @property
    def usable(self) -> bool:
        """Whether the last call succeeded, for /readyz."""
        return self._failed is None

    def check(self) -> None:
        """After a failure, see whether that key can be had again."""
        failed = self._failed
        if failed is not None:
            with contextlib.suppress(Unavailable):
                self._again(failed, lambda: self._call(lambda session: self._key(session, failed)))

    def sign(self, key_id: bytes, alg: int, data: bytes) -> bytes:
        """64 bytes. Raises Unavailable."""
        return self._again(key_id, lambda: self._sign(key_id, alg, data))

    def exchange(self, key_id: bytes, point: bytes) -> bytes:
        """ECDH with a valid point: the x coordinate. Raises Unavailable."""
        return self._again(key_id, lambda: self._exchange(key_id, point))

    def _sign(self, key_id: bytes, alg: int, data: bytes) -> bytes:
        if alg == ED25519:
            return self._call(lambda s: bytes(self._key(s, key_id).sign(data, mechanism=Mechanism.EDDSA)))
        digest = Hash(SHA256())
        digest.update(data)
        hashed = digest.finalize()  # CKM_ECDSA: every token has it, and it returns r and s as COSE has them
        return self._call(lambda s: bytes(self._key(s, key_id).sign(hashed, mechanism=Mechanism.ECDSA)))

    def _exchange(self, key_id: bytes, point: bytes) -> bytes:
        def job(session: pkcs11.Session) -> bytes:
            shared = self._key(session, key_id).derive_key(
                KeyType.GENERIC_SECRET,
                256,
                mechanism_param=(KDF.NULL, None, point),
                store=False,
                template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
            )
            try:
                return bytes(shared[Attribute.VALUE])
            finally:
                shared.destroy()

        return self._call(job)

    def _make(
        self, kind: KeyType, params: bytes, mechanism: Mechanism, uses: MechanismFlag
    ) -> tuple[bytes, bytes]:
        """Make a pair: its id and its public point."""
        key_id = os.urandom(ID_LENGTH)

        def job(session: pkcs11.Session) -> bytes:
            curve = session.create_domain_parameters(kind, {Attribute.EC_PARAMS: params}, local=True)
            public, _ = curve.generate_keypair(
                mechanism=mechanism,
                id=key_id,
                label="referral-gateway",
                store=True,
                capabilities=uses,
                private_template=_STAYS,
            )
            return _plain_point(bytes(public[Attribute.EC_POINT]))

        return key_id, self._try(lambda: self._call(job), key_id)

    def _key(self, session: pkcs11.Session, key_id: bytes) -> Any:
        """The handle, looked for once a session."""
        found: Any = self._keys.get(key_id)
        if found is None:
            found = session.get_key(object_class=ObjectClass.PRIVATE_KEY, id=key_id)
            if found[Attribute.EXTRACTABLE] or not found[Attribute.SENSITIVE]:
                raise StartupError(f"key {key_id.hex()} can leave token {self._label}: make a new one there")
            self._keys[key_id] = found
        return found

    def _try(self, what: Callable[[], _Result], key_id: bytes) -> _Result:
        """For whoever waits at a terminal. Raises StartupError."""
        try:
            return what()
        except (NoSuchKey, MultipleObjectsReturned, AttributeError):  # AttributeError: not for this use
            raise StartupError(
                f"token {self._label} has no key {key_id.hex()}: is it another token?"
            ) from None
        except MechanismInvalid:
            raise StartupError(f"token {self._label} cannot do this: choose another suite") from None
        except PKCS11Error as error:
            raise StartupError(f"token {self._label} failed: {_name(error)}") from None

    def _again(self, key_id: bytes, what: Callable[[], _Result]) -> _Result:
        """A second time with a new session: after a token was reset, handles are void. Raises Unavailable."""
        for _ in range(2):
            try:
                result = what()
            except (PKCS11Error, StartupError):
                self._failed = key_id
            else:
                self._failed = None
                return result
        raise Unavailable(UNAVAILABLE)

    def _call(self, job: Callable[[pkcs11.Session], _Result]) -> _Result:
        with self._lock:
            session = self._session or self._log_in()
            try:
                return job(session)
            except PKCS11Error:
                self._forget()
                raise

    def _log_in(self) -> pkcs11.Session:
        """Raises StartupError. After a refused PIN never again: three wrong ones may lock the token."""
        if self._locked_out:
            raise StartupError(f"token {self._label} refused the PIN before")
        try:
            self._session = self._open(fresh=False)
        except (PKCS11Error, RuntimeError):
            self._session = self._open(fresh=True)
        return self._session

    def _open(self, *, fresh: bool) -> pkcs11.Session:
        """`fresh`: start the module anew, since many see only the tokens that were there when it started."""
        try:
            library = pkcs11.lib(str(self._module))
            if fresh:
                library.reinitialize()
            token = library.get_token(token_label=self._label)
            try:
                return token.open(rw=True, user_pin=self._pin.decode())
            except UserAlreadyLoggedIn:  # a login is the whole process's
                return token.open(rw=True)
        except (PinIncorrect, PinLocked, PinLenRange, UnicodeDecodeError):
            self._locked_out = True
            raise StartupError(f"token {self._label} refuses the PIN in token.pin_file") from None
        except MultipleTokensReturned:
            raise StartupError(f"several tokens are named {self._label}: names must differ") from None
        except (PKCS11Error, RuntimeError) as error:
            if not fresh:
                raise
            if isinstance(error, NoSuchToken):
                text = f"there is no token {self._label}: is it plugged in, and its name right?"
            else:
                text = f"cannot use the PKCS#11 module {self._module}: {_name(error)}"
            raise StartupError(text) from None

    def close(self) -> None:
        """Log out; the next call would log in again."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        self._keys.clear()
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(PKCS11Error):
                session.close()

    def __repr__(self) -> str:
        return f"Token({self._label})"


class TokenSigningKey:
    """A signing key in a token: a Signer."""

    def __init__(self, token: Token, key_id: bytes, public: VerifyKey) -> None:
        self._token, self.key_id, self.public = token, key_id, public
        self.kid, self.alg = public.kid, public.alg

    def sign(self, data: bytes) -> bytes:
        """64 bytes. Raises Unavailable."""
        return self._token.sign(self.key_id, self.alg, data)

    def __repr__(self) -> str:
        return f"TokenSigningKey(kid={self.kid.hex()[:16]})"


class TokenOpeningKey:
    """An HPKE-7-KE key in a token: an Opener."""

    def __init__(self, token: Token, key_id: bytes, public: SealingKey) -> None:
        self._token, self.key_id, self.public = token, key_id, public
        self.kid, self.suite = public.kid, public.suite

    def open(self, enc: bytes, sealed: bytes, info: bytes) -> bytes:
        """The content key. Raises OpenFailed, or Unavailable when the token is away."""
        point = self.public.public_bytes
        return open_single(lambda to: self._token.exchange(self.key_id, to), point, enc, sealed, info)

    def __repr__(self) -> str:
        return f"TokenOpeningKey({self.suite}, kid={self.kid.hex()[:16]})"


def _plain_point(value: bytes) -> bytes:
    """CKA_EC_POINT without the DER OCTET STRING that most tokens wrap it in."""
    if len(value) in {_POINT + 2, 32 + 2} and value[0] == _OCTET_STRING and value[1] == len(value) - 2:
        return value[2:]
    return value


def _name(error: Exception) -> str:
    """Which error it was: the module's own words may hold anything."""
    return type(error).__name__
