"""The life of a request: the order of the checks, and what each failure costs."""

import asyncio
import json
from collections.abc import Callable

import msgspec
import pytest

from tests.fake_client import FakeClientStream
from tests.fakes import NOON_S, FakeReply, streamed
from tests.unit.gateway.house import (
    ANSWER,
    BALANCE,
    COST,
    COUNT,
    DELTA,
    DONE,
    ENVIRONMENT_KEY,
    FINISH,
    FRIEND_KEY,
    KEY,
    STREAMED,
    House,
    ask,
    changed,
    play,
    stream,
    whole,
)
from trollproxy.errors import (
    StoreUnavailable,
    UpstreamBroken,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from trollproxy.gateway.snapshot import Snapshot
from trollproxy.records import ModelLimit
from trollproxy.wire import ANTHROPIC
from trollproxy.wire.format import Entry


def test_a_whole_answer() -> None:
    async def scene(house: House) -> None:
        client = await house.serve()
        assert (client.status, client.body, client.is_ended) == (200, ANSWER, True)
        assert client.headers["x-request-id"] == "req_1"
        assert client.headers["x-ratelimit-remaining-requests"] == "2"

    house = play(lambda: House(whole()), scene)
    [charge] = house.sink.charges
    assert (charge.cost_nusd, charge.ended_by, charge.status, charge.code) == (COST, "completed", 200, "ok")
    assert (charge.username, charge.model, charge.upstream_model, charge.upstream_key_id) == (
        "ann",
        "m",
        "real-m",
        "uk-1",
    )
    assert not charge.is_estimated
    assert json.loads(house.upstream.calls[0].body)["model"] == "real-m"


def test_a_streamed_answer() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(STREAMED)
        assert (client.status, client.body, client.is_ended) == (200, DELTA + FINISH + COUNT + DONE, True)
        assert client.headers["content-type"].startswith("text/event-stream")

    [charge] = play(lambda: House(stream()), scene).sink.charges
    assert (charge.cost_nusd, charge.stream, charge.ended_by) == (COST, True, "completed")


def spoil_everything(house: House) -> None:
    """Wrong in every way; each test mends the ways that come before its own."""
    house.gate.is_draining = True
    house.callers._policy = house.callers._policy._replace(dev_rpm=0)
    house.change_user(credits_nusd=0)
    house.sink.is_full = True


def mend_gate(house: House) -> None:
    house.gate.is_draining = False


def mend_limit(house: House) -> None:
    house.callers._policy = house.callers._policy._replace(dev_rpm=100)


def mend_sink(house: House) -> None:
    house.sink.is_full = False


def mend_balance(house: House) -> None:
    house.change_user(credits_nusd=BALANCE)


STEPS: list[tuple[str, str | None, bytes, list[Callable[[House], None]]]] = [
    ("gateway_overloaded", None, b"{", []),
    ("missing_key", None, b"{", [mend_gate]),
    ("rate_limit_exceeded", KEY, b"{", [mend_gate]),
    ("invalid_json", KEY, b"{", [mend_gate, mend_limit]),
    ("model_not_found", KEY, ask(model="another"), [mend_gate, mend_limit]),
    ("insufficient_credits", KEY, ask(), [mend_gate, mend_limit]),
    ("gateway_overloaded", KEY, ask(), [mend_gate, mend_limit, mend_balance]),
    ("ok", KEY, ask(), [mend_gate, mend_limit, mend_balance, mend_sink]),
]


@pytest.mark.parametrize(("code", "key", "body", "mended"), STEPS)
def test_the_checks_have_their_order(
    code: str, key: str | None, body: bytes, mended: list[Callable[[House], None]]
) -> None:
    async def scene(house: House) -> None:
        spoil_everything(house)
        for mend in mended:
            mend(house)
        await house.serve(body, key)
        assert code == ("ok" if house.client.status == 200 else house.error_code)

    house = play(lambda: House(whole()), scene)
    assert len(house.upstream.calls) == len(house.sink.intents) == len(house.sink.charges) == (code == "ok")


def test_the_body_is_not_read_before_the_limit() -> None:
    async def scene(house: House) -> None:
        house.callers._policy = house.callers._policy._replace(dev_rpm=0)
        client = await house.serve()
        assert client.status == 429
        assert "client body" not in house.checkpoints.passed
        assert int(client.headers["retry-after"]) == 60

    play(House, scene)


FAILURES: list[tuple[FakeReply | Exception, int, str, int]] = [
    (UpstreamUnavailable("x"), 502, "provider_error_before_token", 0),
    (UpstreamTimeout("x"), 504, "timeout_before_token", 0),
    (UpstreamBroken("x"), 502, "provider_error_before_token", 0),
    (FakeReply(b'{"error":{"message":"no"}}', status=400), 400, "provider_error_before_token", 0),
    (FakeReply(b"<html>", status=500), 502, "provider_error_before_token", 0),
    (FakeReply(b"<html>"), 502, "provider_error_before_token", 0),
    (FakeReply(UpstreamBroken("cut")), 502, "provider_error_before_token", 0),
    (streamed(DELTA), 502, "provider_error_before_token", 0),  # a stream that was not asked for
]


@pytest.mark.parametrize(("answer", "status", "ended_by", "cost"), FAILURES)
def test_a_provider_that_fails_before_a_token(
    answer: FakeReply | Exception, status: int, ended_by: str, cost: int
) -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == status

    [charge] = play(lambda: House(answer), scene).sink.charges
    assert (charge.ended_by, charge.cost_nusd, charge.status) == (ended_by, cost, status)
    assert not isinstance(answer, FakeReply) or answer.is_closed


MIDSTREAM: list[tuple[tuple[bytes | Exception, ...], str, str]] = [
    ((DELTA,), "provider_error_mid_stream", "upstream_broken"),
    ((DELTA, UpstreamBroken("x")), "provider_error_mid_stream", "upstream_broken"),
    ((DELTA, UpstreamTimeout("x")), "timeout_mid_stream", "upstream_timeout"),
    ((DELTA, b'data: {"error":{"type":"overloaded_error"}}\n\n'), "provider_error_mid_stream", "upstream_overloaded"),
    ((DELTA, b"data: nonsense\n\n"), "provider_error_mid_stream", "upstream_broken"),
]


@pytest.mark.parametrize(("pieces", "ended_by", "code"), MIDSTREAM)
def test_a_provider_that_fails_in_the_midst(pieces: tuple[bytes | Exception, ...], ended_by: str, code: str) -> None:
    async def scene(house: House) -> None:
        client = await house.serve(STREAMED)
        assert client.body.startswith(DELTA + b'data: {"error":')
        assert json.loads(client.body.removeprefix(DELTA)[6:])["error"]["code"] == code
        assert client.is_ended

    [charge] = play(lambda: House(streamed(*pieces)), scene).sink.charges
    assert (charge.ended_by, charge.is_estimated, charge.code) == (ended_by, True, code)
    assert charge.usage.out_text == len("Hello wo") // 4
    assert charge.cost_nusd > 0


def test_an_error_before_the_first_event_is_a_proper_error() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(STREAMED)
        assert (client.status, house.error_code) == (429, "upstream_rate_limited")

    error = b'data: {"error":{"type":"rate_limit_error","message":"x"}}\n\n'
    answers = [streamed(error[:10], error[10:]) for _ in range(2)]  # a key each
    [charge] = play(lambda: House(*answers), scene).sink.charges
    assert charge.cost_nusd == 0
    assert all(answer.is_closed for answer in answers)


def test_a_store_that_is_down_is_told() -> None:
    async def scene(house: House) -> None:
        house.store.failing.append(StoreUnavailable("down"))
        client = await house.serve()
        assert (client.status, house.error_code) == (503, "store_unavailable")

    play(House, scene)


def test_a_model_served_in_another_format() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(ask(), wire=ANTHROPIC)
        assert client.status == 200
        assert [block["text"] for block in json.loads(client.body)["content"]] == ["Hello"]
        assert house.upstream.calls[0].endpoint.path == "/v1/chat/completions"
        assert json.loads(house.upstream.calls[0].body)["model"] == "real-m"

    (charge,) = play(lambda: House(whole()), scene).sink.charges
    assert (charge.format, charge.cost_nusd, charge.ended_by) == ("anthropic", COST, "completed")


def test_what_the_models_provider_cannot_be_told_is_refused_and_free() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(ask(top_k=5), wire=ANTHROPIC)
        assert client.status == 400
        assert json.loads(client.body)["error"]["details"]["code"] == "not_translatable"
        assert house.upstream.calls == []

    assert play(House, scene).sink.charges == []


def test_a_prompt_is_measured_for_a_provider_of_another_format() -> None:
    async def scene(house: House) -> None:
        client = FakeClientStream()
        request = changed(house.request(wire=ANTHROPIC), entry=Entry(operation="count_tokens"))
        await asyncio.create_task(house.pipeline().serve(request, client, ask()))
        assert client.status == 200
        assert json.loads(client.body)["input_tokens"] > 0
        assert house.upstream.calls == []

    assert play(House, scene).sink.charges == []


def test_the_environments_key_is_charged_to_nobody() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve(key=ENVIRONMENT_KEY)).status == 200

    house = play(lambda: House(whole()), scene)
    [charge] = house.sink.charges
    assert (charge.username, charge.key_id, charge.cost_nusd) == ("", "environment", COST)


