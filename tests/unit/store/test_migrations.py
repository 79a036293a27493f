"""Every SQLite file that was ever written can be opened: from each schema to the present one, with its data."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.aio import run
from tests.conformance.store_lab import AT_S, balances, make_batch, make_charge
from trollproxy.errors import GatewayError
from trollproxy.records import Charge
from trollproxy.store.migrations import ONE_NUMBER, SQLITE_STEPS, migrate_sqlite
from trollproxy.store.names import CHARGE_FIELDS, charge_to_stored
from trollproxy.store.sqlite import SqliteStore

Rows = list[tuple[Any, ...]]
BEFORE_ONE_NUMBER = SQLITE_STEPS.index(ONE_NUMBER)
LOG = f"SELECT {', '.join(CHARGE_FIELDS.values())} FROM request_logs ORDER BY _id"
LEDGER = "SELECT _id, type, username, wallet, amount, writer, seq, note, state, createdAt FROM ledger ORDER BY _id"
# In a process of its own, since the limit is the process's and cannot be lifted. The rows take several times as much.
MIGRATE_IN_LITTLE_MEMORY = """
import sqlite3, sys
from trollproxy.store.migrations import migrate_sqlite
db = sqlite3.connect(sys.argv[1], isolation_level=None)
assert db.execute("PRAGMA hard_heap_limit = 6000000").fetchone() == (6000000,)
migrate_sqlite(db)
"""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
    yield connection
    connection.close()


def version_of(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def schema_of(db: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


def fresh_schema() -> set[tuple[str, str]]:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate_sqlite(db)
    schema = schema_of(db)
    db.close()
    return schema


def take_steps(db: sqlite3.Connection, count: int) -> None:
    """Bring an empty file to what a program that knew `count` steps left."""
    for step in SQLITE_STEPS[:count]:
        for statement in step:
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {count}")


@pytest.mark.parametrize("version", range(len(SQLITE_STEPS) + 1))
def test_a_file_of_any_version_is_brought_to_the_present_one(db: sqlite3.Connection, version: int) -> None:
    take_steps(db, version)
    if version >= 1:
        db.execute("INSERT INTO usersNew (username, credits) VALUES ('ann', 7)")
    migrate_sqlite(db)
    assert version_of(db) == len(SQLITE_STEPS)
    assert schema_of(db) == fresh_schema()
    if version >= 1:
        assert db.execute("SELECT username, credits FROM usersNew").fetchall() == [("ann", 7)]


def test_a_second_opening_changes_nothing(db: sqlite3.Connection) -> None:
    migrate_sqlite(db)
    db.execute("INSERT INTO usersNew (username, credits) VALUES ('ann', 7)")
    migrate_sqlite(db)
    assert version_of(db) == len(SQLITE_STEPS)
    assert db.execute("SELECT username, credits FROM usersNew").fetchall() == [("ann", 7)]


def test_a_step_that_fails_leaves_nothing_of_itself(db: sqlite3.Connection) -> None:
    take_steps(db, 1)
    db.execute("CREATE TABLE dead_letters (x)")  # the second step's last statement will meet it
    before = schema_of(db)
    with pytest.raises(sqlite3.OperationalError):
        migrate_sqlite(db)
    assert (version_of(db), schema_of(db), db.in_transaction) == (1, before, False)


def test_a_file_of_a_newer_program_is_refused(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA user_version = {len(SQLITE_STEPS) + 1}")
    with pytest.raises(GatewayError) as caught:
        migrate_sqlite(db)
    assert caught.value.code == "schema_too_new"


def test_amounts_cannot_be_stored_as_anything_but_integers(db: sqlite3.Connection) -> None:
    migrate_sqlite(db)
    for statement in (
        "INSERT INTO usersNew (username, credits) VALUES ('a', 1.5)",
        "INSERT INTO usersNew (username, refCredits) VALUES ('a', -1)",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(statement)


# The step that gave a charge's row in the log the number of its entry in the ledger

CHARGES = (
    make_charge(1),
    make_charge(2, username="", cost_nusd=999),
    make_charge(3, username="ghost", upstream_cost_nusd=7, lost_cost_nusd=11),
    make_charge(4, request_id="req-0", cost_nusd=3_000_000_000, started_at_s=AT_S),
)


def put(db: sqlite3.Connection, table: str, **row: object) -> None:
    places = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))


def put_charge(db: sqlite3.Connection, charge: Charge, *, writer: str = "w1", state: str = "applied") -> None:
    """As a program wrote it that knew the schemas before."""
    stored = charge_to_stored(charge)
    put(db, "request_logs", **stored | {"usage": json.dumps(stored["usage"])})
    if charge.username:
        entry = {"type": "usage", "username": charge.username, "wallet": charge.wallet, "amount": -charge.cost_nusd}
        entry |= {"writer": writer, "seq": charge.seq, "state": state, "createdAt": charge.started_at_s}
        put(db, "ledger", _id=charge.request_id, **entry)


def put_books(db: sqlite3.Connection) -> None:
    put(db, "usersNew", username="ann", credits=7_000_000_000 - 3_000_000_100, creditsNew=5)
    for wallet, amount in (("legacy", 7_000_000_000), ("new", 5)):
        entry = {"type": "purchase", "username": "ann", "wallet": wallet, "amount": amount, "note": "n"}
        put(db, "ledger", _id=f"credit-{wallet}", **entry, state="applied", createdAt=AT_S)
    for charge in CHARGES:
        put_charge(db, charge, state="dead" if charge.username == "ghost" else "applied")


def read_books(db: sqlite3.Connection) -> tuple[Rows, Rows]:
    return db.execute(LOG).fetchall(), db.execute(LEDGER).fetchall()


def test_rows_of_the_tables_before_are_carried_over_and_found(tmp_path: Path, db: sqlite3.Connection) -> None:
    take_steps(db, BEFORE_ONE_NUMBER)
    put_books(db)
    before = read_books(db)
    migrate_sqlite(db)
    assert read_books(db) == before
    db.execute("VACUUM")

    async def scene() -> None:
        store = SqliteStore(tmp_path / "db")
        await store.open()
        for charge in CHARGES:
            assert await store.read_charge(charge.request_id) == charge
        assert await store.list_charges("ann") == [CHARGES[0], CHARGES[3]]
        assert await store.list_charges("") == [CHARGES[1]]
        assert await store.page_charges() == sorted(CHARGES, key=lambda charge: charge.request_id)
        assert await store.read_last_seq("w1") == 4
        expected = (7_000_000_000 - 3_000_000_100, 0, 5)
        assert await balances(store) == expected
        await store.write_batch(make_batch(*CHARGES))
        assert await balances(store) == expected
        changed = msgspec.structs.replace(CHARGES[0], cost_nusd=1)
        with pytest.raises(GatewayError) as caught:
            await store.write_batch(make_batch(changed))
        assert caught.value.code == "ledger_conflict"
        await store.write_batch(make_batch(make_charge(5)))
        assert await balances(store) == (expected[0] - 100, 0, 5)
        assert await store.list_charges("ann", limit=1) == [make_charge(5)]
        await store.close()

    run(scene())


def test_a_row_in_the_log_that_has_no_entry_is_kept_and_found(tmp_path: Path, db: sqlite3.Connection) -> None:
    take_steps(db, BEFORE_ONE_NUMBER)
    put_charge(db, CHARGES[0])
    db.execute("DELETE FROM ledger")
    migrate_sqlite(db)

    async def scene() -> None:
        store = SqliteStore(tmp_path / "db")
        await store.open()
        assert await store.read_charge("req-1") == CHARGES[0]
        assert await store.list_charges("ann") == await store.page_charges() == [CHARGES[0]]
        await store.close()

    run(scene())


def test_rows_are_where_they_were_after_a_step_that_failed_at_its_end(db: sqlite3.Connection) -> None:
    take_steps(db, BEFORE_ONE_NUMBER)
    put_books(db)
    db.execute("CREATE TABLE request_logs_apart_user (x)")  # the step's last statement will meet it
    before = schema_of(db), read_books(db)
    with pytest.raises(sqlite3.OperationalError):
        migrate_sqlite(db)
    assert (schema_of(db), read_books(db), version_of(db)) == (*before, BEFORE_ONE_NUMBER)
    db.execute("DROP TABLE request_logs_apart_user")
    migrate_sqlite(db)
    assert read_books(db) == before[1]


def test_a_table_is_carried_over_in_less_memory_than_it_takes(tmp_path: Path, db: sqlite3.Connection) -> None:
    take_steps(db, BEFORE_ONE_NUMBER)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN")
    put_charge(db, CHARGES[0])
    for table, text in (("request_logs", "usage"), ("ledger", "note")):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        values = {"_id": "printf('req-%08d', value)", "seq": "value", text: "hex(zeroblob(500))"}
        listed = ", ".join(values.get(column, column) for column in columns)
        numbers = "WITH RECURSIVE numbers (value) AS (SELECT 2 UNION ALL SELECT value + 1 FROM numbers LIMIT 20000)"
        db.execute(f"INSERT INTO {table} {numbers} SELECT {listed} FROM numbers, {table} WHERE _id = 'req-1'")
    db.execute("COMMIT")
    command = [sys.executable, "-c", MIGRATE_IN_LITTLE_MEMORY, str(tmp_path / "db")]
    subprocess.run(command, check=True, timeout=60)
    assert version_of(db) == len(SQLITE_STEPS)
    query = "SELECT COUNT(*) FROM request_logs AS logs JOIN ledger ON ledger.n = logs.n AND ledger._id = logs._id"
    assert db.execute(query).fetchone() == (20_001,)
    assert (tmp_path / "db").stat().st_size > 5 * 6_000_000
