"""Where the books stand, in SQLite or MongoDB: how a gateway is told, and how a test reads behind its back."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tests.mongod import Mongod
from trollproxy.ports import Store
from trollproxy.store import names
from trollproxy.store.mongo import MongoStore
from trollproxy.store.sqlite import SqliteStore

Row = dict[str, Any]
COLUMNS = {
    names.USERS: ("username", "credits", "refCredits", "creditsNew"),
    names.FRIEND_KEYS: ("keyId", "totalSpent"),
    names.FRIEND_SPEND: ("keyId", "day", "spent"),
    names.REQUEST_LOGS: ("_id", "upstreamModel", "username", "friendKeyId", "wallet", "endedBy", "costNusd", "day"),
    names.LEDGER: ("_id", "type", "username", "wallet", "amount", "state"),
    names.DEAD_LETTERS: ("_id", "reason"),
}


class Page(msgspec.Struct, frozen=True):
    """What stands in the books, table by table."""

    users: list[Row]
    friend_keys: list[Row]
    friend_spend: list[Row]
    logs: list[Row]
    ledger: list[Row]
    dead_letters: list[Row]


class Shelf(Protocol):
    """One set of books."""

    name: str

    def settings(self) -> Row:
        """What the gateway's configuration must say."""

    def make_store(self) -> Store: ...

    def read(self) -> Page: ...


class SqliteShelf:
    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "data" / "trollproxy.sqlite"  # where the gateway itself puts it
        self._path.parent.mkdir(parents=True)

    def settings(self) -> Row:
        return {}

    def make_store(self) -> Store:
        return SqliteStore(self._path)

    def read(self) -> Page:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            queries = (f"SELECT {', '.join(columns)} FROM {table}" for table, columns in COLUMNS.items())
            return Page(*([dict(row) for row in db.execute(query)] for query in queries))


class MongoShelf:
    name = "mongo"

    def __init__(self, server: Mongod, database: str) -> None:
        self.server = server
        self._database = database
        self._uri = server.uri.replace("/?", f"/{database}?")

    def settings(self) -> Row:
        return {"mongodbUri": self._uri}

    def make_store(self) -> Store:
        return MongoStore(self._uri)

    def read(self) -> Page:
        with self.server.client() as client:
            tables = client[self._database]
            return Page(*(list(tables[table].find({}, list(columns))) for table, columns in COLUMNS.items()))
