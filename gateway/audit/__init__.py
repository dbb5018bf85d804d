"""The audit log: a Merkle tree over entries, signed checkpoints, proofs, and files that verify offline."""
