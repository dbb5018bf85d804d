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
        self._loaded = {agency: store.load(agency) for agency in agencies}
        self._current = dict(self._loaded)

    def refresh(self, directory: Directory, now: int, on_refused: Callable[[], None]) -> None:
        """Take in files that changed, and sign with what the directory lists. A bad file is not taken."""
        for agency in self._stamps:
            stamp = self._store.stamp(agency)
            if stamp != self._stamps[agency]:
                self._stamps[agency] = stamp
                try:
                    self._loaded[agency] = self._store.load(agency)
                except StartupError:
                    on_refused()
        self.choose(directory, now)
        self._store.check()

    @property
    def usable(self) -> bool:
        """False while a token that holds keys does not answer."""
        return self._store.usable

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
