"""Measure what the books cost a request: CPU of journal and flush, against the same loop into nothing.

    python -m scripts.journal_cost

Each request is an intent, a progress and a charge, as in service: on a real journal in a temporary folder that is being
synced, with the writer flushing into SQLite beside it. The kernel's and the threads' time counts. Rounds of the two
alternate, so that a machine that slows down slows both; the medians are compared.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Protocol

import msgspec
import uvloop

from trollproxy.chat import Usage
from trollproxy.money.accounts import Accounts
from trollproxy.money.holds import Hold
from trollproxy.money.journal import Journal
from trollproxy.money.recorder import Recorder
from trollproxy.money.settle import Ending, Seen, charge_for
from trollproxy.money.writer import Writer, WriterPolicy
from trollproxy.records import Charge, Intent, Price, Progress, User
from trollproxy.store.sqlite import SqliteStore

ROUNDS = 7
REQUESTS = 20_000
BURST = 50  # requests between two turns of the loop, as a busy second has them
USERS = 20
FLUSH_S = 0.1
DRAIN_S = 60.0
NANO_USD_PER_MTOK = 1_000_000_000


class Sink(Protocol):
    """Where the pipeline puts what must not be lost."""

    def intend(self, intent: Intent) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def record(self, charge: Charge) -> None: ...


class Nowhere:
    """The same calls, and nothing done."""

    def intend(self, intent: Intent) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def record(self, charge: Charge) -> None: ...


class Round(msgspec.Struct, frozen=True):
    """What one round took, by request: CPU of the process and wall time, until all was flushed; and each record."""

    cpu_us: float
    wall_us: float
    record_us: list[float]


class Template:
    """A request to make others of, and the money it moves."""

    def __init__(self) -> None:
        price = Price(version="v1", per_mtok_nusd=dict.fromkeys(Usage.__struct_fields__, NANO_USD_PER_MTOK))
        self.users = [User(username=f"user-{number}", credits_nusd=10**15) for number in range(USERS)]
        self.intent = Intent(
            request_id="",
            username="",
            key_id="key-1",
            friend_key_id=None,
            wallet="legacy",
            format="openai_chat",
            model="gpt-5-mini",
            upstream_model="gpt-5-mini",
            provider="acme",
            stream=True,
            price=price,
            upstream_price=None,
            input_bytes=4000,
            hold_nusd=10**7,
            day="2026-01-01",
            started_at_s=1_767_225_600.0,
        )

    def play(self, number: int, sink: Sink, accounts: Accounts) -> float:
        """One request from its intent to its charge; how long the recording took, in seconds."""
        username = self.users[number % USERS].username
        account = accounts.get(username)
        intent = msgspec.structs.replace(self.intent, request_id=f"req_{number:024x}", username=username)
        hold = Hold(account, "legacy", intent.hold_nusd)
        sink.intend(intent)
        sink.progress(Progress(request_id=intent.request_id, usage=None, is_usage_final=False, output_bytes=40))
        seen = Seen(usage=Usage(uncached=1000, out_text=200), is_final=True, input_bytes=4000, output_bytes=800)
        charge = charge_for(intent, seen, Ending(ended_by="completed", status=200, code="ok", duration_ms=900.0))
        hold.settle(charge.cost_nusd)
        began_s = time.perf_counter()
        sink.record(charge)
        return time.perf_counter() - began_s


async def run_loop(template: Template, sink: Sink, accounts: Accounts, *, requests: int) -> list[float]:
    took: list[float] = []
    for start in range(0, requests, BURST):
        took += [template.play(number, sink, accounts) for number in range(start, min(start + BURST, requests))]
        await asyncio.sleep(0)
    return took


async def measure_nothing(template: Template, requests: int) -> Round:
    accounts = Accounts()
    kept = [accounts.put(user) for user in template.users]
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    took = await run_loop(template, Nowhere(), accounts, requests=requests)
    assert len(kept) == USERS
    return round_of(cpu_s, wall_s, took)


async def measure_books(template: Template, requests: int) -> Round:
    with tempfile.TemporaryDirectory(prefix="journal-cost-") as folder:
        store, journal, accounts = SqliteStore(Path(folder) / "books.sqlite"), Journal(Path(folder) / "j"), Accounts()
        await store.open()
        journal.open()
        for user in template.users:
            await store.add_user(user)
        kept = [accounts.put(user) for user in template.users]
        recorder = Recorder(journal)
        policy = WriterPolicy(interval_s=FLUSH_S, jitter=lambda: 0.5)
        writer = Writer(store, accounts, recorder, journal=journal, policy=policy)
        tasks = [asyncio.create_task(journal.sync_forever()), asyncio.create_task(writer.run())]
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        took = await run_loop(template, recorder, accounts, requests=requests)
        await writer.close(DRAIN_S)
        found = round_of(cpu_s, wall_s, took)
        assert writer.queued == 0
        assert all(account.is_idle() for account in kept)
        await end(tasks)
        journal.close()
        await store.close()
    return found


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def round_of(cpu_s: float, wall_s: float, took: list[float]) -> Round:
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    return Round(cpu_s / len(took) * 1e6, wall_s / len(took) * 1e6, [second * 1e6 for second in took])


async def compare(rounds: int, requests: int) -> None:
    template = Template()
    await measure_books(template, requests // 10)  # imports, caches and the allocator warm up
    nothing, books = list[Round](), list[Round]()
    for _ in range(rounds):
        nothing.append(await measure_nothing(template, requests))
        books.append(await measure_books(template, requests))
    print(f"{rounds} rounds of {requests:,} requests, medians, by request")
    print(f"{'':22}{'CPU us':>9}{'wall us':>9}{'record p50 us':>15}{'record p99 us':>15}")
    rows = {"no books": nothing, "journal and flush": books}
    for name, found in rows.items():
        print(f"{name:22}{cpu_of(found):9.1f}{wall_of(found):9.1f}{tail(found, 50):15.2f}{tail(found, 99):15.2f}")
    print(f"{'added':22}{cpu_of(books) - cpu_of(nothing):9.1f}{wall_of(books) - wall_of(nothing):9.1f}")


def cpu_of(found: list[Round]) -> float:
    return statistics.median(each.cpu_us for each in found)


def wall_of(found: list[Round]) -> float:
    return statistics.median(each.wall_us for each in found)


def tail(found: list[Round], percent: int) -> float:
    """The median over the rounds of this percentile of a single record call."""
    return statistics.median(statistics.quantiles(each.record_us, n=100)[percent - 1] for each in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    options = parser.parse_args()
    uvloop.run(compare(options.rounds, options.requests))


if __name__ == "__main__":
    main()
