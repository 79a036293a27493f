"""Every SQLite file that was ever written can be opened: from each schema to the present one, with its data."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from trollproxy.errors import GatewayError
from trollproxy.store.migrations import SQLITE_STEPS, migrate_sqlite


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
