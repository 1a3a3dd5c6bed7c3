"""The ledger: a hash chain of signed entries that says which commands a store was given, and in which batch.

Each entry holds the root of a Merkle tree (RFC 9162) over what was written, and the hash of the entry before it, so
that nobody without the signer's key can change, drop or slip in a command unseen.
"""

from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Leaf, Op
from commandstore.ledger.proof import Proof
from commandstore.ledger.signing import Ed25519Signer, Signer, Verifier

__all__ = ["Ed25519Signer", "Entry", "Leaf", "Op", "Proof", "Signer", "Verifier"]
