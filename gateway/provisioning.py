"""What happens before a node runs: folders, keys, database, settings, directory entries.

`gateway init` and the demo use it. A running node creates none of this.
"""

from __future__ import annotations

import os
import re
import time
import tomllib
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway import config, schemas
from gateway.config.secrets import split_password
from gateway.crypto.key_document import AgencyKeys
from gateway.crypto.labels import SUITE_ML_DSA_65
from gateway.directory import file as directory_file
from gateway.directory.break_glass import BreakGlassEntry
from gateway.directory.model import (
    AcceptsEntry,
    AgencyEntry,
    AgreementEntry,
    DirectoryInvalid,
    KeyEntry,
    make_agreement,
)
from gateway.errors import StartupError
from gateway.messages import AGENCY_ID, AgencyId, LawfulBasis, Purpose, Sector
from gateway.protocol.break_glass import BreakGlass
from gateway.protocol.suites import STRONGEST_FIRST
from gateway.store.opening import create_store
from gateway.transport.embedded import create_queues


@dataclass(frozen=True, slots=True)
class NewAgency:
    """Who the node is made for."""

    id: AgencyId
    name: str
    sector: Sector


@dataclass(frozen=True, slots=True)
class NewToken:
    """The PKCS#11 token that will hold the keys."""

    module: str
    """An absolute path."""
    label: str
    pin_file: Path


@dataclass(frozen=True, slots=True)
class NewAgreement:
    """A sharing agreement to enter."""

    id: str
    senders: tuple[AgencyId, ...]
    recipients: tuple[AgencyId, ...]
    types: tuple[str, ...]
    purposes: tuple[Purpose, ...]
    lawful_bases: tuple[LawfulBasis, ...]
    starts: datetime
    ends: datetime
    shares: tuple[str, ...] | None = None
    """Field groups of a referral that the recipients are shown; None: everything."""
    break_glass: BreakGlass | None = None
    """Who may open a message in an emergency; None: nobody."""
    weakest_suite: str | None = None
    """The weakest suite that a message under it may be sealed with; None: any."""


def init_node(  # noqa: PLR0913 - what `gateway init` is told
    folder: Path,
    agency: NewAgency,
    *,
    directory: Path,
    spool: Path | None = None,
    broker: str = "",
    broker_password_file: Path | None = None,
    database: str = "",
    database_password_file: Path | None = None,
    port: int = 8080,
    admin_port: int = 9090,
    signing_suite: str = "",
    opening_suites: Sequence[str] = (),
    token: NewToken | None = None,
) -> None:
    """Make a node, or add an agency to one. Raises StartupError; never overwrites keys or a database.

    A node that exists keeps its transport, ports and suites: only `agency` and `directory` count then.
    `database` is a postgresql:// URL; without one the node has a SQLite file of its own. Suites that are not
    named are the settings' defaults.
    A password in `broker` or `database` goes into a file of its own, readable by the owner alone.
    """
    if not AGENCY_ID.fullmatch(agency.id):
        raise StartupError("an agency identifier is lower-case letters, digits and hyphens, 63 at most")
    settings_file = folder / config.FILE_NAME
    if settings_file.exists():
        _join(config.load(settings_file), settings_file, agency, directory)
        return
    broker, broker_password = split_password(broker)
    if broker_password:
        broker_password_file = folder / "broker-password"
    database, database_password = split_password(database)
    if database_password:
        database_password_file = folder / "database-password"
    text = _settings(
        folder,
        {
            "node": {
                "agencies": [agency.id],
                "directory": directory,
                "signing_suite": signing_suite or None,
                "opening_suites": list(opening_suites) or None,
                "database": database or None,
                "database_password_file": database_password_file,
            },
            **({"token": asdict(token)} if token else {}),
            "http": {"port": port, "admin_port": admin_port},
            "transport": {"kind": "embedded", "spool": spool}
            if spool is not None
            else {"kind": "rabbitmq", "url": broker, "password_file": broker_password_file},
        },
    )
    settings = config.parse(text, settings_file)  # before anything is made
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    if broker_password:
        _write_secret(folder / "broker-password", broker_password)
    if database_password:
        _write_secret(folder / "database-password", database_password)
    create_store(settings.database())
    keys = settings.key_store().create(agency.id, int(time.time() * 1000))
    if spool is not None:
        create_queues(spool, [agency.id])
    settings_file.write_text(text, "utf-8")
    directory_file.put_agency(directory, _entry(agency, keys))


def _write_secret(file: Path, secret: str) -> None:
    file.touch(mode=0o600)
    file.write_text(secret, "utf-8")


def _join(settings: config.Settings, file: Path, agency: NewAgency, directory: Path) -> None:
    """Let an existing node serve another agency; what its operator wrote into the settings stays."""
    if agency.id in settings.node.agencies:
        raise StartupError(f"{file.parent} serves {agency.id} already")
    agencies = ", ".join(f'"{known}"' for known in (*settings.node.agencies, agency.id))
    text = re.sub(
        r"^agencies\s*=\s*\[[^\]]*\]", f"agencies = [{agencies}]", file.read_text("utf-8"), flags=re.MULTILINE
    )
    if tomllib.loads(text)["node"]["agencies"] != [*settings.node.agencies, agency.id]:
        raise StartupError(f"cannot find the line of node.agencies in {file}")
    keys = settings.key_store().create(agency.id, int(time.time() * 1000))
    if settings.transport.kind == "embedded":
        create_queues(settings.path(settings.transport.spool), [agency.id])
    file.write_text(text, "utf-8")
    directory_file.put_agency(directory, _entry(agency, keys))


