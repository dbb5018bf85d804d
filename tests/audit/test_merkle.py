"""The tree of RFC 6962: published vectors, proofs of every small tree, proofs that were altered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit import merkle

# The leaves and roots of certificate-transparency's merkletree tests, which transparency-dev/merkle keeps
# (testonly/constants.go), as the tests of several other implementations do.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
# Audit paths and consistency proofs of the same tests: (leaf, size, path), (old, new, path).
PATHS = [
    (0, 1, ()),
    (
        0,
        8,
        (
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ),
    ),
    (
        5,
        8,
        (
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ),
    ),
    (2, 3, ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",)),
]
CONSISTENT = [
    (1, 1, ()),
    (
        1,
        8,
        (
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ),
    ),
    (
        6,
        8,
        (
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ),
    ),
]


def plain(leaves: Sequence[bytes]) -> bytes:
    """MTH as the RFC defines it, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return merkle.leaf_hash(leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return merkle.node_hash(plain(leaves[:k]), plain(leaves[k:]))


def reader(leaves: Sequence[bytes]) -> merkle.Read:
    return lambda level, position: plain(leaves[position << level : (position + 1) << level])


def made(size: int) -> list[bytes]:
    return [b"%d" % number for number in range(size)]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert merkle.root(size, reader(LEAVES)) == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "path"), PATHS)
def test_audit_paths_are_the_published_ones(index: int, size: int, path: tuple[str, ...]) -> None:
    proof = merkle.inclusion_proof(index, size, reader(LEAVES))
    assert [one.hex() for one in proof] == list(path)
    assert merkle.verify_inclusion(merkle.leaf_hash(LEAVES[index]), index, size, proof, ROOTS[size])


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENT)
def test_consistency_proofs_are_the_published_ones(old: int, new: int, path: tuple[str, ...]) -> None:
    proof = merkle.consistency_proof(old, new, reader(LEAVES))
    assert [one.hex() for one in proof] == list(path)
    assert merkle.verify_consistency(old, new, proof, ROOTS[old], ROOTS[new])


def test_every_proof_of_every_small_tree_verifies() -> None:
    leaves = made(20)
    read = reader(leaves)
    roots = [plain(leaves[:size]) for size in range(21)]
    for size in range(1, 21):
        assert merkle.root(size, read) == roots[size]
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, read)
            assert merkle.verify_inclusion(merkle.leaf_hash(leaves[index]), index, size, proof, roots[size])
        for old in range(size + 1):
            proof = merkle.consistency_proof(old, size, read)
            assert merkle.verify_consistency(old, size, proof, roots[old], roots[size])


@given(st.data(), st.integers(2, 60))
def test_nothing_else_verifies(data: st.DataObject, size: int) -> None:
    leaves = made(size)
    read, new_root = reader(leaves), plain(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof, leaf = merkle.inclusion_proof(index, size, read), merkle.leaf_hash(leaves[index])
    wrong = data.draw(st.integers(0, size - 1).filter(lambda n: n != index))
    assert not merkle.verify_inclusion(leaf, wrong, size, proof, new_root)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"another"), index, size, proof, new_root)
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, bytes(32)], new_root)
    assert not merkle.verify_inclusion(leaf, index, size, proof[:-1], new_root)
    old = data.draw(st.integers(1, size - 1))
    proof, old_root = merkle.consistency_proof(old, size, read), plain(leaves[:old])
    assert not merkle.verify_consistency(old, size, proof, plain([b"another", *leaves[1:old]]), new_root)
    assert not merkle.verify_consistency(old, size, [*proof, bytes(32)], old_root, new_root)
    assert not merkle.verify_consistency(old, size, proof[:-1], old_root, new_root)
    flipped = [bytes([proof[0][0] ^ 1]) + proof[0][1:], *proof[1:]]
    assert not merkle.verify_consistency(old, size, flipped, old_root, new_root)


@given(st.integers(0, 200), st.integers(0, 200))
def test_subtrees_are_completed_once_and_in_order(old: int, more: int) -> None:
    whole = set(merkle.completed(0, old + more))
    first, second = merkle.completed(0, old), merkle.completed(old, old + more)
    assert set(first) | set(second) == whole
    assert not set(first) & set(second)
    assert [level for level, _ in second] == sorted(level for level, _ in second)


def test_what_is_not_in_the_tree_has_no_proof() -> None:
    for wrong in (
        lambda: merkle.inclusion_proof(3, 3, reader(made(3))),
        lambda: merkle.consistency_proof(4, 3, reader(made(3))),
    ):
        with pytest.raises(ValueError, match="tree"):
            wrong()
