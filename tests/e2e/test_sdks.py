"""The official SDKs, unmodified, against a gateway process: what they see is what the books say, to the nano-dollar."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

from tests.aio import run
from tests.e2e.books import demo_cost_nusd
from tests.e2e.process import QUICK, GatewayProcess
from tests.e2e.talk import DIALECTS, Dialect, ask
from trollproxy.chat import Usage
from trollproxy.records import Charge

SCHEMA: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
AM_TOOL: Any = {"name": "get_weather", "description": "Weather", "input_schema": SCHEMA}
CC_TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
FIVE = "#demo tokens=5 delay_ms=1"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("sdks"), config=QUICK) as running:
        yield running


@contextmanager
def openai_sdk(gateway: GatewayProcess, **options: Any) -> Iterator[openai.OpenAI]:
    settings: Any = {"api_key": gateway.key, "base_url": f"{gateway.url}/v1", "max_retries": 0, "timeout": 20} | options
    with openai.OpenAI(**settings) as sdk:
        yield sdk


@contextmanager
def anthropic_sdk(gateway: GatewayProcess, **options: Any) -> Iterator[anthropic.Anthropic]:
    settings: Any = {"api_key": gateway.key, "base_url": gateway.url, "max_retries": 0, "timeout": 20} | options
    with anthropic.Anthropic(**settings) as sdk:
        yield sdk


@asynccontextmanager
async def async_sdks(gateway: GatewayProcess) -> AsyncIterator[tuple[openai.AsyncOpenAI, anthropic.AsyncAnthropic]]:
    settings: Any = {"api_key": gateway.key, "max_retries": 0, "timeout": 20}
    async with (
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", **settings) as first,
        anthropic.AsyncAnthropic(base_url=gateway.url, **settings) as second,
    ):
        yield first, second


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def check_openai(charge: Charge, usage: Any, *, stream: bool = False) -> None:
    """The charge is the usage that the SDK saw, at the demo's prices."""
    cached = usage.prompt_tokens_details.cached_tokens
    said = Usage(uncached=usage.prompt_tokens - cached, read=cached, out_text=usage.completion_tokens)
    cost = demo_cost_nusd(uncached=said.uncached, read=cached, out=said.out_text)
    check(charge, said, cost, stream=stream)
    assert charge.format == "openai_chat"


def check_anthropic(charge: Charge, usage: Any, *, stream: bool = False) -> None:
    split = usage.cache_creation
    said = Usage(
        uncached=usage.input_tokens,
        write_5m=split.ephemeral_5m_input_tokens if split else 0,
        write_1h=split.ephemeral_1h_input_tokens if split else 0,
        read=usage.cache_read_input_tokens,
        out_text=usage.output_tokens,
    )
    written = said.write_5m + said.write_1h
    assert written == usage.cache_creation_input_tokens
    cost = demo_cost_nusd(uncached=said.uncached, written=written, read=said.read, out=said.out_text)
    check(charge, said, cost, stream=stream)
    assert charge.format == "anthropic"


def check(charge: Charge, usage: Usage, cost_nusd: int, *, stream: bool) -> None:
    assert usage.input_tokens > 0
    assert usage.out_text > 0
    assert (charge.usage, charge.cost_nusd) == (usage, cost_nusd)
    assert (charge.ended_by, charge.status, charge.code, charge.is_estimated) == ("completed", 200, "ok", False)
    assert (charge.username, charge.wallet, charge.model, charge.stream) == ("admin", "legacy", "demo", stream)


def test_openai_whole(gateway: GatewayProcess) -> None:
    with gateway.bill() as bill, openai_sdk(gateway) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model="demo", messages=user("hello"))
        reply = raw.parse()
    assert "demo provider" in (reply.choices[0].message.content or "")
    (charge,) = bill
    check_openai(charge, reply.usage)
    assert charge.request_id == raw.headers["x-request-id"] == reply._request_id


@pytest.mark.parametrize("options", [{"stream_options": {"include_usage": True}}, {}])
def test_openai_stream_shows_usage_exactly_when_asked(gateway: GatewayProcess, options: Any) -> None:
    with gateway.bill() as bill, openai_sdk(gateway) as sdk:
        create = sdk.chat.completions.create
        with create(model="demo", messages=user(FIVE), stream=True, **options) as stream:
            chunks: list[Any] = list(stream)
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) == 5
    usages = [c.usage for c in chunks if c.usage is not None]
    assert len(usages) == len([c for c in chunks if not c.choices]) == len(options)
    (charge,) = bill
    assert charge.usage.out_text == 5
    if usages:
        check_openai(charge, usages[0], stream=True)
    else:
        assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached, out=5)


def test_openai_stream_helper(gateway: GatewayProcess) -> None:
    with gateway.bill() as bill, openai_sdk(gateway) as sdk:
        options: Any = {"include_usage": True}
        with sdk.chat.completions.stream(model="demo", messages=user(FIVE), stream_options=options) as stream:
            deltas = [event.delta for event in stream if event.type == "content.delta"]
            final = stream.get_final_completion()
    assert final.choices[0].message.content == "".join(deltas)
    (charge,) = bill
    check_openai(charge, final.usage, stream=True)


