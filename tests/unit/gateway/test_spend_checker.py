"""Keys rest before their providers refuse them, by our own charges and by what a scripted provider tells."""

import asyncio
import json

import msgspec

from tests.aio import run
from tests.fakes import FakeReply, FakeUpstream, make_charge
from tests.unit.gateway.house import House, play, whole
from trollproxy.errors import UpstreamUnavailable
from trollproxy.gateway.key_status import KeyStatus
from trollproxy.gateway.spend_checker import RESTS_FOR, SpendChecker, WatchedSink, register_spend_gauges
from trollproxy.policy.limits import utc_day
from trollproxy.policy.spending import Spendings
from trollproxy.records import Endpoint, OutboundProxy
from trollproxy.store.names import unavailable

USD = 10**9
INFO = Endpoint(host="acme.test", port=443, tls=True, path="/key/info")


def told(spend: float, limit: float | None = None) -> FakeReply:
    return FakeReply(json.dumps({"info": {"spend": spend, "max_budget": limit}}).encode())


class Watched:
    """A house whose provider's first key has a limit of a dollar."""

    def __init__(self, *answers: FakeReply | Exception, **provider: object) -> None:
        self.house = House()
        self.upstream = FakeUpstream(*answers)
        first, second = self.house.provider.keys
        keys = (msgspec.structs.replace(first, spend_limit_nusd=USD), second)
        self.change(keys=keys, **provider)
        self.checker = SpendChecker(
            Spendings(margin_percent=10),
            self.house.live,
            store=self.house.store,
            upstream=self.upstream,
            clock=self.house.clock.clock,
            interval_s=60.0,
        )
        self.checker.show()

    def change(self, **provider: object) -> None:
        self.house.provider = msgspec.structs.replace(self.house.provider, **provider)
        self.house.show()

    @property
    def day(self) -> str:
        return utc_day(self.house.clock.clock.wall())

    def spend(self, nusd: int, key_id: str = "uk-1") -> None:
        self.checker.charged(
            make_charge(1, provider="acme", upstream_key_id=key_id, upstream_cost_nusd=nusd, day=self.day)
        )

    @property
    def picked(self) -> set[str]:
        pool, now_s = self.house.live.snapshot.keys["acme"], self.house.clock.clock.monotonic()
        leases = [pool.pick(now_s) for _ in range(3)]
        for lease in leases:
            if lease is not None:
                lease.release()
        return {lease.id for lease in leases if lease is not None}


