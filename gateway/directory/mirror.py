"""A node's side of the directory: a TUF client over a folder or an HTTP(S) mirror. The mirror is not trusted.

The root given at set-up is; from there on rollback, freeze, mix-and-match and keys that governance has
removed are refused (TUF 1.0, section 5). While the mirror is away or wrong, the last good copy stays until
it expires.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    RepositoryError,
    SlowRetrievalError,
)
from tuf.ngclient import FetcherInterface, Updater
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from gateway import __version__
from gateway.directory.model import LARGEST, Directory, DirectoryInvalid, parse
from gateway.directory.stored import METADATA, TARGET, TARGETS
from gateway.errors import StartupError
from gateway.tls import web_context

PATIENCE: Final = 20.0
"""Seconds to wait for what the mirror says; what it says later is taken at the next look."""
LONGEST: Final = 300.0
"""Seconds until a download is given up that comes in drips."""
_GAP: Final = 30.0
"""Seconds until a server that says nothing is given up."""
_RETRIES: Final = Retry(3, connect=0, read=0, other=0, respect_retry_after_header=False)
"""Redirects are followed. The rest waits for the next look: a mirror does not say when that is."""
_WHO_ASKS: Final = {"User-Agent": f"referral-gateway/{__version__}"}
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
        self._looking: Future[Directory | None] | None = None
        self._taken: tuple[bytes, int, Directory] | None = None
        found = self._look(PATIENCE) or self._last_good() or self._still_looking()
        if found is None:
            raise StartupError(f"no directory can be had from {mirror}, and there is no last good copy")
        self._current = found

    @property
    def current(self) -> Directory:
        """The last good copy."""
        return self._current

    def refresh(self) -> bool:
        """Ask the mirror. True when it had something newer; what is not acceptable is reported, not taken."""
        found = self._look(PATIENCE)
        if found is None or found is self._current:
            return False
        self._current = found
        return True

    def _look(self, patience: float) -> Directory | None:
        """What the mirror has now, or had when it was asked last and did not answer in time."""
        looking = self._looking
        if looking is None:
            looking = self._looking = Future()
            # Nothing waits for it at the end: a mirror that drips must not keep the process from stopping.
            threading.Thread(target=self._ask, args=(looking,), name="directory-look", daemon=True).start()
        try:
            found = looking.result(patience)
        except TimeoutError:
            return None  # still away: no second is started beside it
        except BaseException:
            self._looking = None
            raise
        self._looking = None
        return found

    def _still_looking(self) -> Directory | None:
        """The answer to a first look that takes its time, where there is nothing else to begin with."""
        return self._look(LONGEST) if self._looking is not None else None

    def _ask(self, looking: Future[Directory | None]) -> None:
        try:
            looking.set_result(self._fetch())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            looking.set_exception(error)

    def _fetch(self) -> Directory | None:
        """What the mirror has now, verified; None when it is away or not acceptable."""
        try:
            folder = os.open(self._cache, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # An operator's command uses the same cache; the TUF client expects to be alone with it.
                fcntl.flock(folder, fcntl.LOCK_EX)
                return self._verified()
            finally:
                os.close(folder)
        except DownloadError as error:
            if isinstance(error, DownloadLengthMismatchError):  # it answers, with more than it may
                self._on_refused()
            return None  # away: that says nothing about the copy we have
        except (RepositoryError, DirectoryInvalid, OSError, ValueError):
            self._on_refused()
            return None

    def _verified(self) -> Directory:
        updater = Updater(
            str(self._cache),
            self._url(METADATA),
            str(self._cache),
            self._url(TARGETS),
            _Folder() if "://" not in self._mirror else _Web(),
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
        if self._taken is not None and self._taken[:2] == (data, until):
            return self._taken[2]  # to read thousands of agencies again would hold up the event loop
        directory = parse(data, until=until)
        self._keep(data, until)
        self._taken = data, until, directory
        return directory

    def _url(self, part: str) -> str:
        return f"{self._mirror}/{part}"

    def _keep(self, data: bytes, until: int) -> None:
        part = self._cache / f".{GOOD}.part"
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"until": until, "directory": data.decode()}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._cache / GOOD)

    def _last_good(self) -> Directory | None:
        """Kept by this node when it was verified; as trustworthy as the node's own disk."""
        try:
            kept = json.loads((self._cache / GOOD).read_bytes())
            data, until = kept["directory"].encode(), int(kept["until"])
            directory = parse(data, until=until)
        except (OSError, *_DAMAGED, DirectoryInvalid):
            return None
        self._taken = data, until, directory
        return directory


class _Web(FetcherInterface):
    """A mirror that is a web server, behind the proxy that the environment names, if it names one."""

    def __init__(self) -> None:
        self._until = time.monotonic() + LONGEST
        self._pools: dict[str, PoolManager] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        response = self._pool(url).request(
            "GET", url, preload_content=False, timeout=Timeout(_GAP), retries=_RETRIES, headers=_WHO_ASKS
        )
        if response.status != HTTPStatus.OK:
            response.close()
            raise DownloadHTTPError("not there", response.status)
        return self._chunks(response)

    def _pool(self, url: str) -> PoolManager:
        where, named = urlsplit(url), getproxies()
        proxy = "" if proxy_bypass(where.netloc) else named.get(where.scheme) or named.get("all") or ""
        if proxy not in self._pools:
            ours = web_context()
            self._pools[proxy] = (
                ProxyManager(proxy, ssl_context=ours, proxy_ssl_context=web_context())
                if proxy
                else PoolManager(ssl_context=ours)
            )
        return self._pools[proxy]

    def _chunks(self, response: BaseHTTPResponse) -> Iterator[bytes]:
        try:
            # What has come so far, not as much as was asked for: else a drip is never looked at.
            while data := response.read1(_PIECE):
                if time.monotonic() > self._until:
                    raise SlowRetrievalError("not in time")
                yield data
        except HTTPError as error:
            raise DownloadError("the answer broke off") from error
        finally:
            response.close()


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
