"""Documents of the MongoDB collections from records and back, in the seeds' words.

Times are Dates, amounts Int64 nano-dollars. A seeds' user has its amounts as doubles or int32 of dollars: it is read as
not migrated, with amounts of 0, and `MIGRATED` keeps every update away from it. A seeds' friend key may have dollars in
`totalSpent` and `modelLimits`; these are converted where they are read, as nobody is billed from them.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from bson.int64 import Int64

from trollproxy.records import Charge, ClientKey, Credit, FriendKey, User
from trollproxy.store.names import (
    APPLIED,
    PENDING,
    charge_to_stored,
    date_from_s,
    limits_from_stored,
    limits_to_stored,
    nusd_from_usd,
)

Doc = dict[str, Any]
AMOUNTS = ("credits", "refCredits", "creditsNew")
MIGRATED: Doc = {
    "migration": {"$ne": False},
    "$and": [{"$or": [{name: {"$exists": False}}, {name: {"$type": "long"}}]} for name in AMOUNTS],
}


def s_from_date(date: dt.datetime | None) -> float | None:
    return None if date is None else date.timestamp()


def s_or_zero(date: dt.datetime | None) -> float:
    return 0.0 if date is None else date.timestamp()


def is_migrated(doc: Mapping[str, Any]) -> bool:
    """What `MIGRATED` asks for, of a document in hand."""
    return doc.get("migration") is not False and all(isinstance(doc.get(name, Int64(0)), Int64) for name in AMOUNTS)


def user_to_doc(user: User) -> Doc:
    amounts = (user.credits_nusd, user.ref_credits_nusd, user.credits_new_nusd) if user.is_migrated else (0, 0, 0)
    return {
        "_id": user.username,
        "username": user.username,
        "password": user.password_hash,
        "role": user.role,
        **{name: Int64(amount) for name, amount in zip(AMOUNTS, amounts, strict=True)},
        "tokensUsed": Int64(user.tokens_used),
        "creditsExpireAt": date_from_s(user.credits_expire_at_s),
        "isActive": user.is_active,
        "migration": user.is_migrated,
        "createdAt": date_from_s(user.created_at_s),
        "wm": {},
    }


def user_from_doc(doc: Mapping[str, Any]) -> User:
    migrated = is_migrated(doc)
    amounts = [int(doc.get(name, 0)) if migrated else 0 for name in AMOUNTS]
    return User(
        username=doc["username"],
        role="admin" if doc.get("role") == "admin" else "user",
        is_active=bool(doc.get("isActive", True)),
        is_migrated=migrated,
        password_hash=doc.get("password"),
        credits_nusd=amounts[0],
        ref_credits_nusd=amounts[1],
        credits_new_nusd=amounts[2],
        credits_expire_at_s=s_from_date(doc.get("creditsExpireAt")),
        tokens_used=int(doc.get("tokensUsed") or 0),
        created_at_s=s_or_zero(doc.get("createdAt")),
    )


def client_key_to_doc(key: ClientKey) -> Doc:
    return {
        "keyId": key.key_id,
        "keyHash": key.key_hash,
        "name": key.username,
        "label": key.name,
        "tier": key.tier,
        "isActive": key.is_active,
        "expiresAt": date_from_s(key.expires_at_s),
        "lastUsedAt": date_from_s(key.last_used_at_s),
        "createdAt": date_from_s(key.created_at_s),
    }


def client_key_from_doc(doc: Mapping[str, Any]) -> ClientKey:
    return ClientKey(
        key_id=doc["keyId"],
        key_hash=doc["keyHash"],
        username=doc["name"],
        name=doc.get("label", ""),
        tier="pro" if doc.get("tier") == "pro" else "dev",
        is_active=bool(doc.get("isActive", True)),
        expires_at_s=s_from_date(doc.get("expiresAt")),
        last_used_at_s=s_from_date(doc.get("lastUsedAt")),
        created_at_s=s_or_zero(doc.get("createdAt")),
    )


def friend_key_to_doc(key: FriendKey) -> Doc:
    return {
        "keyId": key.key_id,
        "keyHash": key.key_hash,
        "ownerUsername": key.owner,
        "name": key.name,
        "isActive": key.is_active,
        "modelLimits": [
            limit | {"dailyLimit": None if limit["dailyLimit"] is None else Int64(limit["dailyLimit"])}
            for limit in limits_to_stored(key.model_limits)
        ],
        "totalSpent": Int64(key.total_spent_nusd),
        "lastUsedAt": date_from_s(key.last_used_at_s),
        "createdAt": date_from_s(key.created_at_s),
        "wm": {},
    }


def friend_key_from_doc(doc: Mapping[str, Any]) -> FriendKey:
    spent = doc.get("totalSpent", Int64(0))
    return FriendKey(
        key_id=doc["keyId"],
        key_hash=doc["keyHash"],
        owner=doc["ownerUsername"],
        name=doc.get("name", ""),
        is_active=bool(doc.get("isActive", True)),
        model_limits=limits_from_stored(doc.get("modelLimits")),
        total_spent_nusd=int(spent) if isinstance(spent, Int64) else nusd_from_usd(spent),
        last_used_at_s=s_from_date(doc.get("lastUsedAt")),
        created_at_s=s_or_zero(doc.get("createdAt")),
    )


def charge_to_doc(charge: Charge) -> Doc:
    return charge_to_stored(charge) | {
        "costNusd": Int64(charge.cost_nusd),
        "createdAt": date_from_s(charge.started_at_s),
    }


def usage_entry(charge: Charge, writer: str) -> Doc:
    return {
        "_id": charge.request_id,
        "type": "usage",
        "username": charge.username,
        "wallet": charge.wallet,
        "amount": Int64(-charge.cost_nusd),
        "writer": writer,
        "seq": Int64(charge.seq),
        "state": APPLIED,
        "createdAt": date_from_s(charge.started_at_s),
    }


def credit_entry(credit: Credit) -> Doc:
    return {
        "_id": credit.entry_id,
        "type": credit.kind,
        "username": credit.username,
        "wallet": credit.wallet,
        "amount": Int64(credit.amount_nusd),
        "note": credit.note,
        "state": PENDING,
        "createdAt": date_from_s(credit.created_at_s),
    }


def opening_entry(user: User, wallet: str, *, entry_id: str, amount_nusd: int) -> Doc:
    return {
        "_id": entry_id,
        "type": "opening",
        "username": user.username,
        "wallet": wallet,
        "amount": Int64(amount_nusd),
        "state": PENDING,
        "createdAt": date_from_s(user.created_at_s),
    }


def says_the_same(stored: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether two entries of the ledger agree in all that moves money."""
    return all(
        stored.get(name) == entry.get(name) for name in ("type", "username", "wallet", "amount", "writer", "seq")
    )
