"""Tokens: random, kept as hashes, taken up and given up while the node runs."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest

from gateway.errors import StartupError
from gateway.http.auth import TokenFile, create_token, list_tokens, revoke_token
from gateway.http.ports import Permission
from gateway.messages import AgencyId

SCHOOL = AgencyId("school")
SEND = frozenset({Permission.SEND})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_is_known_for_its_agency_and_what_it_may_do(path: Path) -> None:
    send = create_token(path, SCHOOL, SEND, 1000)
    receive = create_token(path, AgencyId("police"), frozenset({Permission.RECEIVE}), 2000)
    tokens = TokenFile(path)
    first, second = tokens.authenticate(send), tokens.authenticate(receive)
    assert first
    assert second
    assert (first.agency, first.permissions) == ("school", SEND)
    assert (second.agency, second.permissions) == ("police", frozenset({Permission.RECEIVE}))
    assert first.token_id != second.token_id


@pytest.mark.parametrize("wrong", ["", "rgt_", "rgt_" + "A" * 43, "\udcff", "\0"])
def test_any_other_is_not(path: Path, wrong: str) -> None:
    token = create_token(path, SCHOOL, SEND, 0)
    tokens = TokenFile(path)
    assert tokens.authenticate(wrong) is None
    assert tokens.authenticate(token[:-1]) is None
    assert tokens.authenticate(token + "A") is None


def test_a_token_has_256_random_bits_and_a_prefix_for_scanners(path: Path) -> None:
    made = {create_token(path, SCHOOL, SEND, 0) for _ in range(3)}
    assert len(made) == 3
    assert all(token.startswith("rgt_") and len(token) == 47 for token in made)


def test_the_file_holds_the_hash_alone_for_its_owner_alone(path: Path) -> None:
    token = create_token(path, SCHOOL, SEND, 0)
    text = path.read_text()
    assert token not in text
    assert token.removeprefix("rgt_") not in text
    assert hashlib.sha256(token.encode()).hexdigest() in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_hash_is_not_a_token(path: Path) -> None:
    token = create_token(path, SCHOOL, SEND, 0)
    assert TokenFile(path).authenticate(hashlib.sha256(token.encode()).hexdigest()) is None


def test_tokens_made_and_revoked_while_the_node_runs(path: Path) -> None:
    tokens = TokenFile(path)
    first = create_token(path, SCHOOL, SEND, 0)
    assert tokens.authenticate(first)
    second = create_token(path, SCHOOL, SEND, 0)
    assert tokens.authenticate(first)
    assert tokens.authenticate(second)
    known = tokens.authenticate(first)
    assert known
    revoke_token(path, known.token_id)
    assert tokens.authenticate(first) is None
    assert tokens.authenticate(second)


def test_a_file_that_is_gone_lets_nobody_in(path: Path) -> None:
    token = create_token(path, SCHOOL, SEND, 0)
    tokens = TokenFile(path)
    path.unlink()
    assert tokens.authenticate(token) is None


def test_a_file_damaged_while_the_node_runs_leaves_the_last_good_one(path: Path) -> None:
    token = create_token(path, SCHOOL, SEND, 0)
    tokens = TokenFile(path)
    path.write_text("{")
    assert tokens.authenticate(token)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        "{}",
        '{"tokens": 1}',
        '{"tokens": [1]}',
        '{"tokens": [{}]}',
        '{"tokens": [{"id": "1", "sha256": "0", "agency": "a", "may": ["canary"]}]}',
    ],
)
def test_a_damaged_file_stops_the_start_and_is_named_not_quoted(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(StartupError, match="tokens") as caught:
        TokenFile(path)
    assert "canary" not in str(caught.value)


def test_the_list_says_what_is_known_and_not_the_secret(path: Path) -> None:
    create_token(path, SCHOOL, frozenset(Permission), 1234)
    (one,) = list_tokens(path)
    assert (one["agency"], one["may"], one["created"]) == ("school", ["receive", "send"], 1234)
    assert set(one) == {"id", "agency", "may", "created"}


def test_revoking_what_is_not_there(path: Path) -> None:
    create_token(path, SCHOOL, SEND, 0)
    before = json.loads(path.read_text())
    with pytest.raises(StartupError, match="token list"):
        revoke_token(path, "nobody")
    assert json.loads(path.read_text()) == before
