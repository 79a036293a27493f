"""Rows of the SQLite tables from records and back.

Times are REAL Unix seconds, amounts INTEGER nano-dollars, model limits and usage JSON. A row maps column to value; what
has no column here (the seeds' plain keys) is the business of whoever reads it.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from trollproxy.records import Charge, ClientKey, FriendKey, Price, Role, Tier, User
from trollproxy.store.names import (
    APPLIED,
    CHARGE_FIELDS,
    LEDGER,
    REQUEST_LOGS,
    charge_from_stored,
    limits_from_stored,
    limits_to_stored,
    price_from_stored,
    price_to_stored,
)

Row = dict[str, Any]


def inserting(table: str, columns: Iterable[str], known_by: str | None = None) -> str:
    """The statement that writes a row. With `known_by`, one of the same value in that column is left as it is.

    Table and columns are this package's own words, never a caller's.
    """
    names = tuple(columns)
    places = ", ".join("?" * len(names))
    # Not INSERT OR IGNORE: that would hide a failed CHECK or NOT NULL as well.
    leave = f" ON CONFLICT ({known_by}) DO NOTHING" if known_by else ""
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places}){leave}"  # noqa: S608 -- own words


USAGE_COLUMNS = ("_id", "type", "username", "wallet", "amount", "writer", "seq", "state", "createdAt")
# These two have most of the writing; what stays the same is put together once.
INSERT_LOG = inserting(REQUEST_LOGS, CHARGE_FIELDS.values(), known_by="_id")
INSERT_USAGE = inserting(LEDGER, USAGE_COLUMNS)
_USAGE = list(CHARGE_FIELDS).index("usage")
_encode = msgspec.json.Encoder().encode


def insert(db: sqlite3.Connection, table: str, *, row: Row, known_by: str | None = None) -> bool:
    """Return whether the row is new."""
    return db.execute(inserting(table, row, known_by), tuple(row.values())).rowcount == 1


def user_to_row(user: User) -> Row:
    return {
        "username": user.username,
        "password": user.password_hash,
        "role": user.role,
        "credits": user.credits_nusd if user.is_migrated else 0,
        "refCredits": user.ref_credits_nusd if user.is_migrated else 0,
        "creditsNew": user.credits_new_nusd if user.is_migrated else 0,
        "tokensUsed": user.tokens_used,
        "creditsExpireAt": user.credits_expire_at_s,
        "isActive": user.is_active,
        "migration": user.is_migrated,
        "createdAt": user.created_at_s,
    }


def user_from_row(row: sqlite3.Row) -> User:
    is_migrated = bool(row["migration"])
    return User(
        username=row["username"],
        role=cast("Role", row["role"]),
        is_active=bool(row["isActive"]),
        is_migrated=is_migrated,
        password_hash=row["password"],
        credits_nusd=row["credits"] if is_migrated else 0,
        ref_credits_nusd=row["refCredits"] if is_migrated else 0,
        credits_new_nusd=row["creditsNew"] if is_migrated else 0,
        credits_expire_at_s=row["creditsExpireAt"],
        tokens_used=row["tokensUsed"],
        created_at_s=row["createdAt"],
    )


def client_key_to_row(key: ClientKey) -> Row:
    return {
        "keyId": key.key_id,
        "keyHash": key.key_hash,
        "name": key.username,
        "label": key.name,
        "tier": key.tier,
        "isActive": key.is_active,
        "expiresAt": key.expires_at_s,
        "lastUsedAt": key.last_used_at_s,
        "createdAt": key.created_at_s,
    }


def client_key_from_row(row: sqlite3.Row) -> ClientKey:
    return ClientKey(
        key_id=row["keyId"],
        key_hash=row["keyHash"],
        username=row["name"],
        name=row["label"],
        tier=cast("Tier", row["tier"]),
        is_active=bool(row["isActive"]),
        expires_at_s=row["expiresAt"],
        last_used_at_s=row["lastUsedAt"],
        created_at_s=row["createdAt"],
    )


def friend_key_to_row(key: FriendKey) -> Row:
    return {
        "keyId": key.key_id,
        "keyHash": key.key_hash,
        "ownerUsername": key.owner,
        "name": key.name,
        "isActive": key.is_active,
        "modelLimits": msgspec.json.encode(limits_to_stored(key.model_limits)).decode(),
        "totalSpent": key.total_spent_nusd,
        "lastUsedAt": key.last_used_at_s,
        "createdAt": key.created_at_s,
    }


def friend_key_from_row(row: sqlite3.Row) -> FriendKey:
    return FriendKey(
        key_id=row["keyId"],
        key_hash=row["keyHash"],
        owner=row["ownerUsername"],
        name=row["name"],
        is_active=bool(row["isActive"]),
        model_limits=limits_from_stored(msgspec.json.decode(row["modelLimits"])),
        total_spent_nusd=row["totalSpent"],
        last_used_at_s=row["lastUsedAt"],
        created_at_s=row["createdAt"],
    )


def charge_to_values(charge: Charge) -> list[Any]:
    """In the order of `INSERT_LOG`."""
    values = list(msgspec.structs.astuple(charge))
    values[_USAGE] = _encode(charge.usage).decode()
    return values


def usage_to_values(charge: Charge, writer: str) -> tuple[Any, ...]:
    """The charge's entry in the ledger, in the order of `USAGE_COLUMNS`."""
    return (
        charge.request_id,
        "usage",
        charge.username,
        charge.wallet,
        -charge.cost_nusd,
        writer,
        charge.seq,
        APPLIED,
        charge.started_at_s,
    )


def charge_from_row(row: sqlite3.Row) -> Charge:
    stored = dict(row)
    stored["usage"] = msgspec.json.decode(stored["usage"])
    return charge_from_stored(stored)


def price_to_row(price: Price) -> Row:
    stored = price_to_stored(price)
    stored["perMtokNusd"] = msgspec.json.encode(stored["perMtokNusd"], order="sorted").decode()
    return stored


def price_from_row(row: sqlite3.Row) -> Price:
    return price_from_stored({**dict(row), "perMtokNusd": msgspec.json.decode(row["perMtokNusd"])})
