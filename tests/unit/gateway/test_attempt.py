"""Getting an answer: which key is spent, when another is tried, and what goes to the provider."""

import msgspec
import pytest

from tests.fakes import FakeReply
from tests.unit.gateway.house import COST, ENVIRONMENT_KEY, House, ask, changed, play, stream, whole
from trollproxy.errors import UpstreamTimeout
from trollproxy.gateway.snapshot import BREAKER
from trollproxy.policy.retrying import RetryPolicy
from trollproxy.records import KeyHeader, OutboundProxy, UpstreamKey


def refusal(status: int, **headers: str) -> FakeReply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return FakeReply(b'{"error":{"message":"no"}}', status=status, headers=named)


def with_keys(house: House, count: int) -> None:
    keys = tuple(UpstreamKey(key_id=f"k{n}", secret=f"s{n}") for n in range(1, count + 1))
    house.provider = msgspec.structs.replace(house.provider, keys=keys)
    house.show()


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_another_key_is_tried_where_the_key_is_the_trouble(status: int) -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 200
        assert house.upstream.secrets() == ["secret-1", "secret-2"]

    refused = refusal(status)
    [charge] = play(lambda: House(refused, whole()), scene).sink.charges
    assert (charge.upstream_key_id, charge.cost_nusd) == ("uk-2", COST)
    assert refused.is_closed


@pytest.mark.parametrize("status", [400, 404, 413, 422, 500, 502, 503, 529])
def test_no_other_key_helps_otherwise(status: int) -> None:
    async def scene(house: House) -> None:
        await house.serve()
        assert house.upstream.secrets() == ["secret-1"]

    play(lambda: House(refusal(status), whole()), scene)


def test_a_timeout_is_not_tried_again() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 504
        assert len(house.upstream.calls) == 1

    play(lambda: House(UpstreamTimeout("x"), whole()), scene)


def test_keys_take_turns() -> None:
    async def scene(house: House) -> None:
        for _ in range(3):
            await house.serve()
        assert house.upstream.secrets() == ["secret-1", "secret-2", "secret-1"]

    play(lambda: House(whole(), whole(), whole()), scene)


def test_a_refused_key_rests_and_comes_back() -> None:
    async def scene(house: House) -> None:
        await house.serve()
        await house.serve()
        assert house.upstream.secrets() == ["secret-1", "secret-2", "secret-2"]
        house.clock.advance(30)
        await house.serve()
        assert house.upstream.secrets()[-1] == "secret-1"

    play(lambda: House(refusal(429, retry_after="30"), whole(), whole(), whole()), scene)


def test_when_all_rest_nobody_is_asked_and_the_client_knows_how_long() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 429
        client = await house.serve()
        assert (client.status, house.error_code) == (503, "no_upstream_key")
        assert client.headers["retry-after"] == "7"
        assert len(house.upstream.calls) == 2

    house = play(lambda: House(refusal(429, retry_after="9"), refusal(429, retry_after="7")), scene)
    [charge] = house.sink.charges  # what could not be sent leaves none
    assert charge.code == "upstream_rate_limited"


def test_the_intent_of_who_waits_for_a_key_is_put_down_at_once() -> None:
    """It is sent in a later turn of the loop, when nobody could say any more that it has no intent."""

    async def scene(house: House) -> None:
        with_keys(house, 1)
        house.retries = RetryPolicy(max_tries=1, patience_s=9.0)
        assert (await house.serve()).status == 429
        assert (await house.serve()).status == 200
        assert house.sink.at_once == [False, True]

    play(lambda: House(refusal(429, retry_after="7"), whole()), scene)


def test_not_more_than_a_few_keys_are_tried() -> None:
    async def scene(house: House) -> None:
        with_keys(house, 5)
        assert (await house.serve()).status == 429
        assert len(house.upstream.calls) == RetryPolicy().max_keys

    play(lambda: House(*(refusal(429) for _ in range(5))), scene)


def test_a_provider_without_keys() -> None:
    async def scene(house: House) -> None:
        with_keys(house, 0)
        assert (await house.serve()).status == 503
        assert house.error_code == "no_upstream_key"

    assert play(House, scene).sink.charges == []


def test_what_goes_to_the_provider() -> None:
    async def scene(house: House) -> None:
        house.provider = msgspec.structs.replace(house.provider, headers=(("x-extra", "1"),))
        house.show()
        await house.serve()
        await house.serve(ask(stream=True))

    first, second = play(lambda: House(whole(), stream()), scene).upstream.calls
    headers = dict(first.headers)
    assert headers["authorization"] == "Bearer secret-1"
    assert headers["accept-encoding"] == "identity"
    assert (headers["accept"], headers["x-extra"]) == ("application/json", "1")
    assert dict(second.headers)["accept"] == "text/event-stream"
    assert first.endpoint.path == "/v1/chat/completions"


