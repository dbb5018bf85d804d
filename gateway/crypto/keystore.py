"""Where private keys live: one file an agency, readable by its owner alone, never printed.

With a passphrase each file is sealed under it as well (protected.py). A file that others can read, that is
not whole, or not sealed where it should be, is refused rather than used.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.crypto import key_document, key_rows, protected
from gateway.crypto.holders import IN_TOKEN, FileHolder, KeyHolder, Row, TokenHolder
from gateway.crypto.key_document import AgencyKeys
from gateway.crypto.key_files import replace_and_wipe, sweep, sync_folder, write_private
from gateway.crypto.key_rows import KeyRow
from gateway.crypto.keys import OpenFailed
from gateway.crypto.labels import DEFAULT_SUITE, SUITE_ED25519
from gateway.errors import StartupError
from gateway.hardening import Secret
from gateway.messages import AGENCY_ID, AgencyId
from gateway.protocol.keys import OVERLAP
from gateway.protocol.suites import STRONGEST_FIRST

if TYPE_CHECKING:
    from gateway.crypto.token import Token

LARGEST = 16 * 1024 * 1024
"""Bytes of a key file: a hybrid key's tombstone has two thousand, and keys may change every day for years."""
_DAMAGED = "are damaged: restore the file from a backup"


@dataclass(frozen=True, slots=True)
class Kinds:
    """What new keys are for: the signing suite, and the suites of opening keys, one key each."""

    signing: str = SUITE_ED25519
    opening: tuple[str, ...] = (DEFAULT_SUITE,)


