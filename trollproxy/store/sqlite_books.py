"""Money in SQLite: what one transaction of the writer does to ledger, balances and counters.

Every function here runs inside a transaction that its caller began and ends. A balance moves only together with a
ledger row that is new, which alone makes repetition, overlap and regrouping harmless. It knows no threads or deadlines.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter

import msgspec

from trollproxy.errors import Forbidden, NotFound
from trollproxy.policy.wallets import Balance, give, take
from trollproxy.records import Batch, Charge, Credit, User
from trollproxy.store.names import (
    APPLIED,
    CLIENT_KEYS,
    DEAD,
    DEAD_LETTERS,
    FRIEND_KEYS,
    FRIEND_SPEND,
    LEDGER,
    UNKNOWN_USER,
    UNMIGRATED_USER,
    USERS,
    ledger_conflict,
)
from trollproxy.store.sqlite_rows import (
    INSERT_LOG,
    INSERT_USAGE,
    USAGE_COLUMNS,
    Row,
    charge_to_values,
    insert,
    usage_to_values,
    user_to_row,
)
from trollproxy.store.tally import counter_id, group_by, sum_cost, sum_draw, sum_tokens, unique_charges

SLICE_ROWS = 25  # a fifth of a millisecond
_yield_core = getattr(os, "sched_yield", tuple)  # nothing where the system has no such call


def write_batch(db: sqlite3.Connection, batch: Batch) -> None:
    charges = unique_charges(batch.charges)
    insert_many(db, INSERT_LOG, map(charge_to_values, charges))
    fresh = post_usage(db, [charge for charge in charges if charge.username], writer=batch.writer)
    for username, mine in group_by(fresh, attrgetter("username")).items():
        balance = read_balance(db, username)
        if isinstance(balance, Balance):
            set_balance(db, username, balance=take(balance, sum_draw(mine)), tokens=sum_tokens(mine))
            count_friends(db, mine)
        else:
            bury(db, mine, reason=balance)
    touch_keys(db, batch.last_used)


def insert_many(db: sqlite3.Connection, statement: str, rows: Iterator[Sequence[object]]) -> None:
    """In slices: on a core that it shares with the event loop, this thread would else go on until the system's patience
    with it ends, which takes some milliseconds.
    """
    while some := list(islice(rows, SLICE_ROWS)):
        db.executemany(statement, some)
        _yield_core()


def post_usage(db: sqlite3.Connection, charges: list[Charge], *, writer: str) -> list[Charge]:
    """Write the charges' entries and return those that are new to the ledger. What is there must say the same.

    An entry of this writer is found by its number, all of a batch at one look. An id that is taken all the same is on
    an entry with other contents, which undoes the transaction.
    """
    if not charges:
        return charges
    query = "SELECT _id FROM ledger WHERE writer = ? AND seq BETWEEN ? AND ?"
    stored = {row["_id"] for row in db.execute(query, (writer, charges[0].seq, charges[-1].seq))}
    fresh = charges
    if stored:
        fresh = [charge for charge in charges if charge.request_id not in stored]
        require_same(db, [charge for charge in charges if charge.request_id in stored], writer)
    try:
        insert_many(db, INSERT_USAGE, (usage_to_values(charge, writer) for charge in fresh))
    except sqlite3.IntegrityError:
        require_same(db, fresh, writer)
        raise
    return fresh


def require_same(db: sqlite3.Connection, charges: Sequence[Charge], writer: str) -> None:
    for charge in charges:
        require_same_entry(db, dict(zip(USAGE_COLUMNS, usage_to_values(charge, writer), strict=True)))


def require_same_entry(db: sqlite3.Connection, row: Row) -> None:
    """An entry that is there must say the same as this one."""
    stored = db.execute("SELECT * FROM ledger WHERE _id = ?", (row["_id"],)).fetchone()
    said = ("type", "username", "wallet", "amount", "writer", "seq")
    if stored is not None and any(stored[name] != row.get(name) for name in said):
        raise ledger_conflict(row["_id"])


def post(db: sqlite3.Connection, row: Row) -> bool:
    """Write an entry, and return whether it is new to the ledger."""
    is_new = insert(db, LEDGER, row=row, known_by="_id")
    if not is_new:
        require_same_entry(db, row)
    return is_new


def read_balance(db: sqlite3.Connection, username: str) -> Balance | str:
    """What the user has, or why nobody can pay from it."""
    query = "SELECT migration, credits, refCredits, creditsNew FROM usersNew WHERE username = ?"
    row = db.execute(query, (username,)).fetchone()
    if row is None:
        return UNKNOWN_USER
    if not row["migration"]:
        return UNMIGRATED_USER
    return Balance(credits_nusd=row["credits"], ref_credits_nusd=row["refCredits"], credits_new_nusd=row["creditsNew"])


def set_balance(db: sqlite3.Connection, username: str, *, balance: Balance, tokens: int) -> None:
    row = {**msgspec.structs.asdict(balance), "tokens": tokens, "username": username}
    db.execute(
        """UPDATE usersNew SET credits = :credits_nusd, refCredits = :ref_credits_nusd, creditsNew = :credits_new_nusd,
           tokensUsed = tokensUsed + :tokens WHERE username = :username""",
        row,
    )


def count_friends(db: sqlite3.Connection, charges: Sequence[Charge]) -> None:
    for key_id, mine in group_by(charges, attrgetter("friend_key_id")).items():
        db.execute("UPDATE friend_keys SET totalSpent = totalSpent + ? WHERE keyId = ?", (sum_cost(mine), key_id))
    for name, mine in group_by(charges, counter_id).items():
        row = {"_id": name, "keyId": mine[0].friend_key_id, "day": mine[0].day, "model": mine[0].model, "spent": 0}
        insert(db, FRIEND_SPEND, row=row, known_by="_id")
        db.execute("UPDATE friend_spend SET spent = spent + ? WHERE _id = ?", (sum_cost(mine), name))


def bury(db: sqlite3.Connection, charges: Sequence[Charge], *, reason: str) -> None:
    """Set aside what nobody can pay. The entry stays, marked, so that a repetition finds it done."""
    for charge in charges:
        db.execute("UPDATE ledger SET state = ? WHERE _id = ?", (DEAD, charge.request_id))
        text = msgspec.json.encode(charge).decode()
        insert(db, DEAD_LETTERS, row={"_id": charge.request_id, "reason": reason, "charge": text}, known_by="_id")


def touch_keys(db: sqlite3.Connection, last_used: dict[str, float]) -> None:
    rows = [(at_s, key_id) for key_id, at_s in last_used.items()]
    for table in (CLIENT_KEYS, FRIEND_KEYS):
        db.executemany(f"UPDATE {table} SET lastUsedAt = MAX(COALESCE(lastUsedAt, 0), ?) WHERE keyId = ?", rows)  # noqa: S608 -- own words


def apply_credit(db: sqlite3.Connection, credit: Credit) -> bool:
    balance = read_balance(db, credit.username)
    if balance == UNKNOWN_USER:
        raise NotFound("There is no such user.")
    if not isinstance(balance, Balance):
        raise Forbidden("This account's balance has to be migrated first.", code="migration_required")
    if not post(db, credit_to_row(credit)):
        return False
    set_balance(db, credit.username, balance=give(balance, credit), tokens=0)
    return True


def credit_to_row(credit: Credit) -> Row:
    return {
        "_id": credit.entry_id,
        "type": credit.kind,
        "username": credit.username,
        "wallet": credit.wallet,
        "amount": credit.amount_nusd,
        "note": credit.note,
        "state": APPLIED,
        "createdAt": credit.created_at_s,
    }


def open_account(db: sqlite3.Connection, user: User) -> None:
    """Write a user, and what it starts with as entries, so that the ledger alone explains the balance."""
    row = user_to_row(user)
    insert(db, USERS, row=row)
    openings = {"legacy": row["credits"] + row["refCredits"], "new": row["creditsNew"]}
    for wallet, amount in openings.items():
        if amount:
            entry: Row = {"_id": f"opening|{user.username}|{wallet}", "type": "opening", "username": user.username}
            entry |= {"wallet": wallet, "amount": amount, "state": APPLIED, "createdAt": user.created_at_s}
            insert(db, LEDGER, row=entry)


def sum_ledger(db: sqlite3.Connection, username: str, *, wallet: str) -> int:
    query = "SELECT COALESCE(SUM(amount), 0) FROM ledger WHERE username = ? AND wallet = ? AND state = ?"
    return int(db.execute(query, (username, wallet, APPLIED)).fetchone()[0])


def read_last_seq(db: sqlite3.Connection, writer: str) -> int:
    return int(db.execute("SELECT COALESCE(MAX(seq), 0) FROM ledger WHERE writer = ?", (writer,)).fetchone()[0])