@pytest.mark.parametrize("value", ["caf\u00e9", "\udcff", "a\x00b", "a\nb", "a\rb"])
def test_a_header_that_cannot_be_sent_on_is_the_clients_fault(value: str) -> None:
    async def scene(house: House) -> None:
        request = changed(house.request(), headers={"openai-beta": value})
        await house.pipeline().serve(request, house.client, ask())
        assert house.client.status == 400

    assert play(lambda: House(whole()), scene).upstream.calls == []


def test_an_error_without_end_is_classified_by_its_status() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 400

    play(lambda: House(FakeReply(b"x" * 100_000, status=400)), scene)


@pytest.mark.parametrize(
    ("header", "value"),
    [("authorization", "Bearer secret-1"), ("x-api-key", "secret-1"), ("api-key", "secret-1")],
)
def test_the_key_stands_where_the_server_wants_it(header: KeyHeader, value: str) -> None:
    async def scene(house: House) -> None:
        house.provider = msgspec.structs.replace(house.provider, key_header=header)
        house.show()
        await house.serve()

    headers = dict(play(lambda: House(whole()), scene).upstream.calls[0].headers)
    assert {name: headers.get(name) for name in ("authorization", "x-api-key", "api-key")} == {
        **dict.fromkeys(("authorization", "x-api-key", "api-key")),
        header: value,
    }


# A first try whose intent is refused


async def refuse_intent(house: House) -> None:
    house.sink.is_full = True
    client = await house.serve(key=ENVIRONMENT_KEY)
    house.sink.is_full = False
    assert (client.status, house.error_code) == (503, "gateway_overloaded")
    line = house.told[-1]
    assert (line["provider"], line["upstream_key"], line["attempts"]) == ("acme", None, None)


def members(house: House) -> list[tuple[str, str, int]]:
    status = house.live.snapshot.keys["acme"].status(house.clock.now_s)
    return [(key.id, key.state, key.leases) for key in status]


def test_a_refused_intent_gives_back_the_key_and_the_way_to_it() -> None:
    async def scene(house: House) -> None:
        proxy = OutboundProxy(proxy_id="p", kind="http", host="p.test", port=1)
        key = UpstreamKey(key_id="k", secret="s", max_in_flight=1)
        house.provider = msgspec.structs.replace(house.provider, keys=(key,), proxies=(proxy,))
        house.show()
        for _ in range(3):
            await refuse_intent(house)
            assert members(house) == [("k", "healthy", 0)]
            assert [each.leases for each in house.live.snapshot.proxies["acme"].status(0.0)] == [0]
        assert house.upstream.calls == []
        assert (await house.serve(key=ENVIRONMENT_KEY)).status == 200
        assert house.told[-1]["upstream_key"] == "k"

    assert len(play(lambda: House(whole()), scene).sink.charges) == 1


def test_a_refused_intent_leaves_a_keys_probe_to_the_next() -> None:
    async def scene(house: House) -> None:
        with_keys(house, 1)
        assert (await house.serve(key=ENVIRONMENT_KEY)).status == 429
        house.clock.advance(30)
        await refuse_intent(house)
        assert members(house) == [("k1", "half_open", 0)]
        assert (await house.serve(key=ENVIRONMENT_KEY)).status == 200
        assert members(house) == [("k1", "healthy", 0)]

    play(lambda: House(refusal(429, retry_after="30"), whole()), scene)


def test_a_refused_intent_leaves_a_breakers_probe_to_the_next() -> None:
    async def scene(house: House) -> None:
        breaker = house.live.snapshot.breakers["acme", "m"]
        for _ in range(BREAKER.min_requests):
            permit = breaker.enter(house.clock.now_s)
            assert permit is not None
            breaker.leave(permit, False, now_s=house.clock.now_s, chance=0.0)
        house.clock.advance(BREAKER.open_s)
        await refuse_intent(house)
        assert (breaker.state, breaker.free_at_s(house.clock.now_s)) == ("half_open", house.clock.now_s)
        assert (await house.serve(key=ENVIRONMENT_KEY)).status == 200
        assert breaker.state == "closed"

    play(lambda: House(whole()), scene)


def test_a_refused_intent_says_nothing_of_the_provider() -> None:
    async def scene(house: House) -> None:
        for _ in range(3 * BREAKER.min_requests):
            await refuse_intent(house)
        assert house.live.snapshot.breakers["acme", "m"].changes == {}
        assert house.live.snapshot.keys["acme"].changes == {}
        assert b"trollproxy_upstream_attempts_total{" not in house.metrics.render()

    play(House, scene)


def test_an_intent_that_fails_by_a_bug_gives_back_as_well() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 500
        assert [leases for _, _, leases in members(house)] == [0, 0]

    play(lambda: House(whole(), broken="intend"), scene)
