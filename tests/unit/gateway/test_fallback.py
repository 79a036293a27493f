"""Several tries for one answer: other providers, new rounds, what is peeked at, and what it leaves on the books."""

import asyncio
import json
import logging
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.fakes import FakeReply, make_price, streamed
from tests.unit.gateway.house import (
    ANSWER,
    COST,
    COUNT,
    DELTA,
    DONE,
    ENVIRONMENT_KEY,
    FINISH,
    STREAMED,
    House,
    ask,
    changed,
    play,
    stream,
    whole,
)
from trollproxy.chat import FormatName
from trollproxy.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnavailable
from trollproxy.gateway.snapshot import BREAKER, Snapshot
from trollproxy.policy.retrying import RetryPolicy
from trollproxy.ports import UpstreamCall
from trollproxy.records import Endpoint, Provider, Supplier, UpstreamKey
from trollproxy.wire import ANTHROPIC
from trollproxy.wire.format import Entry

ROLE = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
OVERLOADED = b'data: {"error":{"type":"overloaded_error","message":"x"}}\n\n'
HTML = {"content-type": "text/html"}


class TwoProviders(House):
    """The model has a fallback, which knows it by another name and at another price to us."""

    format: FormatName = "openai_chat"

    def __init__(self, *answers: FakeReply | Exception, stop_at: int | None = None) -> None:
        super().__init__(*answers, stop_at=stop_at)
        self.retries = RetryPolicy()

    def show(self) -> None:
        fallback = Supplier(provider="other", upstream_model="other-m", upstream_price=make_price(out_text=4 * 10**9))
        self.model = msgspec.structs.replace(self.model, fallbacks=(fallback,), upstream_price=make_price())
        endpoint = Endpoint(host="other.test", port=443, tls=True, path="/v1/other")
        keys = (UpstreamKey(key_id="ok-1", secret="other-1"),)
        other = Provider(name="other", endpoints={self.format: endpoint}, keys=keys)
        self.metrics.set_models([self.model.model_id])
        self.live.snapshot = Snapshot([self.model], {"acme": self.provider, "other": other}, self.live.snapshot)


def refusal(status: int, message: str = "no", **headers: str) -> FakeReply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return FakeReply(json.dumps({"error": {"message": message}}).encode(), status=status, headers=named)


