"""Resting upstream keys before their providers refuse them: by what our charges say they cost, and by what a provider
tells of them where it has an endpoint for that.

A key that is spent rests as after a `budget` failure, for a little longer than until the next look, which rests it
again. So a raised limit, a reload or a new period frees it by themselves, and its first request is a probe. A look that
fails changes nothing: the next one may not.
"""

import asyncio
import logging
from collections.abc import Iterable

from trollproxy import __version__
from trollproxy.errors import GatewayError
from trollproxy.gateway.exchange import Clock
from trollproxy.gateway.snapshot import Live
from trollproxy.policy.limits import utc_day
from trollproxy.policy.pool import Lease
from trollproxy.policy.spending import Limit, Name, Spendings
from trollproxy.ports import Store, Upstream, UpstreamCall, UsageSink
from trollproxy.records import (
    NUSD_PER_USD,
    Charge,
    Endpoint,
    Intent,
    OutboundProxy,
    Progress,
    Provider,
    Timeouts,
    UpstreamKey,
)
from trollproxy.telemetry.metrics import Metrics
from trollproxy.wire.key_info import MAX_KEY_INFO, KeyInfo, read_key_info

log = logging.getLogger(__name__)

RESTS_FOR = 2.5  # intervals: one look may fail or be late before a spent key is tried
QUERIES = 8  # at one time; a thousand keys then take half a minute
QUERY_S = 15.0
_TIMEOUTS = Timeouts(connect_s=5.0, first_byte_s=10.0, idle_s=5.0)
_OK = range(200, 300)


