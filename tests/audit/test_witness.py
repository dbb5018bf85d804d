"""What a node makes of the checkpoints its peers show it, in whatever order and of whichever log they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.audit import log, merkle
from gateway.crypto.audit_key import AuditKey
from gateway.crypto.keys import SigningKey
from gateway.crypto.note import NoteKeys, read_note, sign_note
from gateway.crypto.witness import Shown, encode_shown
from gateway.engine import witness
from gateway.engine.witness import Witness
from gateway.errors import RefusedByPeer
from gateway.messages import AgencyId, CaseId, EnvelopeId, Header, MessageId, new_id
from gateway.store import audit
from gateway.store.base import Store
from gateway.store.sqlite import SqliteStore

SCHOOL, POLICE = AgencyId("school"), AgencyId("police")
SIGNER = (SigningKey.from_seed(b"\x01" * 32), AuditKey(b"\x02" * 32))
NEIGHBOURS = [(SigningKey.from_seed(bytes([n]) * 32), AuditKey(bytes([n]) * 32)) for n in range(3, 6)]
ONE, OTHER = audit.ORIGIN + new_id(), audit.ORIGIN + new_id()
LEAVES = [merkle.leaf_hash(b"%d" % number) for number in range(200)]
REWRITTEN = [merkle.leaf_hash(b"x%d" % number) for number in range(200)]


@dataclass
class Keeper:
    """The police's node, as far as it keeps checkpoints of the school's."""

    store: Store
    now: int = 1_000
    outcomes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = [NoteKeys(SIGNER[0].public, SIGNER[1].public)]
        quiet = SimpleNamespace(error=lambda *_, **__: None, warning=lambda *_, **__: None, wake=lambda: None)
        parts = SimpleNamespace(
            store=self.store,
            now=lambda: self.now,
            directory=SimpleNamespace(note_keys=lambda _: keys),
            metrics=SimpleNamespace(checkpoint=self.outcomes.append),
            log=quiet,
        )
        self._witness = Witness(cast("Any", parts), cast("Any", quiet))

    async def shown(
        self,
        leaves: list[bytes],
        since: int = 0,
        *,
        origin: str = ONE,
        created: int | None = None,
        signers: Any = (SIGNER,),
    ) -> str:
        """Show it a checkpoint over these leaves; what it makes of it."""
        self.now += 10
        read, size = log.memory_reader(leaves), len(leaves)
        note = sign_note(origin, size, merkle.root(size, read), signers)
        proof = tuple(merkle.consistency_proof(since, size, read))
        at = self.now - 1 if created is None else created
        header = Header(
            *(MessageId(new_id()), EnvelopeId(new_id()), witness.SHOW, 1, SCHOOL, POLICE),
            *(CaseId(new_id()), None, at, at + 1_000, "", ""),
        )
        await self._witness.take_shown(header, encode_shown(Shown(note, since, proof)))
        return self.outcomes[-1]

    async def kept(self, origin: str = ONE) -> list[tuple[int, bool]]:
        found = await self.store.read(audit.peer_checkpoints)
        return [(one.size, fork) for _, one, fork in found if one.origin == origin]


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    SqliteStore.create(tmp_path / "a.db")
    store = SqliteStore(tmp_path / "a.db")
    yield Keeper(store)
    await store.close()


async def test_a_log_that_comes_back_under_its_old_name_must_continue_what_it_was(keeper: Keeper) -> None:
    """Otherwise another name, for a moment, would be enough to rewrite the past."""
    assert await keeper.shown(LEAVES[:100]) == "first"
    assert await keeper.shown(REWRITTEN[:50], origin=OTHER) == "restarted"
    assert await keeper.shown(REWRITTEN[:100]) == "fork"
    assert await keeper.shown(REWRITTEN[:110], 100) == "fork"
    assert await keeper.shown(LEAVES[:110], 100) == "taken", "an honest one that was late on the road"
    assert await keeper.shown(REWRITTEN[:60], 50, origin=OTHER) == "taken"


async def test_the_last_checkpoint_of_a_log_given_up_is_kept_for_good(keeper: Keeper) -> None:
    await keeper.shown(LEAVES[:90])
    await keeper.shown(LEAVES[:100], 90)
    assert await keeper.shown(LEAVES[:1], origin=OTHER) == "restarted"
    for size in range(1, 3 * witness.KEEP):
        assert await keeper.shown(LEAVES[: size + 1], size, origin=OTHER) == "taken"
    assert (100, False) in await keeper.kept()
    assert len(await keeper.kept(OTHER)) == witness.KEEP


async def test_a_peer_that_changes_its_name_all_the_time_fills_nothing(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "LOGS", 5)
    outcomes = [await keeper.shown(LEAVES[:9], origin=audit.ORIGIN + new_id()) for _ in range(20)]
    assert outcomes == ["first", *["restarted"] * 4, *["fork"] * 15]
    assert len(await keeper.store.read(audit.peer_checkpoints)) == 5
    assert await keeper.store.read(audit.size) == 4


async def test_what_waited_while_this_node_was_down_is_no_fork(keeper: Keeper) -> None:
    """The peer showed one every ten minutes, each with the proof from what it knew to be kept."""
    await keeper.shown(LEAVES[:100])
    before = keeper.now
    outcomes = [await keeper.shown(LEAVES[:size], 100, created=before) for size in range(110, 190, 10)]
    assert outcomes == ["taken", *["unproven"] * 7]
    assert await keeper.shown(LEAVES[:190], 110) == "taken"


async def test_a_peer_that_never_brings_the_proof_it_was_asked_for_counts_as_forked(keeper: Keeper) -> None:
    await keeper.shown(LEAVES[:100])
    outcomes = [await keeper.shown(REWRITTEN[:size], 50) for size in range(110, 160, 10)]
    assert outcomes == [*["unproven"] * 4, "fork"]
    assert (150, True) in await keeper.kept()


@pytest.mark.parametrize("origin", ["other.example/log", "referral-gateway/audit/ada-lovelace-1815"])
async def test_a_log_is_named_by_a_random_identifier_or_is_refused(keeper: Keeper, origin: str) -> None:
    with pytest.raises(RefusedByPeer):
        await keeper.shown(LEAVES[:5], origin=origin)
    assert await keeper.store.read(audit.peer_checkpoints) == []


async def test_of_a_node_that_serves_many_agencies_only_the_peers_own_signatures_are_kept(
    keeper: Keeper,
) -> None:
    repeated = [*NEIGHBOURS, *[SIGNER] * 5]
    assert await keeper.shown(LEAVES[:5], signers=repeated) == "first"
    ((_, one, _),) = await keeper.store.read(audit.peer_checkpoints)
    assert len(one.note) < 5_500
    read_note(one.note).verify(NoteKeys(SIGNER[0].public, SIGNER[1].public))