def test_a_key_rests_with_the_charge_that_brings_it_near_its_limit() -> None:
    watched = Watched()
    watched.spend(USD * 9 // 10 - 1)
    watched.spend(USD * 100, "uk-2")  # that one has no limit
    assert watched.picked == {"uk-1", "uk-2"}
    watched.spend(1)
    assert watched.picked == {"uk-2"}
    [key, other] = watched.house.live.snapshot.keys["acme"].status(0.0)
    assert (key.state, key.failure, other.state) == ("resting", "budget", "healthy")


def test_it_rests_for_as_long_as_it_is_spent_and_is_probed_when_the_limit_is_raised() -> None:
    async def scene() -> None:
        watched = Watched()
        watched.spend(USD)
        for _ in range(10):
            watched.house.clock.advance(60.0)
            await watched.checker.look()
            assert watched.picked == {"uk-2"}
        first, second = watched.house.provider.keys
        watched.change(keys=(msgspec.structs.replace(first, spend_limit_nusd=5 * USD), second))
        watched.checker.show()
        await watched.checker.look()
        watched.house.clock.advance(RESTS_FOR * 60.0)
        assert watched.picked == {"uk-1", "uk-2"}

    run(scene())


def test_what_was_spent_before_a_restart_is_on_the_books() -> None:
    async def scene() -> None:
        watched = Watched()
        charge = make_charge(1, provider="acme", upstream_key_id="uk-1", upstream_cost_nusd=USD)
        watched.house.store.charges[charge.request_id] = charge
        assert watched.picked == {"uk-1", "uk-2"}
        await watched.checker.look()
        assert watched.picked == {"uk-2"}

    run(scene())


def test_books_that_cannot_be_read_are_read_at_the_next_look() -> None:
    class Down:
        calls = 0

        async def sum_upstream_costs(self, since_day: str) -> dict[tuple[str, str], int]:
            self.calls += 1
            assert since_day == ""
            if self.calls == 1:
                raise unavailable()
            return {("acme", "uk-1"): USD}

    async def scene() -> None:
        watched, down = Watched(), Down()
        watched.checker._store = down  # type: ignore[assignment]
        await watched.checker.look()
        assert watched.picked == {"uk-1", "uk-2"}
        await watched.checker.look()
        await watched.checker.look()
        assert (watched.picked, down.calls) == ({"uk-2"}, 2)

    run(scene())


def test_the_provider_is_asked_with_each_key() -> None:
    async def scene() -> None:
        watched = Watched(told(0.5), told(99.5, 100.0), spend_endpoint=INFO)
        await watched.checker.look()
        assert watched.picked == {"uk-1"}
        assert [(call.method, call.endpoint, call.body) for call in watched.upstream.calls] == [("GET", INFO, b"")] * 2
        assert watched.upstream.secrets() == ["secret-1", "secret-2"]
        register_spend_gauges(watched.house.metrics, watched.checker)
        rendered = watched.house.metrics.render().decode()
        assert 'trollproxy_upstream_key_spend_usd{key="uk-2",provider="acme"} 99.5' in rendered
        assert 'trollproxy_upstream_key_spend_limit_usd{key="uk-1",provider="acme"} 1.0' in rendered
        shown = KeyStatus(watched.house.live, watched.checker.spendings).shown(0.0)["providers"]
        assert isinstance(shown, dict)
        assert [key["spend"]["told_usd"] for key in shown["acme"]] == ["0.50", "99.50"]
        assert shown["acme"][1]["spend"] == {
            "period": "total",
            "since": None,
            "own_usd": "0.00",
            "limit_usd": None,
            "told_usd": "99.50",
            "told_limit_usd": "100.00",
        }

    run(scene())


def test_a_provider_that_does_not_tell_changes_nothing() -> None:
    async def scene() -> None:
        failed = UpstreamUnavailable("The provider cannot be reached.")
        watched = Watched(FakeReply(b"{}"), failed, FakeReply(b"", status=404), told(0.1), spend_endpoint=INFO)
        await watched.checker.look()
        await watched.checker.look()
        assert watched.picked == {"uk-1", "uk-2"}
        assert watched.checker.failures == {("acme",): 3}

    run(scene())


def test_a_provider_behind_proxies_is_asked_through_one_or_not_at_all() -> None:
    proxy = OutboundProxy(proxy_id="p", kind="http", host="proxy.test", port=3128)

    async def scene() -> None:
        watched = Watched(told(0.1), told(0.1), spend_endpoint=INFO, proxies=(proxy,))
        await watched.checker.look()
        assert [call.proxy for call in watched.upstream.calls] == [proxy, proxy]
        lease = watched.house.live.snapshot.proxies["acme"].pick(0.0)
        assert lease is not None
        lease.report("network", watched.house.clock.clock.monotonic())
        await watched.checker.look()
        assert len(watched.upstream.calls) == 2
        assert all(member.leases <= 1 for member in watched.house.live.snapshot.proxies["acme"].status(0.0))

    run(scene())


def test_nothing_is_asked_or_read_where_nothing_is_watched() -> None:
    async def scene() -> None:
        house = House()
        checker = SpendChecker(
            Spendings(5), house.live, store=None, upstream=None, clock=house.clock.clock, interval_s=1.0  # type: ignore[arg-type]
        )  # fmt: skip
        checker.show()
        await checker.look()

    run(scene())


def test_a_bug_does_not_end_the_looks() -> None:
    async def scene() -> None:
        watched = Watched()
        looks: list[int] = []

        async def look() -> None:
            looks.append(1)
            raise ZeroDivisionError

        watched.checker.look = look  # type: ignore[method-assign]
        watched.checker._interval_s = 0.0
        task = asyncio.create_task(watched.checker.run())
        while len(looks) < 2:
            await asyncio.sleep(0)
        task.cancel()

    run(scene())


def test_charges_of_requests_are_heard_of() -> None:
    """The pipeline's own charge, by way of the sink."""

    async def scene(house: House) -> None:
        first, second = house.provider.keys
        limited = msgspec.structs.replace(first, spend_limit_nusd=1)
        house.provider = msgspec.structs.replace(house.provider, keys=(limited, second))
        house.model = msgspec.structs.replace(house.model, upstream_price=house.model.price)
        house.show()
        spendings = Spendings(5)
        checker = SpendChecker(
            spendings, house.live, store=house.store, upstream=house.upstream, clock=house.clock.clock, interval_s=60.0
        )
        checker.show()
        sink, house.sink = house.sink, WatchedSink(house.sink, checker)  # type: ignore[assignment]
        await house.serve()
        await house.serve()
        house.sink = sink
        assert house.upstream.secrets() == ["secret-1", "secret-2"]
        assert spendings.items()[0][1].own_nusd == sink.charges[0].upstream_cost_nusd
        assert [call.endpoint.host for call in house.upstream.calls] == ["acme.test"] * 2

    play(lambda: House(whole(), whole()), scene)
