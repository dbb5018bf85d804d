"""The registry: which adapters this node has, and which one reads or writes a media type.

Adapters are found by entry point, so that somebody else's package can add one (docs/adapters.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from gateway.adapters.base import Adapter
from gateway.errors import RefusedByUs
from gateway.messages import Problem

GROUP: Final = "referral_gateway.adapters"
"""The entry-point group."""


class Registry:
    """The adapters of one node, found once at start."""

    def __init__(self, adapters: Sequence[Adapter], broken: Sequence[str] = ()) -> None:
        self._adapters = {adapter.name: adapter for adapter in adapters}
        self.broken = tuple(broken)
        """Entry points that were left out: they failed to load, or are no adapter, or took a name in use."""

    @classmethod
    def load(cls) -> Registry:
        """Every adapter installed. One that does not load is left out and named in `broken`."""
        adapters: dict[str, Adapter] = {}
        broken = []
        # Our own first: nobody else's package takes their names over.
        for point in sorted(entry_points(group=GROUP), key=lambda p: (not _is_ours(p), p.name, p.value)):
            adapter = _load(point)
            if adapter is None or adapter.name in adapters:
                broken.append(point.name)
            else:
                adapters[adapter.name] = adapter
        return cls(tuple(adapters.values()), broken)

    def by_name(self, name: str) -> Adapter:
        """The adapter of this name. Raises RefusedByUs (unsupported-format)."""
        if name not in self._adapters:
            rule = f"one of: {', '.join(sorted(self._adapters))}"
            raise RefusedByUs("unsupported-format", problems=[Problem("/adapter", rule)])
        return self._adapters[name]

    def all(self) -> tuple[Adapter, ...]:
        """Every adapter, ours first."""
        return tuple(self._adapters.values())

    def media_types(self) -> tuple[str, ...]:
        """Every media type that some adapter reads and writes."""
        return tuple(sorted({one for adapter in self._adapters.values() for one in adapter.media_types}))

    def choose(self, media_type: str, name: str | None) -> Adapter:
        """The adapter that reads a body of this Content-Type; `name` decides where several do.

        Named, an adapter also reads the plain type that one of its own builds on by suffix (RFC 6839):
        application/json where it has `application/vnd.example.form+json`; XML and CSV likewise. Systems that
        export such forms seldom know a better name for them.

        Raises RefusedByUs: unsupported-format, ambiguous-format, or malformed-body for a charset not UTF-8.
        """
        essence, charset = _parse(media_type)
        if charset not in {None, "utf-8", "utf8"}:
            raise RefusedByUs("malformed-body", problems=[Problem("", "UTF-8 encoding")])
        readers = self.writers(essence)
        if name is not None:
            adapter = self.by_name(name)
            if adapter in readers or essence in _plain(adapter):
                return adapter
            rule = f"with this adapter one of: {', '.join(adapter.media_types)}"
            raise RefusedByUs("unsupported-format", problems=[Problem("/content-type", rule)])
        if not readers:
            rule = f"one of: {', '.join(self.media_types())}"
            raise RefusedByUs("unsupported-format", problems=[Problem("/content-type", rule)])
        if len(readers) > 1:
            rule = f"one of: {', '.join(sorted(adapter.name for adapter in readers))}"
            raise RefusedByUs("ambiguous-format", problems=[Problem("/adapter", rule)])
        return readers[0]

    def writers(self, media_type: str) -> list[Adapter]:
        """The adapters that write this media type, in a fixed order; what one cannot write, the next may."""
        essence, _ = _parse(media_type)
        return [adapter for adapter in self._adapters.values() if essence in adapter.media_types]


def _plain(adapter: Adapter) -> set[str]:
    """The types without a vendor's name that an adapter reads when it is named."""
    plain = {
        "json": ("application/json",),
        "xml": ("application/xml", "text/xml"),
        "csv": ("text/csv",),
    }
    return {
        one
        for own in adapter.media_types
        for one in plain.get(own.rpartition("+")[2] if "+" in own else "", ())
    }


def _is_ours(point: EntryPoint) -> bool:
    return point.module.startswith("gateway.adapters.")


def _load(point: EntryPoint) -> Adapter | None:
    try:
        adapter = point.load()
        good = (
            isinstance(adapter, Adapter)
            and adapter.name == point.name
            and bool(adapter.media_types)
            and all(one == _parse(one)[0] for one in adapter.media_types)
        )
    except Exception:  # noqa: BLE001 - somebody else's code may raise anything; the node starts without it
        return None
    return adapter if good else None


def _parse(content_type: str) -> tuple[str, str | None]:
    """A media type in lower case without its parameters, and its charset (RFC 9110 section 8.3)."""
    essence, *parameters = content_type.split(";")
    charset = None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"').lower()
    return essence.strip().lower(), charset
