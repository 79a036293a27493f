"""Rows of the SQLite tables from records and back.

Times are REAL Unix seconds, amounts INTEGER nano-dollars, model limits and usage JSON. A row maps column to value; what
has no column here (the seeds' plain keys) is the business of whoever reads it.
"""

import sqlite3
from typing import Any, cast

import msgspec

from trollproxy.records import Charge, ClientKey, FriendKey, Price, Role, Tier, User
from trollproxy.store.names import (
    charge_from_stored,
    charge_to_stored,
    limits_from_stored,
    limits_to_stored,
    price_from_stored,
    price_to_stored,
)

Row = dict[str, Any]


def insert(db: sqlite3.Connection, table: str, *, row: Row, known_by: str | None = None) -> bool:
    """Return whether the row is new. With `known_by`, a row of the same value in that column is left as it is.

    Table and columns are this package's own words, never a caller's.
    """
    columns, places = ", ".join(row), ", ".join(f":{column}" for column in row)
    # Not INSERT OR IGNORE: that would hide a failed CHECK or NOT NULL as well.
    leave = f"ON CONFLICT ({known_by}) DO NOTHING" if known_by else ""
    query = f"INSERT INTO {table} ({columns}) VALUES ({places}) {leave}"  # noqa: S608 -- own words
    return db.execute(query, row).rowcount == 1


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


def charge_to_row(charge: Charge) -> Row:
    stored = charge_to_stored(charge)
    stored["usage"] = msgspec.json.encode(stored["usage"]).decode()
    return stored


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
