"""The updates by which MongoDB moves money: each changes one document, in one step, at most once.

A charge is guarded by the document's watermark `wm.<writer>`, the last sequence number of that writer that the document
has seen; a credit by the document's list `applied` of recent entry ids. Values from outside stand in `$literal` and are
never the name of a field. Nothing here talks to a server.
"""

import re
from collections.abc import Sequence
from typing import Any

from bson.int64 import Int64
from pymongo import UpdateOne

from trollproxy.records import Charge, Credit
from trollproxy.store.mongo_docs import MIGRATED, Doc
from trollproxy.store.tally import sum_cost, sum_draw, sum_tokens

ZERO = Int64(0)
APPLIED_KEPT = 100  # entry ids a user remembers; an older one is known by its ledger entry, see mongo_books
WRITER = re.compile(r"[a-z0-9]+")


def watermark(writer: str) -> str:
    assert WRITER.fullmatch(writer), "a writer's id becomes the name of a field"
    return f"wm.{writer}"


def unseen(writer: str, charges: Sequence[Charge]) -> Doc:
    return {watermark(writer): {"$not": {"$gte": Int64(min(charge.seq for charge in charges))}}}


def seen(writer: str, charges: Sequence[Charge]) -> Doc:
    return {watermark(writer): Int64(max(charge.seq for charge in charges))}


def or_zero(field: str) -> Doc:
    return {"$ifNull": [f"${field}", ZERO]}


def draw(username: str, charges: Sequence[Charge], *, writer: str) -> UpdateOne:
    """Take from the wallets what `wallets.take` says: credits to 0, refCredits to 0, the rest from credits."""
    drawn = sum_draw(charges)
    cost = Int64(drawn.legacy_nusd)
    from_credits = {"$min": [{"$max": [or_zero("credits"), ZERO]}, cost]}
    from_ref = {"$min": [or_zero("refCredits"), {"$subtract": [cost, from_credits]}]}
    # The seeds may have kept this figure as any kind of number, or not at all.
    tokens = {"$convert": {"input": "$tokensUsed", "to": "long", "onError": ZERO, "onNull": ZERO}}
    changes = {
        "credits": {"$subtract": [or_zero("credits"), {"$subtract": [cost, from_ref]}]},
        "refCredits": {"$subtract": [or_zero("refCredits"), from_ref]},
        "creditsNew": {"$subtract": [or_zero("creditsNew"), Int64(drawn.new_nusd)]},
        "tokensUsed": {"$add": [tokens, Int64(sum_tokens(charges))]},
    }
    guard = {"username": username, **unseen(writer, charges), **MIGRATED}
    return UpdateOne(guard, [{"$set": changes | seen(writer, charges)}])


def count_total(key_id: str, charges: Sequence[Charge], *, writer: str) -> UpdateOne:
    dollars = {"$convert": {"input": "$totalSpent", "to": "double", "onError": 0.0, "onNull": 0.0}}
    from_seeds = {"$toLong": {"$round": [{"$multiply": [dollars, 1e9]}, 0]}}
    spent = {"$cond": [{"$eq": [{"$type": "$totalSpent"}, "long"]}, "$totalSpent", from_seeds]}
    changes = {"totalSpent": {"$add": [spent, Int64(sum_cost(charges))]}}
    return UpdateOne({"keyId": key_id, **unseen(writer, charges)}, [{"$set": changes | seen(writer, charges)}])


def count_day(name: str, charges: Sequence[Charge], *, writer: str) -> UpdateOne:
    """Add to a friend key's counter of a model and a day. Where the guard fails, the upsert meets a duplicate id."""
    first = charges[0]
    changes: Doc = {
        "keyId": {"$literal": first.friend_key_id},
        "day": {"$literal": first.day},
        "model": {"$literal": first.model},
        "spent": {"$add": [or_zero("spent"), Int64(sum_cost(charges))]},
    }
    guard = {"_id": name, **unseen(writer, charges)}
    return UpdateOne(guard, [{"$set": changes | seen(writer, charges)}], upsert=True)


def touch(key_id: str, at: Any) -> UpdateOne:
    return UpdateOne({"keyId": key_id}, {"$max": {"lastUsedAt": at}})


def give_guard(credit: Credit) -> Doc:
    return {"username": credit.username, "applied": {"$ne": credit.entry_id}, **MIGRATED}


def give(credit: Credit) -> list[Doc]:
    """Put into the wallet what `wallets.give` says, and remember the entry."""
    applied = {"$concatArrays": [{"$ifNull": ["$applied", []]}, [{"$literal": credit.entry_id}]]}
    changes = given(credit) | {"applied": {"$slice": [applied, -APPLIED_KEPT]}}
    return [{"$set": changes}]


def given(credit: Credit) -> Doc:
    amount = Int64(credit.amount_nusd)
    if credit.wallet == "new":
        return {"creditsNew": {"$add": [or_zero("creditsNew"), amount]}}
    if credit.kind != "promotional":
        return {"credits": {"$add": [or_zero("credits"), amount]}}
    after = {"$add": [or_zero("refCredits"), amount]}
    return {
        "refCredits": {"$max": [after, ZERO]},
        "credits": {"$add": [or_zero("credits"), {"$min": [after, ZERO]}]},
    }
