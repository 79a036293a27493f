"""The shape of both stores, as ordered steps that are only ever added to.

A store remembers how many steps it has taken (SQLite: `PRAGMA user_version`; MongoDB: `meta` document "schema"), and
takes the rest when it is opened. A store that is ahead of this code is refused: an older gateway would write rows that
the newer one does not expect. Each step can be repeated after a crash in its midst.
"""

import sqlite3
from typing import Any

import msgspec

from trollproxy.errors import GatewayError
from trollproxy.store.names import (
    CLIENT_KEYS,
    FRIEND_KEYS,
    FRIEND_SPEND,
    LEDGER,
    META,
    REQUEST_LOGS,
    USERS,
)

# STRICT makes INTEGER mean it: an amount can never be stored as a float.
ACCOUNTS = (
    """CREATE TABLE usersNew (
        username TEXT PRIMARY KEY, password TEXT, role TEXT NOT NULL DEFAULT 'user',
        credits INTEGER NOT NULL DEFAULT 0, refCredits INTEGER NOT NULL DEFAULT 0 CHECK (refCredits >= 0),
        creditsNew INTEGER NOT NULL DEFAULT 0, tokensUsed INTEGER NOT NULL DEFAULT 0, creditsExpireAt REAL,
        isActive INTEGER NOT NULL DEFAULT 1, migration INTEGER NOT NULL DEFAULT 1, apiKey TEXT,
        createdAt REAL NOT NULL DEFAULT 0) STRICT""",
    "CREATE INDEX usersNew_apiKey ON usersNew (apiKey) WHERE apiKey IS NOT NULL",
    """CREATE TABLE user_keys (
        _id INTEGER PRIMARY KEY, keyId TEXT UNIQUE, keyHash BLOB, key TEXT, name TEXT NOT NULL,
        label TEXT NOT NULL DEFAULT '', tier TEXT NOT NULL DEFAULT 'dev', isActive INTEGER NOT NULL DEFAULT 1,
        expiresAt REAL, lastUsedAt REAL, createdAt REAL NOT NULL DEFAULT 0) STRICT""",
    "CREATE INDEX user_keys_name ON user_keys (name)",
    "CREATE INDEX user_keys_key ON user_keys (key) WHERE key IS NOT NULL",
    """CREATE TABLE friend_keys (
        _id INTEGER PRIMARY KEY, keyId TEXT UNIQUE, keyHash BLOB, key TEXT, ownerUsername TEXT NOT NULL,
        name TEXT NOT NULL DEFAULT '', isActive INTEGER NOT NULL DEFAULT 1, modelLimits TEXT NOT NULL DEFAULT '[]',
        totalSpent INTEGER NOT NULL DEFAULT 0, lastUsedAt REAL, createdAt REAL NOT NULL DEFAULT 0) STRICT""",
    "CREATE INDEX friend_keys_owner ON friend_keys (ownerUsername)",
    "CREATE INDEX friend_keys_key ON friend_keys (key) WHERE key IS NOT NULL",
    "CREATE TABLE meta (_id TEXT PRIMARY KEY, at REAL NOT NULL) STRICT",
)
BOOKS = (
    """CREATE TABLE request_logs (
        _id TEXT PRIMARY KEY, seq INTEGER NOT NULL, username TEXT NOT NULL, keyId TEXT NOT NULL, friendKeyId TEXT,
        wallet TEXT NOT NULL, format TEXT NOT NULL, model TEXT NOT NULL, upstreamModel TEXT NOT NULL,
        provider TEXT NOT NULL, upstreamKeyId TEXT NOT NULL, stream INTEGER NOT NULL, status INTEGER NOT NULL,
        code TEXT NOT NULL, endedBy TEXT NOT NULL, usage TEXT NOT NULL, isEstimated INTEGER NOT NULL,
        priceVersion TEXT NOT NULL, multiplierMicro INTEGER NOT NULL, costNusd INTEGER NOT NULL,
        upstreamCostNusd INTEGER, day TEXT NOT NULL, startedAtS REAL NOT NULL, firstTokenMs REAL,
        durationMs REAL NOT NULL) STRICT""",
    "CREATE INDEX request_logs_user ON request_logs (username, startedAtS, seq)",
    """CREATE TABLE ledger (
        _id TEXT PRIMARY KEY, type TEXT NOT NULL, username TEXT NOT NULL, wallet TEXT NOT NULL, amount INTEGER NOT NULL,
        writer TEXT, seq INTEGER, note TEXT NOT NULL DEFAULT '', state TEXT NOT NULL,
        createdAt REAL NOT NULL) STRICT""",
    "CREATE INDEX ledger_wallet ON ledger (username, wallet)",
    "CREATE INDEX ledger_writer ON ledger (writer, seq) WHERE writer IS NOT NULL",
    """CREATE TABLE friend_spend (
        _id TEXT PRIMARY KEY, keyId TEXT NOT NULL, day TEXT NOT NULL, model TEXT NOT NULL,
        spent INTEGER NOT NULL) STRICT""",
    "CREATE INDEX friend_spend_day ON friend_spend (keyId, day)",
    "CREATE TABLE dead_letters (_id TEXT PRIMARY KEY, reason TEXT NOT NULL, charge TEXT NOT NULL) STRICT",
)
PRICE_TABLES = (
    """CREATE TABLE prices (
        _id TEXT PRIMARY KEY, perMtokNusd TEXT NOT NULL, multiplierMicro INTEGER NOT NULL) STRICT""",
)
LOST_COSTS = ("ALTER TABLE request_logs ADD COLUMN lostCostNusd INTEGER NOT NULL DEFAULT 0",)
# A charge's row in the log has the number of its entry in the ledger, whose indexes find both. A row without an entry
# has a number below 0, and indexes of its own. Numbers are columns, since VACUUM gives out row ids anew; they grow, as
# a table's end is where a row is put with the least work.
FIRST_APART = -(10**14)
ONE_NUMBER = (
    "CREATE TABLE writers (_id TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT",
    """INSERT INTO writers SELECT writer, MAX(seq) FROM ledger WHERE writer IS NOT NULL AND seq IS NOT NULL
        GROUP BY writer""",
    "ALTER TABLE ledger RENAME TO former_ledger",
    """CREATE TABLE ledger (
        n INTEGER PRIMARY KEY, _id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, username TEXT NOT NULL,
        wallet TEXT NOT NULL, amount INTEGER NOT NULL, writer TEXT, seq INTEGER, note TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL, createdAt REAL NOT NULL) STRICT""",
    """INSERT INTO ledger (_id, type, username, wallet, amount, writer, seq, note, state, createdAt)
        SELECT _id, type, username, wallet, amount, writer, seq, note, state, createdAt
        FROM former_ledger ORDER BY rowid""",
    "DROP TABLE former_ledger",
    "CREATE INDEX ledger_user ON ledger (username, createdAt)",
    "ALTER TABLE request_logs RENAME TO former_logs",
    """CREATE TABLE request_logs (
        n INTEGER PRIMARY KEY, _id TEXT NOT NULL, seq INTEGER NOT NULL, username TEXT NOT NULL, keyId TEXT NOT NULL,
        friendKeyId TEXT, wallet TEXT NOT NULL, format TEXT NOT NULL, model TEXT NOT NULL, upstreamModel TEXT NOT NULL,
        provider TEXT NOT NULL, upstreamKeyId TEXT NOT NULL, stream INTEGER NOT NULL, status INTEGER NOT NULL,
        code TEXT NOT NULL, endedBy TEXT NOT NULL, usage TEXT NOT NULL, isEstimated INTEGER NOT NULL,
        priceVersion TEXT NOT NULL, multiplierMicro INTEGER NOT NULL, costNusd INTEGER NOT NULL,
        upstreamCostNusd INTEGER, lostCostNusd INTEGER NOT NULL DEFAULT 0, day TEXT NOT NULL, startedAtS REAL NOT NULL,
        firstTokenMs REAL, durationMs REAL NOT NULL) STRICT""",
    f"""INSERT INTO request_logs (
            n, _id, seq, username, keyId, friendKeyId, wallet, format, model, upstreamModel, provider, upstreamKeyId,
            stream, status, code, endedBy, usage, isEstimated, priceVersion, multiplierMicro, costNusd,
            upstreamCostNusd, lostCostNusd, day, startedAtS, firstTokenMs, durationMs)
        SELECT COALESCE((SELECT n FROM ledger WHERE _id = logs._id AND type = 'usage'), {FIRST_APART} + logs.rowid),
            _id, seq, username, keyId, friendKeyId, wallet, format, model, upstreamModel, provider, upstreamKeyId,
            stream, status, code, endedBy, usage, isEstimated, priceVersion, multiplierMicro, costNusd,
            upstreamCostNusd, lostCostNusd, day, startedAtS, firstTokenMs, durationMs
        FROM former_logs AS logs ORDER BY logs.rowid""",  # noqa: S608 -- own words
    "DROP TABLE former_logs",
    "CREATE UNIQUE INDEX request_logs_apart ON request_logs (_id) WHERE n < 0",
    "CREATE INDEX request_logs_apart_user ON request_logs (username, startedAtS) WHERE n < 0",
)
SQLITE_STEPS = (ACCOUNTS, BOOKS, PRICE_TABLES, LOST_COSTS, ONE_NUMBER)