class SpendChecker:
    """One a process."""

    def __init__(
        self, spendings: Spendings, live: Live, *, store: Store, upstream: Upstream, clock: Clock, interval_s: float
    ) -> None:
        self.spendings = spendings
        self.failures: dict[tuple[str, ...], float] = {}
        self._live = live
        self._store = store
        self._upstream = upstream
        self._clock = clock
        self._interval_s = interval_s
        self._unknown: set[Name] = set()  # whose past must still be read

    def show(self) -> None:
        """Another snapshot stands: watch its keys."""
        limits = {
            (provider.name, key.key_id): Limit(nusd=key.spend_limit_nusd, period=key.spend_period, identity=key.secret)
            for provider in self._live.snapshot.providers.values()
            for key in provider.keys
            if key.spend_limit_nusd is not None or provider.spend_endpoint is not None
        }
        self._unknown = (self._unknown | self.spendings.watch(limits, self._day())) & limits.keys()

    def charged(self, charge: Charge) -> None:
        """A request has cost us something. Synchronous: the next request must not get a key that is spent."""
        name = (charge.provider, charge.upstream_key_id)
        if charge.upstream_cost_nusd and self.spendings.get(name) is not None:
            self.spendings.add(name, charge.upstream_cost_nusd, charge.day)
            self._rest([name])

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # the outermost edge: whatever is wrong with a look, requests go on
                log.exception("bug in the spend checker")
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        if not len(self.spendings):
            return
        self._rest(self.spendings.names())
        await self._recall()
        gate = asyncio.Semaphore(QUERIES)
        providers = self._live.snapshot.providers.values()
        asked = [(provider, key) for provider in providers if provider.spend_endpoint for key in provider.keys]
        await asyncio.gather(*(self._ask(provider, key, gate) for provider, key in asked))
        self._rest(self.spendings.names())

    async def _recall(self) -> None:
        """What keys have spent before we watched them is on the books."""
        unknown, day = set(self._unknown), self._day()
        try:
            for period, first_day in self.spendings.first_days(unknown, day).items():
                sums = await self._store.sum_upstream_costs(first_day)
                self.spendings.recall({name: sums.get(name, 0) for name in unknown}, period, day)
        except GatewayError as error:
            log.warning("what upstream keys have spent was not read", extra={"fields": {"reason": error.code}})
        else:
            self._unknown -= unknown

    async def _ask(self, provider: Provider, key: UpstreamKey, gate: asyncio.Semaphore) -> None:
        assert provider.spend_endpoint is not None
        async with gate:
            try:
                async with asyncio.timeout(QUERY_S):
                    info = await self._query(provider, provider.spend_endpoint, key)
            except (GatewayError, TimeoutError) as error:
                info = None
                reason = error.code if isinstance(error, GatewayError) else "timeout"
                fields = {"provider": provider.name, "key": key.key_id, "reason": reason}
                log.info("a key's spending was not told", extra={"fields": fields})
        if info is None:
            self.failures[provider.name,] = self.failures.get((provider.name,), 0) + 1
        else:
            self.spendings.tell((provider.name, key.key_id), info.spend_nusd, info.limit_nusd)

    async def _query(self, provider: Provider, endpoint: Endpoint, key: UpstreamKey) -> KeyInfo | None:
        """None: no such answer, or (for a provider behind proxies) no way to it now."""
        lease = self._lend_proxy(provider, key)
        if provider.proxies and lease is None:
            return None
        call = UpstreamCall(
            method="GET",
            endpoint=endpoint,
            headers=(
                ("accept", "application/json"),
                ("accept-encoding", "identity"),
                ("user-agent", f"trollproxy/{__version__}"),
                ("authorization", f"Bearer {key.secret}"),
                *provider.headers,
            ),
            body=b"",
            timeouts=_TIMEOUTS,
            proxy=lease.value if lease is not None else None,
        )
        try:
            reply = await self._upstream.send(call)
            try:
                body = await reply.read_all(MAX_KEY_INFO)
            finally:
                reply.close()
        finally:
            if lease is not None:
                lease.release()
        return read_key_info(body) if reply.status in _OK else None

    def _lend_proxy(self, provider: Provider, key: UpstreamKey) -> Lease[OutboundProxy] | None:
        pool = self._live.snapshot.proxies.get(provider.name)
        if pool is None:
            return None
        now_s = self._clock.monotonic()
        return pool.pick_named(key.proxy_id, now_s) if key.proxy_id else pool.pick(now_s, may_probe=False)

    def _rest(self, names: Iterable[Name]) -> None:
        day, now_s = self._day(), self._clock.monotonic()
        for name in names:
            if self.spendings.is_spent(name, day) and name[0] in self._live.snapshot.keys:
                pool = self._live.snapshot.keys[name[0]]
                pool.rest(name[1], "budget", now_s=now_s, rest_s=RESTS_FOR * self._interval_s)

    def _day(self) -> str:
        return utc_day(self._clock.wall())


class WatchedSink(UsageSink):
    """A sink (`ports.UsageSink`) whose charges the checker hears of."""

    def __init__(self, sink: UsageSink, checker: SpendChecker) -> None:
        self._checker = checker
        self._sink = sink

    def intend(self, intent: Intent, *, at_once: bool = False) -> None:
        self._sink.intend(intent, at_once=at_once)

    def progress(self, progress: Progress) -> None:
        self._sink.progress(progress)

    def record(self, charge: Charge) -> None:
        self._sink.record(charge)
        self._checker.charged(charge)


def register_spend_gauges(metrics: Metrics, checker: SpendChecker) -> None:
    metrics.gauge(
        "upstream_key_spend_usd",
        "What a watched key has spent in its period: our own count, or the provider's where that is more.",
        lambda: {name: spend.most_nusd / NUSD_PER_USD for name, spend in checker.spendings.items()},
        labels=("provider", "key"),
    )
    metrics.gauge(
        "upstream_key_spend_limit_usd",
        "What a watched key may spend in its period by the configuration.",
        lambda: {
            name: spend.limit.nusd / NUSD_PER_USD
            for name, spend in checker.spendings.items()
            if spend.limit.nusd is not None
        },
        labels=("provider", "key"),
    )
    metrics.counter(
        "spend_checks_failed",
        "Questions to a provider's spend endpoint that were not answered.",
        lambda: checker.failures,
        labels=("provider",),
    )
