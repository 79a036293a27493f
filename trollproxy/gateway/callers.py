"""Who is calling: keys and accounts in memory, the store only for a key not seen lately.

The order of the checks is the seeds': the key exists and is proven, it is active, it has not expired, the account is
active and migrated. Unknown keys are looked up once and remembered; failures are limited by address, so that guessing
is slow, while keys in memory are never held up by somebody else's failures. Entries are re-read every reload interval
and forgotten when unused, so memory follows those who call, not those who exist.
"""

import asyncio
import hmac
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

from trollproxy.errors import Forbidden, RateLimited, Unauthenticated
from trollproxy.money.accounts import Account, Accounts
from trollproxy.money.holds import FriendSpend
from trollproxy.policy.keys import is_friend, is_proven, read_key
from trollproxy.policy.limits import Verdict, Windows, utc_day
from trollproxy.ports import Store
from trollproxy.records import ClientKey, ClientKeyMaterial, FriendKey, User, Wallet

MAX_UNKNOWN = 10_000  # remembered unknown keys: about 2 MB
UNKNOWN_TTL_S = 30.0  # a key made after it was tried works after this at the latest
UNUSED_TTL_S = 600.0  # an entry nobody used for so long is cheap to read again
MAX_ENTRIES = 200_000  # callers within ten minutes; about 1 kB each
_CHUNK = 500


class Caller:
    """A key in memory with the account that pays. The environment's key has neither."""

    __slots__ = ("account", "key", "spend", "used_s")

    def __init__(
        self, key: ClientKey | FriendKey | None, account: Account | None, spend: FriendSpend | None = None
    ) -> None:
        self.key = key
        self.account = account
        self.spend = spend
        self.used_s = 0.0

    @property
    def key_id(self) -> str:
        return self.key.key_id if self.key is not None else "environment"

    @property
    def friend(self) -> FriendKey | None:
        return self.key if isinstance(self.key, FriendKey) else None

    @property
    def is_admin(self) -> bool:
        """The environment's key, and the own keys of an administrator; never a friend's."""
        if self.key is None:
            return True
        return self.friend is None and self.account is not None and self.account.user.role == "admin"


class Books(Protocol):
    """The writer, as far as callers need it."""

    def quiet(self) -> AbstractAsyncContextManager[None]: ...

    def used(self, key_id: str, now_s: float) -> None: ...


class CallerPolicy(NamedTuple):
    """What the operator decided about callers."""

    pepper: bytes
    environment_key: str | None
    dev_rpm: int
    pro_rpm: int
    failed_per_minute: int


