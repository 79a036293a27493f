"""Client keys: how one is made, read and proven. Entropy and the pepper are passed in; nothing secret is kept.

Form: `sk-troll-<public id>-<secret>-<checksum>` (`fk-…` for friends). The public id finds the record, the secret proves
it, the checksum lets a mistyped key be refused without a look-up. Keys in the seeds' forms (any other `sk-…` or `fk-…`)
are found by a keyed hash of the whole.
"""

import base64
import hmac
import zlib

from trollproxy.errors import Unauthenticated
from trollproxy.records import ClientKeyMaterial

CLIENT_PREFIX = "sk-troll"
FRIEND_PREFIX = "fk-troll"
ENTROPY_BYTES = 30  # 10 for the public id (collisions are refused by the store), 20 for the secret (160 bits)
MAX_KEY_CHARS = 256  # longer than any vendor's key; bounds the work on garbage

_ID_BYTES = 10
_ID_CHARS = 16  # the base32 of 10 bytes
_OWN_PARTS = 5
_CHECKSUM_CHARS = 6


def mint(prefix: str, entropy: bytes) -> str:
    """A new key from 30 random bytes."""
    assert len(entropy) == ENTROPY_BYTES
    stem = f"{prefix}-{_base32(entropy[:_ID_BYTES])}-{_base32(entropy[_ID_BYTES:])}"
    return f"{stem}-{_checksum(stem)}"


def read_key(presented: str, pepper: bytes) -> ClientKeyMaterial:
    """What a presented key claims to be; Unauthenticated if no key can look like this."""
    if len(presented) > MAX_KEY_CHARS or not presented.isascii() or not presented.startswith(("sk-", "fk-")):
        raise Unauthenticated("This is not one of our keys. A key starts with sk-troll- or fk-.")
    parts = presented.split("-")
    if parts[1] == "troll" and len(parts) == _OWN_PARTS:
        return _read_own(presented, parts, pepper)
    digest = hmac.digest(pepper, presented.encode(), "sha256")
    return ClientKeyMaterial(key_id=_kind(presented) + "p" + digest.hex()[:32], key_hash=digest, plain=presented)


def is_friend(presented: str) -> bool:
    return presented.startswith("fk-")


def is_proven(material: ClientKeyMaterial, key_hash: bytes) -> bool:
    return hmac.compare_digest(material.key_hash, key_hash)


def _read_own(presented: str, parts: list[str], pepper: bytes) -> ClientKeyMaterial:
    stem, _, checksum = presented.rpartition("-")
    if checksum != _checksum(stem) or len(parts[2]) != _ID_CHARS:
        raise Unauthenticated("The API key is mistyped or cut off: its checksum does not match.")
    key_hash = hmac.digest(pepper, parts[3].encode(), "sha256")
    return ClientKeyMaterial(key_id=_kind(presented) + parts[2], key_hash=key_hash, plain=presented)


def _kind(presented: str) -> str:
    """Sets the ids of friend keys apart; all ids of one form have one length, so no two forms can meet."""
    return "f" if is_friend(presented) else ""


def _checksum(stem: str) -> str:
    return _base32(zlib.crc32(stem.encode()).to_bytes(4, "big"))[:_CHECKSUM_CHARS]


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()
