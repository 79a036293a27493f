"""Looks after outbound proxies whose rest is over, so that no request has to find out whether they are back.

A probe goes as far as a request could be sent and carries none, so it costs nothing. Success heals a proxy and failure
rests it for longer, as a request's does; what fails behind the proxy says nothing of it. Requests probe as well:
whoever comes first takes the turn, and there is never more than one.
"""

import asyncio

from trollproxy.errors import GatewayError
from trollproxy.gateway.exchange import Clock
from trollproxy.gateway.snapshot import Live
from trollproxy.gateway.visit import tell_changes
from trollproxy.policy.pool import Lease, Pool
from trollproxy.ports import ProxyProbe
from trollproxy.records import OutboundProxy, Provider

MAX_AT_ONCE = 32  # each may take its whole connect deadline; the rest wait for the next look


class ProxyProber:
    """Probes through `ports.ProxyProbe`."""

    def __init__(self, live: Live, probe: ProxyProbe, clock: Clock) -> None:
        self._live = live
        self._probe = probe
        self._clock = clock

    async def run(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await self.look()

    async def look(self) -> None:
        """Probe each proxy whose turn it is, and return when all have answered or let their deadlines pass."""
        await asyncio.gather(*(self._ask(*due) for due in self._take_due()))

    def _take_due(self) -> list[tuple[Provider, Pool[OutboundProxy], Lease[OutboundProxy]]]:
        now_s, snapshot = self._clock.monotonic(), self._live.snapshot
        taken: list[tuple[Provider, Pool[OutboundProxy], Lease[OutboundProxy]]] = []
        for name, pool in snapshot.proxies.items():
            while len(taken) < MAX_AT_ONCE and (lease := pool.pick_due(now_s)) is not None:
                taken.append((snapshot.providers[name], pool, lease))
        return taken

    async def _ask(self, provider: Provider, pool: Pool[OutboundProxy], lease: Lease[OutboundProxy]) -> None:
        endpoint = next(iter(provider.endpoints.values()))
        try:
            await self._probe.probe(lease.value, endpoint, provider.timeouts)
        except GatewayError as error:
            if error.origin == "proxy":
                lease.report(error.failure or "network", self._clock.monotonic())
        else:
            lease.report("ok", self._clock.monotonic())
        finally:
            lease.release()
            tell_changes(provider.name, [("an outbound proxy changed", news) for news in pool.news()])