def test_openai_tools(gateway: GatewayProcess) -> None:
    with gateway.bill() as bill, openai_sdk(gateway) as sdk:
        messages = user("get_weather please")
        first = sdk.chat.completions.create(model="demo", messages=messages, tools=[CC_TOOL])
        calls = first.choices[0].message.tool_calls
        assert calls
        messages += [first.choices[0].message, {"role": "tool", "tool_call_id": calls[0].id, "content": "11 degrees"}]
        second = sdk.chat.completions.create(model="demo", messages=messages, tools=[CC_TOOL])
    assert json.loads(calls[0].function.arguments) == {"city": "Trondheim"}  # type: ignore[union-attr]  # no custom tool
    assert "11 degrees" in (second.choices[0].message.content or "")
    assert len(bill) == 2
    check_openai(bill[0], first.usage)
    check_openai(bill[1], second.usage)


def test_openai_streamed_tools(gateway: GatewayProcess) -> None:
    with gateway.bill() as bill, openai_sdk(gateway) as sdk:
        text = user("#demo delay_ms=0\nuse the tool")
        with sdk.chat.completions.stream(model="demo", messages=text, tools=[CC_TOOL]) as stream:
            final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Trondheim"}
    (charge,) = bill
    assert charge.usage.out_text > 0


def test_openai_cached_prompt(gateway: GatewayProcess) -> None:
    system: Any = {"role": "system", "content": "x" * 8000}
    with gateway.bill() as bill, openai_sdk(gateway) as sdk:
        reply = sdk.chat.completions.create(model="demo", messages=[system, *user("hi")])
    (charge,) = bill
    assert charge.usage.read == 2000
    check_openai(charge, reply.usage)


def test_openai_models(gateway: GatewayProcess) -> None:
    with gateway.bill() as bill, openai_sdk(gateway) as sdk:
        assert [model.id for model in sdk.models.list()] == ["demo"]
        assert sdk.models.retrieve("demo").id == "demo"
        with pytest.raises(openai.NotFoundError):
            sdk.models.retrieve("no-such-model")
    assert bill == []


def test_anthropic_whole(gateway: GatewayProcess) -> None:
    with gateway.bill() as bill, anthropic_sdk(gateway) as sdk:
        raw = sdk.messages.with_raw_response.create(model="demo", max_tokens=500, messages=user("hello"))
        reply = raw.parse()
    (block,) = reply.content
    assert block.type == "text"
    assert "demo provider" in block.text
    (charge,) = bill
    check_anthropic(charge, reply.usage)
    assert charge.request_id == raw.headers["request-id"] == reply._request_id


def test_anthropic_raw_stream(gateway: GatewayProcess) -> None:
    with (
        gateway.bill() as bill,
        anthropic_sdk(gateway) as sdk,
        sdk.messages.create(model="demo", max_tokens=500, messages=user(FIVE), stream=True) as stream,
    ):
        events: list[Any] = list(stream)
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    (usage,) = [event.usage for event in events if event.type == "message_delta"]
    (charge,) = bill
    assert usage.output_tokens == 5
    assert charge.cost_nusd == demo_cost_nusd(uncached=usage.input_tokens, out=5)


def test_anthropic_stream_helper(gateway: GatewayProcess) -> None:
    with (
        gateway.bill() as bill,
        anthropic_sdk(gateway) as sdk,
        sdk.messages.stream(model="demo", max_tokens=500, messages=user(FIVE)) as stream,
    ):
        words, final = list(stream.text_stream), stream.get_final_message()
    assert len(words) == 5
    (charge,) = bill
    check_anthropic(charge, final.usage, stream=True)


def test_anthropic_tools(gateway: GatewayProcess) -> None:
    with gateway.bill() as bill, anthropic_sdk(gateway) as sdk:
        messages = user("#demo delay_ms=0\nuse the tool")
        with sdk.messages.stream(model="demo", max_tokens=500, messages=messages, tools=[AM_TOOL]) as stream:
            first = stream.get_final_message()
        call: Any = first.content[1]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "11 degrees"}
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        second = sdk.messages.create(model="demo", max_tokens=500, messages=messages, tools=[AM_TOOL])
    assert call.input == {"city": "Trondheim"}
    assert "11 degrees" in second.content[0].text  # type: ignore[union-attr]  # the test fails when it is no text
    assert len(bill) == 2
    check_anthropic(bill[0], first.usage, stream=True)
    check_anthropic(bill[1], second.usage)


def cached(ttl: str) -> Any:
    return [{"type": "text", "text": "x" * 8000, "cache_control": {"type": "ephemeral", "ttl": ttl}}]


