"""What an audit reads in SQLite, and the price tables that it needs: balances beside the ledger, and every charge.

Each reading is one statement, so what it sees is one moment: a flush is in balances and ledger or in neither. These run
on a thread and a connection of their own, since a sum over years of entries takes its time.
"""

import sqlite3
from collections.abc import Sequence

from trollproxy.records import Charge, Price, Statement
from trollproxy.store.names import APPLIED, CHUNK, PRICES, price_conflict
from trollproxy.store.sqlite_rows import charge_from_row, insert, price_from_row, price_to_row, user_from_row
from trollproxy.store.tally import chunks

_SUMS = """SELECT users.*, COALESCE(sums.legacy, 0) AS ledgerLegacy, COALESCE(sums.new, 0) AS ledgerNew
    FROM usersNew AS users LEFT JOIN (
        SELECT username, SUM(IIF(wallet = 'legacy', amount, 0)) AS legacy, SUM(IIF(wallet = 'new', amount, 0)) AS new
        FROM ledger WHERE username IN ({places}) AND state = ? GROUP BY username) AS sums USING (username)
    WHERE users.username IN ({places})"""


def read_statements(db: sqlite3.Connection, usernames: Sequence[str]) -> list[Statement]:
    found: list[Statement] = []
    for chunk in chunks(usernames, CHUNK):
        query = _SUMS.format(places=", ".join("?" * len(chunk)))
        found += map(statement_from_row, db.execute(query, (*chunk, APPLIED, *chunk)))
    return found


def statement_from_row(row: sqlite3.Row) -> Statement:
    return Statement(user=user_from_row(row), ledger_nusd={"legacy": row["ledgerLegacy"], "new": row["ledgerNew"]})


def page_charges(db: sqlite3.Connection, after: str, *, limit: int) -> list[Charge]:
    query = """SELECT ledger._id AS id, logs.* FROM ledger CROSS JOIN request_logs AS logs USING (n)
            WHERE ledger._id > :after
        UNION ALL SELECT _id AS id, * FROM request_logs WHERE _id > :after AND n < 0 ORDER BY id LIMIT :limit"""
    return [charge_from_row(row) for row in db.execute(query, {"after": after, "limit": limit})]


def sum_upstream_costs(db: sqlite3.Connection, since_day: str) -> dict[tuple[str, str], int]:
    query = """SELECT provider, upstreamKeyId, SUM(upstreamCostNusd) AS cost FROM request_logs
        WHERE day >= ? AND upstreamCostNusd IS NOT NULL GROUP BY provider, upstreamKeyId"""
    return {(row["provider"], row["upstreamKeyId"]): row["cost"] for row in db.execute(query, (since_day,))}


def write_prices(db: sqlite3.Connection, prices: Sequence[Price]) -> None:
    for price in prices:
        if not insert(db, PRICES, row=price_to_row(price), known_by="_id"):
            [stored] = read_prices(db, [price.version])
            if stored != price:
                raise price_conflict(price.version)


def read_prices(db: sqlite3.Connection, versions: Sequence[str]) -> list[Price]:
    found: list[Price] = []
    for chunk in chunks(versions, CHUNK):
        places = ", ".join("?" * len(chunk))
        rows = db.execute(f"SELECT * FROM prices WHERE _id IN ({places})", chunk)  # noqa: S608 -- values are bound
        found += map(price_from_row, rows)
    return found
