"""The books of a gateway as the SQLite file has them, read behind the process's back."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from trollproxy.records import Charge
from trollproxy.store.sqlite_rows import charge_from_row

BUSY_S = 5.0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ledger."""

    kind: str
    username: str
    wallet: str
    amount_nusd: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The books at one moment. Charges and entries by their ids, which are request ids; balances by user."""

    charges: dict[str, Charge]
    ledger: dict[str, Entry]
    balances: dict[str, int]


class Books:
    """One SQLite file. Reading takes one transaction, so a page never shows half a batch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Page:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=BUSY_S)) as db:
            db.row_factory = sqlite3.Row
            db.execute("BEGIN")
            charges = [charge_from_row(row) for row in db.execute("SELECT * FROM request_logs ORDER BY seq")]
            entries = {row["_id"]: _entry(row) for row in db.execute("SELECT * FROM ledger")}
            users = db.execute("SELECT username, credits + refCredits + creditsNew AS balance FROM usersNew").fetchall()
        return Page(
            charges={charge.request_id: charge for charge in charges},
            ledger=entries,
            balances={row["username"]: row["balance"] for row in users},
        )

    def change(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Put the books into a state that no command makes; one row exactly."""
        with closing(sqlite3.connect(self.path, timeout=BUSY_S)) as db, db:
            assert db.execute(statement, values).rowcount == 1


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(kind=row["type"], username=row["username"], wallet=row["wallet"], amount_nusd=row["amount"])


def demo_cost_nusd(*, uncached: int = 0, written: int = 0, read: int = 0, out: int = 0) -> int:
    """What the demo model's tokens cost at 1.0, 1.25, 0.1 and 4.0 US dollars per million; a token is whole nano-USD."""
    return uncached * 1000 + written * 1250 + read * 100 + out * 4000
