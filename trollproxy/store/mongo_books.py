"""Money in MongoDB without transactions: the order of single-document writes that loses and doubles nothing.

A batch goes to the ledger first and to the balances second; whatever is cut short is done again by repeating the batch,
since each document refuses what its watermark has passed. This needs every writer to send a user's charges in order of
`seq`, and to keep a charge until its batch has returned.

A credit's entry is PENDING until its balance has moved. An entry id leaves a user's `applied` list only after its entry
says APPLIED, so whether a credit has moved can always be told, and `sum_ledger` is exact at every instant between.

The driver's client belongs to mongo.py; nothing here knows connections or deadlines.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from trollproxy.errors import Forbidden, NotFound
from trollproxy.records import Batch, Charge, Credit, User
from trollproxy.store import mongo_updates as updates
from trollproxy.store.mongo_docs import (
    MIGRATED,
    Doc,
    charge_to_doc,
    credit_entry,
    is_migrated,
    opening_entry,
    says_the_same,
    usage_entry,
    user_to_doc,
)
from trollproxy.store.names import (
    APPLIED,
    CHUNK,
    CLIENT_KEYS,
    DEAD,
    DEAD_LETTERS,
    FRIEND_KEYS,
    FRIEND_SPEND,
    LEDGER,
    LIST_LIMIT,
    PENDING,
    REQUEST_LOGS,
    UNKNOWN_USER,
    UNMIGRATED_USER,
    USERS,
    date_from_s,
    ledger_conflict,
    unavailable,
)
from trollproxy.store.tally import chunks, counter_id, group_by, unique_charges

DUPLICATE = 11000
ANY: Mapping[str, Any] = {}
ROUNDS = 5  # tries at documents that others change between our write and our look; each round sees some through

Groups = dict[str, list[Charge]]


class MakeUpdate(Protocol):
    """How a group of charges is put on its document; one of the functions of mongo_updates."""

    def __call__(self, name: str, charges: Sequence[Charge], /, *, writer: str) -> UpdateOne: ...


def only_duplicates(error: BulkWriteError) -> list[int]:
    """Return which operations met a duplicate; raise `error` if it is about anything else."""
    failed = error.details["writeErrors"]
    if error.details.get("writeConcernErrors") or any(each["code"] != DUPLICATE for each in failed):
        raise error
    return [each["index"] for each in failed]


async def insert_new(collection: Any, docs: Sequence[Doc]) -> list[Doc]:
    """Insert what is new; return the documents whose id was taken."""
    taken: list[Doc] = []
    for chunk in chunks(docs, CHUNK):
        try:
            await collection.insert_many(chunk, ordered=False)
        except BulkWriteError as error:
            taken += [chunk[index] for index in only_duplicates(error)]
    return taken


async def bulk(collection: Any, operations: Sequence[UpdateOne]) -> int:
    """Return how many operations found their document, or made it."""
    found = 0
    for chunk in chunks(operations, CHUNK):
        try:
            result = await collection.bulk_write(chunk, ordered=False)
            found += result.matched_count + result.upserted_count
        except BulkWriteError as error:
            only_duplicates(error)
            found += error.details["nMatched"] + error.details["nUpserted"]
    return found


async def read_by(
    collection: Any, field: str, *, values: Sequence[str], query: Mapping[str, Any] = ANY, only: Doc | None = None
) -> list[Doc]:
    found: list[Doc] = []
    for chunk in chunks(values, CHUNK):
        found += await collection.find({field: {"$in": list(chunk)}, **query}, only).to_list(CHUNK)
    return found


async def advance(
    collection: Any, field: str, *, groups: Groups, writer: str, make: MakeUpdate, query: Mapping[str, Any] = ANY
) -> Groups:
    """Bring each document past its charges, whatever part of them it has seen. Return the groups with no document."""
    left = groups
    lost: Groups = {}
    for _ in range(ROUNDS):
        if await bulk(collection, [make(name, charges, writer=writer) for name, charges in left.items()]) == len(left):
            return lost
        only = {field: 1, updates.watermark(writer): 1}
        docs = await read_by(collection, field, values=list(left), query=query, only=only)
        marks = {doc[field]: doc.get("wm", {}).get(writer) for doc in docs}
        lost |= {name: charges for name, charges in left.items() if name not in marks}
        left = past(left, marks)
    raise unavailable()


def past(groups: Groups, marks: Mapping[str, int | None]) -> Groups:
    """What lies beyond the watermark of each document; documents that are not there are left out."""
    left = {}
    for name, charges in groups.items():
        if name in marks:
            mark = marks[name]
            left[name] = [charge for charge in charges if mark is None or charge.seq > mark]
    return {name: charges for name, charges in left.items() if charges}


class MongoBooks:
    """Ledger, balances and counters of one database."""

    def __init__(self, database: Any) -> None:  # Any: the driver's types are mongo.py's alone
        self._users = database[USERS]
        self._ledger = database[LEDGER]
        self._logs = database[REQUEST_LOGS]
        self._dead = database[DEAD_LETTERS]
        self._friend_keys = database[FRIEND_KEYS]
        self._friend_spend = database[FRIEND_SPEND]
        self._client_keys = database[CLIENT_KEYS]
        self._database = database

    async def write_batch(self, batch: Batch) -> None:
        charges = unique_charges(batch.charges)
        billed = [charge for charge in charges if charge.username]
        buried = await self._post([usage_entry(charge, batch.writer) for charge in billed])
        await insert_new(self._logs, [charge_to_doc(charge) for charge in charges])
        alive = [charge for charge in billed if charge.request_id not in buried]
        lost = await self._draw(group_by(alive, lambda charge: charge.username), batch.writer)
        await self._count_friends([charge for charge in alive if charge.username not in lost], batch.writer)
        reasons = buried | await self._why_lost(lost)
        await self._bury([charge for charge in billed if charge.request_id in reasons], reasons)
        await self._touch_keys(batch.last_used)

    async def _post(self, entries: Sequence[Doc]) -> dict[str, str]:
        """Write entries. One that is there must say the same; return those of them that are dead, with the reason."""
        taken = {entry["_id"]: entry for entry in await insert_new(self._ledger, entries)}
        stored = await read_by(self._ledger, "_id", values=list(taken))
        for entry in stored:
            if not says_the_same(entry, taken[entry["_id"]]):
                raise ledger_conflict(entry["_id"])
        if len(stored) < len(taken):
            raise unavailable()  # taken, and yet not to be seen: the server is changing hands
        return {entry["_id"]: entry["reason"] for entry in stored if entry["state"] == DEAD}

    async def _draw(self, groups: Groups, writer: str) -> Groups:
        return await advance(self._users, "username", groups=groups, writer=writer, make=updates.draw, query=MIGRATED)

    async def _count_friends(self, charges: Sequence[Charge], writer: str) -> None:
        totals = group_by(charges, lambda charge: charge.friend_key_id)
        # A key that is gone has no total to keep; its owner has paid all the same.
        await advance(self._friend_keys, "keyId", groups=totals, writer=writer, make=updates.count_total)
        days = group_by(charges, counter_id)
        lost = await advance(self._friend_spend, "_id", groups=days, writer=writer, make=updates.count_day)
        if lost:
            raise unavailable()  # an upsert that neither found nor made its document: repeat the batch

    async def _why_lost(self, lost: Groups) -> dict[str, str]:
        docs = await read_by(self._users, "username", values=list(lost), only={"username": 1})
        known = {doc["username"] for doc in docs}
        return {
            charge.request_id: UNMIGRATED_USER if username in known else UNKNOWN_USER
            for username, charges in lost.items()
            for charge in charges
        }

    async def _bury(self, charges: Sequence[Charge], reasons: Mapping[str, str]) -> None:
        """Set aside what nobody can pay. The entry is marked first: a repetition then finds it dead, and comes here."""
        marks = [
            UpdateOne({"_id": charge.request_id}, {"$set": {"state": DEAD, "reason": reasons[charge.request_id]}})
            for charge in charges
        ]
        await bulk(self._ledger, marks)
        letters: list[Doc] = [
            {"_id": charge.request_id, "reason": reasons[charge.request_id], "charge": charge_to_doc(charge)}
            for charge in charges
        ]
        await insert_new(self._dead, letters)

    async def _touch_keys(self, last_used: Mapping[str, float]) -> None:
        operations = [updates.touch(key_id, date_from_s(at_s)) for key_id, at_s in last_used.items()]
        await bulk(self._client_keys, operations)
        await bulk(self._friend_keys, operations)

    async def apply_credit(self, credit: Credit) -> bool:
        await self._require_payable(credit.username)
        if not await self._announce(credit_entry(credit)):
            return False
        await self._settle_pending(credit.username)
        result = await self._users.update_one(updates.give_guard(credit), updates.give(credit))
        if result.matched_count == 0:
            await self._require_moved(credit)
        await self._ledger.update_one({"_id": credit.entry_id}, {"$set": {"state": APPLIED}})
        return bool(result.matched_count)

    async def _require_payable(self, username: str) -> None:
        user = await self._users.find_one({"username": username})
        if user is None:
            raise NotFound("There is no such user.")
        if not is_migrated(user):
            raise Forbidden("This account's balance has to be migrated first.", code="migration_required")

    async def _require_moved(self, credit: Credit) -> None:
        if await self._users.find_one({"username": credit.username, "applied": credit.entry_id}, {"_id": 1}) is None:
            await self._require_payable(credit.username)
            raise unavailable()  # payable, and yet not moved: the user changed between our write and our look

    async def _announce(self, entry: Doc) -> bool:
        """Return whether the entry's balance may still have to move."""
        try:
            await self._ledger.insert_one(entry)
        except DuplicateKeyError:
            stored = await self._ledger.find_one({"_id": entry["_id"]})
            if stored is None:
                raise unavailable() from None
            if not says_the_same(stored, entry):
                raise ledger_conflict(entry["_id"]) from None
            return bool(stored["state"] == PENDING)
        return True

    async def _settle_pending(self, username: str) -> None:
        """Finish entries that were cut short after the balance moved, before their ids are pushed off the list."""
        moved = await self._moved_entries({"username": username, "state": PENDING})
        if moved:
            await self._ledger.update_many({"_id": {"$in": moved}}, {"$set": {"state": APPLIED}})

    async def _moved_entries(self, query: Doc) -> list[str]:
        """Ids of pending entries whose balance has moved."""
        pending = await self._ledger.find({**query, "state": PENDING}, {"_id": 1}).to_list(LIST_LIMIT)
        if not pending:
            return []
        user = await self._users.find_one({"username": query["username"]}, {"applied": 1}) or {}
        applied = set(user.get("applied", ()))
        return [entry["_id"] for entry in pending if entry["_id"] in applied]

    async def add_user(self, user: User) -> None:
        """Write a user and what it starts with. Ids are this attempt's own: of two at once, only one's count."""
        doc = user_to_doc(user)
        amounts = {"legacy": doc["credits"] + doc["refCredits"], "new": doc["creditsNew"]}
        entries = [
            opening_entry(user, wallet, entry_id=f"opening|{wallet}|{uuid.uuid4().hex}", amount_nusd=amount)
            for wallet, amount in amounts.items()
            if amount
        ]
        ids = [entry["_id"] for entry in entries]
        await insert_new(self._ledger, entries)
        try:
            await self._users.insert_one({**doc, "applied": ids})
        except DuplicateKeyError:
            await self._ledger.delete_many({"_id": {"$in": ids}, "state": PENDING})
            raise
        await self._ledger.update_many({"_id": {"$in": ids}}, {"$set": {"state": APPLIED}})

    async def read_last_seq(self, writer: str) -> int:
        last = await self._ledger.find({"writer": writer}, {"seq": 1}).sort("seq", -1).to_list(1)
        return int(last[0]["seq"]) if last else 0

    async def sum_ledger(self, username: str, wallet: str) -> int:
        moved = await self._moved_entries({"username": username, "wallet": wallet})
        counts = {"$or": [{"state": APPLIED}, {"_id": {"$in": moved}}]}
        pipeline = [
            {"$match": {"username": username, "wallet": wallet, **counts}},
            {"$group": {"_id": None, "sum": {"$sum": "$amount"}}},
        ]
        # As a command, because `aggregate` itself is awaited on one of the two drivers and not on the other.
        reply = await self._database.command({"aggregate": LEDGER, "pipeline": pipeline, "cursor": {}})
        groups = reply["cursor"]["firstBatch"]
        return int(groups[0]["sum"]) if groups else 0