def agree(directory: Path, agreement: NewAgreement, *, replies: bool) -> None:
    """Enter an agreement, and with `replies` one that lets decisions travel back. Raises StartupError."""
    for entry in agreements(agreement, replies=replies):
        directory_file.put_agreement(directory, entry)


def agreements(agreement: NewAgreement, *, replies: bool) -> tuple[AgreementEntry, ...]:
    """An agreement, and with `replies` one that lets decisions travel back. Raises StartupError."""
    if not replies:
        return (_agreement(agreement),)
    back = NewAgreement(
        f"{agreement.id[:55]}-replies",
        agreement.recipients,
        agreement.senders,
        ("decision",),
        agreement.purposes,
        agreement.lawful_bases,
        agreement.starts,
        agreement.ends,
        weakest_suite=agreement.weakest_suite,
    )
    return _agreement(agreement), _agreement(back)


def _agreement(new: NewAgreement) -> AgreementEntry:
    try:
        return make_agreement(
            id=new.id,
            senders=new.senders,
            recipients=new.recipients,
            types=new.types,
            purposes=new.purposes,
            lawful_bases=new.lawful_bases,
            starts=new.starts,
            ends=new.ends,
            shares=new.shares,
            break_glass=BreakGlassEntry.of(new.break_glass) if new.break_glass else None,
            weakest_suite=new.weakest_suite,
        )
    except DirectoryInvalid as error:
        first = error.problems[0]
        raise StartupError(f"the agreement is not valid: {first.pointer}: {first.rule}") from None


def _entry(agency: NewAgency, keys: AgencyKeys) -> AgencyEntry:
    return AgencyEntry(
        id=agency.id,
        name=agency.name,
        sector=agency.sector,
        keys=(
            *public_keys(keys),
            KeyEntry(
                use="audit",
                suite=SUITE_ML_DSA_65,
                public=_b64(keys.audit_key().public.public_bytes),
                starts=datetime.fromtimestamp(keys.created / 1000, UTC),
            ),
        ),
        accepts=tuple(
            AcceptsEntry(type=name, versions=tuple(sorted(versions)))
            for name, versions in schemas.TYPES.items()
        ),
    )


def public_keys(keys: AgencyKeys) -> tuple[KeyEntry, ...]:
    """An agency's keys as the directory lists them."""
    signing = [(key.kid, "sign", key.public.suite, key.public.public_bytes) for key in keys.signing_keys]
    opening = [(key.kid, "seal", key.suite, key.public.public_bytes) for key in keys.opening.values()]
    return tuple(
        KeyEntry.model_validate(
            {
                "use": use,
                "suite": suite,
                "public": _b64(public),
                "starts": datetime.fromtimestamp(keys.dates[kid].starts / 1000, UTC),
            }
        )
        for kid, use, suite, public in (*signing, *opening)
    )


def rotate(settings: config.Settings, agency: AgencyId, lead: int, now: int) -> None:
    """Make new keys, in use `lead` milliseconds from now, and enter them in the directory file.

    Opening keys of suites that the settings no longer name end then. After a rotation that stopped half way
    it enters what is missing. Raises StartupError. With a mirror: gateway/selfservice.py.
    """
    store, file = settings.key_store(), settings.path(settings.node.directory)
    starts = datetime.fromtimestamp((now + lead) / 1000, UTC)
    directory = directory_file.load(file)
    listed = {key.public for entry in directory.document.agencies if entry.id == agency for key in entry.keys}
    known = public_keys(store.load(agency))
    if all(key.public in listed for key in known):
        known = public_keys(store.rotate(agency, now, now + lead))
    # What was missing begins as late as what is new: peers must see it first, however old it is here.
    missing = [key.model_copy(update={"starts": starts}) for key in known if key.public not in listed]
    directory_file.put_keys(file, agency, missing, end=given_up(settings, known), at=starts)


def given_up(settings: config.Settings, keys: Sequence[KeyEntry]) -> frozenset[str]:
    """Suites the settings no longer name: peers would go on sealing to their keys where those are stronger.

    None while these keys lack a suite that is named.
    """
    wanted, found = set(settings.node.opening_suites), {key.suite for key in keys}
    return frozenset(STRONGEST_FIRST) - wanted if wanted <= found else frozenset()


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _settings(folder: Path, sections: Mapping[str, Mapping[str, object]]) -> str:
    """The text of a settings file; paths become relative to it, what is None is left out."""

    def text(value: object) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(text, value))}]"
        if isinstance(value, int):
            return str(value)
        if isinstance(value, Path):
            value = os.path.relpath(value.resolve(), folder.resolve())
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'

    lines = ["# Settings of this node; docs/config.md describes every one."]
    for name, settings in sections.items():
        lines += [f"[{name}]"]
        lines += [f"{setting} = {text(value)}" for setting, value in settings.items() if value is not None]
        lines += [""]
    return "\n".join(lines[:-1]) + "\n"
