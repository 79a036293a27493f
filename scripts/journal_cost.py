"""Measure what charging for a request costs, by thread: hold, journal, flush and sync.

    python -m scripts.journal_cost

Each request is held, intended and settled by the gateway's own `Billing`, as in service: on a real journal in a
temporary folder, with the writer flushing into SQLite and the disk being synced. CPU time is read by thread, the
kernel's part included, until the last charge is on the books. A round does it with the largest batch that the writer
makes, with a small one, and for streamed answers, which put down their progress once; the least of the rounds counts,
as other work on the machine can only add to it.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import uvloop

from trollproxy.chat import Ask, Usage
from trollproxy.gateway.billing import Billing, HoldPolicy
from trollproxy.gateway.callers import Caller
from trollproxy.gateway.exchange import ClientRequest, Clock, Exchange, new_request_id
from trollproxy.money.accounts import Account, Accounts
from trollproxy.money.holds import Holds
from trollproxy.money.journal import Journal
from trollproxy.money.recorder import Recorder
from trollproxy.money.writer import Writer, WriterPolicy
from trollproxy.records import ClientKey, Model, Price, User
from trollproxy.store.sqlite import SqliteStore
from trollproxy.wire import OPENAI_CHAT
from trollproxy.wire.format import Entry

ROUNDS = 5
REQUESTS = 15_000
LARGE, SMALL = 750, 50  # charges a flush; 750 with their intents are what the writer takes at a time
USERS = 20
BURST = 50  # requests between two turns of the loop, as a busy second has them
NEVER_S = 3600.0  # the batches are made here, not by the timer
DRAIN_S = 60.0
NANO_USD_PER_MTOK = 1_000_000_000
CLOCK = Clock(wall=time.time, monotonic=time.monotonic)
STORE, DISK = "sqlite-writer", "journal"  # how their threads are called


class Cost(msgspec.Struct, frozen=True):
    """CPU of a request by thread, in microseconds, and how long its settling took."""

    loop_us: float
    store_us: float
    disk_us: float
    settle_us: list[float]

    @property
    def sum_us(self) -> float:
        return self.loop_us + self.store_us + self.disk_us


class Kind(msgspec.Struct, frozen=True):
    """What is measured."""

    name: str
    batch: int
    is_streamed: bool = False


KINDS = (
    Kind("whole, large batch", LARGE),
    Kind("whole, small batch", SMALL),
    Kind("streamed, large batch", LARGE, is_streamed=True),
)


class House:
    """Users with keys, a model, and exchanges as they are when the money side gets them."""

    def __init__(self) -> None:
        prices = (
            Price(version=name, per_mtok_nusd=dict.fromkeys(Usage.__struct_fields__, NANO_USD_PER_MTOK))
            for name in ("9f86d081884c7d65", "60303ae22b998861")
        )
        self.model = Model(model_id="gpt-5-mini", provider="acme", price=next(prices), upstream_price=next(prices))
        self.supplier = self.model.suppliers[0]
        self.users = [User(username=f"user-{number}", credits_nusd=10**15) for number in range(USERS)]

    def callers(self, accounts: list[Account]) -> list[Caller]:
        keys = (ClientKey(key_id=f"{number:016x}", key_hash=b"", username="") for number in itertools.count())
        return [Caller(key, account) for key, account in zip(keys, accounts, strict=False)]

    def arrive(self, caller: Caller, kind: Kind) -> Exchange:
        exchange = Exchange(REQUEST, new_request_id(), CLOCK)
        exchange.caller, exchange.model, exchange.supplier = caller, self.model, self.supplier
        exchange.ask = Ask(model="gpt-5-mini", stream=kind.is_streamed, max_output_tokens=400)
        exchange.upstream_model, exchange.input_bytes = "gpt-5-mini", 4000
        return exchange


REQUEST = ClientRequest(OPENAI_CHAT, Entry(), {}, credential="", peer="", wallet="legacy")


def answer(exchange: Exchange, number: int) -> None:
    """What the provider's answer leaves on the exchange."""
    exchange.usage = Usage(uncached=1000 + number % 100, out_text=200)
    exchange.is_usage_final, exchange.output_bytes = True, 800


def serve(billing: Billing, exchange: Exchange, number: int) -> float:
    """One request's money, and how long its settling took, in seconds."""
    billing.hold(exchange)
    billing.intend(exchange)
    if exchange.ask is not None and exchange.ask.stream:
        billing.progress(exchange, CLOCK.monotonic())
    answer(exchange, number)
    began_s = time.perf_counter()
    billing.settle(exchange)
    return time.perf_counter() - began_s


