"""Proxies that rest are probed when their rest is over; what comes of it is theirs alone."""

import asyncio
import logging

import pytest

from trollproxy.errors import GatewayError, ProxyFailed, UpstreamUnavailable
from trollproxy.gateway.exchange import Clock
from trollproxy.gateway.prober import MAX_AT_ONCE, ProxyProber
from trollproxy.gateway.snapshot import PROXY_RESTS, Live, Snapshot
from trollproxy.records import Endpoint, OutboundProxy, Provider, Timeouts, UpstreamKey

REST_S = PROXY_RESTS["network"].first_s
ENDPOINT = Endpoint(host="acme.test", port=443, tls=True, path="/v1")


class Road:
    """A provider behind proxies that all rest, a clock, and what a probe finds."""

    def __init__(self, *names: str) -> None:
        proxies = tuple(OutboundProxy(proxy_id=name, kind="http", host=f"{name}.test", port=1) for name in names)
        keys = (UpstreamKey(key_id="k", secret="s"),)
        provider = Provider(name="acme", endpoints={"openai_chat": ENDPOINT}, keys=keys, proxies=proxies)
        self.now_s = 0.0
        self.live = Live(Snapshot((), {"acme": provider}))
        self.pool = self.live.snapshot.proxies["acme"]
        self.found: dict[str, GatewayError] = {}
        self.probed: list[tuple[str, Endpoint]] = []
        for _ in names:
            lease = self.pool.pick(self.now_s)
            assert lease is not None
            lease.report("network", self.now_s)
            lease.release()

    async def probe(self, proxy: OutboundProxy, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self.probed.append((proxy.proxy_id, endpoint))
        if proxy.proxy_id in self.found:
            raise self.found[proxy.proxy_id]

    def look(self, after_s: float = 0.0) -> list[str]:
        """The states after one look."""
        self.now_s += after_s
        clock = Clock(wall=lambda: 0.0, monotonic=lambda: self.now_s)
        asyncio.run(ProxyProber(self.live, self, clock).look())
        return [proxy.state for proxy in self.pool.status(self.now_s)]


def test_who_rests_is_left_alone() -> None:
    road = Road("east", "west")
    assert road.look(REST_S / 2) == ["resting", "resting"]
    assert road.probed == []


def test_what_comes_through_heals() -> None:
    road = Road("east", "west")
    assert road.look(REST_S) == ["healthy", "healthy"]
    assert road.probed == [("east", ENDPOINT), ("west", ENDPOINT)]


def test_who_still_fails_rests_for_longer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    road = Road("east", "west")
    road.found["west"] = ProxyFailed("x")
    assert road.look(REST_S) == ["healthy", "resting"]
    assert [proxy.rests_for_s for proxy in road.pool.status(road.now_s)] == [0.0, 2 * REST_S]
    told = [(each.__dict__["fields"]["id"], each.__dict__["fields"]["change"]) for each in caplog.records]
    assert {("east", "healthy"), ("west", "resting")} <= set(told)


def test_what_fails_behind_the_proxy_says_nothing_of_it() -> None:
    road = Road("east")
    road.found["east"] = UpstreamUnavailable("x").beyond_proxy()
    assert road.look(REST_S) == ["half_open"]
    del road.found["east"]
    assert road.look() == ["healthy"]
    assert [proxy.leases for proxy in road.pool.status(road.now_s)] == [0]


def test_one_look_probes_no_more_than_it_may() -> None:
    road = Road(*(f"p{place}" for place in range(MAX_AT_ONCE + 3)))
    assert road.look(REST_S).count("healthy") == MAX_AT_ONCE
    assert road.look().count("healthy") == MAX_AT_ONCE + 3


def test_a_probe_that_is_out_is_the_only_one() -> None:
    road = Road("east")
    road.now_s += REST_S
    lease = road.pool.pick(road.now_s)
    assert lease is not None
    assert road.look() == ["half_open"]
    assert road.probed == []
