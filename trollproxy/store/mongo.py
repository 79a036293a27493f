"""The store in MongoDB, through motor: the only file that knows motor.

motor's life ends; its successor is `pymongo.AsyncMongoClient`. Only what both offer is used: methods that are awaited,
cursors read by `to_list`, and `close`, which only the successor awaits. Writes are acknowledged by the journals of a
majority and reads see only what a majority has, so nothing we were told can be taken back by a failover. How money
moves is in mongo_books, what an audit reads in mongo_audit.
"""

import asyncio
import contextlib
import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar

import pymongo
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReadPreference, ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from trollproxy.errors import NotFound
from trollproxy.records import (
    Batch,
    Charge,
    ClientKey,
    ClientKeyMaterial,
    Credit,
    FriendKey,
    Price,
    Statement,
    User,
)
from trollproxy.store import mongo_audit
from trollproxy.store.migrations import migrate_mongo
from trollproxy.store.mongo_books import MongoBooks, read_by
from trollproxy.store.mongo_docs import (
    Doc,
    client_key_from_doc,
    client_key_to_doc,
    friend_key_from_doc,
    friend_key_to_doc,
    user_from_doc,
)
from trollproxy.store.mongo_quiet import quieten_driver
from trollproxy.store.names import (
    AUDIT_DEADLINE_S,
    CLIENT_KEYS,
    DEADLINE_S,
    FRIEND_KEYS,
    FRIEND_SPEND,
    LIST_LIMIT,
    META,
    REQUEST_LOGS,
    SPEND_LIMIT,
    USERS,
    already_exists,
    bounded,
    charge_from_stored,
    date_from_s,
    unavailable,
)

P = ParamSpec("P")
T = TypeVar("T")
DEFAULT_DATABASE = "trollproxy"
DRIVER_DEADLINE_MS = 4500  # the driver gives up, and tells the server to, a little before we do
SELECTION_DEADLINE_MS = 4000
# A server that says it is shutting down (error 91) is asked again at the next heartbeat. The driver's own 10 s are two
# of our deadlines; one small command a second is nothing to a server.
HEARTBEAT_MS = 1000
MIGRATION_DEADLINE_S = 300.0  # an index over years of imported logs takes its time, once
OURS: Doc = {"keyId": {"$exists": True}}  # keys in the seeds' plain form have no id to be listed by


@contextlib.asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Bound what is inside and speak of its failures in our words. What was cancelled may still have been applied."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except DuplicateKeyError as error:
        raise already_exists() from error
    except (PyMongoError, TimeoutError) as error:
        raise unavailable() from error


