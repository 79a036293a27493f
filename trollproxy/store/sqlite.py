"""The store in one SQLite file: for a single machine, with no server to run.

One thread writes through one connection and alone checkpoints the log; a second reads through a read-only one, so a
long write never delays a look-up and the event loop waits for neither; a third reads for the audit, which takes longer
than anybody else would wait. Every write is one transaction, on disk (`synchronous=FULL`) before its caller hears of
it. What the transactions do is in sqlite_books, sqlite_keys and sqlite_audit.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

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
from trollproxy.store import sqlite_audit, sqlite_books, sqlite_keys
from trollproxy.store.migrations import migrate_sqlite
from trollproxy.store.names import (
    AUDIT_DEADLINE_S,
    CLIENT_KEYS,
    DEADLINE_S,
    FRIEND_KEYS,
    SPEND_LIMIT,
    USERS,
    already_exists,
    bounded,
    unavailable,
)
from trollproxy.store.sqlite_rows import (
    client_key_from_row,
    client_key_to_row,
    friend_key_from_row,
    friend_key_to_row,
    insert,
    user_from_row,
)

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
BUSY_TIMEOUT_MS = 4500  # below the deadline, so that a locked file says so itself
MIGRATION_DEADLINE_S = 3600.0  # it rewrites tables that hold years of charges: some 10 s a million
CACHE_KIB = 16 * 1024  # what a batch of many users changes, which else went to the log and back while it is written
LOG_BYTES = 64 * 1024 * 1024  # a migration's log is as large as its tables; what is over this goes back to the disk
STEPS_PER_LOOK = 10_000  # of SQLite's machine between two looks at the clock: well under a millisecond
TAKEN = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")


class Lane:
    """A thread and the connection that only it touches. Jobs run in order, each within the deadline or not at all."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], *, deadline_s: float = DEADLINE_S) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{name}")
        self._connect = connect
        self._db: sqlite3.Connection | None = None
        self._deadline_s = deadline_s
        self._is_closing = False

    async def open(self, deadline_s: float) -> None:
        """Connect, which may take a migration, and so more than the deadline of a job."""
        await self._run(lambda _: None, deadline_s)

    async def run(self, job: Job[T]) -> T:
        return await self._run(job, self._deadline_s)

    async def _run(self, job: Job[T], within_s: float) -> T:
        deadline_s = time.monotonic() + within_s
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.get_running_loop().run_in_executor(self._executor, self._do, job, deadline_s)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname not in TAKEN:
                raise  # a CHECK that fails is our bug, not an outage
            raise already_exists() from error
        except (sqlite3.Error, TimeoutError) as error:
            raise unavailable() from error

    async def close(self) -> None:
        self._is_closing = True  # a reading that nobody waits for any more ends now; a write is seen through
        try:
            await self.run(lambda db: db.close())
        finally:
            self.abandon()

    def abandon(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _do(self, job: Job[T], deadline_s: float) -> T:
        if time.monotonic() > deadline_s:
            raise TimeoutError
        if self._db is None:
            self._db = self._connect()
        # A statement past its deadline is stopped from within: nobody waits for it, and the next job is due.
        self._db.set_progress_handler(lambda: self._is_overdue(deadline_s), STEPS_PER_LOOK)
        return job(self._db)

    def _is_overdue(self, deadline_s: float) -> bool:
        is_reading = self._db is not None and not self._db.in_transaction
        return time.monotonic() > deadline_s or (self._is_closing and is_reading)


def connect_writer(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None)  # transactions begin and end where we say
    db.row_factory = sqlite3.Row
    db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    migrate_sqlite(db)
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return db


def transact(db: sqlite3.Connection, job: Job[T]) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = job(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors have rolled it back already
            db.execute("ROLLBACK")
        raise
    return result


class SqliteStore:
    """The Store port on one file."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._writer: Lane | None = None
        self._reader: Lane | None = None
        self._auditor: Lane | None = None

    async def open(self) -> None:
        self._writer = Lane("writer", lambda: connect_writer(self._path))
        self._reader = Lane("reader", lambda: connect_reader(self._path))
        self._auditor = Lane("auditor", lambda: connect_reader(self._path), deadline_s=AUDIT_DEADLINE_S)
        try:
            await self._writer.open(MIGRATION_DEADLINE_S)  # first: the reader cannot create the file
            await self._reader.open(DEADLINE_S)
        except BaseException:
            for lane in (self._writer, self._reader, self._auditor):
                lane.abandon()
            raise

    async def close(self) -> None:
        auditor, reader, writer = self._auditor, self._reader, self._writer
        self._auditor = self._reader = self._writer = None
        # The writer last: whoever closes last checkpoints.
        for lane in (auditor, reader, writer):
            if lane is not None:
                await lane.close()

    async def ping(self) -> None:
        # A write that reaches the disk; asking for the lock alone would not notice a full one.
        query = "INSERT INTO meta (_id, at) VALUES ('ping', ?) ON CONFLICT (_id) DO UPDATE SET at = excluded.at"
        await self._write(lambda db: db.execute(query, (time.time(),)).rowcount)

    # Callers
    async def find_client_key(self, key_id: str) -> ClientKey | None:
        found = await self.read_client_keys([key_id])
        return found[0] if found else None

    async def find_friend_key(self, key_id: str) -> FriendKey | None:
        found = await self.read_friend_keys([key_id])
        return found[0] if found else None

    async def adopt_client_key(self, material: ClientKeyMaterial) -> ClientKey | None:
        if not material.plain:
            return None
        return await self._write(lambda db: sqlite_keys.adopt_client_key(db, material, now_s=time.time()))

    async def adopt_friend_key(self, material: ClientKeyMaterial) -> FriendKey | None:
        if not material.plain:
            return None
        return await self._write(lambda db: sqlite_keys.adopt_friend_key(db, material))

    async def read_users(self, usernames: Sequence[str]) -> list[User]:
        return await self._read_many(USERS, "username", values=usernames, read=user_from_row)

    async def read_client_keys(self, key_ids: Sequence[str]) -> list[ClientKey]:
        return await self._read_many(CLIENT_KEYS, "keyId", values=key_ids, read=client_key_from_row)

    async def read_friend_keys(self, key_ids: Sequence[str]) -> list[FriendKey]:
        return await self._read_many(FRIEND_KEYS, "keyId", values=key_ids, read=friend_key_from_row)

    async def read_friend_spend(self, key_id: str, day: str) -> dict[str, int]:
        query = "SELECT model, spent FROM friend_spend WHERE keyId = ? AND day = ? LIMIT ?"
        rows = await self._read(lambda db: db.execute(query, (key_id, day, SPEND_LIMIT)).fetchall())
        return {row["model"]: row["spent"] for row in rows}

    # Administration
    async def add_user(self, user: User) -> None:
        await self._write(lambda db: sqlite_books.open_account(db, user))

    async def add_client_key(self, key: ClientKey) -> None:
        await self._write(lambda db: insert(db, CLIENT_KEYS, row=client_key_to_row(key)))

    async def add_friend_key(self, key: FriendKey) -> None:
        await self._write(lambda db: insert(db, FRIEND_KEYS, row=friend_key_to_row(key)))

    async def replace_client_key(self, old_key_id: str, key: ClientKey) -> None:
        await self._write(lambda db: sqlite_keys.replace_client_key(db, old_key_id, key=key))

    async def set_client_key_active(self, key_id: str, *, active: bool) -> bool:
        return await self._write(lambda db: sqlite_keys.set_active(db, CLIENT_KEYS, key_id=key_id, active=active))

    async def set_friend_key_active(self, key_id: str, *, active: bool) -> bool:
        return await self._write(lambda db: sqlite_keys.set_active(db, FRIEND_KEYS, key_id=key_id, active=active))

    async def list_users(self, *, after: str = "", limit: int = 100) -> list[User]:
        query = "SELECT * FROM usersNew WHERE username > ? ORDER BY username LIMIT ?"
        rows = await self._read(lambda db: db.execute(query, (after, bounded(limit))).fetchall())
        return [user_from_row(row) for row in rows]

    async def list_client_keys(self, username: str) -> list[ClientKey]:
        return await self._read(lambda db: sqlite_keys.list_client_keys(db, username))

    async def list_friend_keys(self, owner: str) -> list[FriendKey]:
        return await self._read(lambda db: sqlite_keys.list_friend_keys(db, owner))

    # Money
    async def apply_credit(self, credit: Credit) -> bool:
        return await self._write(lambda db: sqlite_books.apply_credit(db, credit))

    async def write_batch(self, batch: Batch) -> None:
        await self._write(lambda db: sqlite_books.write_batch(db, batch))

    async def read_charge(self, request_id: str) -> Charge | None:
        return await self._read(lambda db: sqlite_books.read_charge(db, request_id))

    async def list_charges(self, username: str, *, limit: int = 100) -> list[Charge]:
        return await self._read(lambda db: sqlite_books.list_charges(db, username, limit=bounded(limit)))

    async def sum_ledger(self, username: str, wallet: str) -> int:
        return await self._read(lambda db: sqlite_books.sum_ledger(db, username, wallet=wallet))

    async def read_last_seq(self, writer: str) -> int:
        return await self._read(lambda db: sqlite_books.read_last_seq(db, writer))

    async def sum_upstream_costs(self, since_day: str) -> dict[tuple[str, str], int]:
        return await self._audit(lambda db: sqlite_audit.sum_upstream_costs(db, since_day))

    # Prices
    async def write_prices(self, prices: Sequence[Price]) -> None:
        await self._write(lambda db: sqlite_audit.write_prices(db, prices))

    async def read_prices(self, versions: Sequence[str]) -> list[Price]:
        return await self._read(lambda db: sqlite_audit.read_prices(db, versions))

    # The audit
    async def read_statements(self, usernames: Sequence[str]) -> list[Statement]:
        return await self._audit(lambda db: sqlite_audit.read_statements(db, usernames))

    async def page_charges(self, *, after: str = "", limit: int = 1000) -> list[Charge]:
        return await self._audit(lambda db: sqlite_audit.page_charges(db, after, limit=bounded(limit)))

    async def _audit(self, job: Job[T]) -> T:
        if self._auditor is None:
            raise unavailable()
        return await self._auditor.run(job)

    async def _read(self, job: Job[T]) -> T:
        if self._reader is None:
            raise unavailable()
        return await self._reader.run(job)

    async def _write(self, job: Job[T]) -> T:
        if self._writer is None:
            raise unavailable()
        return await self._writer.run(lambda db: transact(db, job))

    async def _read_many(
        self, table: str, column: str, *, values: Sequence[str], read: Callable[[sqlite3.Row], T]
    ) -> list[T]:
        return await self._read(lambda db: sqlite_keys.read_many(db, table, column=column, values=values, read=read))
