"""Payload encryption. The facade seals and opens payloads; backends see only bytes.

Filter fields are never encrypted. The digest of a sealed command is keyed, so that it tells nothing of the payload, and
equal commands still have equal digests.
"""

from commandstore.crypto.base import Context, Crypto, NoKey, Sealed
from commandstore.crypto.envelope import DataKey, EnvelopeCrypto, KeyProvider
from commandstore.crypto.service import CryptoService

__all__ = ["Context", "Crypto", "CryptoService", "DataKey", "EnvelopeCrypto", "KeyProvider", "NoKey", "Sealed"]