def bounded_in_time(operation: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    @functools.wraps(operation)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async with deadline(DEADLINE_S):
            return await operation(*args, **kwargs)

    return run


def bounded_for_audit(operation: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    @functools.wraps(operation)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async with deadline(AUDIT_DEADLINE_S):
            with pymongo.timeout(AUDIT_DEADLINE_S):
                return await operation(*args, **kwargs)

    return run


class MongoStore:
    """The Store port on a MongoDB server or replica set."""

    def __init__(self, uri: str, database: str | None = None) -> None:
        self._uri = uri
        self._name = database
        self._client: Any = None  # Any: motor's types and its successor's differ, and neither is to be relied on
        self._open_database: Any = None
        self._open_books: MongoBooks | None = None

    async def open(self) -> None:
        try:
            async with deadline(DEADLINE_S):
                self._connect()
                await self._open_database.command("ping")
            async with deadline(MIGRATION_DEADLINE_S):
                with pymongo.timeout(MIGRATION_DEADLINE_S):
                    await migrate_mongo(self._open_database)
                    await self._finish_adoptions()
        except BaseException:
            await self.close()
            raise

    def _connect(self) -> None:
        # Made when opened and not earlier: motor belongs to the loop that first uses it.
        quieten_driver()
        client: Any = AsyncIOMotorClient(
            self._uri,
            tz_aware=True,
            timeoutMS=DRIVER_DEADLINE_MS,
            serverSelectionTimeoutMS=SELECTION_DEADLINE_MS,
            connectTimeoutMS=SELECTION_DEADLINE_MS,
            heartbeatFrequencyMS=HEARTBEAT_MS,
        )
        named = client[self._name] if self._name else client.get_default_database(DEFAULT_DATABASE)
        self._client = client
        self._open_database = named.with_options(
            write_concern=WriteConcern(w="majority", j=True),
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )
        self._open_books = MongoBooks(self._open_database)

    async def close(self) -> None:
        client, self._client = self._client, None
        self._open_database = self._open_books = None
        closing = client.close() if client is not None else None
        if inspect.isawaitable(closing):  # on motor's successor
            await closing

    @property
    def _database(self) -> Any:
        if self._open_database is None:
            raise unavailable()
        return self._open_database

    @property
    def _books(self) -> MongoBooks:
        if self._open_books is None:
            raise unavailable()
        return self._open_books

    @bounded_in_time
    async def ping(self) -> None:
        # A write that a majority has in its journal: a primary that has lost its majority still answers reads.
        now = {"$set": {"at": date_from_s(time.time())}}
        await self._database[META].update_one({"_id": "ping"}, now, upsert=True)

    # Callers
    @bounded_in_time
    async def find_client_key(self, key_id: str) -> ClientKey | None:
        doc = await self._database[CLIENT_KEYS].find_one({"keyId": key_id})
        return client_key_from_doc(doc) if doc else None

    @bounded_in_time
    async def find_friend_key(self, key_id: str) -> FriendKey | None:
        doc = await self._database[FRIEND_KEYS].find_one({"keyId": key_id})
        return friend_key_from_doc(doc) if doc else None

    @bounded_in_time
    async def adopt_client_key(self, material: ClientKeyMaterial) -> ClientKey | None:
        doc = await self._adopt(CLIENT_KEYS, material) or await self._adopt_user_key(material)
        return client_key_from_doc(doc) if doc else None

    @bounded_in_time
    async def adopt_friend_key(self, material: ClientKeyMaterial) -> FriendKey | None:
        doc = await self._adopt(FRIEND_KEYS, material)
        return friend_key_from_doc(doc) if doc else None

    async def _adopt(self, collection: str, material: ClientKeyMaterial) -> Doc | None:
        if not material.plain:
            return None
        identity = {"keyId": material.key_id, "keyHash": material.key_hash}
        change = {"$set": identity, "$unset": {"key": ""}}
        keys = self._database[collection]
        doc: Doc | None = await keys.find_one_and_update(
            {"key": material.plain}, change, return_document=ReturnDocument.AFTER
        )
        # By hash as well as by id: whoever adopted it a moment ago, it must be this very key.
        return doc or await keys.find_one(identity)

    async def _adopt_user_key(self, material: ClientKeyMaterial) -> Doc | None:
        """Make a user's own plain key a client key, in steps that can be taken again after a crash between them.

        The first replaces the plain text by what is needed to go on, in one document: there is no moment at which a
        crash leaves the text behind, nor one at which the key is lost.
        """
        users = self._database[USERS]
        if material.plain:
            note = {"keyId": material.key_id, "keyHash": material.key_hash}
            change = {"$set": {"adopting": note}, "$unset": {"apiKey": ""}}
            await users.update_one({"apiKey": material.plain, "adopting": {"$exists": False}}, change)
        await self._finish_adoption({"adopting.keyId": material.key_id, "adopting.keyHash": material.key_hash})
        identity = {"keyId": material.key_id, "keyHash": material.key_hash}
        doc: Doc | None = await self._database[CLIENT_KEYS].find_one(identity) if material.plain else None
        return doc

    async def _finish_adoption(self, query: Doc) -> None:
        owner = await self._database[USERS].find_one(query)
        if owner is None:
            return
        note = owner["adopting"]
        key = ClientKey(
            key_id=note["keyId"], key_hash=note["keyHash"], username=owner["username"], created_at_s=time.time()
        )
        keys = self._database[CLIENT_KEYS]
        await keys.update_one({"keyId": key.key_id}, {"$setOnInsert": client_key_to_doc(key)}, upsert=True)
        if await keys.find_one({"keyId": key.key_id, "keyHash": key.key_hash}):  # and not another's of the same id
            done = {"_id": owner["_id"], "adopting.keyId": key.key_id}
            await self._database[USERS].update_one(done, {"$unset": {"adopting": ""}})

    async def _finish_adoptions(self) -> None:
        """Those that a crash cut short; each takes a request of its owner, so they are few."""
        found = self._database[USERS].find({"adopting.keyId": {"$exists": True}}, {"adopting": 1})
        for owner in await found.to_list(LIST_LIMIT):
            await self._finish_adoption({"adopting.keyId": owner["adopting"]["keyId"]})

    @bounded_in_time
    async def read_users(self, usernames: Sequence[str]) -> list[User]:
        docs = await read_by(self._database[USERS], "username", values=usernames)
        return [user_from_doc(doc) for doc in docs]

    @bounded_in_time
    async def read_client_keys(self, key_ids: Sequence[str]) -> list[ClientKey]:
        docs = await read_by(self._database[CLIENT_KEYS], "keyId", values=key_ids)
        return [client_key_from_doc(doc) for doc in docs]

    @bounded_in_time
    async def read_friend_keys(self, key_ids: Sequence[str]) -> list[FriendKey]:
        docs = await read_by(self._database[FRIEND_KEYS], "keyId", values=key_ids)
        return [friend_key_from_doc(doc) for doc in docs]

    @bounded_in_time
    async def read_friend_spend(self, key_id: str, day: str) -> dict[str, int]:
        docs = await self._database[FRIEND_SPEND].find({"keyId": key_id, "day": day}).to_list(SPEND_LIMIT)
        return {doc["model"]: int(doc["spent"]) for doc in docs}

    # Administration
    @bounded_in_time
    async def add_user(self, user: User) -> None:
        await self._books.add_user(user)

    @bounded_in_time
    async def add_client_key(self, key: ClientKey) -> None:
        await self._database[CLIENT_KEYS].insert_one(client_key_to_doc(key))

    @bounded_in_time
    async def add_friend_key(self, key: FriendKey) -> None:
        await self._database[FRIEND_KEYS].insert_one(friend_key_to_doc(key))

    @bounded_in_time
    async def replace_client_key(self, old_key_id: str, key: ClientKey) -> None:
        # One document becomes the new key, so there is no moment with both, nor one with neither.
        keys = self._database[CLIENT_KEYS]
        change = {"$set": client_key_to_doc(key), "$unset": {"key": ""}}
        if (await keys.update_one({"keyId": old_key_id}, change)).matched_count:
            return
        if await keys.find_one({"keyId": key.key_id, "keyHash": key.key_hash}) is None:
            raise NotFound("There is no such key.")

    @bounded_in_time
    async def set_client_key_active(self, key_id: str, *, active: bool) -> bool:
        return await self._set_active(CLIENT_KEYS, key_id, active=active)

    @bounded_in_time
    async def set_friend_key_active(self, key_id: str, *, active: bool) -> bool:
        return await self._set_active(FRIEND_KEYS, key_id, active=active)

    async def _set_active(self, collection: str, key_id: str, *, active: bool) -> bool:
        result = await self._database[collection].update_one({"keyId": key_id}, {"$set": {"isActive": active}})
        return bool(result.matched_count)

    @bounded_in_time
    async def list_users(self, *, after: str = "", limit: int = 100) -> list[User]:
        query = {"username": {"$gt": after}}
        docs = await self._list(USERS, query, sort=[("username", 1)], limit=limit)
        return [user_from_doc(doc) for doc in docs]

    @bounded_in_time
    async def list_client_keys(self, username: str) -> list[ClientKey]:
        query = {"name": username, **OURS}
        docs = await self._list(CLIENT_KEYS, query, sort=[("createdAt", 1), ("keyId", 1)], limit=LIST_LIMIT)
        return [client_key_from_doc(doc) for doc in docs]

    @bounded_in_time
    async def list_friend_keys(self, owner: str) -> list[FriendKey]:
        query = {"ownerUsername": owner, **OURS}
        docs = await self._list(FRIEND_KEYS, query, sort=[("createdAt", 1), ("keyId", 1)], limit=LIST_LIMIT)
        return [friend_key_from_doc(doc) for doc in docs]

    async def _list(self, collection: str, query: Doc, *, sort: list[tuple[str, int]], limit: int) -> list[Doc]:
        cursor = self._database[collection].find(query).sort(sort).limit(bounded(limit))
        docs: list[Doc] = await cursor.to_list(LIST_LIMIT)
        return docs

    # Money
    @bounded_in_time
    async def apply_credit(self, credit: Credit) -> bool:
        return await self._books.apply_credit(credit)

    @bounded_in_time
    async def write_batch(self, batch: Batch) -> None:
        await self._books.write_batch(batch)

    @bounded_in_time
    async def read_charge(self, request_id: str) -> Charge | None:
        doc = await self._database[REQUEST_LOGS].find_one({"_id": request_id})
        return charge_from_stored(doc) if doc else None

    @bounded_in_time
    async def list_charges(self, username: str, *, limit: int = 100) -> list[Charge]:
        docs = await self._list(
            REQUEST_LOGS, {"username": username}, sort=[("startedAtS", -1), ("seq", -1)], limit=limit
        )
        return [charge_from_stored(doc) for doc in docs]

    @bounded_in_time
    async def read_last_seq(self, writer: str) -> int:
        return await self._books.read_last_seq(writer)

    @bounded_in_time
    async def sum_ledger(self, username: str, wallet: str) -> int:
        return await self._books.sum_ledger(username, wallet)

    @bounded_for_audit
    async def sum_upstream_costs(self, since_day: str) -> dict[tuple[str, str], int]:
        return await mongo_audit.sum_upstream_costs(self._database, since_day)

    # Prices
    @bounded_in_time
    async def write_prices(self, prices: Sequence[Price]) -> None:
        await mongo_audit.write_prices(self._database, prices)

    @bounded_in_time
    async def read_prices(self, versions: Sequence[str]) -> list[Price]:
        return await mongo_audit.read_prices(self._database, versions)

    # The audit
    @bounded_for_audit
    async def read_statements(self, usernames: Sequence[str]) -> list[Statement]:
        return await mongo_audit.read_statements(self._database, usernames)

    @bounded_for_audit
    async def page_charges(self, *, after: str = "", limit: int = 1000) -> list[Charge]:
        return await mongo_audit.page_charges(self._database, after, limit=bounded(limit))