FAILURES: dict[str, Callable[[], FakeReply | Exception]] = {
    "status-500": lambda: refusal(500),
    "status-529": lambda: refusal(529),
    "unreachable": lambda: UpstreamUnavailable("x"),
    "reset": lambda: UpstreamBroken("x"),
    "hang": lambda: UpstreamTimeout("x"),
    "hang-before-token": lambda: streamed(ROLE, UpstreamTimeout("x")),
    "error-first": lambda: streamed(OVERLOADED),
    "error-after-role": lambda: streamed(ROLE[:9], ROLE[9:] + OVERLOADED),
    "cut-before-event": lambda: streamed(UpstreamBroken("x")),
    "cut-after-role": lambda: streamed(ROLE, UpstreamBroken("x")),
    "end-before-event": streamed,
    "end-after-role": lambda: streamed(ROLE),
    "end-in-an-event": lambda: streamed(OVERLOADED[:-2]),
    "garbage": lambda: streamed(b"data: {{{\n\n"),
    "json-error": lambda: FakeReply(b'{"error":{"type":"overloaded_error"}}'),
    "json-answer": lambda: FakeReply(ANSWER),
    "html": lambda: FakeReply(b"<html>", headers=HTML),
    "nothing": lambda: FakeReply(b"", headers=HTML),
}
WHOLE_FAILURES: dict[str, Callable[[], FakeReply | Exception]] = {
    "status-503": lambda: refusal(503),
    "json-error": lambda: FakeReply(b'{"error":{"code":503,"message":"x"}}'),
    "html": lambda: FakeReply(b"<html>", headers=HTML),
    "cut": lambda: FakeReply(ANSWER[:9], UpstreamBroken("x")),
    "stream": stream,
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_stream_that_fails_before_its_first_token_is_asked_for_elsewhere(name: str) -> None:
    async def scene(house: House) -> None:
        client = await house.serve(STREAMED)
        assert (client.status, client.body) == (200, DELTA + FINISH + COUNT + DONE)

    failing = FAILURES[name]()
    house = play(lambda: TwoProviders(failing, stream()), scene)
    assert house.asked == ["acme", "other"]
    assert isinstance(failing, Exception) or failing.is_closed
    assert_charged_to_the_other(house)


@pytest.mark.parametrize("name", WHOLE_FAILURES)
def test_a_whole_answer_that_is_none_is_asked_for_elsewhere(name: str) -> None:
    async def scene(house: House) -> None:
        client = await house.serve()
        assert (client.status, client.body) == (200, ANSWER)

    house = play(lambda: TwoProviders(WHOLE_FAILURES[name](), whole()), scene)
    assert house.asked == ["acme", "other"]
    assert_charged_to_the_other(house)


def assert_charged_to_the_other(house: House) -> None:
    """The customer pays the model's price, once; the books name who answered, and what it cost us there."""
    [charge] = house.sink.charges
    assert (charge.provider, charge.upstream_model, charge.upstream_key_id) == ("other", "other-m", "ok-1")
    assert (charge.cost_nusd, charge.upstream_cost_nusd) == (COST, COST + 50 * 3_000)
    assert [intent.provider for intent in house.sink.intents] == ["acme", "other"]
    assert json.loads(house.upstream.calls[-1].body)["model"] == "other-m"
    assert json.loads(house.upstream.calls[0].body)["model"] == "real-m"


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_is_the_requests_own_fault_is_asked_once(status: int) -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == status

    assert play(lambda: TwoProviders(refusal(status), whole()), scene).asked == ["acme"]


def test_after_the_first_token_there_is_no_other_try() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(STREAMED)
        assert client.body.startswith(DELTA)
        assert b"upstream_overloaded" in client.body

    house = play(lambda: TwoProviders(streamed(DELTA + OVERLOADED), stream()), scene)
    assert house.asked == ["acme"]
    assert house.sink.charges[0].ended_by == "provider_error_mid_stream"


def test_a_silent_preamble_is_passed_on_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trollproxy.gateway.peek.HOLD_S", 0.0)

    async def scene(house: House) -> None:
        assert (await house.serve(STREAMED)).status == 200

    answer = streamed(ROLE, DELTA, FINISH + COUNT + DONE)
    assert play(lambda: TwoProviders(answer), scene).asked == ["acme"]


def test_dead_keys_are_read_from_the_body_and_the_next_provider_follows() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 200
        house.clock.advance(1)
        assert (await house.serve()).status == 200
        assert [state.failure for state in house.live.snapshot.keys["acme"].status(house.clock.now_s)] == [
            "auth",
            "budget",
        ]

    dead = refusal(400, "API key not valid. Please pass a valid API key.")
    poor = refusal(400, "Your credit balance is too low to access the API.")
    house = play(lambda: TwoProviders(dead, poor, whole(), whole()), scene)
    assert house.asked == ["acme", "acme", "other", "other"]


def test_rounds_go_on_with_waits_between_them() -> None:
    async def scene(house: House) -> None:
        began_s = house.clock.now_s
        assert (await house.serve()).status == 200
        assert house.clock.now_s - began_s == pytest.approx(0.05 + 0.1)

    failing = [refusal(500) for _ in range(4)]
    house = play(lambda: TwoProviders(*failing, whole()), scene)
    assert house.asked == ["acme", "other", "acme", "other", "acme"]
    assert [intent.provider for intent in house.sink.intents] == house.asked
    assert house.sink.charges[0].provider == "acme"


def test_the_last_error_is_told_and_costs_nothing() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 502

    house = play(lambda: TwoProviders(*(refusal(500) for _ in range(8))), scene)
    assert len(house.asked) == RetryPolicy().max_tries
    [charge] = house.sink.charges
    assert (charge.cost_nusd, charge.ended_by, charge.code) == (0, "provider_error_before_token", "upstream_failed")


def test_where_the_first_cannot_be_asked_the_second_is_at_once() -> None:
    async def scene(house: House) -> None:
        await house.serve()
        await house.serve()
        assert house.client.status == 200

    limited = [refusal(429, retry_after="30") for _ in range(2)]
    house = play(lambda: TwoProviders(*limited, whole(), whole()), scene)
    assert house.asked == ["acme", "acme", "other", "other"]
    assert [intent.provider for intent in house.sink.intents] == ["acme", "other", "other"]


def test_a_key_that_comes_back_soon_is_waited_for() -> None:
    async def scene(house: House) -> None:
        house.retries = RetryPolicy()
        assert (await house.serve()).status == 200
        assert house.upstream.secrets() == ["secret-1", "secret-2", "secret-1"]

    play(lambda: House(refusal(429, retry_after="1"), refusal(429, retry_after="1.5"), whole()), scene)


def test_a_provider_that_is_down_is_not_asked_until_its_breaker_half_opens() -> None:
    async def scene(house: House) -> None:
        breaker = house.live.snapshot.breakers["acme", "m"]
        for _ in range(BREAKER.min_requests):
            permit = breaker.enter(house.clock.now_s)
            assert permit is not None
            breaker.leave(permit, False, now_s=house.clock.now_s, chance=0.0)
        client = await house.serve()
        assert (client.status, house.error_code, client.headers["retry-after"]) == (503, "upstream_breaker_open", "5")
        house.clock.advance(BREAKER.open_s)
        assert (await house.serve()).status == 200
        assert breaker.state == "closed"

    house = play(lambda: House(whole()), scene)
    assert len(house.sink.charges) == 1


class OtherFormat(TwoProviders):
    """The first speaks the client's format, Anthropic's, the second Gemini's."""

    format = "gemini"

    def show(self) -> None:
        [endpoint] = self.provider.endpoints.values()
        self.provider = msgspec.structs.replace(self.provider, endpoints={"anthropic": endpoint})
        super().show()


def test_a_fallback_of_another_format_is_spoken_to_in_it() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(wire=ANTHROPIC)
        assert [part["text"] for part in json.loads(client.body)["content"]] == ["Hello"]

    said: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}
    count = {"promptTokenCount": 100, "candidatesTokenCount": 50, "totalTokenCount": 150}
    answer = json.dumps({"candidates": [said], "usageMetadata": count}).encode()
    house = play(lambda: OtherFormat(refusal(500), FakeReply(answer)), scene)
    assert dict(house.upstream.calls[1].headers)["x-goog-api-key"] == "other-1"
    assert house.upstream.calls[1].endpoint.path == "/v1/other/other-m:generateContent"
    [charge] = house.sink.charges
    assert (charge.provider, charge.cost_nusd) == ("other", COST)