class Books:
    """The real ones, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.store, self.accounts = SqliteStore(folder / "books.sqlite"), Accounts()
        self.journal = Journal(folder / "journal")
        self.journal.open()
        recorder = Recorder(self.journal)
        policy = WriterPolicy(interval_s=NEVER_S, jitter=lambda: 0.5)
        self.writer = Writer(self.store, self.accounts, recorder, journal=self.journal, policy=policy)
        self.billing = Billing(recorder, HoldPolicy(), Holds(NEVER_S))


@asynccontextmanager
async def opened() -> AsyncIterator[Books]:
    with tempfile.TemporaryDirectory(prefix="journal-cost-") as folder:
        books = Books(Path(folder))
        await books.store.open()
        syncing = asyncio.create_task(books.journal.sync_forever())
        try:
            yield books
        finally:
            syncing.cancel()
            await asyncio.gather(syncing, return_exceptions=True)
            books.journal.close()
            await books.store.close()


async def measure(house: House, kind: Kind, requests: int) -> Cost:
    async with opened() as books:
        for user in house.users:
            await books.store.add_user(user)
        callers = house.callers([books.accounts.put(user) for user in house.users])
        await play(house, books, callers, kind=kind, requests=BURST)
        began = by_thread()
        took = await play(house, books, callers, kind=kind, requests=requests)
        cost = {name: (ended_s - began[name]) / requests * 1e6 for name, ended_s in by_thread().items()}
        bare_us = arriving_us(house, callers, kind)
        assert books.writer.queued == books.accounts.held_nusd() == 0
        assert all(caller.account is not None and caller.account.is_idle() for caller in callers)
    return Cost(cost["loop"] - bare_us, cost[STORE], cost[DISK], [each_s * 1e6 for each_s in took])


async def play(house: House, books: Books, callers: list[Caller], *, kind: Kind, requests: int) -> list[float]:
    """That many requests, put on the books a batch at a time."""
    took: list[float] = []
    for number in range(requests):
        took.append(serve(books.billing, house.arrive(callers[number % USERS], kind), number))
        if number % BURST == BURST - 1:
            await asyncio.sleep(0)
        if (number + 1) % kind.batch == 0:
            await books.writer.flush(DRAIN_S)
    await books.writer.flush(DRAIN_S)
    return took


def arriving_us(house: House, callers: list[Caller], kind: Kind) -> float:
    """What the requests themselves take, without their money."""
    began_s = time.thread_time()
    for number in range(REQUESTS):
        exchange = house.arrive(callers[number % USERS], kind)
        answer(exchange, number)
        time.perf_counter()
        time.perf_counter()
    return (time.thread_time() - began_s) / REQUESTS * 1e6


def by_thread() -> dict[str, float]:
    """CPU seconds of the loop, of the store's thread that writes and of the journal's that syncs."""
    found = {"loop": time.thread_time(), STORE: 0.0, DISK: 0.0}
    for thread in threading.enumerate():
        name = thread.name.rpartition("_")[0]
        if name in found and thread.ident is not None:
            found[name] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return found


async def compare(rounds: int, requests: int) -> None:
    house = House()
    found: dict[str, list[Cost]] = {kind.name: [] for kind in KINDS}
    await measure(house, KINDS[0], requests // 10)  # imports, caches and the allocator warm up
    for _ in range(rounds):
        for kind in KINDS:
            found[kind.name].append(await measure(house, kind, requests))
    print(f"CPU us a request, the least of {rounds} rounds of {requests:,}; the settling's wall time")
    print(f"{'':24}{'loop':>8}{'store':>8}{'disk':>8}{'sum':>8}{'settle p50':>13}{'p99':>8}")
    for name, costs in found.items():
        best = min(costs, key=lambda cost: cost.sum_us)
        p50, p99 = (statistics.median(tail(cost, percent) for cost in costs) for percent in (50, 99))
        print(f"{name:24}{best.loop_us:8.1f}{best.store_us:8.1f}{best.disk_us:8.1f}{best.sum_us:8.1f}", end="")
        print(f"{p50:13.1f}{p99:8.1f}")


def tail(cost: Cost, percent: int) -> float:
    return statistics.quantiles(cost.settle_us, n=100)[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    options = parser.parse_args()
    uvloop.run(compare(options.rounds, options.requests))


if __name__ == "__main__":
    main()
