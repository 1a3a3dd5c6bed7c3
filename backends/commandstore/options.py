"""How a store was initialised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from commandstore.crypto import Crypto
from commandstore.errors import ConfigurationError
from commandstore.ledger.signing import Signer

__all__ = ["StoreOptions"]


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store was initialised.

    Attributes:
        read_only: writes are refused.
        crypto: seals and opens payloads; None keeps them plain.
        attributes: whatever the application wants to keep beside its store; given back as it is.
        on_undecryptable: ``"raise"``: a command that can't be decrypted is an error (in a list, one of ``corrupt``);
            ``"keep"``: it is given as a :class:`~commandstore.SealedCommand`.
        signer: signs the ledger's entries, in which whatever this store writes is recorded; None keeps no ledger.
    """

    read_only: bool = False
    crypto: Crypto | None = field(default=None, repr=False)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    on_undecryptable: str = "raise"
    signer: Signer | None = field(default=None, repr=False)

    def check(self) -> None:
        """Raise ConfigurationError where one of them can't be right."""
        if self.crypto is not None and not isinstance(self.crypto, Crypto):
            raise ConfigurationError("crypto must have prepare, seal, open and digest (see commandstore.Crypto)")
        # Not by the protocol, which would ask for the key's id: a key that is far away is asked when it has to sign.
        if self.signer is not None and not callable(getattr(self.signer, "sign", None)):
            raise ConfigurationError("signer must have key_id, algorithm, sign and public_key (commandstore.Signer)")
        if self.on_undecryptable not in {"raise", "keep"}:
            raise ConfigurationError('on_undecryptable is "raise" or "keep"')