class Callers:
    """The look-aside of keys and accounts."""

    def __init__(self, store: Store, books: Books, accounts: Accounts, *, policy: CallerPolicy) -> None:
        self._store = store
        self._books = books
        self._accounts = accounts
        self._policy = policy
        self._entries: dict[str, Caller] = {}
        self._proven: dict[str, tuple[Caller, bytes]] = {}  # by credential; and the hash that it was proven against
        self._unknown: dict[str, float] = {}
        self._loading: dict[str, asyncio.Task[Caller | None]] = {}
        self._failures = Windows(bound=100_000)
        self._windows = Windows()
        self._environment = Caller(None, None)
        self._refreshing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def known(self, credential: str | None, *, wall_s: float, now_s: float) -> Caller | None:
        """The caller of a credential that was proven before, and still is what the key in memory says; None: ask
        `authenticate`.
        """
        proven = self._proven.get(credential or "")
        if proven is None:
            return None
        caller, key_hash = proven
        key = caller.key
        if key is None or key.key_hash != key_hash or not self._stands(caller):
            del self._proven[credential or ""]
            return None
        return self._admit(caller, wall_s=wall_s, now_s=now_s)

    async def authenticate(self, credential: str | None, peer: str, *, wall_s: float, now_s: float) -> Caller:
        """The caller behind a credential, allowed to call; or the typed reason why not."""
        if not credential:
            raise Unauthenticated(
                "No API key was given. Send it as 'Authorization: Bearer <key>' or 'x-api-key: <key>'.",
                code="missing_key",
            )
        if self._is_environment_key(credential):
            return self._environment
        material = self._read(credential, peer, now_s)
        caller = self._entries.get(material.key_id)
        if caller is None:
            caller = await self._look_up(material, peer, wall_s=wall_s, now_s=now_s)
        if caller is None or caller.key is None or not is_proven(material, caller.key.key_hash):
            self._failed(peer, now_s)
            raise Unauthenticated("This API key is not known.")
        if len(self._proven) >= MAX_ENTRIES:
            self._proven.clear()
        self._proven[credential] = (caller, caller.key.key_hash)
        return self._admit(caller, wall_s=wall_s, now_s=now_s)

    def _admit(self, caller: Caller, *, wall_s: float, now_s: float) -> Caller:
        check_allowed(caller, wall_s)
        caller.used_s = now_s
        self._books.used(caller.key_id, wall_s)
        return caller

    def limit(self, caller: Caller, wallet: Wallet, now_s: float) -> Verdict | None:
        """Take one of the key's requests of this minute. None: the environment's key is not limited."""
        if caller.key is None:
            return None
        return self._windows.of(caller.key_id, now_s).take(self._rpm(caller, wallet), now_s)

    def _rpm(self, caller: Caller, wallet: Wallet) -> int:
        """Requests a minute by tier; spending refCredits lifts to the higher one."""
        lifted = wallet == "legacy" and caller.account is not None and caller.account.spends_ref_credits()
        tier = caller.key.tier if isinstance(caller.key, ClientKey) else "dev"
        return self._policy.pro_rpm if lifted or tier == "pro" else self._policy.dev_rpm

    async def refresh(self, now_s: float) -> None:
        """Re-read what is in memory; forget the unused, the deleted and the remembered unknown."""
        async with self._refreshing:
            await self._refresh(now_s)

    async def _refresh(self, now_s: float) -> None:
        self._unknown.clear()
        for key_id, caller in list(self._entries.items()):
            if caller.used_s < now_s - UNUSED_TTL_S and (caller.account is None or caller.account.is_idle()):
                del self._entries[key_id]
        await self._refresh_keys()
        self._proven = {name: proven for name, proven in self._proven.items() if self._stands(proven[0])}
        await self._refresh_users()

    def _stands(self, caller: Caller) -> bool:
        return self._entries.get(caller.key_id) is caller

    async def _refresh_keys(self) -> None:
        for chunk in _chunks(list(self._entries)):
            friends = [key_id for key_id in chunk if self._entries[key_id].friend is not None]
            clients = [key_id for key_id in chunk if self._entries[key_id].friend is None]
            found: dict[str, ClientKey | FriendKey] = {}
            found.update((key.key_id, key) for key in await self._store.read_client_keys(clients))
            found.update((key.key_id, key) for key in await self._store.read_friend_keys(friends))
            for key_id in chunk:
                if key_id in found:
                    self._entries[key_id].key = found[key_id]
                else:
                    self._entries.pop(key_id, None)

    async def _refresh_users(self) -> None:
        names = {caller.account.user.username for caller in self._entries.values() if caller.account is not None}
        for chunk in _chunks(list(names)):
            async with self._books.quiet():
                for user in await self._store.read_users(chunk):
                    self._accounts.put(user)

    def _is_environment_key(self, credential: str) -> bool:
        expected = self._policy.environment_key
        return expected is not None and hmac.compare_digest(
            credential.encode(errors="surrogateescape"), expected.encode()
        )

    def _read(self, credential: str, peer: str, now_s: float) -> ClientKeyMaterial:
        try:
            return read_key(credential, self._policy.pepper)
        except Unauthenticated:
            self._failed(peer, now_s)
            raise

    async def _look_up(self, material: ClientKeyMaterial, peer: str, *, wall_s: float, now_s: float) -> Caller | None:
        """Read a key from the store, once for all who ask at the same time; remember that it is unknown."""
        key_id = material.key_id
        if self._unknown.get(key_id, 0.0) > now_s:
            return None
        self._refuse_guessing(peer, now_s)
        task = self._loading.get(key_id)
        if task is None:
            task = self._loading[key_id] = asyncio.ensure_future(self._load(material, wall_s))
            task.add_done_callback(partial(self._loaded, key_id))
        caller = await asyncio.shield(task)
        if caller is not None:
            return self._enter(caller, material)
        if key_id not in self._unknown:
            while len(self._unknown) >= MAX_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
            self._unknown[key_id] = now_s + UNKNOWN_TTL_S
        return None

    def _loaded(self, key_id: str, _task: asyncio.Task[Caller | None]) -> None:
        del self._loading[key_id]

    def _enter(self, caller: Caller, material: ClientKeyMaterial) -> Caller:
        """Remember a caller, but only for the bearer of the secret: a guessed id must not push others out of memory."""
        if caller.key is None or not is_proven(material, caller.key.key_hash):
            return caller
        if material.key_id not in self._entries:
            self._make_room()
        return self._entries.setdefault(material.key_id, caller)

    async def _load(self, material: ClientKeyMaterial, wall_s: float) -> Caller | None:
        find = self._load_friend if is_friend(material.plain) else self._load_client
        caller = await find(material, wall_s)
        # Entered before the loading is over, so that whoever comes between finds one of the two.
        return self._enter(caller, material) if caller is not None else None

    async def _load_client(self, material: ClientKeyMaterial, _wall_s: float) -> Caller | None:
        key = await self._store.find_client_key(material.key_id) or await self._store.adopt_client_key(material)
        if key is None:
            return None
        account = await self._load_account(key.username)
        return Caller(key, account) if account is not None else None

    async def _load_friend(self, material: ClientKeyMaterial, wall_s: float) -> Caller | None:
        key = await self._store.find_friend_key(material.key_id) or await self._store.adopt_friend_key(material)
        if key is None:
            return None
        account = await self._load_account(key.owner)
        day = utc_day(wall_s)
        if account is None:
            return None
        return Caller(key, account, FriendSpend(day, await self._read_spend(key.key_id, day)))

    async def _read_spend(self, key_id: str, day: str) -> dict[str, int]:
        """What a friend key has spent of a day: what the store has, and what an earlier run left in the journal.

        An earlier run's charges may be in both for the moment until they are written again; then a little less is lent
        until midnight, and never more.
        """
        async with self._books.quiet():
            spent = await self._store.read_friend_spend(key_id, day)
            left = self._accounts.lent_nusd(key_id, day)
        return {model: spent.get(model, 0) + left.get(model, 0) for model in spent.keys() | left.keys()}

    async def _load_account(self, username: str) -> Account | None:
        known = self._accounts.get(username)
        if known is not None:
            return known
        async with self._books.quiet():
            users: list[User] = await self._store.read_users([username])
            return self._accounts.put(users[0]) if users else None

    def _make_room(self) -> None:
        """Forget the oldest caller that owes and holds nothing; those that do are few, by the writer's bound."""
        if len(self._entries) < MAX_ENTRIES:
            return
        for key_id, caller in self._entries.items():
            if caller.account is None or caller.account.is_idle():
                del self._entries[key_id]
                return

    def _failed(self, peer: str, now_s: float) -> None:
        self._failures.of(peer, now_s).take(self._policy.failed_per_minute, now_s)

    def _refuse_guessing(self, peer: str, now_s: float) -> None:
        if self._failures.of(peer, now_s).is_full(self._policy.failed_per_minute, now_s):
            raise RateLimited("Too many failed attempts from this address.", code="too_many_failures", retry_after_s=60)


def check_allowed(caller: Caller, wall_s: float) -> None:
    """Active, not expired, the account active and migrated: each with its own error."""
    key, account = caller.key, caller.account
    if key is None or account is None:
        return
    if not key.is_active:
        raise Unauthenticated("This API key has been revoked.", code="key_revoked")
    if isinstance(key, ClientKey) and key.expires_at_s is not None and key.expires_at_s <= wall_s:
        raise Unauthenticated("This API key has expired.", code="key_expired")
    if not account.user.is_active:
        raise Forbidden("This account is disabled.", code="account_disabled")
    if not account.user.is_migrated:
        raise Forbidden("This account must be migrated before it can be used.", code="migration_required")


def _chunks(names: list[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
