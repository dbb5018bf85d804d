"""A node's side of the directory: a TUF client over a folder or an HTTP(S) mirror. The mirror is not trusted.

The root given at set-up is; from there on rollback, freeze, mix-and-match and keys that governance has
removed are refused (TUF 1.0, section 5). While the mirror is away or wrong, the last good copy stays until
it expires.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    RepositoryError,
)
from tuf.ngclient import FetcherInterface, Updater

from gateway.directory.model import LARGEST, Directory, DirectoryInvalid, parse
from gateway.directory.stored import METADATA, TARGET, TARGETS
from gateway.errors import StartupError

_PIECE: Final = 64 * 1024
GOOD: Final = "good.json"
"""When the last good copy expires, beside that copy."""
_DAMAGED: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What a last good copy that is not whole raises."""


class DirectoryMirror:
    """A DirectorySource over a TUF repository."""

    def __init__(
        self, mirror: str, root: Path, cache: Path, on_refused: Callable[[], None] = lambda: None
    ) -> None:
        """`mirror` is a folder or an https:// URL, `root` the trusted root, `cache` a folder of the node's.

        Raises StartupError when there is neither a mirror that can be used nor a last good copy.
        """
        self._mirror, self._cache = mirror.rstrip("/"), cache
        self._on_refused = on_refused
        try:
            self._root = root.read_bytes()
        except OSError as error:
            raise StartupError(f"cannot read the directory's root {root}: {error.strerror}") from None
        try:
            scheme = urlsplit(mirror).scheme
        except ValueError:
            scheme = "?"
        if scheme not in {"", "https", "http"}:
            raise StartupError("the directory's mirror is a folder or an https:// URL")
        cache.mkdir(parents=True, exist_ok=True)
        self._bytes = b""
        found = self._fetch() or self._last_good()
        if found is None:
            raise StartupError(f"no directory can be had from {mirror}, and there is no last good copy")
        self._current = found

    @property
    def current(self) -> Directory:
        """The last good copy."""
        return self._current

    def refresh(self) -> bool:
        """Ask the mirror. True when it had something newer; what is not acceptable is reported, not taken."""
        before = (self._bytes, self._current.expires)
        found = self._fetch()
        if found is None:
            return False
        self._current = found
        return (self._bytes, found.expires) != before

    def _fetch(self) -> Directory | None:
        """What the mirror has now, verified; None when it is away or not acceptable."""
        try:
            updater = Updater(
                str(self._cache),
                self._url(METADATA),
                str(self._cache),
                self._url(TARGETS),
                _Folder() if "://" not in self._mirror else None,
                bootstrap=self._root,
            )
            updater.refresh()
            info = updater.get_targetinfo(TARGET)
            if info is None:
                raise RepositoryError("no directory listed")
            path = updater.find_cached_target(info) or updater.download_target(info)
            data = Path(path).read_bytes()
            trusted = updater._trusted_set  # noqa: SLF001 - when it expires is told nowhere else
            expires = min(
                one.expires for one in (trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets)
            )
            until = int(expires.timestamp() * 1000)
            directory = parse(data, until=until)
        except DownloadError as error:
            if isinstance(error, DownloadLengthMismatchError):  # it answers, with more than it may
                self._on_refused()
            return None  # away: that says nothing about the copy we have
        except (RepositoryError, DirectoryInvalid, OSError, ValueError):
            self._on_refused()
            return None
        self._bytes = data
        self._keep(data, until)
        return directory

    def _url(self, part: str) -> str:
        return f"{self._mirror}/{part}"

    def _keep(self, data: bytes, until: int) -> None:
        part = self._cache / f".{GOOD}.part"
        part.write_text(json.dumps({"until": until, "directory": data.decode()}), "utf-8")
        os.replace(part, self._cache / GOOD)

    def _last_good(self) -> Directory | None:
        """Kept by this node when it was verified; as trustworthy as the node's own disk."""
        try:
            kept = json.loads((self._cache / GOOD).read_bytes())
            self._bytes = kept["directory"].encode()
            return parse(self._bytes, until=int(kept["until"]))
        except (OSError, *_DAMAGED, DirectoryInvalid):
            return None


class _Folder(FetcherInterface):
    """A mirror that is a folder."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        left = LARGEST
        try:
            with Path(url).open("rb") as file:
                # In pieces: a reader that may have LARGEST bytes sets so many aside first.
                while left > 0 and (data := file.read(min(left, _PIECE))):
                    left -= len(data)
                    yield data
        except FileNotFoundError:
            raise DownloadHTTPError("not there", 404) from None
        except OSError:
            raise DownloadError("the folder cannot be read") from None
