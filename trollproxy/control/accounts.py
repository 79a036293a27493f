"""Accounts and their keys: create, rotate, credit. Secrets are returned once and kept only as hashes."""

from collections.abc import Callable

import msgspec

from trollproxy.errors import InvalidRequest, NotFound
from trollproxy.policy.keys import CLIENT_PREFIX, ENTROPY_BYTES, FRIEND_PREFIX, mint, read_key
from trollproxy.ports import Store
from trollproxy.records import (
    ClientKey,
    Credit,
    CreditKind,
    FriendKey,
    ModelLimit,
    Role,
    Tier,
    User,
    Wallet,
)

MAX_USERNAME = 64
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+")


class Minted(msgspec.Struct, frozen=True):
    """A new key: the secret for its holder, the record for us."""

    secret: str
    key_id: str


class AccountOffice:
    """Opens accounts and hands out keys."""

    def __init__(
        self, store: Store, *, pepper: bytes, random_bytes: Callable[[int], bytes], wall: Callable[[], float]
    ) -> None:
        self._store = store
        self._pepper = pepper
        self._random_bytes = random_bytes
        self._wall = wall

    async def open_account(self, username: str, *, role: Role = "user", password_hash: str | None = None) -> User:
        if not 0 < len(username) <= MAX_USERNAME or not _NAME_CHARACTERS.issuperset(username):
            raise InvalidRequest(f"A username has 1 to {MAX_USERNAME} letters, digits or any of . _ - @ +")
        user = User(username=username, role=role, password_hash=password_hash, created_at_s=self._wall())
        await self._store.add_user(user)
        return user

    async def issue_key(
        self, username: str, *, name: str = "", tier: Tier = "dev", expires_at_s: float | None = None
    ) -> Minted:
        await self._require(username)
        secret, key = self._new_key(username, name=name, tier=tier, expires_at_s=expires_at_s)
        await self._store.add_client_key(key)
        return Minted(secret, key.key_id)

    async def rotate_key(self, key_id: str) -> Minted:
        """A new secret for the same holder, name, tier and expiry; the old one stops at once."""
        found = await self._store.find_client_key(key_id)
        if found is None:
            raise NotFound(f"There is no key {key_id!r}.")
        secret, key = self._new_key(found.username, name=found.name, tier=found.tier, expires_at_s=found.expires_at_s)
        await self._store.replace_client_key(key_id, key)
        return Minted(secret, key.key_id)

    async def issue_friend_key(self, owner: str, *, name: str, model_limits: dict[str, ModelLimit]) -> Minted:
        await self._require(owner)
        secret = mint(FRIEND_PREFIX, self._random_bytes(ENTROPY_BYTES))
        material = read_key(secret, self._pepper)
        await self._store.add_friend_key(
            FriendKey(
                key_id=material.key_id,
                key_hash=material.key_hash,
                owner=owner,
                name=name,
                model_limits=model_limits,
                created_at_s=self._wall(),
            )
        )
        return Minted(secret, material.key_id)

    async def revoke(self, key_id: str) -> None:
        is_known = await self._store.set_client_key_active(key_id, active=False)
        if not is_known and not await self._store.set_friend_key_active(key_id, active=False):
            raise NotFound(f"There is no key {key_id!r}.")

    async def credit(
        self, username: str, amount_nusd: int, *, wallet: Wallet, kind: CreditKind, note: str = ""
    ) -> Credit:
        credit = Credit(
            entry_id="credit_" + self._random_bytes(12).hex(),
            username=username,
            wallet=wallet,
            kind=kind,
            amount_nusd=amount_nusd,
            note=note,
            created_at_s=self._wall(),
        )
        await self._store.apply_credit(credit)
        return credit

    async def _require(self, username: str) -> None:
        if not await self._store.read_users([username]):
            raise NotFound(f"There is no user {username!r}.")

    def _new_key(self, username: str, *, name: str, tier: Tier, expires_at_s: float | None) -> tuple[str, ClientKey]:
        secret = mint(CLIENT_PREFIX, self._random_bytes(ENTROPY_BYTES))
        material = read_key(secret, self._pepper)
        key = ClientKey(
            key_id=material.key_id,
            key_hash=material.key_hash,
            username=username,
            name=name,
            tier=tier,
            expires_at_s=expires_at_s,
            created_at_s=self._wall(),
        )
        return secret, key
