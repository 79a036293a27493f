"""Callers with a store in memory and a clock moved by hand, for the tests of who may call."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.aio import run
from tests.fakes import FakeClock, FakeStore
from trollproxy.errors import GatewayError
from trollproxy.gateway.callers import Caller, CallerPolicy, Callers
from trollproxy.money.accounts import Accounts
from trollproxy.policy import keys
from trollproxy.policy.keys import CLIENT_PREFIX, FRIEND_PREFIX, mint, read_key
from trollproxy.records import ClientKey, FriendKey, User

PEPPER = b"pepper"
ENVIRONMENT_KEY = "sk-environment-0123456789"


def mint_key(number: int, prefix: str = CLIENT_PREFIX) -> str:
    return mint(prefix, number.to_bytes(10, "big") + bytes(20))


def with_secret(key: str, secret: int) -> str:
    """Another secret for the same public id, its checksum right."""
    prefix = FRIEND_PREFIX if key.startswith("fk-") else CLIENT_PREFIX
    other = mint(prefix, bytes(10) + secret.to_bytes(20, "big"))
    return respelt(f"{prefix}-{key.split('-')[2]}-{other.split('-')[3]}")


def respelt(stem: str) -> str:
    return f"{stem}-{keys._checksum(stem)}"


KEY = mint_key(1)
FRIEND = mint_key(2, FRIEND_PREFIX)


class FakeBooks:
    """The writer's side: quiet moments, and who was used."""

    def __init__(self) -> None:
        self.last_used: dict[str, float] = {}
        self.is_quiet = False

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        self.is_quiet = True
        yield
        self.is_quiet = False

    def used(self, key_id: str, now_s: float) -> None:
        self.last_used[key_id] = now_s


class Desk:
    """Callers with a store in memory and a clock moved by hand."""

    def __init__(self, *, failed_per_minute: int = 3) -> None:
        self.store, self.books, self.accounts, self.clock = FakeStore(), FakeBooks(), Accounts(), FakeClock()
        policy = CallerPolicy(
            pepper=PEPPER,
            environment_key=ENVIRONMENT_KEY,
            dev_rpm=2,
            pro_rpm=4,
            failed_per_minute=failed_per_minute,
        )
        self.callers = Callers(self.store, self.books, self.accounts, policy=policy)
        self.store.users["ann"] = User(username="ann", credits_nusd=1_000)

    def add(self, key: str = KEY, **changes: Any) -> ClientKey:
        material = read_key(key, PEPPER)
        record = ClientKey(key_id=material.key_id, key_hash=material.key_hash, username="ann")
        self.store.client_keys[record.key_id] = msgspec.structs.replace(record, **changes)
        return self.store.client_keys[record.key_id]

    def add_friend(self, key: str = FRIEND, **changes: object) -> FriendKey:
        material = read_key(key, PEPPER)
        record = FriendKey(key_id=material.key_id, key_hash=material.key_hash, owner="ann")
        self.store.friend_keys[record.key_id] = msgspec.structs.replace(record, **changes)
        return self.store.friend_keys[record.key_id]

    def change_user(self, **changes: object) -> None:
        self.store.users["ann"] = msgspec.structs.replace(self.store.users["ann"], **changes)

    async def enter(self, key: str | None = KEY, peer: str = "1.1.1.1") -> Caller:
        clock = self.clock
        return await self.callers.authenticate(key, peer, wall_s=clock.wall_s, now_s=clock.now_s)

    def known(self, key: str | None = KEY) -> Caller | None:
        return self.callers.known(key, wall_s=self.clock.wall_s, now_s=self.clock.now_s)

    async def code(self, key: str | None = KEY, peer: str = "1.1.1.1") -> str:
        try:
            await self.enter(key, peer)
        except GatewayError as error:
            return error.code
        return "ok"

    async def refresh(self) -> None:
        await self.callers.refresh(self.clock.now_s)


def play(scene: Callable[[Desk], Awaitable[None]], **settings: int) -> None:
    async def life() -> None:
        await scene(Desk(**settings))

    run(life())