def test_a_friend_is_charged_to_the_owner() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve(key=FRIEND_KEY)).status == 200

    [charge] = play(lambda: House(whole()), scene).sink.charges
    assert (charge.username, charge.friend_key_id) == ("ann", charge.key_id)


@pytest.mark.parametrize(
    ("limit", "status", "code"),
    [
        (ModelLimit(enabled=False), 403, "model_not_allowed"),
        (ModelLimit(daily_limit_nusd=1), 402, "friend_limit_exceeded"),
    ],
)
def test_a_friend_beyond_the_limit_holds_nothing(limit: ModelLimit, status: int, code: str) -> None:
    async def scene(house: House) -> None:
        [key_id] = house.store.friend_keys
        key = msgspec.structs.replace(house.store.friend_keys[key_id], model_limits={"m": limit})
        house.store.friend_keys[key_id] = key
        client = await house.serve(key=FRIEND_KEY)
        assert (client.status, house.error_code) == (status, code)
        assert client.headers.get("x-should-retry") == ("false" if status == 402 else None)

    assert play(House, scene).sink.charges == []


def test_a_body_that_cannot_be_edited_is_the_clients_fault() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(b'{"model":"m","messages":[1],"max_tokens":1,"\xff":1}')
        assert client.status == 400

    assert play(House, scene).sink.charges == []


def test_a_reload_in_the_midst_changes_nothing() -> None:
    async def scene(house: House) -> None:
        task = house.begin(ask())
        while not house.upstream.calls:
            await asyncio.sleep(0)
        house.live.snapshot = Snapshot((), {})
        await task
        assert house.client.status == 200

    play(lambda: House(whole()), scene)


def test_the_day_is_that_of_admission() -> None:
    async def scene(house: House) -> None:
        house.clock.wall_s = NOON_S + 12 * 3600 - 1
        task = house.begin(ask())
        await asyncio.sleep(0)
        house.clock.advance(10)
        await task

    [charge] = play(lambda: House(whole()), scene).sink.charges
    assert charge.day == "2025-10-09"


def test_another_key_is_tried() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 200

    house = play(lambda: House(UpstreamRateLimited("x"), whole()), scene)
    assert house.upstream.secrets() == ["secret-1", "secret-2"]
    [charge] = house.sink.charges
    assert (charge.upstream_key_id, charge.cost_nusd) == ("uk-2", COST)
