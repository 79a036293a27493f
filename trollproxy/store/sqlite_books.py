"""Money in SQLite: what one transaction of the writer does to ledger, balances and counters.

Every function here runs inside a transaction that its caller began and ends. A balance moves only together with a
ledger row that is new, which alone makes repetition, overlap and regrouping harmless. It knows no threads or deadlines.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain, count, islice
from operator import attrgetter

import msgspec

from trollproxy.errors import Forbidden, NotFound
from trollproxy.policy.wallets import Balance, give, take
from trollproxy.records import Batch, Charge, Credit, User
from trollproxy.store.migrations import FIRST_APART
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
    INSERT_LOG_APART,
    Row,
    charge_from_row,
    common_values,
    insert,
    inserting_logs,
    inserting_usage,
    own_values,
    usage_to_values,
    user_to_row,
)
from trollproxy.store.tally import counter_id, group_by, slices, sum_cost, sum_draw, sum_tokens, unique_charges

SLICE_ROWS = 128  # half a millisecond; with a quarter of them charges come faster than they are written, on a busy core
SET_BALANCE = """UPDATE usersNew SET credits = ?, refCredits = ?, creditsNew = ?, tokensUsed = tokensUsed + ?
    WHERE username = ?"""
Groups = dict[tuple[object, ...], list[Charge]]  # by their `common_values`
_yield_core = getattr(os, "sched_yield", tuple)  # nothing where the system has no such call


def write_batch(db: sqlite3.Connection, batch: Batch) -> None:
    charges = unique_charges(batch.charges)
    log_apart(db, [charge for charge in charges if not charge.username])
    fresh = post_usage(db, [charge for charge in charges if charge.username], writer=batch.writer)
    count_friends(db, draw(db, fresh))
    touch_keys(db, batch.last_used)


def change_many(db: sqlite3.Connection, statement: str, rows: Iterable[Sequence[object]]) -> None:
    """In slices: on a core that it shares with the event loop, this thread would else go on until the system's patience
    with it ends, which takes some milliseconds.
    """
    left = iter(rows)
    while some := list(islice(left, SLICE_ROWS)):
        db.executemany(statement, some)
        _yield_core()


def log_apart(db: sqlite3.Connection, charges: Sequence[Charge]) -> None:
    """Write the rows of charges that have no entry in the ledger, as nobody pays for them."""
    if charges:
        last = db.execute("SELECT MAX(n) FROM request_logs WHERE n < 0").fetchone()[0]
        numbers = count(FIRST_APART if last is None else last + 1)
        change_many(
            db, INSERT_LOG_APART, ((*common_values(each), *own_values(each, next(numbers))) for each in charges)
        )


def write_logs(db: sqlite3.Connection, groups: Groups, first: int) -> None:
    """Write the charges' rows in the log, numbered in the order of the groups."""
    numbers = count(first)
    for common, group in groups.items():
        for some in slices(group, SLICE_ROWS):
            own = chain.from_iterable(map(own_values, some, numbers))
            db.execute(inserting_logs(len(some)), (*common, *own))
            _yield_core()


def write_entries(db: sqlite3.Connection, charges: Sequence[Charge], first: int, *, writer: str) -> None:
    """Write the charges' entries in the ledger. Many by one statement, since between two of them this thread must wait
    for the interpreter, which on a busy core takes longer than the statement.
    """
    numbers = count(first)
    for some in slices(charges, SLICE_ROWS):
        own = chain.from_iterable(map(usage_to_values, some, numbers))
        db.execute(inserting_usage(len(some)), (writer, *own))
        _yield_core()


def post_usage(db: sqlite3.Connection, charges: Sequence[Charge], *, writer: str) -> list[Charge]:
    """Write the charges' entries and their rows in the log, and return those that are new to the ledger.

    What is there must say the same. Only up to its last number can a writer have entries; an id that is taken beyond is
    on an entry with other contents, which undoes the transaction.
    """
    last = read_last_seq(db, writer)
    stored = find_entries(db, [charge.request_id for charge in charges if charge.seq <= last])
    require_same(db, [charge for charge in charges if charge.request_id in stored], writer)
    groups = group_alike(charge for charge in charges if charge.request_id not in stored)
    fresh = list(chain.from_iterable(groups.values()))
    if fresh:
        first = next_number(db)
        try:
            write_entries(db, fresh, first, writer=writer)
        except sqlite3.IntegrityError:
            require_same(db, fresh, writer)
            raise
        write_logs(db, groups, first)
        set_last_seq(db, writer, max(last, charges[-1].seq))
    return fresh


def group_alike(charges: Iterable[Charge]) -> Groups:
    groups: Groups = {}
    for charge in charges:
        groups.setdefault(common_values(charge), []).append(charge)
    return groups


def find_entries(db: sqlite3.Connection, ids: Sequence[str]) -> set[str]:
    """Which of these ids are in the ledger."""
    query = "SELECT _id FROM ledger WHERE _id IN (SELECT value FROM json_each(?))"
    return {row["_id"] for row in db.execute(query, (encode(ids),))} if ids else set()


def next_number(db: sqlite3.Connection) -> int:
    """The first that neither the ledger nor the log has."""
    query = "SELECT MAX(COALESCE((SELECT MAX(n) FROM ledger), 0), COALESCE((SELECT MAX(n) FROM request_logs), 0)) + 1"
    return int(db.execute(query).fetchone()[0])


def require_same(db: sqlite3.Connection, charges: Sequence[Charge], writer: str) -> None:
    for charge in charges:
        entry: Row = {"_id": charge.request_id, "type": "usage", "username": charge.username, "wallet": charge.wallet}
        require_same_entry(db, entry | {"amount": -charge.cost_nusd, "writer": writer, "seq": charge.seq})


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


