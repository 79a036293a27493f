"""The composition root: picks what is concrete, starts it in order, drains it in reverse.

Everything else receives the parts it needs; nothing else names a store, an upstream client or a clock.
"""

import asyncio
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

from trollproxy.config import Settings, build_catalog
from trollproxy.control.accounts import AccountOffice
from trollproxy.control.auditor import Auditor, register_audit_gauges
from trollproxy.errors import GatewayError
from trollproxy.gateway.access_log import AccessLog
from trollproxy.gateway.attempt import Attempts
from trollproxy.gateway.billing import Billing, HoldPolicy
from trollproxy.gateway.callers import CallerPolicy, Callers
from trollproxy.gateway.exchange import Clock, new_request_id
from trollproxy.gateway.gate import Gate
from trollproxy.gateway.gauges import register_gauges, register_journal_gauges
from trollproxy.gateway.key_status import KeyStatus
from trollproxy.gateway.observer import Observer
from trollproxy.gateway.passages import Passages
from trollproxy.gateway.pipeline import Carriers, Pipeline
from trollproxy.gateway.prober import ProxyProber
from trollproxy.gateway.snapshot import Live, Snapshot
from trollproxy.gateway.spend_checker import SpendChecker, WatchedSink, register_spend_gauges
from trollproxy.gateway.sweeper import Sweeper, longest_life_s
from trollproxy.money.accounts import Accounts
from trollproxy.money.boundaries import crash_at, pass_by
from trollproxy.money.holds import Holds
from trollproxy.money.journal import Journal
from trollproxy.money.recorder import Recorder
from trollproxy.money.writer import Writer, WriterPolicy
from trollproxy.outbox import Outbox
from trollproxy.policy.retrying import RetryPolicy
from trollproxy.policy.spending import Spendings
from trollproxy.policy.vault import Vault
from trollproxy.ports import Store
from trollproxy.records import Wallet
from trollproxy.store.data_dir import DataDir
from trollproxy.store.sqlite import SqliteStore
from trollproxy.telemetry.logs import Logs
from trollproxy.telemetry.metrics import Metrics
from trollproxy.upstream.client import Client
from trollproxy.web.connection import ConnectionLimits
from trollproxy.web.demo import DemoProvider
from trollproxy.web.heads import Heads
from trollproxy.web.llm import BodyLimits, LlmRoutes, ModelRoutes
from trollproxy.web.ops import AdminRoutes, HealthRoutes
from trollproxy.web.peers import TrustedNetworks
from trollproxy.web.receipts import ReceiptRoutes
from trollproxy.web.server import Listening, build_table, dispatcher, require_c_parser
from trollproxy.web.short_way import Known

log = logging.getLogger(__name__)

CLOCK = Clock(wall=time.time, monotonic=time.monotonic)
SWEEP_S = 10.0  # a look takes microseconds, and what it may release has waited for half an hour
CUT_S = 1.0  # a cancelled request only settles, which takes no time
RECEIPT_FLUSH_S = 2.0  # a receipt asked for at once waits this long for its charge to be on the books
RECOVERY_S = 60.0  # enough for some million charges; what is left is written while serving
CRASH_VARIABLE = "TROLLPROXY_CRASH_AT"  # for the fault tests: boundaries.py
FINAL_FLUSH_S = 10.0  # two tries of the store's deadline; systemd's own patience at a stop is 90 s


def _later(call: Callable[[], object]) -> None:
    """At the end of this turn of the loop."""
    asyncio.get_running_loop().call_soon(call)


def open_data_dir(settings: Settings) -> DataDir:
    return DataDir(settings.data_dir, random_bytes=os.urandom)


def build_store(settings: Settings, data_dir: DataDir) -> Store:
    if settings.mongodb_uri is not None:
        from trollproxy.store.mongo import MongoStore  # noqa: PLC0415 - a driver that SQLite need not wait for

        return MongoStore(str(settings.mongodb_uri))
    return SqliteStore(data_dir.database)


def build_pepper(settings: Settings, data_dir: DataDir) -> bytes:
    return settings.pepper.encode() if settings.pepper is not None else data_dir.pepper()


def build_office(store: Store, pepper: bytes) -> AccountOffice:
    return AccountOffice(store, pepper=pepper, random_bytes=os.urandom, wall=time.time)


