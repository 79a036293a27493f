"""What an audit reads in MongoDB, and the price tables that it needs.

There is no one moment to read at: a standalone server has no snapshots, and a balance follows its ledger entries by
some milliseconds. Whoever compares looks again before believing in a difference. Nothing here knows connections or
deadlines.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bson.int64 import Int64

from trollproxy.errors import GatewayError
from trollproxy.records import Charge, Price, Statement
from trollproxy.store.mongo_books import insert_new, read_by
from trollproxy.store.mongo_docs import Doc, user_from_doc
from trollproxy.store.names import (
    APPLIED,
    CHUNK,
    LEDGER,
    LIST_LIMIT,
    PENDING,
    PRICES,
    REQUEST_LOGS,
    USERS,
    charge_from_stored,
    price_conflict,
    price_from_stored,
    price_to_stored,
)
from trollproxy.store.tally import chunks

Sums = dict[tuple[str, str], int]
MAX_SUMMED_KEYS = 10_000  # ten times the largest pool that we promise to carry; a group is some hundred bytes


async def read_statements(database: Any, usernames: Sequence[str]) -> list[Statement]:
    found: list[Statement] = []
    for chunk in chunks(usernames, CHUNK):
        sums = await _sum_applied(database, chunk)
        pending = await database[LEDGER].find({"username": {"$in": list(chunk)}, "state": PENDING}).to_list(LIST_LIMIT)
        docs = await read_by(database[USERS], "username", values=chunk)
        found += [_statement(doc, sums, pending) for doc in docs]
    return found


async def _sum_applied(database: Any, usernames: Sequence[str]) -> Sums:
    pipeline = [
        {"$match": {"username": {"$in": list(usernames)}, "state": APPLIED}},
        {"$group": {"_id": {"username": "$username", "wallet": "$wallet"}, "sum": {"$sum": "$amount"}}},
    ]
    # As a command, see MongoBooks.sum_ledger; the first batch has room for both wallets of all.
    cursor = {"batchSize": 2 * CHUNK}
    reply = await database.command({"aggregate": LEDGER, "pipeline": pipeline, "cursor": cursor})
    groups = reply["cursor"]["firstBatch"]
    return {(group["_id"]["username"], group["_id"]["wallet"]): int(group["sum"]) for group in groups}


def _statement(doc: Mapping[str, Any], sums: Sums, pending: Iterable[Doc]) -> Statement:
    """A pending credit counts if its balance has moved, which the user remembers."""
    name, moved = doc["username"], set(doc.get("applied", ()))
    mine = [entry for entry in pending if entry["username"] == name and entry["_id"] in moved]
    legacy = sum(int(entry["amount"]) for entry in mine if entry["wallet"] == "legacy")
    new = sum(int(entry["amount"]) for entry in mine if entry["wallet"] == "new")
    return Statement(
        user=user_from_doc(doc),
        ledger_nusd={
            "legacy": sums.get((name, "legacy"), 0) + legacy,
            "new": sums.get((name, "new"), 0) + new,
        },
    )


async def page_charges(database: Any, after: str, *, limit: int) -> list[Charge]:
    cursor = database[REQUEST_LOGS].find({"_id": {"$gt": after}}).sort([("_id", 1)]).limit(limit)
    return [charge_from_stored(doc) for doc in await cursor.to_list(limit)]


async def sum_upstream_costs(database: Any, since_day: str) -> Sums:
    """As a command, see MongoBooks.sum_ledger; no gateway has more keys than the first batch has room for."""
    key = {"provider": "$provider", "key": "$upstreamKeyId"}
    pipeline = [
        {"$match": {"day": {"$gte": since_day}, "upstreamCostNusd": {"$ne": None}}},
        {"$group": {"_id": key, "sum": {"$sum": "$upstreamCostNusd"}}},
    ]
    cursor = {"batchSize": MAX_SUMMED_KEYS}
    reply = await database.command({"aggregate": REQUEST_LOGS, "pipeline": pipeline, "cursor": cursor})
    groups = reply["cursor"]["firstBatch"]
    return {(group["_id"]["provider"], group["_id"]["key"]): int(group["sum"]) for group in groups}


async def write_prices(database: Any, prices: Sequence[Price]) -> None:
    taken = await insert_new(database[PRICES], [price_to_doc(price) for price in prices])
    stored = await read_prices(database, [doc["_id"] for doc in taken])
    wanted = {price.version: price for price in prices}
    conflicts: list[GatewayError] = [
        price_conflict(price.version) for price in stored if price != wanted[price.version]
    ]
    if conflicts:
        raise conflicts[0]


async def read_prices(database: Any, versions: Sequence[str]) -> list[Price]:
    docs = await read_by(database[PRICES], "_id", values=versions)
    return [price_from_stored(doc) for doc in docs]


def price_to_doc(price: Price) -> Doc:
    doc = price_to_stored(price)
    doc["perMtokNusd"] = {bucket: Int64(nusd) for bucket, nusd in price.per_mtok_nusd.items()}
    return doc