class Index(msgspec.Struct, frozen=True):
    """An index of a MongoDB collection. Sparse where imported documents lack the field."""

    collection: str
    fields: tuple[tuple[str, int], ...]
    is_unique: bool = False
    is_sparse: bool = False


MONGO_STEPS = (
    (
        Index(USERS, (("username", 1),), is_unique=True, is_sparse=True),
        Index(USERS, (("apiKey", 1),), is_sparse=True),
        Index(CLIENT_KEYS, (("keyId", 1),), is_unique=True, is_sparse=True),
        Index(CLIENT_KEYS, (("key", 1),), is_sparse=True),
        Index(CLIENT_KEYS, (("name", 1),)),
        Index(FRIEND_KEYS, (("keyId", 1),), is_unique=True, is_sparse=True),
        Index(FRIEND_KEYS, (("key", 1),), is_sparse=True),
        Index(FRIEND_KEYS, (("ownerUsername", 1),)),
    ),
    (
        Index(REQUEST_LOGS, (("username", 1), ("startedAtS", -1), ("seq", -1))),
        Index(LEDGER, (("username", 1), ("wallet", 1), ("state", 1))),
        Index(LEDGER, (("writer", 1), ("seq", 1)), is_sparse=True),
        Index(FRIEND_SPEND, (("keyId", 1), ("day", 1))),
    ),
    # Prices are found by their id. Whose key is being adopted is asked at every start and for every unknown key.
    (Index(USERS, (("adopting.keyId", 1),), is_sparse=True),),
)


