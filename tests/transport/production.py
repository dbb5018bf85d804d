"""A broker as operators are told to run it, and clients that come to it with certificates."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractConnection

from gateway.messages import AgencyId
from gateway.tls import broker_context
from gateway.transport import definitions
from gateway.transport.definitions import OPERATOR, VHOST, Account, Document
from gateway.transport.management import Management
from tests.certificates import Authority
from tests.rabbit import RabbitNode
from tests.transport.ground import COUNCIL, POLICE

ADMIN, ADMIN_PASSWORD = "admin", "Zephyrine-Quillfeather"
HUB = "hub"
SCHOOL, CLINIC = AgencyId("school"), AgencyId("clinic")
"""Both are served by one node, whose account is HUB."""
AGENCIES = [CLINIC, COUNCIL, POLICE, SCHOOL]
HOSTED = {HUB: (SCHOOL, CLINIC)}


def accounts(passwords: dict[str, str] | None = None) -> list[Account]:
    return definitions.accounts(AGENCIES, HOSTED, passwords or {})


def wanted(vhost: str = VHOST) -> Document:
    return definitions.document(accounts(), vhost, {})


def certified(folder: Path) -> Authority:
    """An authority, and certificates of the broker and of every account."""
    authority = Authority(folder)
    for name in ("broker", POLICE, COUNCIL, HUB, OPERATOR, "stranger"):
        authority.issue(name)
    return authority


def add_admin(node: RabbitNode) -> None:
    """The account of `gateway broker apply`, as deploy/rabbitmq/README.md has it made."""
    node.rabbitmqctl("add_user", ADMIN, ADMIN_PASSWORD)
    node.rabbitmqctl("set_user_tags", ADMIN, "administrator")


@dataclass
class Production:
    """The broker, and the authority that it and its clients trust."""

    node: RabbitNode
    authority: Authority

    @classmethod
    def start(cls, folder: Path) -> Production:
        authority = certified(folder)
        node = RabbitNode(tls=folder)
        node.start()
        add_admin(node)
        return cls(node, authority)

    def url(self, account: str, vhost: str = VHOST) -> str:
        return f"amqps://{account}@localhost:{self.node.port}/{vhost}"

    def tls(self, account: str) -> ssl.SSLContext:
        return broker_context(self.authority.ca, self.cert(account), self.key(account))

    def cert(self, account: str) -> Path:
        return self.authority.folder / f"{account}.pem"

    def key(self, account: str) -> Path:
        return self.authority.folder / f"{account}-key.pem"

    async def connect(self, account: str, vhost: str = VHOST) -> AbstractConnection:
        """Any AMQP client of that account, free to try what it likes."""
        return await aio_pika.connect(
            self.url(account, vhost), ssl_context=self.tls(account), auth="EXTERNAL", timeout=15
        )

    @property
    def management_url(self) -> str:
        return f"https://{ADMIN}@localhost:{self.node.management_port}"

    def management(self) -> Management:
        return Management(self.management_url, ADMIN_PASSWORD, broker_context(self.authority.ca))
