"""The demo provider as the official SDKs see it: shapes, streams, tools, usage, and errors as their exceptions."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anthropic
import openai
import pytest

from tests.aio import run
from trollproxy.web.demo import MAX_BODY_KEPT, MAX_REQUESTS_KEPT, DemoProvider

T = TypeVar("T")
SCHEMA: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
AM_TOOL: Any = {"name": "get_weather", "description": "Weather", "input_schema": SCHEMA}
CC_TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}


@asynccontextmanager
async def demo(**options: Any) -> AsyncIterator[tuple[DemoProvider, int]]:
    provider = DemoProvider(**options)
    try:
        yield provider, await provider.start()
    finally:
        await provider.close()


def against(client: Callable[[int], T], **options: Any) -> T:
    """Run a synchronous client in a thread against a provider of its own."""

    async def both() -> T:
        async with demo(**options) as (_, port):
            return await asyncio.to_thread(client, port)

    return run(both())


def with_openai(use: Callable[[openai.OpenAI], T], **options: Any) -> T:
    def client(port: int) -> T:
        with openai.OpenAI(api_key="sk-demo", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0, timeout=20) as sdk:
            return use(sdk)

    return against(client, **options)


def with_anthropic(use: Callable[[anthropic.Anthropic], T], **options: Any) -> T:
    def client(port: int) -> T:
        with anthropic.Anthropic(
            api_key="sk-demo", base_url=f"http://127.0.0.1:{port}", max_retries=0, timeout=20
        ) as sdk:
            return use(sdk)

    return against(client, **options)


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_openai_whole() -> None:
    reply = with_openai(lambda sdk: sdk.chat.completions.create(model="demo", messages=user("hello"), n=2))
    assert "demo provider" in (reply.choices[1].message.content or "")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


@pytest.mark.parametrize("include_usage", [True, False])
def test_openai_stream(include_usage: bool) -> None:
    def use(sdk: openai.OpenAI) -> list[Any]:
        with sdk.chat.completions.create(
            model="demo",
            messages=user("#demo tokens=5 delay_ms=1"),
            stream=True,
            stream_options={"include_usage": include_usage},
        ) as stream:
            return list(stream)

    chunks = with_openai(use)
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert len([word for word in said if word]) == 5
    used = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert used == ([5] if include_usage else [])


def test_openai_stream_helper_with_tools() -> None:
    def use(sdk: openai.OpenAI) -> Any:
        with sdk.chat.completions.stream(
            model="demo", messages=user("#demo delay_ms=0\nuse the tool"), tools=[CC_TOOL]
        ) as stream:
            kinds = {event.type for event in stream}
            return kinds, stream.get_final_completion()

    kinds, final = with_openai(use)
    assert "tool_calls.function.arguments.done" in kinds
    (call,) = final.choices[0].message.tool_calls
    assert final.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Trondheim"})


def test_openai_tool_round_trip() -> None:
    def use(sdk: openai.OpenAI) -> Any:
        messages = user("get_weather please")
        first = sdk.chat.completions.create(model="demo", messages=messages, tools=[CC_TOOL])
        calls = first.choices[0].message.tool_calls
        assert calls
        messages += [first.choices[0].message, {"role": "tool", "tool_call_id": calls[0].id, "content": "11 degrees"}]
        return first, sdk.chat.completions.create(model="demo", messages=messages, tools=[CC_TOOL])

    first, second = with_openai(use)
    assert first.choices[0].message.content is None
    assert "11 degrees" in second.choices[0].message.content


def test_openai_length_and_models() -> None:
    def use(sdk: openai.OpenAI) -> Any:
        reply = sdk.chat.completions.create(model="demo", messages=user("hi"), max_completion_tokens=3)
        return reply, [model.id for model in sdk.models.list()]

    reply, names = with_openai(use)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 3
    assert "demo" in names


def test_anthropic_whole() -> None:
    reply = with_anthropic(lambda sdk: sdk.messages.create(model="demo", max_tokens=500, messages=user("hello")))
    (block,) = reply.content
    assert block.type == "text"
    assert "demo provider" in block.text
    assert reply.stop_reason == "end_turn"
    assert reply.usage.output_tokens > 10


def test_anthropic_stream_helper() -> None:
    def use(sdk: anthropic.Anthropic) -> Any:
        with sdk.messages.stream(model="demo", max_tokens=500, messages=user("#demo tokens=5 delay_ms=1")) as stream:
            return list(stream.text_stream), stream.get_final_message()

    words, final = with_anthropic(use)
    assert len(words) == 5
    assert final.content[0].text == "".join(words)
    assert final.usage.output_tokens == 5
    assert final.usage.input_tokens > 0


def test_anthropic_tools_streamed_and_round_trip() -> None:
    def use(sdk: anthropic.Anthropic) -> Any:
        messages = user("#demo delay_ms=0\nuse the tool")
        with sdk.messages.stream(model="demo", max_tokens=500, messages=messages, tools=[AM_TOOL]) as stream:
            first = stream.get_final_message()
        result = {"type": "tool_result", "tool_use_id": first.content[1].id, "content": "11 degrees"}  # type: ignore[union-attr]  # the test fails when it is no tool call
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        return first, sdk.messages.create(model="demo", max_tokens=500, messages=messages, tools=[AM_TOOL])

    first, second = with_anthropic(use)
    assert [block.type for block in first.content] == ["text", "tool_use"]
    assert first.content[1].input == {"city": "Trondheim"}
    assert first.stop_reason == "tool_use"
    assert "11 degrees" in second.content[0].text


def test_anthropic_cache_length_count_and_models() -> None:
    def use(sdk: anthropic.Anthropic) -> Any:
        system: Any = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
        wrote = sdk.messages.create(model="demo", max_tokens=3, system=system, messages=user("hi"))
        read = sdk.messages.create(
            model="demo", max_tokens=3, system=system, messages=user("hi"), metadata={"user_id": "cached"}
        )
        counted = sdk.messages.count_tokens(model="demo", system=system, messages=user("hi"))
        return wrote, read.usage, counted.input_tokens, [model.id for model in sdk.models.list()]

    wrote, read, counted, names = with_anthropic(use)
    assert wrote.stop_reason == "max_tokens"
    assert (wrote.usage.input_tokens, wrote.usage.cache_creation_input_tokens) == (1, 100)
    assert wrote.usage.cache_creation.ephemeral_5m_input_tokens == 100
    assert (read.input_tokens, read.cache_read_input_tokens) == (1, 100)
    assert counted == 101
    assert "demo" in names


ERRORS = [
    (400, "BadRequestError"), (401, "AuthenticationError"), (403, "PermissionDeniedError"), (404, "NotFoundError"),
    (429, "RateLimitError"), (500, "InternalServerError"), (529, "InternalServerError"),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_statuses_become_the_sdks_exceptions(stream: bool) -> None:
    def use_openai(sdk: openai.OpenAI) -> None:
        for status, name in ERRORS:
            with pytest.raises(openai.APIStatusError) as caught:
                sdk.chat.completions.create(model="demo", messages=user(f"#demo status={status}"), stream=stream)
            assert type(caught.value).__name__ == name

    def use_anthropic(sdk: anthropic.Anthropic) -> None:
        for status, name in ERRORS:
            with pytest.raises(anthropic.APIStatusError) as caught:
                sdk.messages.create(model="demo", max_tokens=9, messages=user(f"#demo status={status}"), stream=stream)
            assert type(caught.value).__name__ == {529: "OverloadedError"}.get(status, name)

    with_openai(use_openai)
    with_anthropic(use_anthropic)


def collect(stream: Any, into: list[Any]) -> None:
    for event in stream:
        into.append(event)  # noqa: PERF402 - what came before the exception must be kept


def test_error_events_become_exceptions_after_the_tokens() -> None:
    text = user("#demo tokens=5 error_event=2 delay_ms=0")

    def use_openai(sdk: openai.OpenAI) -> int:
        chunks: list[Any] = []
        create = sdk.chat.completions.create
        with pytest.raises(openai.APIError), create(model="demo", messages=text, stream=True) as stream:
            collect(stream, chunks)
        return len([chunk for chunk in chunks if chunk.choices[0].delta.content])

    def use_anthropic(sdk: anthropic.Anthropic) -> int:
        events: list[Any] = []
        create = sdk.messages.create
        with (
            pytest.raises(anthropic.APIStatusError),
            create(model="demo", max_tokens=9, messages=text, stream=True) as stream,
        ):
            collect(stream, events)
        return len([event for event in events if event.type == "content_block_delta"])

    assert with_openai(use_openai) == 2
    assert with_anthropic(use_anthropic) == 2


def post(port: int, text: str, **changes: Any) -> tuple[int, bytes, bool]:
    """Status, what arrived of the body, and whether the body came to its end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"model": "demo", "messages": user(text), **changes})
    try:
        connection.request("POST", "/v1/chat/completions", body)
        reply = connection.getresponse()
        try:
            return reply.status, reply.read(), True
        except http.client.IncompleteRead as cut:
            return reply.status, cut.partial, False
    finally:
        connection.close()


