"""A provider behind proxies: called through one that works, and never directly."""

import json

import msgspec
import pytest

from tests.fakes import FakeReply
from tests.unit.gateway.house import House, play, whole
from trollproxy.errors import ProxyFailed, UpstreamUnavailable
from trollproxy.gateway.snapshot import PROXY_RESTS
from trollproxy.policy.retrying import RetryPolicy
from trollproxy.records import OutboundProxy, UpstreamKey

PROXIES = tuple(OutboundProxy(proxy_id=name, kind="socks5", host=f"{name}.test", port=1) for name in ("east", "west"))
REST_S = PROXY_RESTS["network"].first_s


class BehindProxies(House):
    bound: tuple[str | None, ...] = (None, None)

    def show(self) -> None:
        keys = tuple(
            UpstreamKey(key_id=f"k{place}", secret=f"s{place}", proxy_id=proxy_id)
            for place, proxy_id in enumerate(self.bound, start=1)
        )
        self.provider = msgspec.structs.replace(self.provider, proxies=PROXIES, keys=keys)
        super().show()


class Bound(BehindProxies):
    bound = ("east", "east", "west")


def ways(house: House) -> list[str]:
    """The proxies that were used; there is no call without."""
    assert all(call.proxy is not None for call in house.upstream.calls)
    return [call.proxy.proxy_id for call in house.upstream.calls if call.proxy is not None]


def states(house: House) -> list[str]:
    return [proxy.state for proxy in house.live.snapshot.proxies["acme"].status(house.clock.now_s)]


def down() -> ProxyFailed:
    return ProxyFailed("x")


def test_proxies_take_turns() -> None:
    async def scene(house: House) -> None:
        for _ in range(3):
            assert (await house.serve()).status == 200

    assert ways(play(lambda: BehindProxies(whole(), whole(), whole()), scene)) == ["east", "west", "east"]


def test_a_proxy_that_fails_rests_and_neither_key_nor_provider_is_blamed() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 200
        assert (await house.serve()).status == 200
        keys = house.live.snapshot.keys["acme"].status(house.clock.now_s)
        assert [key.state for key in keys] == ["healthy", "healthy"]
        assert states(house) == ["resting", "healthy"]
        house.show()
        house.clock.advance(REST_S)
        assert (await house.serve()).status == 200

    house = play(lambda: BehindProxies(down(), whole(), whole(), whole()), scene)
    assert ways(house) == ["east", "west", "west", "east"]
    assert 'outcome="network",provider="acme"} 1.0' in house.metrics.render().decode()


def test_when_all_are_down_nobody_is_asked_and_nothing_goes_directly() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 502
        client = await house.serve()
        assert (client.status, json.loads(client.body)["error"]["code"]) == (503, "proxy_unavailable")
        assert client.headers["retry-after"] == "5"

    house = play(lambda: BehindProxies(down(), down(), whole()), scene)
    assert ways(house) == ["east", "west"]
    assert [charge.cost_nusd for charge in house.sink.charges] == [0]


def test_a_bound_key_goes_through_its_own_proxy_alone() -> None:
    async def scene(house: House) -> None:
        for _ in range(3):
            assert (await house.serve()).status == 200

    house = play(lambda: Bound(whole(), down(), whole(), whole()), scene)
    used = list(zip(house.upstream.secrets(), ways(house), strict=True))
    assert used == [("s1", "east"), ("s2", "east"), ("s3", "west"), ("s3", "west")]


@pytest.mark.parametrize("answer", [FakeReply(b"{}", status=500), UpstreamUnavailable("x").beyond_proxy()])
def test_what_comes_through_a_proxy_is_not_its_fault(answer: FakeReply | Exception) -> None:
    async def scene(house: House) -> None:
        house.retries = RetryPolicy(max_tries=1)
        await house.serve()
        assert states(house) == ["healthy", "healthy"]

    play(lambda: BehindProxies(answer), scene)


def test_a_proxy_that_went_at_a_reload_is_used_no_more() -> None:
    async def scene(house: House) -> None:
        await house.serve()
        house.provider = msgspec.structs.replace(house.provider, proxies=PROXIES[1:])
        House.show(house)
        await house.serve()
        assert states(house) == ["healthy"]

    assert ways(play(lambda: BehindProxies(whole(), whole()), scene)) == ["east", "west"]