@pytest.mark.parametrize(
    ("ttl", "user_id", "bucket"), [("5m", "u", "write_5m"), ("1h", "u", "write_1h"), ("5m", "cached", "read")]
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_anthropic_cache_is_priced_in_its_bucket(
    gateway: GatewayProcess, ttl: str, user_id: str, *, bucket: str, is_stream: bool
) -> None:
    request: Any = {"model": "demo", "max_tokens": 9, "system": cached(ttl), "messages": user(FIVE)}
    request["metadata"] = {"user_id": user_id}
    with gateway.bill() as bill, anthropic_sdk(gateway) as sdk:
        if is_stream:
            with sdk.messages.stream(**request) as stream:
                usage = stream.get_final_message().usage
        else:
            usage = sdk.messages.create(**request).usage
    (charge,) = bill
    assert getattr(charge.usage, bucket) == 2000
    check_anthropic(charge, usage, stream=is_stream)


def test_anthropic_count_tokens_and_models_are_free(gateway: GatewayProcess) -> None:
    with gateway.bill() as bill, anthropic_sdk(gateway) as sdk:
        assert sdk.messages.count_tokens(model="demo", messages=user("x" * 400)).input_tokens == 100
        assert [model.id for model in sdk.models.list()] == ["demo"]
        assert sdk.models.retrieve("demo").id == "demo"
    assert bill == []


def by_bearer(gateway: GatewayProcess) -> str:
    with openai_sdk(gateway) as sdk:
        return sdk.chat.completions.create(model="demo", messages=user(FIVE))._request_id or ""


def by_api_key_header(gateway: GatewayProcess) -> str:
    headers: Any = {"x-api-key": gateway.key, "Authorization": openai.Omit()}
    with openai_sdk(gateway) as sdk:
        reply = sdk.chat.completions.create(model="demo", messages=user(FIVE), extra_headers=headers)
        return reply._request_id or ""


def by_api_key(gateway: GatewayProcess) -> str:
    with anthropic_sdk(gateway) as sdk:
        return sdk.messages.create(model="demo", max_tokens=9, messages=user(FIVE))._request_id or ""


def by_auth_token(gateway: GatewayProcess) -> str:
    with anthropic_sdk(gateway, api_key=None, auth_token=gateway.key) as sdk:
        return sdk.messages.create(model="demo", max_tokens=9, messages=user(FIVE))._request_id or ""


@pytest.mark.parametrize("use", [by_bearer, by_api_key_header, by_api_key, by_auth_token])
def test_either_way_of_showing_the_key_is_billed(gateway: GatewayProcess, use: Callable[[GatewayProcess], str]) -> None:
    with gateway.bill() as bill:
        request_id = use(gateway)
    assert [charge.request_id for charge in bill] == [request_id]


def test_async_clients(gateway: GatewayProcess) -> None:
    async def scenario() -> tuple[Any, list[Any], Any, Any]:
        async with async_sdks(gateway) as (first, second):
            whole = await first.chat.completions.create(model="demo", messages=user(FIVE))
            stream = await first.chat.completions.create(
                model="demo", messages=user(FIVE), stream=True, stream_options={"include_usage": True}
            )
            async with stream:
                chunks = [chunk async for chunk in stream]
            message = await second.messages.create(model="demo", max_tokens=9, messages=user(FIVE))
            async with second.messages.stream(model="demo", max_tokens=9, messages=user(FIVE)) as streamed:
                final = await streamed.get_final_message()
            assert [model.id async for model in first.models.list()] == ["demo"]
            assert (await second.messages.count_tokens(model="demo", messages=user("hi"))).input_tokens == 1
            return whole.usage, chunks, message.usage, final.usage

    with gateway.bill() as bill:
        whole, chunks, message, final = run(scenario())
    assert len(bill) == 4
    check_openai(bill[0], whole)
    check_openai(bill[1], chunks[-1].usage, stream=True)
    check_anthropic(bill[2], message)
    check_anthropic(bill[3], final, stream=True)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_answers_say_where_the_caller_stands_with_the_limit(gateway: GatewayProcess, dialect: Dialect) -> None:
    answer = ask(gateway.port, "POST", dialect.path, body=dialect.ask(FIVE), headers=dialect.authorize(gateway.key))
    prefix = {"openai_chat": "x-ratelimit-limit-requests", "anthropic": "anthropic-ratelimit-requests-limit"}
    assert answer.headers[prefix[dialect.name]] == "1000"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_answers_name_their_receipt(gateway: GatewayProcess, dialect: Dialect) -> None:
    """Also one that is asked for before the charge is on the books."""
    with gateway.bill() as bill:
        headers = dialect.authorize(gateway.key)
        answer = ask(gateway.port, "POST", dialect.path, body=dialect.ask(FIVE), headers=headers)
        receipt = ask(gateway.port, "GET", answer.headers["x-trollproxy-receipt"], headers=headers).json()
    (charge,) = bill
    assert receipt["id"] == charge.request_id == answer.headers[dialect.request_id]
    assert Decimal(receipt["cost_usd"]) * 1_000_000_000 == charge.cost_nusd
    assert receipt["usage"]["out_text"] == 5