class FileKeyStore:
    """Files of mode 0600 in one folder; with a passphrase sealed under it, and only so.

    The keys they tell of may be in a token.
    """

    def __init__(
        self,
        directory: Path,
        passphrase: Secret | None = None,
        new: Kinds | None = None,
        open_token: Callable[[], Token] | None = None,
    ) -> None:
        """With `open_token` new keys are made in that token. Raises StartupError for a short passphrase."""
        self._directory = directory
        self._new = new or Kinds()
        self._passphrase = None if passphrase is None else protected.check_passphrase(passphrase)
        self._open_token = open_token
        self._token: Token | None = None
        self._in_file = FileHolder()

    def create(self, agency: AgencyId, now: int) -> AgencyKeys:
        """Make an agency's keys. Raises StartupError rather than overwrite any."""
        if not AGENCY_ID.fullmatch(agency):
            raise StartupError("an agency identifier is lower-case letters, digits and hyphens")
        with self._made(agency) as (signing, opening):
            # A link is atomic and fails if the name is taken, where a rename would overwrite.
            self._write(agency, key_document.new(agency, now, signing, opening), os.link)
        return self.load(agency)

    def protect(self, agency: AgencyId) -> bool:
        """Seal a plain file under the passphrase, in place; False when it is sealed. Raises StartupError.

        A disk may keep what the old file held all the same: see docs/keys.md section 2.
        """
        if self._passphrase is None:
            raise StartupError("no passphrase: name a file that holds one in node.keys_passphrase_file")
        with self._changing(agency):
            document = self._file(agency)
            if protected.is_protected(document):
                self.load(agency)  # the passphrase must be the right one
                return False
            self._agency_keys(agency, document)
            self._write(agency, document, replace_and_wipe)
        return True

    def is_protected(self, agency: AgencyId) -> bool:
        """Whether an agency's file is sealed under a passphrase. Raises StartupError."""
        return protected.is_protected(self._file(agency))

    def _write(
        self, agency: AgencyId, document: Mapping[str, Any], place: Callable[[Path, Path], None]
    ) -> None:
        """Put a file in its place, durably, whole or not at all. Raises StartupError."""
        path = self._path(agency)
        if self._passphrase is not None:
            document = protected.protect(document, self._passphrase, agency)
        text = json.dumps(document, indent=2) + "\n"
        if len(text) > LARGEST:  # it is ASCII
            raise StartupError(f"{path} would be larger than any key file: nothing is changed")
        # Random, so that what a crash left behind is never in the way; no `.json`, so that it is never read.
        temporary = path.with_suffix(f".{os.urandom(8).hex()}.new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(temporary, text)
            place(temporary, path)
            sync_folder(self._directory)
        except FileExistsError:
            raise StartupError(
                f"{path} exists already and keys are never overwritten: to start anew, move it away first"
            ) from None
        except OSError as error:
            raise StartupError(
                f"cannot write keys to {path} ({error.strerror}): check the folder's owner and free space"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, agency: AgencyId) -> AgencyKeys:
        """The keys of an agency. Raises StartupError."""
        return self._agency_keys(agency, self._open(agency, self._file(agency)))

    def _agency_keys(self, agency: AgencyId, document: Any) -> AgencyKeys:
        try:
            return key_document.read(document, agency, self._holder_of)
        except (KeyError, IndexError, TypeError, ValueError):
            raise StartupError(f"the keys {self._path(agency)} {_DAMAGED}") from None

    def rotate(self, agency: AgencyId, now: int, starts: int) -> AgencyKeys:
        """Add a signing and opening keys, in use from `starts` on; older ones stay. Raises StartupError."""
        with self._changing(agency):
            document = self._open(agency, self._file(agency))
            before = self._agency_keys(agency, document)
            if any(one.starts > now for one in before.dates.values()):
                raise StartupError(f"keys of {agency} are pending already: rotate again once they are active")
            with self._made(agency) as (signing, opening):
                changed = key_document.add(document, signing, opening, now=now, starts=starts)
                self._write(agency, changed, replace_and_wipe)
        return self.load(agency)

    def destroy(self, agency: AgencyId, kid: bytes, now: int) -> AgencyKeys:
        """Destroy a key's secret for good; a tombstone stays. Repeated, it finishes what stopped half way.

        Whether the key may go is for the caller to know. Raises StartupError.
        """
        with self._changing(agency):
            document = self._open(agency, self._file(agency))
            keys = self._agency_keys(agency, document)
            if kid in keys.dates:
                document = key_document.destroy(document, keys, kid, now)
                if not document["signing"] or not document["opening"]:
                    raise StartupError(
                        f"{agency} has no other key of this use: run `gateway keys rotate` first"
                    )
                self._write(agency, document, replace_and_wipe)
            # The file first: with a key gone from the token, a file that still names it would not load.
            # Earlier ones too: their destruction may have died before it came to this.
            for destroyed, row in key_document.tombstones(document):
                if destroyed == kid or self._open_token is not None:
                    self._holder_of(row).destroy(row)
        return self.load(agency)

    def _sweep(self, agency: AgencyId) -> None:
        """Files that a crash left half made hold the same secrets as the one in use."""
        try:
            sweep(self._directory, agency)
        except OSError as error:
            raise StartupError(
                f"cannot remove what a crash left in {self._directory}: {error.strerror}"
            ) from None

    def export(self, agency: AgencyId, passphrase: Secret) -> dict[str, Any]:
        """The document of a key file with the same keys under another passphrase. Raises StartupError."""
        document = self._open(agency, self._file(agency))
        self._agency_keys(agency, document)
        if key_document.in_token(document):
            raise StartupError(
                f"keys of {agency} are in a token, which lets none out: copy the token instead"
            )
        return protected.protect(document, passphrase, agency)

    @property
    def usable(self) -> bool:
        """False while the token that holds keys does not answer."""
        return self._token is None or self._token.usable

    def check(self) -> None:
        """See whether a token that did not answer does now."""
        if self._token is not None:
            self._token.check()

    @contextmanager
    def _made(self, agency: AgencyId) -> Iterator[tuple[Row, list[Row]]]:
        """Rows of new keys; of the opening ones the strongest comes last. If it fails they go again."""
        holder: KeyHolder = TokenHolder(self._opened_token()) if self._open_token else self._in_file
        rows: list[Row] = []
        try:
            rows.append(holder.make_signing(self._new.signing)[0])
            suites = [suite for suite in reversed(STRONGEST_FIRST) if suite in self._new.opening]
            rows += [holder.make_opening(suite)[0] for suite in suites]
            yield rows[0], rows[1:]
        except BaseException:
            for row in rows:
                if not self._may_name(agency, row):
                    holder.destroy(row)
            raise

    def _may_name(self, agency: AgencyId, row: Row) -> bool:
        """Whether the file counts on this key: it may be in its place though a step after that failed."""
        if not self._path(agency).exists():
            return False
        try:
            return row in key_document.made(self._open(agency, self._file(agency)))
        except (StartupError, KeyError, TypeError):
            return True  # a key too many does no harm

    def _holder_of(self, row: Row) -> KeyHolder:
        return TokenHolder(self._opened_token()) if IN_TOKEN in row else self._in_file

    def _opened_token(self) -> Token:
        if self._open_token is None:
            raise StartupError("these keys are in a token: name it in the section [token] of the settings")
        if self._token is None:
            self._token = self._open_token()
        return self._token

    @contextmanager
    def _changing(self, agency: AgencyId) -> Iterator[None]:
        """Alone while a file is changed, so that no change undoes another. Raises StartupError."""
        path = self._path(agency)
        try:
            status = path.lstat()
            folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StartupError(f"cannot change the keys {path}: {error.strerror}") from None
        try:
            # The new file will be ours: one that the node cannot read would leave it without the new keys.
            if status.st_uid != os.geteuid():
                raise StartupError(f"the keys {path} are another user's: run as the user who owns the file")
            # The link would be replaced, and what it leads to kept, with keys that were to be destroyed.
            if stat.S_ISLNK(status.st_mode):
                raise StartupError(f"the keys {path} are a link, which cannot be changed: put the file there")
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._sweep(agency)
            yield
        finally:
            os.close(folder)

    def stamp(self, agency: AgencyId) -> tuple[int, int] | None:
        """Changes whenever the agency's file does; None while it cannot be looked at."""
        try:
            status = self._path(agency).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _open(self, agency: AgencyId, document: Any) -> Any:
        """The document with the keys, out of the file's. Raises StartupError."""
        path = self._path(agency)
        if not protected.is_protected(document):
            if self._passphrase is not None:
                raise StartupError(f"the keys {path} are not protected: run `gateway keys protect`")
            return document
        if self._passphrase is None:
            raise StartupError(
                f"the keys {path} are protected: name their passphrase in node.keys_passphrase_file"
            )
        try:
            return protected.reveal(document, self._passphrase, agency)
        except OpenFailed:
            raise StartupError(
                f"the keys {path} do not open: another passphrase, or the file was altered"
            ) from None
        except (ValueError, RecursionError):
            raise StartupError(f"the keys {path} {_DAMAGED}") from None

    def _file(self, agency: AgencyId) -> Any:
        """What a file says, kept from others. Raises StartupError."""
        path = self._path(agency)
        try:
            with path.open("rb") as file:
                # Of the open file, not the name: nobody can exchange one for the other in between.
                status = os.fstat(file.fileno())
                if status.st_mode & 0o077:
                    raise StartupError(
                        f"{path} can be read by others: make new keys if anybody may have, else chmod 600 it"
                    )
                return json.loads(file.read(min(LARGEST, status.st_size)))
        except FileNotFoundError:
            raise StartupError(f"no keys of {agency} at {path}: make them with `gateway init`") from None
        except OSError as error:
            raise StartupError(
                f"cannot read the keys {path} ({error.strerror}): run as the user who owns the file"
            ) from None
        except (ValueError, RecursionError):
            raise StartupError(f"the keys {path} {_DAMAGED}") from None

    def agencies(self) -> list[AgencyId]:
        """Whose keys are here, sorted."""
        names = sorted(path.stem for path in self._directory.glob("*.json"))
        return [AgencyId(name) for name in names if AGENCY_ID.fullmatch(name)]

    def rows(
        self, agency: AgencyId, now: int, overlap: int = OVERLAP, revoked: Collection[bytes] = ()
    ) -> list[KeyRow]:
        """Each key of an agency and where it stands; no secrets. `revoked` is for the caller to know.

        Raises StartupError.
        """
        return key_rows.rows(self.load(agency), self._new.opening, now, overlap, revoked)

    def _path(self, agency: AgencyId) -> Path:
        return self._directory / f"{agency}.json"