class Gateway:
    """A gateway from its start to its end."""

    recorder: Recorder
    writer: Writer
    journal: Journal
    callers: Callers
    auditor: Auditor

    def __init__(self, settings: Settings, *, read_settings: Callable[[], Settings], logs: Logs | None = None) -> None:
        """`read_settings` reads the configuration anew for a reload; it raises GatewayError where it is bad.

        `logs` is where each request leaves its line; without them it leaves none.
        """
        require_c_parser()
        self._settings = settings
        self._read_settings = read_settings
        self._logs = logs
        self._shown = settings  # what the snapshot was made of
        self._reloading = asyncio.Lock()  # so that what was read last is what is shown
        self._opened = AsyncExitStack()
        self._at = crash_at(text) if (text := os.environ.get(CRASH_VARIABLE)) else pass_by
        self.data_dir = open_data_dir(settings)
        self.store = build_store(settings, self.data_dir)
        self.pepper = build_pepper(settings, self.data_dir)
        self.metrics = Metrics()
        self.accounts = Accounts()
        self.holds = Holds(longest_life_s((), float(settings.billing.drain_after_disconnect_s)))
        self.gate = Gate(clock=CLOCK, new_request_id=new_request_id, max_in_flight=settings.limits.max_in_flight)
        self.live = Live(Snapshot((), {}))
        self.outbox = Outbox(_later)
        self.upstream = Client(self.outbox)
        spending = settings.spending
        self.spend_checker = SpendChecker(
            Spendings(spending.margin_percent),
            self.live,
            store=self.store,
            upstream=self.upstream,
            clock=CLOCK,
            interval_s=float(spending.check_interval_s),
        )
        self._demo_endpoint: tuple[str, int] | None = None
        self._listening: list[Listening] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.ports: list[int] = []

    @property
    def wallets(self) -> tuple[Wallet, ...]:
        return tuple(dict.fromkeys(listener.wallet for listener in self._settings.listeners))

    def office(self) -> AccountOffice:
        return build_office(self.store, self.pepper)

    async def open(self) -> None:
        """Own the data, put on the books what an earlier run left in the journal, know the models. Nothing listens."""
        self._opened.push_async_callback(self.upstream.close)
        self.data_dir.lock()
        self._opened.callback(self.data_dir.unlock)
        await self.store.open()
        self._opened.push_async_callback(self.store.close)
        last = await self._open_journal()
        self._open_books()
        await self._recover(last)
        if self._settings.demo:
            demo = DemoProvider()
            self._opened.push_async_callback(demo.close)
            self._demo_endpoint = ("127.0.0.1", await demo.start())
        self._show(self._settings)
        self._register_gauges()

    async def listen(self) -> None:
        """Begin to serve on every listener."""
        self._begin_tasks()
        pipeline = Pipeline(
            gate=self.gate,
            callers=self.callers,
            live=self.live,
            billing=Billing(WatchedSink(self.recorder, self.spend_checker), _hold_policy(self._settings), self.holds),
            carriers=self._build_carriers(),
            observer=self._build_observer(),
        )
        for listener in self._settings.listeners:
            listening = self._build_listening(pipeline, listener.wallet)
            self.ports.append(await listening.open(self._settings.host, listener.port))
            self._listening.append(listening)

    def _build_observer(self) -> Observer:
        logs = self._logs
        access_log = AccessLog(logs.format, logs.write) if logs is not None and logs.shows_info else None
        observer = Observer(self.metrics, access_log)
        self.metrics.counter(
            "provider_cache_answers",
            "Answers that a provider gave from its cache, by how that was seen.",
            observer.cached_answers,
            labels=("provider", "model", "source"),
        )
        return observer

    def _build_carriers(self) -> Carriers:
        limits, retry = self._settings.limits, self._settings.retry
        passages = Passages(Vault(int(limits.thought_memory_bytes)))
        policy = RetryPolicy(max_tries=retry.tries, deadline_s=float(retry.deadline_s))
        attempts = Attempts(self.upstream, passages, policy=policy, budget_share=retry.budget_percent / 100)
        self.metrics.counter(
            "retries_refused",
            "Retries that a provider's budget of them did not allow.",
            attempts.refused_retries,
            labels=("provider",),
        )
        return Carriers(
            passages=passages,
            attempts=attempts,
            ping_s=float(limits.stream_ping_s),
        )

    def _begin_tasks(self) -> None:
        work = [self.writer.run(), self._refresh_for_ever(), self._sweep_for_ever(), self.spend_checker.run()]
        if interval_s := float(self._settings.billing.audit_interval_s):
            work.append(self.auditor.run(interval_s))
        if interval_s := float(self._settings.proxy_probe_interval_s):
            work.append(ProxyProber(self.live, self.upstream, CLOCK).run(interval_s))
        self._tasks += map(asyncio.create_task, work)

    async def reload(self) -> None:
        """Take the configuration's models, prices and upstreams as they are now, and read the callers anew."""
        async with self._reloading:
            self._show(await asyncio.to_thread(self._read_settings))
        await self.callers.refresh(CLOCK.monotonic())
        log.info("reloaded")

    async def _look_at_configuration(self) -> None:
        """Reload it if it has changed. A bad one, or one half written, changes nothing and is read again next time."""
        async with self._reloading:
            try:
                settings = await asyncio.to_thread(self._read_settings)
            except GatewayError as error:
                log.warning("the configuration was not read", extra={"fields": {"reason": error.message}})
                return
            if settings != self._shown:
                self._show(settings)
                log.info("the configuration has changed")

    async def wait_for_failure(self) -> None:
        """Return when a part that must never end has ended."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            log.critical("a background task ended", exc_info=task.exception())

    async def drain(self) -> None:
        """Take nothing new, finish what runs within the bound, put everything on the books, close."""
        self.gate.is_draining = True
        for listening in self._listening:
            listening.stop_accepting()
        if not await self.gate.wait_until_empty(float(self._settings.drain_timeout_s)):
            log.warning("cutting requests that outlast the drain", extra={"fields": {"requests": self.gate.in_flight}})
            self.gate.cut()
            await self.gate.wait_until_empty(CUT_S)
        for listening in self._listening:
            await listening.close(deadline_s=CUT_S)
        await self.writer.close(FINAL_FLUSH_S)
        await self.close()

    async def close(self) -> None:
        """Close what is open, in reverse."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._opened.aclose()

    async def _open_journal(self) -> int:
        """Open the journal, or a new one where it is behind the store; the last number that the store has of it.

        A journal from a restored backup ends before what the store knows. All it holds is in the store, and numbering
        on from it would give out numbers that the store has seen.
        """
        self.journal = Journal(self.data_dir.journal)
        self.journal.open()
        last = await self.store.read_last_seq(self.journal.id)
        if last > self.journal.last:
            log.critical(
                "the journal is older than the store", extra={"fields": {"store": last, "id": self.journal.id}}
            )
            self.journal.close()
            self.data_dir.retire_journal(self.journal.id)
            self.journal = Journal(self.data_dir.journal)
            self.journal.open()
            last = 0
        self._opened.callback(self.journal.close)
        self._tasks = [asyncio.create_task(self.journal.sync_forever())]
        return last

    def _open_books(self) -> None:
        billing = self._settings.billing
        self.recorder = Recorder(self.journal, self.outbox, at=self._at)
        policy = WriterPolicy(
            interval_s=float(billing.flush_interval_s) if billing.batching else 0.0, jitter=random.random, at=self._at
        )
        self.writer = Writer(self.store, self.accounts, self.recorder, journal=self.journal, policy=policy)
        self.auditor = Auditor(self.store, self.writer, wall=CLOCK.wall)
        self.callers = Callers(
            self.store, self.writer, self.accounts, policy=_caller_policy(self._settings, self.pepper)
        )

    async def _recover(self, last: int) -> None:
        self.writer.replay_after(last)
        crashed = self.recorder.recover()
        if crashed:
            log.warning("charged what a crash cut off", extra={"fields": {"requests": crashed}})
        await self.writer.catch_up(RECOVERY_S)

    def _show(self, settings: Settings) -> None:
        """Swap the snapshot for one of these settings."""
        self._shown = settings
        catalog = build_catalog(settings, demo_endpoint=self._demo_endpoint)
        self.live.snapshot = Snapshot(catalog.models, catalog.providers, previous=self.live.snapshot)
        self.spend_checker.show()
        self.metrics.set_models(model.model_id for model in catalog.models)
        drain_s = float(settings.billing.drain_after_disconnect_s)
        timeouts = [each.timeouts for each in catalog.providers.values()]
        self.holds.outlast(longest_life_s(timeouts, drain_s, float(settings.retry.deadline_s)))
        self.writer.keep_prices(catalog.prices())

    async def _refresh_for_ever(self) -> None:
        """Bring configuration and callers up to date every reload interval; what cannot be read is tried again then."""
        while True:
            await asyncio.sleep(float(self._settings.reload_interval_s))
            await self._look_at_configuration()
            try:
                await self.callers.refresh(CLOCK.monotonic())
            except GatewayError as error:
                log.warning("callers were not refreshed", extra={"fields": {"reason": error.code}})
            self.journal.discard_before(now_s=CLOCK.wall())

    async def _sweep_for_ever(self) -> None:
        violations = self.writer.violations
        sweeper = Sweeper(self.gate, self.holds, self.accounts, recorder=self.recorder, violations=violations)
        while True:
            await asyncio.sleep(SWEEP_S)
            sweeper.look()

    def _register_gauges(self) -> None:
        register_gauges(
            self.metrics,
            gate=self.gate,
            writer=self.writer,
            accounts=self.accounts,
            callers=self.callers,
            live=self.live,
        )
        register_journal_gauges(self.metrics, self.journal, self.recorder)
        register_audit_gauges(self.metrics, self.auditor)
        register_spend_gauges(self.metrics, self.spend_checker)
        self.metrics.gauge(
            "upstream_connections",
            "Connections to providers by state.",
            self._upstream_connections,
            labels=("origin", "state"),
        )

    def _build_listening(self, pipeline: Pipeline, wallet: Wallet) -> Listening:
        trusted = TrustedNetworks(self._settings.trusted_networks)
        limits = self._settings.limits
        body_limits = BodyLimits(max_bytes=int(limits.max_body_bytes), timeout_s=float(limits.body_timeout_s))
        llm = LlmRoutes(pipeline=pipeline, gate=self.gate, wallet=wallet, body_limits=body_limits, trusted=trusted)
        table = build_table(
            llm=llm,
            models=ModelRoutes(live=self.live, callers=self.callers, gate=self.gate),
            receipts=ReceiptRoutes(
                store=self.store,
                callers=self.callers,
                gate=self.gate,
                flush=lambda: self.writer.flush(RECEIPT_FLUSH_S),
            ),
            health=HealthRoutes(store=self.store, writer=self.writer, journal=self.journal, gate=self.gate),
            admin=AdminRoutes(
                callers=self.callers,
                gate=self.gate,
                keys=KeyStatus(self.live, self.spend_checker.spendings),
                metrics=self.metrics,
                trusted=trusted,
                reload=self.reload,
            ),
        )
        known = Known(Heads(body_limits.max_bytes), pipeline.serve, self.outbox)
        return Listening(dispatcher(table), _connection_limits(self._settings), trusted, known=known)

    def _upstream_connections(self) -> dict[tuple[str, ...], float]:
        counts: Counter[tuple[str, ...]] = Counter()  # an origin has several ways to it: straight, proxies
        for origin, stats in self.upstream.stats().items():
            for state in ("open", "idle", "waiting"):
                counts[f"{origin.host}:{origin.port}", state] += getattr(stats, state)
        return dict(counts)


def _caller_policy(settings: Settings, pepper: bytes) -> CallerPolicy:
    limits = settings.limits
    return CallerPolicy(
        pepper=pepper,
        environment_key=settings.proxy_api_key,
        dev_rpm=limits.dev_rpm,
        pro_rpm=limits.pro_rpm,
        failed_per_minute=limits.failed_auth_per_minute_per_ip,
    )


def _hold_policy(settings: Settings) -> HoldPolicy:
    return HoldPolicy(
        bytes_per_token=settings.billing.bytes_per_token,
        default_max_output_tokens=settings.billing.default_max_output_tokens,
        drain_s=float(settings.billing.drain_after_disconnect_s),
    )


def _connection_limits(settings: Settings) -> ConnectionLimits:
    limits = settings.limits
    return ConnectionLimits(
        header_timeout_s=float(limits.header_timeout_s),
        keep_alive_s=float(limits.keep_alive_s),
        max_connections=limits.max_connections,
        max_connections_per_ip=limits.max_connections_per_ip,
    )
