"""The Merkle tree of RFC 6962 section 2 (the same in RFC 9162 section 2.1), with SHA-256. Pure.

`Read` gives the hash of a complete subtree: `read(level, position)` covers the 2^level leaves from
position * 2^level on. Proofs are made from such hashes, so that nobody has to hold a whole tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

Read = Callable[[int, int], bytes]

HASH_LENGTH = 32
"""Bytes."""
EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_PROOF = 64
"""Hashes in a proof: as many as a tree of 2^64 leaves needs; a consistency proof has one more."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash over two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(size: int, read: Read) -> bytes:
    """The hash of the tree of the first `size` leaves."""
    return _hash(0, size, read) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read: Read) -> list[bytes]:
    """The audit path of a leaf (RFC 6962 section 2.1.1). Raises ValueError for a leaf outside the tree."""
    if not 0 <= index < size:
        raise ValueError("there is no such leaf in a tree of this size")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        cut = begin + _split(end - begin)
        if index < cut:
            path.append(_hash(cut, end, read))
            end = cut
        else:
            path.append(_hash(begin, cut, read))
            begin = cut
    return path[::-1]


def consistency_proof(old: int, new: int, read: Read) -> list[bytes]:
    """That a tree of `new` leaves begins with one of `old` (RFC 6962 section 2.1.2). Raises ValueError."""
    if not 0 <= old <= new:
        raise ValueError("a tree only grows")
    if old in {0, new}:
        return []
    path: list[bytes] = []
    begin, end, known = 0, new, True
    while old != end:
        cut = begin + _split(end - begin)
        if old <= cut:
            path.append(_hash(cut, end, read))
            end = cut
        else:
            path.append(_hash(begin, cut, read))
            begin, known = cut, False
    if not known:
        path.append(_hash(begin, end, read))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """Whether the leaf stands at `index` in the tree with this root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or not _well_formed(proof):
        return False
    position, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and found == expected


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether the tree with the new root begins with the one of the old root (RFC 9162 section 2.1.4.2)."""
    if not 0 <= old <= new or not _well_formed(proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof) if old & (old - 1) else [old_root, *proof]  # a power of two is itself a subtree
    if not path:
        return False
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


def completed(old: int, new: int) -> list[tuple[int, int]]:
    """The subtrees above the leaves that a tree completes as it grows, lower levels first."""
    found = []
    level = 1
    while new >> level:
        found += [(level, position) for position in range(old >> level, new >> level)]
        level += 1
    return found


def _hash(begin: int, end: int, read: Read) -> bytes:
    """MTH of the leaves from `begin` up to `end`, where `begin` is a multiple of the subtree's span."""
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return read(level, begin >> level)
    cut = begin + _split(size)
    return node_hash(_hash(begin, cut, read), _hash(cut, end, read))


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _well_formed(proof: Sequence[bytes]) -> bool:
    return len(proof) <= MAX_PROOF + 1 and all(len(one) == HASH_LENGTH for one in proof)