def draw(db: sqlite3.Connection, charges: Sequence[Charge]) -> list[Charge]:
    """Take each user's charges off the balance and return them; those that nobody can pay are set aside."""
    groups = group_by(charges, attrgetter("username"))
    balances = read_balances(db, list(groups))
    changes: list[tuple[object, ...]] = []
    paid: list[Charge] = []
    for username, mine in groups.items():
        balance = balances.get(username, UNKNOWN_USER)
        if isinstance(balance, Balance):
            changes.append(balance_to_values(username, take(balance, sum_draw(mine)), tokens=sum_tokens(mine)))
            paid += mine
        else:
            bury(db, mine, reason=balance)
    change_many(db, SET_BALANCE, changes)
    return paid


def read_balances(db: sqlite3.Connection, usernames: Sequence[str]) -> dict[str, Balance | str]:
    """What those that there are have, or why nobody can pay from it."""
    query = """SELECT username, migration, credits, refCredits, creditsNew FROM usersNew
        WHERE username IN (SELECT value FROM json_each(?))"""
    return {row["username"]: balance_from_row(row) for row in db.execute(query, (encode(usernames),))}


def balance_from_row(row: sqlite3.Row) -> Balance | str:
    if not row["migration"]:
        return UNMIGRATED_USER
    return Balance(credits_nusd=row["credits"], ref_credits_nusd=row["refCredits"], credits_new_nusd=row["creditsNew"])


def balance_to_values(username: str, balance: Balance, *, tokens: int) -> tuple[object, ...]:
    """For `SET_BALANCE`."""
    return (*msgspec.structs.astuple(balance), tokens, username)


def count_friends(db: sqlite3.Connection, charges: Sequence[Charge]) -> None:
    lent = [charge for charge in charges if charge.friend_key_id]
    for key_id, mine in group_by(lent, attrgetter("friend_key_id")).items():
        db.execute("UPDATE friend_keys SET totalSpent = totalSpent + ? WHERE keyId = ?", (sum_cost(mine), key_id))
    for name, mine in group_by(lent, counter_id).items():
        row = {"_id": name, "keyId": mine[0].friend_key_id, "day": mine[0].day, "model": mine[0].model, "spent": 0}
        insert(db, FRIEND_SPEND, row=row, known_by="_id")
        db.execute("UPDATE friend_spend SET spent = spent + ? WHERE _id = ?", (sum_cost(mine), name))


def bury(db: sqlite3.Connection, charges: Sequence[Charge], *, reason: str) -> None:
    """Set aside what nobody can pay. The entry stays, marked, so that a repetition finds it done."""
    for charge in charges:
        db.execute("UPDATE ledger SET state = ? WHERE _id = ?", (DEAD, charge.request_id))
        row = {"_id": charge.request_id, "reason": reason, "charge": encode(charge)}
        insert(db, DEAD_LETTERS, row=row, known_by="_id")


def touch_keys(db: sqlite3.Connection, last_used: dict[str, float]) -> None:
    rows = [(at_s, key_id) for key_id, at_s in last_used.items()]
    for table in (CLIENT_KEYS, FRIEND_KEYS):
        db.executemany(f"UPDATE {table} SET lastUsedAt = MAX(COALESCE(lastUsedAt, 0), ?) WHERE keyId = ?", rows)  # noqa: S608 -- own words


def apply_credit(db: sqlite3.Connection, credit: Credit) -> bool:
    balance = read_balances(db, [credit.username]).get(credit.username)
    if balance is None:
        raise NotFound("There is no such user.")
    if not isinstance(balance, Balance):
        raise Forbidden("This account's balance has to be migrated first.", code="migration_required")
    if not post(db, credit_to_row(credit)):
        return False
    db.execute(SET_BALANCE, balance_to_values(credit.username, give(balance, credit), tokens=0))
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


def encode(value: object) -> str:
    return msgspec.json.encode(value).decode()


def sum_ledger(db: sqlite3.Connection, username: str, *, wallet: str) -> int:
    query = "SELECT COALESCE(SUM(amount), 0) FROM ledger WHERE username = ? AND wallet = ? AND state = ?"
    return int(db.execute(query, (username, wallet, APPLIED)).fetchone()[0])


def read_last_seq(db: sqlite3.Connection, writer: str) -> int:
    row = db.execute("SELECT seq FROM writers WHERE _id = ?", (writer,)).fetchone()
    return int(row["seq"]) if row else 0


def set_last_seq(db: sqlite3.Connection, writer: str, seq: int) -> None:
    query = "INSERT INTO writers VALUES (?, ?) ON CONFLICT (_id) DO UPDATE SET seq = excluded.seq"
    db.execute(query, (writer, seq))


def read_charge(db: sqlite3.Connection, request_id: str) -> Charge | None:
    query = """SELECT * FROM request_logs WHERE n = (SELECT n FROM ledger WHERE _id = :id)
        UNION ALL SELECT * FROM request_logs WHERE _id = :id AND n < 0 LIMIT 1"""
    row = db.execute(query, {"id": request_id}).fetchone()
    return charge_from_row(row) if row else None


def list_charges(db: sqlite3.Connection, username: str, *, limit: int) -> list[Charge]:
    query = """SELECT ledger.createdAt AS at, logs.* FROM ledger CROSS JOIN request_logs AS logs USING (n)
            WHERE ledger.username = :username
        UNION ALL SELECT startedAtS AS at, * FROM request_logs WHERE username = :username AND n < 0
        ORDER BY at DESC, seq DESC LIMIT :limit"""
    return [charge_from_row(row) for row in db.execute(query, {"username": username, "limit": limit})]
