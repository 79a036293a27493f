"""Names to addresses, with a scripted look-up."""

import asyncio
from collections.abc import Sequence

import aiodns
import pytest

from tests.aio import run
from trollproxy.errors import Overloaded, UpstreamUnavailable
from trollproxy.upstream.dns import Answer, Resolver


class FakeLookup:
    """Answers what it is told to; counts the questions."""

    def __init__(self) -> None:
        self.answers: dict[str, Sequence[Answer]] = {}
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None
        self.now_s = 0.0

    async def __call__(self, host: str) -> Sequence[Answer]:
        self.asked.append(host)
        if self.gate is not None:
            await self.gate.wait()
        if host not in self.answers:
            raise aiodns.error.DNSError(4, f"{host} not found")
        return self.answers[host]

    def resolver(self, max_entries: int = 256) -> Resolver:
        return Resolver(max_entries=max_entries, min_ttl_s=5, max_ttl_s=300, lookup=self, clock=lambda: self.now_s)


@pytest.mark.parametrize("literal", ["127.0.0.1", "::1", "2001:db8::1"])
def test_literals_are_not_looked_up(literal: str) -> None:
    lookup = FakeLookup()
    assert run(lookup.resolver().resolve(literal)) == (literal,)
    assert lookup.asked == []


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(0, 5), (60, 60), (86_400, 300)])
def test_answers_are_kept_for_their_bounded_ttl(ttl_s: float, kept_s: float) -> None:
    async def scenario() -> None:
        lookup = FakeLookup()
        lookup.answers["a"] = [("192.0.2.1", 86_400), ("192.0.2.2", ttl_s), ("192.0.2.1", 86_400)]
        resolver = lookup.resolver()
        assert await resolver.resolve("a") == ("192.0.2.1", "192.0.2.2")
        lookup.now_s = kept_s - 0.1
        await resolver.resolve("a")
        assert len(lookup.asked) == 1
        lookup.now_s = kept_s
        await resolver.resolve("a")
        assert len(lookup.asked) == 2

    run(scenario())


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    async def scenario() -> None:
        lookup = FakeLookup()
        resolver = lookup.resolver(max_entries=2)
        for host in "abc":
            lookup.answers[host] = [("192.0.2.1", 60)]
            await resolver.resolve(host)
        for host in "bca":
            await resolver.resolve(host)
        assert "".join(lookup.asked) == "abca"

    run(scenario())


def test_failures_name_no_host_and_are_not_remembered() -> None:
    async def scenario() -> None:
        lookup = FakeLookup()
        resolver = lookup.resolver()
        with pytest.raises(UpstreamUnavailable) as caught:
            await resolver.resolve("secret.example")
        assert "secret" not in caught.value.message
        assert isinstance(caught.value.__cause__, aiodns.error.DNSError)
        lookup.answers["secret.example"] = []
        with pytest.raises(UpstreamUnavailable):
            await resolver.resolve("secret.example")
        lookup.answers["secret.example"] = [("192.0.2.1", 60)]
        assert await resolver.resolve("secret.example") == ("192.0.2.1",)

    run(scenario())


def test_concurrent_questions_share_one_look_up_that_survives_a_cancelled_asker() -> None:
    async def scenario() -> None:
        lookup = FakeLookup()
        lookup.gate = asyncio.Event()
        lookup.answers["a"] = [("192.0.2.1", 60)]
        resolver = lookup.resolver()
        loop = asyncio.get_running_loop()
        askers = [loop.create_task(resolver.resolve("a")) for _ in range(5)]
        while not lookup.asked:
            await asyncio.sleep(0)
        askers[0].cancel()
        lookup.gate.set()
        results = await asyncio.gather(*askers, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [("192.0.2.1",)] * 4
        assert lookup.asked == ["a"]

    run(scenario())


def test_close_ends_a_pending_look_up() -> None:
    async def scenario() -> None:
        lookup = FakeLookup()
        lookup.gate = asyncio.Event()
        resolver = lookup.resolver()
        asker = asyncio.get_running_loop().create_task(resolver.resolve("a"))
        while not lookup.asked:
            await asyncio.sleep(0)
        await resolver.close()
        with pytest.raises(Overloaded):
            await asker

    run(scenario())


def test_localhost_comes_from_the_hosts_file() -> None:
    async def scenario() -> None:
        resolver = Resolver()
        try:
            assert "127.0.0.1" in await resolver.resolve("localhost")
        finally:
            await resolver.close()

    run(scenario())
