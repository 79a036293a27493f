"""What the store contract is run on: each store on data of its own, and a way to look behind its back.

A lab speaks of tables and columns in the words that both stores share, so one test serves both. It is synchronous on
purpose: it must see what the store has committed, through a connection that is not the store's.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import msgspec
from bson.int64 import Int64

from tests.aio import run
from tests.mongod import Mongod
from trollproxy.chat import Usage
from trollproxy.ports import Store
from trollproxy.records import Batch, Charge, ClientKey, FriendKey, User
from trollproxy.store.mongo import MongoStore
from trollproxy.store.sqlite import SqliteStore

Scene = Callable[[Store], Awaitable[None]]
Doc = dict[str, Any]
AT_S = 1_760_000_000.125  # whole milliseconds: a Date holds no more


class Lab(Protocol):
    """One store's data for one test."""

    name: str

    def make(self) -> Store: ...

    def put(self, table: str, row: Doc) -> None:
        """Write a row as another program would have."""

    def rows(self, table: str) -> list[Doc]: ...

    def put_unmigrated_user(self, username: str) -> None: ...


class SqliteLab:
    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lab.sqlite"

    def make(self) -> Store:
        return SqliteStore(self._path)

    def put(self, table: str, row: Doc) -> None:
        flat = {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in row.items()}
        places = ", ".join(f":{name}" for name in flat)
        with sqlite3.connect(self._path) as db:
            db.execute(f"INSERT INTO {table} ({', '.join(flat)}) VALUES ({places})", flat)
        db.close()

    def rows(self, table: str) -> list[Doc]:
        db = sqlite3.connect(self._path)
        db.row_factory = sqlite3.Row
        found = [dict(row) for row in db.execute(f"SELECT * FROM {table}")]
        db.close()
        return found

    def put_unmigrated_user(self, username: str) -> None:
        self.put("usersNew", {"username": username, "credits": 12, "refCredits": 3, "migration": 0})


class MongoLab:
    name = "mongo"

    def __init__(self, server: Mongod) -> None:
        self.server = server
        self.database = f"lab_{uuid4().hex}"
        self.client = server.client()

    def make(self) -> Store:
        return MongoStore(self.server.uri, self.database)

    def put(self, table: str, row: Doc) -> None:
        self.client[self.database][table].insert_one(dict(row))

    def rows(self, table: str) -> list[Doc]:
        return list(self.client[self.database][table].find())

    def put_unmigrated_user(self, username: str) -> None:
        self.put("usersNew", {"username": username, "credits": 12.5, "refCredits": 3, "creditsNew": Int64(0)})

    def close(self) -> None:
        self.client.drop_database(self.database)
        self.client.close()


def play(lab: Lab, scene: Scene) -> None:
    """Open the lab's store, run the scene, close it."""

    async def life() -> None:
        store = lab.make()
        await store.open()
        try:
            await scene(store)
        finally:
            await store.close()

    run(life())


def make_charge(seq: int, **changes: Any) -> Charge:
    base = Charge(
        request_id=f"req-{seq}",
        seq=seq,
        username="ann",
        key_id="key-1",
        wallet="legacy",
        format="openai_chat",
        model="m-1",
        upstream_model="up-1",
        provider="acme",
        upstream_key_id="uk-1",
        stream=True,
        status=200,
        ended_by="completed",
        usage=Usage(uncached=10, read=5, out_text=7),
        price_version="v1",
        multiplier_micro=1_050_000,
        cost_nusd=100,
        day="2025-10-09",
        started_at_s=AT_S + seq,
        first_token_ms=12.5,
        duration_ms=99.75,
    )
    return msgspec.structs.replace(base, **changes)


def make_batch(*charges: Charge, writer: str = "w1", last_used: dict[str, float] | None = None) -> Batch:
    return Batch(writer=writer, charges=charges, last_used=last_used or {})


def make_user(username: str = "ann", **changes: Any) -> User:
    return msgspec.structs.replace(User(username=username, created_at_s=AT_S), **changes)


def make_client_key(key_id: str = "key-1", **changes: Any) -> ClientKey:
    base = ClientKey(key_id=key_id, key_hash=b"\x00hash\xff", username="ann", created_at_s=AT_S)
    return msgspec.structs.replace(base, **changes)


def make_friend_key(key_id: str = "fk-1", **changes: Any) -> FriendKey:
    base = FriendKey(key_id=key_id, key_hash=b"friend", owner="ann", created_at_s=AT_S)
    return msgspec.structs.replace(base, **changes)


async def read_user(store: Store, username: str = "ann") -> User:
    found = await store.read_users([username])
    assert len(found) == 1
    return found[0]


async def balances(store: Store, username: str = "ann") -> tuple[int, int, int]:
    """Credits, refCredits and creditsNew, after a look at whether the ledger explains them."""
    user = await read_user(store, username)
    assert user.ref_credits_nusd >= 0
    assert user.credits_nusd + user.ref_credits_nusd == await store.sum_ledger(username, "legacy")
    assert user.credits_new_nusd == await store.sum_ledger(username, "new")
    return user.credits_nusd, user.ref_credits_nusd, user.credits_new_nusd