def test_a_fallback_whose_format_cannot_say_it_is_passed_over() -> None:
    async def scene(house: House) -> None:
        house.retries = RetryPolicy(max_rounds=1)
        client = await house.serve(ask(surprise=1), wire=ANTHROPIC)
        assert (client.status, json.loads(client.body)["error"]["details"]["code"]) == (502, "upstream_failed")

    house = play(lambda: OtherFormat(refusal(500)), scene)
    assert house.asked == ["acme"]
    assert [intent.provider for intent in house.sink.intents] == ["acme"]


def test_only_what_generates_goes_to_another_format() -> None:
    async def scene(house: House) -> None:
        house.retries = RetryPolicy(max_rounds=1)
        request = changed(house.request(wire=ANTHROPIC), entry=Entry(operation="count_tokens"))
        await asyncio.create_task(house.pipeline().serve(request, house.client, ask()))
        assert house.client.status == 502

    assert play(lambda: OtherFormat(refusal(500)), scene).asked == ["acme"]


def test_for_a_client_that_went_nothing_is_tried_again() -> None:
    async def scene(house: House) -> None:
        send = house.upstream.send

        async def hang_up_and_send(call: UpstreamCall) -> FakeReply:
            house.client.hang_up()
            return await send(call)

        house.upstream.send = hang_up_and_send  # type: ignore[method-assign]
        await house.begin(STREAMED)

    assert play(lambda: TwoProviders(refusal(500), stream()), scene).asked == ["acme"]


def test_every_try_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scene(house: House) -> None:
        await house.serve()

    house = play(lambda: TwoProviders(refusal(401), refusal(500), whole()), scene)
    rendered = house.metrics.render().decode()
    for provider, outcome in (("acme", "auth"), ("acme", "overload"), ("other", "ok")):
        assert f'trollproxy_upstream_attempts_total{{outcome="{outcome}",provider="{provider}"}} 1.0' in rendered
    [line] = house.told
    assert line["attempts"] == "acme/uk-1:upstream_auth:0ms acme/uk-2:upstream_failed:0ms other/ok-1:ok:0ms"
    changed = [record.__dict__["fields"] for record in caplog.records if record.message == "an upstream key changed"]
    assert [(fields["id"], fields["change"], fields["cause"]) for fields in changed] == [("uk-1", "resting", "auth")]


def test_wherever_a_request_is_cut_its_keys_are_given_back() -> None:
    def failing() -> list[FakeReply]:
        return [refusal(429), streamed(ROLE, UpstreamBroken("x")), streamed(ROLE, DELTA, FINISH + COUNT + DONE)]

    async def last_await(house: House) -> None:
        await house.begin(STREAMED)

    names = play(lambda: TwoProviders(*failing()), last_await).checkpoints.passed

    async def scene(house: House) -> None:
        task = house.begin(STREAMED)
        await house.checkpoints.reached.wait()
        task.cancel()
        await asyncio.wait([task])
        for pool in house.live.snapshot.keys.values():
            assert all(key.leases == 0 for key in pool.status(house.clock.now_s))
        assert all(len({charge.request_id}) == 1 for charge in house.sink.charges)

    for place in range(1, len(names) + 1):
        play(lambda: TwoProviders(*failing(), stop_at=place), scene)  # noqa: B023 - called at once


REQUESTS = 400


@pytest.mark.parametrize(("failing", "least"), [(0.01, 0.9999), (0.1, 0.999), (0.5, 0.99)])
def test_most_requests_are_answered_however_many_tries_fail(failing: float, least: float) -> None:
    """Every kind of failure but hangs, evenly, at both providers; 0.9999 of so few is all of them."""
    chance = random.Random(7)
    kinds = [kind for name, kind in FAILURES.items() if "hang" not in name]

    def answer() -> FakeReply | Exception:
        return chance.choice(kinds)() if chance.random() < failing else stream()

    async def scene(house: House) -> None:
        answered = 0
        for _ in range(REQUESTS):
            house.upstream.answers.extend(answer() for _ in range(house.retries.max_tries))
            answered += (await house.serve(STREAMED, key=ENVIRONMENT_KEY)).status == 200
            house.upstream.answers.clear()
            house.clock.advance(0.1)
        assert answered >= REQUESTS * least
        assert len(house.sink.charges) == REQUESTS
        assert len(house.asked) <= REQUESTS * (1 + 1.2) + 100

    play(TwoProviders, scene)
