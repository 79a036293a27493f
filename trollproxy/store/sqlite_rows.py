"""Rows of the SQLite tables from records and back.

Times are REAL Unix seconds, amounts INTEGER nano-dollars, model limits and usage JSON. A row maps column to value; what
has no column here (the seeds' plain keys) is the business of whoever reads it.
"""

import sqlite3
from collections.abc import Callable, Iterable
from functools import cache
from operator import attrgetter
from typing import Any, cast

import msgspec

from trollproxy.records import Charge, ClientKey, FriendKey, Price, Role, Tier, User
from trollproxy.store.names import (
    CHARGE_FIELDS,
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


# What many charges of a batch have in common is bound once for several rows: most of it is text, which is dear.
COMMON = (
    "wallet", "format", "model", "upstream_model", "provider", "upstream_key_id", "stream", "status", "code",
    "ended_by", "is_estimated", "price_version", "multiplier_micro", "day",
)  # fmt: skip
OWN = (
    "request_id", "seq", "username", "key_id", "friend_key_id", "usage", "cost_nusd", "upstream_cost_nusd",
    "lost_cost_nusd", "started_at_s", "first_token_ms", "duration_ms",
)  # fmt: skip
OPTIONAL = {"friend_key_id", "upstream_cost_nusd", "first_token_ms"}
common_values: Callable[[Charge], tuple[Any, ...]] = attrgetter(*COMMON)
_encode = msgspec.json.Encoder().encode


@cache  # `tally.slices` asks for eight sizes, which sqlite3 keeps prepared
def inserting_logs(count: int) -> str:
    """The statement for so many rows of the log: the `common_values` of all, then the `own_values` of each."""
    columns = ", ".join([*(CHARGE_FIELDS[name] for name in (*COMMON, *OWN)), "n"])
    common = [f"?{place}" for place in range(1, len(COMMON) + 1)]
    own = ["NULLIF(?, '')" if name in OPTIONAL else "?" for name in OWN]
    row = ", ".join([*common, *own, "?"])  # without a number it is the place behind the last
    values = ", ".join([f"({row})"] * count)
    return f"INSERT INTO request_logs ({columns}) VALUES {values}"  # noqa: S608 -- own words


@cache  # as above
def inserting_usage(count: int) -> str:
    """The statement for so many entries of charges: the writer, then the `usage_to_values` of each.

    OR FAIL: the transaction is undone in any case, so SQLite need not keep what it takes to undo the statement alone.
    """
    values = ", ".join(["(?1, ?, 'usage', ?, ?, ?, ?, 'applied', ?, ?)"] * count)
    columns = "writer, _id, type, username, wallet, amount, seq, state, createdAt, n"
    return f"INSERT OR FAIL INTO ledger ({columns}) VALUES {values}"  # noqa: S608 -- own words


# By single rows: SQLite keeps what several of them change in an index until it knows that none of them fails.
INSERT_LOG_APART = f"{inserting_logs(1)} ON CONFLICT (_id) WHERE n < 0 DO NOTHING"


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


def own_values(charge: Charge, number: int) -> tuple[Any, ...]:
    """None goes as an empty text: sqlite3 takes ten times as long over a None as over others."""
    upstream_cost, first_token = charge.upstream_cost_nusd, charge.first_token_ms
    return (
        charge.request_id,
        charge.seq,
        charge.username,
        charge.key_id,
        charge.friend_key_id or "",
        _encode(charge.usage).decode(),
        charge.cost_nusd,
        "" if upstream_cost is None else upstream_cost,
        charge.lost_cost_nusd,
        charge.started_at_s,
        "" if first_token is None else first_token,
        charge.duration_ms,
        number,
    )


def usage_to_values(charge: Charge, number: int) -> tuple[Any, ...]:
    """The charge's entry in the ledger, for `inserting_usage`."""
    return (
        charge.request_id,
        charge.username,
        charge.wallet,
        -charge.cost_nusd,
        charge.seq,
        charge.started_at_s,
        number,
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
