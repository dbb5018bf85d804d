"""RabbitMQ's management API, as much of it as `gateway broker apply` and `check` need."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import aiohttp

from gateway.errors import StartupError
from gateway.tls import broker_context
from gateway.transport.base import TransportError, TransportUnavailable
from gateway.transport.definitions import Document
from gateway.transport.topology import EXCHANGE, PROBE

TIMEOUT: Final = 60.0
"""Seconds for one request: a cluster takes a while to make many quorum queues."""


class ManagementRefused(TransportError):
    """The broker answered, and the answer is no."""


class Management:
    """A session with one broker node's management API. Use it as an asynchronous context manager."""

    def __init__(self, url: str, password: str, tls: ssl.SSLContext | None = None) -> None:
        """`url` names the account: https://operator@broker:15671. Raises StartupError."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise StartupError("the management URL must begin with http:// or https://")
        if parts.password is not None:
            raise StartupError("the management URL takes no password, others could see it: name a file")
        if not parts.username:
            raise StartupError("the management URL must name the account: https://operator@broker:15671")
        if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise StartupError("without TLS the management API is used on this machine only: take https://")
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/api"
        self.user = parts.username
        self._auth = aiohttp.encode_basic_auth(parts.username, password)
        self._tls = tls or broker_context()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": self._auth}, timeout=aiohttp.ClientTimeout(total=TIMEOUT)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def apply(self, wanted: Document) -> None:
        """Import the definitions. Raises TransportUnavailable or ManagementRefused.

        The broker adds and replaces, but neither removes anything nor changes a queue that exists:
        drift.py tells what is left. A probe goes into each new queue, which the node that serves it
        forgets: a quorum queue that never held a message and is killed may take no consumer afterwards.
        """
        (vhost,) = (one["name"] for one in wanted["vhosts"])
        here = _quoted(vhost)
        mine = f"/permissions/{here}/{_quoted(self.user)}"
        known, allowed = await self._get(f"/queues/{here}"), await self._get(mine)
        there = {queue["name"] for queue in known or []}
        await self._request("POST", "/definitions", wanted)
        fresh = [one["routing_key"] for one in wanted["bindings"] if one["destination"] not in there]
        if fresh and not allowed:
            await self._request("PUT", mine, {"configure": "^$", "write": f"^{EXCHANGE}$", "read": "^$"})
        for key in filter(None, fresh):
            await self._request("POST", f"/exchanges/{here}/{EXCHANGE}/publish", _probe(key))
        if not allowed:
            # Given above; also, whoever makes a virtual host is given every permission on it.
            await self._request("DELETE", mine)

    async def read(self, vhost: str) -> Document:
        """What the broker holds: one virtual host, every account, its nodes. Raises as apply does."""
        here = _quoted(vhost)
        found = await self._get(f"/vhosts/{here}")
        live: Document = {"vhosts": [] if found is None else [found]}
        live |= {kind: await self._list(f"/{kind}") for kind in ("users", "nodes")}
        paths = {
            "permissions": f"/vhosts/{here}/permissions",
            "policies": f"/policies/{here}",
            "exchanges": f"/exchanges/{here}",
            "queues": f"/queues/{here}",
            "bindings": f"/bindings/{here}",
        }
        for kind, path in paths.items():
            live[kind] = await self._list(path) if found is not None else []
        policies = await self._list(f"/operator-policies/{here}") if found is not None else []
        live["parameters"] = [
            *(
                one
                for one in await self._list("/parameters")
                if one["vhost"] == vhost and one["component"] != "operator_policy"
            ),
            *(_as_parameter(one) for one in policies),
        ]
        return live

    async def _list(self, path: str) -> list[dict[str, Any]]:
        found = await self._get(path)
        if not isinstance(found, list):
            raise ManagementRefused(f"the management API has no {path}: is this RabbitMQ's?")
        return found

    async def _get(self, path: str) -> Any:
        """The JSON at a path; None when there is none."""
        return await self._request("GET", path)

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        assert self._session is not None
        try:
            async with self._session.request(
                method, self._base + path, json=body, ssl=self._tls, allow_redirects=False
            ) as answer:
                if answer.status in {401, 403}:
                    raise ManagementRefused("the management account or its password is not accepted")
                if answer.status == 404:
                    return None
                if answer.status >= 500:
                    raise TransportUnavailable("the management API has a fault of its own")
                if answer.status >= 300:
                    raise ManagementRefused(f"the management API answered {answer.status} to {method} {path}")
                return await answer.json() if answer.status == 200 else None
        except aiohttp.ClientConnectorCertificateError:
            raise ManagementRefused("the broker's certificate is not of an authority named by --ca") from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            raise TransportUnavailable("the management API cannot be reached") from None


def _probe(key: str) -> dict[str, Any]:
    """A PROBE as the management API publishes it."""
    payload = base64.b64encode(PROBE).decode()
    return {
        "routing_key": key,
        "payload": payload,
        "payload_encoding": "base64",
        "properties": {"delivery_mode": 2},
    }


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _as_parameter(policy: dict[str, Any]) -> dict[str, Any]:
    """An operator policy as definitions have it: a parameter."""
    value = {field: policy[field] for field in ("pattern", "apply-to", "priority", "definition")}
    return {
        "component": "operator_policy",
        "vhost": policy["vhost"],
        "name": policy["name"],
        "value": value,
    }