@pytest.mark.parametrize("tokens", [0, 3])
def test_a_cut_stream_delivers_its_tokens_and_then_breaks(tokens: int) -> None:
    status, body, is_complete = against(lambda port: post(port, f"#demo tokens=9 cut={tokens} delay_ms=0", stream=True))
    assert (status, is_complete) == (200, False)
    assert body.count(b"data: ") == 1 + tokens


def test_a_whole_reply_is_cut_at_its_half_or_before_its_head() -> None:
    _, body, is_complete = against(lambda port: post(port, "#demo cut=1"))
    assert body
    assert not is_complete

    def before(port: int) -> None:
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            post(port, "#demo cut=head")

    against(before)


@pytest.mark.parametrize("place", ["head", "2"])
def test_a_hanging_script_ends_with_the_provider(place: str) -> None:
    async def scenario() -> bytes:
        async with demo() as (provider, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = json.dumps({"model": "demo", "stream": True, "messages": user(f"#demo delay_ms=0 hang={place}")})
            writer.write(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            got = b""
            if place == "head":
                while not provider.seen:
                    await asyncio.sleep(0)
            else:
                while got.count(b"data: ") < 3:
                    got += await reader.read(65_536)
            await provider.close()
            got += await reader.read()
            writer.close()
            await writer.wait_closed()
            return got

    got = run(scenario(), timeout_s=20)
    assert got.count(b"data: ") == (0 if place == "head" else 3)
    assert b"[DONE]" not in got


def test_what_arrived_is_remembered_within_bounds() -> None:
    async def scenario() -> None:
        async with demo() as (provider, port):
            await asyncio.to_thread(post, port, "x" * 100_000, stream=False)
            seen = provider.requests[-1]
            assert (seen.method, seen.path, len(seen.body)) == ("POST", "/v1/chat/completions", MAX_BODY_KEPT)
            assert seen.size > 100_000
            assert seen.headers["host"] == f"127.0.0.1:{port}"
            assert provider.requests.maxlen == MAX_REQUESTS_KEPT
            await asyncio.to_thread(get, port, "/nonsense?a=b")
            assert provider.seen == {"/v1/chat/completions": 1, "other": 1}
            assert provider.requests[-1].query == "a=b"

    run(scenario())


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        reply.read()
        return reply.status
    finally:
        connection.close()


def test_unknown_routes_and_methods() -> None:
    assert against(lambda port: get(port, "/nonsense")) == 404
    assert against(lambda port: get(port, "/v1/messages")) == 405


def test_a_key_is_asked_for_only_when_there_is_one() -> None:
    with_openai(lambda sdk: sdk.models.list(), api_key="sk-demo")
    with_anthropic(lambda sdk: sdk.models.list(), api_key="sk-demo")

    def denied_openai(sdk: openai.OpenAI) -> None:
        with pytest.raises(openai.AuthenticationError):
            sdk.models.list()

    def denied_anthropic(sdk: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.AuthenticationError):
            sdk.messages.create(model="demo", max_tokens=1, messages=user("hi"))

    with_openai(denied_openai, api_key="sk-other")
    with_anthropic(denied_anthropic, api_key="sk-other")
    assert against(lambda port: get(port, "/v1/models"), api_key="sk-demo") == 401