def migrate_sqlite(connection: sqlite3.Connection) -> None:
    """Take the missing steps, each in a transaction of its own together with its number."""
    is_current = False
    while not is_current:
        connection.execute("BEGIN IMMEDIATE")
        try:
            is_current = take_step(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # some errors have rolled it back already
                connection.execute("ROLLBACK")
            raise


def take_step(connection: sqlite3.Connection) -> bool:
    """Return whether there was none to take. The version is read in the transaction: others may be opening the file."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    refuse_newer(version, len(SQLITE_STEPS))
    if version == len(SQLITE_STEPS):
        return True
    for statement in SQLITE_STEPS[version]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version + 1:d}")
    return False


async def migrate_mongo(database: Any) -> None:
    """Take the missing steps. Creating an index that is there does nothing, so processes may do so at once."""
    schema = await database[META].find_one({"_id": "schema"})
    version = int(schema["version"]) if schema else 0
    refuse_newer(version, len(MONGO_STEPS))
    for number in range(version, len(MONGO_STEPS)):
        for index in MONGO_STEPS[number]:
            await database[index.collection].create_index(
                list(index.fields), unique=index.is_unique, sparse=index.is_sparse
            )
        await database[META].update_one({"_id": "schema"}, {"$max": {"version": number + 1}}, upsert=True)


def refuse_newer(version: int, known: int) -> None:
    if version > known:
        raise GatewayError(f"The store has schema {version}; this program knows {known}.", code="schema_too_new")
