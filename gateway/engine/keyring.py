"""The private keys of a running node: read again when a file changes; the directory says which one signs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from gateway.crypto.key_document import AgencyKeys
from gateway.crypto.keystore import FileKeyStore
from gateway.directory.model import Directory
from gateway.errors import StartupError
from gateway.messages import AgencyId


class KeyRing(Mapping[AgencyId, AgencyKeys]):
    """The keys of each agency this node serves, as they are now."""

    def __init__(self, store: FileKeyStore, agencies: Sequence[AgencyId]) -> None:
        """Raises StartupError."""
        self._store = store
        self._stamps = {agency: store.stamp(agency) for agency in agencies}
        self._refused = dict(self._stamps)
        self._loaded = {agency: store.load(agency) for agency in agencies}
        self._current = dict(self._loaded)

    def refresh(self, directory: Directory, now: int, on_refused: Callable[[], None]) -> bool:
        """Take in files that changed, and sign with what the directory lists. A bad file is not taken.

        True when a file was taken in. Keys that were destroyed are forgotten then. A file that was refused is
        tried again at each look, but reported once: what kept us from reading it may pass by itself.
        """
        changed = False
        for agency in self._stamps:
            stamp = self._store.stamp(agency)
            if stamp != self._stamps[agency]:
                try:
                    self._loaded[agency] = self._store.load(agency)
                    self._stamps[agency] = stamp
                    changed = True
                except StartupError:
                    if stamp != self._refused[agency]:
                        on_refused()
            self._refused[agency] = stamp
        self.choose(directory, now)
        self._store.check()
        return changed

    @property
    def usable(self) -> bool:
        """False while a token that holds keys does not answer."""
        return self._store.usable

    def is_stale(self, agency: AgencyId) -> bool:
        """Whether the agency's file holds something else than what was taken in, as of the last look."""
        return self._refused[agency] != self._stamps[agency]

    def choose(self, directory: Directory, now: int) -> None:
        """Sign with the newest key that the directory has in force: peers refuse any it does not list."""
        for agency, keys in self._loaded.items():
            listed = [one for one in keys.signing_keys if directory.verify_key(agency, one.kid, now)]
            self._current[agency] = replace(keys, signing=listed[-1]) if listed else keys

    def __getitem__(self, agency: AgencyId) -> AgencyKeys:
        return self._current[agency]

    def __iter__(self) -> Iterator[AgencyId]:
        return iter(self._current)

    def __len__(self) -> int:
        return len(self._current)
