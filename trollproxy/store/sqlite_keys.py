"""Keys in SQLite: adopting the seeds' plain ones, rotation, and reading many rows by name.

Every function takes a connection; those that write run inside the caller's transaction. It knows no threads.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from trollproxy.errors import NotFound
from trollproxy.records import ClientKey, ClientKeyMaterial, FriendKey
from trollproxy.store.names import CHUNK, CLIENT_KEYS, FRIEND_KEYS, LIST_LIMIT
from trollproxy.store.sqlite_rows import (
    client_key_from_row,
    client_key_to_row,
    friend_key_from_row,
    insert,
)
from trollproxy.store.tally import chunks

T = TypeVar("T")


def read_many(
    db: sqlite3.Connection, table: str, *, column: str, values: Sequence[str], read: Callable[[sqlite3.Row], T]
) -> list[T]:
    found: list[T] = []
    for chunk in chunks(values, CHUNK):
        places = ", ".join("?" * len(chunk))
        query = f"SELECT * FROM {table} WHERE {column} IN ({places})"  # noqa: S608 -- own words; values are bound
        found += [read(row) for row in db.execute(query, chunk)]
    return found


def list_client_keys(db: sqlite3.Connection, username: str) -> list[ClientKey]:
    query = "SELECT * FROM user_keys WHERE name = ? AND keyId IS NOT NULL ORDER BY createdAt, keyId LIMIT ?"
    return [client_key_from_row(row) for row in db.execute(query, (username, LIST_LIMIT))]


def list_friend_keys(db: sqlite3.Connection, owner: str) -> list[FriendKey]:
    query = "SELECT * FROM friend_keys WHERE ownerUsername = ? AND keyId IS NOT NULL ORDER BY createdAt, keyId LIMIT ?"
    return [friend_key_from_row(row) for row in db.execute(query, (owner, LIST_LIMIT))]


def adopt_client_key(db: sqlite3.Connection, material: ClientKeyMaterial, *, now_s: float) -> ClientKey | None:
    if not adopt_row(db, CLIENT_KEYS, material=material):
        adopt_user_key(db, material, now_s=now_s)
    row = find_adopted(db, CLIENT_KEYS, material=material)
    return client_key_from_row(row) if row else None


def adopt_friend_key(db: sqlite3.Connection, material: ClientKeyMaterial) -> FriendKey | None:
    adopt_row(db, FRIEND_KEYS, material=material)
    row = find_adopted(db, FRIEND_KEYS, material=material)
    return friend_key_from_row(row) if row else None


def adopt_row(db: sqlite3.Connection, table: str, *, material: ClientKeyMaterial) -> bool:
    query = f"""UPDATE {table} SET keyId = ?, keyHash = ?, key = NULL
                WHERE _id = (SELECT _id FROM {table} WHERE key = ? LIMIT 1)"""  # noqa: S608 -- own words
    return db.execute(query, (material.key_id, material.key_hash, material.plain)).rowcount == 1


def adopt_user_key(db: sqlite3.Connection, material: ClientKeyMaterial, *, now_s: float) -> None:
    owner = db.execute("SELECT username FROM usersNew WHERE apiKey = ? LIMIT 1", (material.plain,)).fetchone()
    if owner is None:
        return
    key = ClientKey(
        key_id=material.key_id, key_hash=material.key_hash, username=owner["username"], tier="dev", created_at_s=now_s
    )
    insert(db, CLIENT_KEYS, row=client_key_to_row(key), known_by="keyId")
    if find_adopted(db, CLIENT_KEYS, material=material):
        db.execute("UPDATE usersNew SET apiKey = NULL WHERE apiKey = ?", (material.plain,))


def find_adopted(db: sqlite3.Connection, table: str, *, material: ClientKeyMaterial) -> sqlite3.Row | None:
    """By hash as well as by id, so that nobody is taken for the owner of a key that merely shares an id."""
    query = f"SELECT * FROM {table} WHERE keyId = ? AND keyHash = ?"  # noqa: S608 -- own words
    row: sqlite3.Row | None = db.execute(query, (material.key_id, material.key_hash)).fetchone()
    return row


def replace_client_key(db: sqlite3.Connection, old_key_id: str, *, key: ClientKey) -> None:
    row = client_key_to_row(key)
    changes = ", ".join(f"{column} = :{column}" for column in row)
    query = f"UPDATE user_keys SET {changes}, key = NULL WHERE keyId = :old_key_id"  # noqa: S608 -- own words
    if db.execute(query, {**row, "old_key_id": old_key_id}).rowcount:
        return
    material = ClientKeyMaterial(key_id=key.key_id, key_hash=key.key_hash, plain="")
    if not find_adopted(db, CLIENT_KEYS, material=material):  # found: a repetition, whose first go went through
        raise NotFound("There is no such key.")


def set_active(db: sqlite3.Connection, table: str, *, key_id: str, active: bool) -> bool:
    query = f"UPDATE {table} SET isActive = ? WHERE keyId = ?"  # noqa: S608 -- own words
    return db.execute(query, (active, key_id)).rowcount == 1
