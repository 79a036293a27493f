"""What the dialect can say comes back as it was said: requests, answers, streams and their accounting."""

import contextlib
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.wire.openai_chat.asked import asked
from tests.unit.wire.strategies import Dialect, chunked, replies, requests, usages
from trollproxy.chat import (
    Choice,
    Ended,
    Finished,
    PartCited,
    PartEnded,
    PartGrew,
    PartScored,
    PartSigned,
    PartStarted,
    Reasoning,
    Refusal,
    Reply,
    Request,
    Started,
    State,
    StreamEvent,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
    collect,
    events_of,
)
from trollproxy.errors import GatewayError, InvalidRequest, UpstreamBroken
from trollproxy.wire.format import Entry, Target
from trollproxy.wire.openai_chat.tables import CARRIES
from trollproxy.wire.openai_chat.tongue import ChatTongue
from trollproxy.wire.openai_chat.usage import read_usage, write_usage
from trollproxy.wire.sse import EventSplitter

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
TONGUE = ChatTongue()
OWN_MODEL = "gpt-5.6"  # takes everything that the dialect has
PLAIN = st.just(State("openai_chat", ""))
EXACT = frozenset(feature for feature, loss in CARRIES.items() if not loss)
CHAT = Dialect(
    features=(EXACT - {"document_data"})
    | {"system", "system_inside", "thinking_inside", "audio_data", "cache_marks", "cache_key", "user"},
    state_of={"thinking": PLAIN},
    lifetimes=("30m", "12h"),
    efforts=("minimal", "low", "medium", "high", "xhigh", "max"),
    reasonings=st.sampled_from([Reasoning(mode="off"), Reasoning(effort="minimal"), Reasoning(effort="max")]),
    tiers=("flex", "priority"),
    sampling_max=2.0,
    schema_is_named=True,
    finishes=("stop", "length", "context_full", "refusal"),
    has_refusal=True,
    has_citations=True,
    has_scores=True,
    has_custom_calls=True,
    max_choices=2,
    buckets=("uncached", "write_30m", "read", "out_text", "out_reasoning"),
    reply_tiers=(None, "priority"),
    reply_prefix="chatcmpl-",
)


def said_plainly(request: Request) -> Request:
    """The request in the dialect's own normal form."""
    tools = tuple(msgspec.structs.replace(tool, cache=None) for tool in request.tools)
    kept = _marked(request)
    sampling = request.sampling
    penalties = {  # 0 is what the vendor has without them
        "presence_penalty": sampling.presence_penalty or None,
        "frequency_penalty": sampling.frequency_penalty or None,
    }
    return msgspec.structs.replace(
        request,
        model=OWN_MODEL,
        tools=tools,
        sampling=msgspec.structs.replace(sampling, **penalties),
        tool_choice=request.tool_choice if tools else None,
        parallel_tools=request.parallel_tools if tools else None,
        system=tuple(_unmarked(text, kept) for text in request.system),
        turns=tuple(turn for each in request.turns for turn in _split(each, kept)),
    )


def _marked(request: Request) -> set[int]:
    """The places of the four last marks."""
    parts: list[Any] = [*request.system, *(part for turn in request.turns for part in turn.parts)]
    marked = [id(part) for part in parts if not isinstance(part, ToolCall) and getattr(part, "cache", None)]
    return set(marked[-4:])


def _unmarked(part: Any, kept: set[int]) -> Any:
    if getattr(part, "cache", None) is None:
        return part
    return part if id(part) in kept else msgspec.structs.replace(part, cache=None)


def _split(turn: Turn, kept: set[int]) -> list[Turn]:
    """Results and what the user says beside them are messages of their own."""
    parts = [_unmarked(part, kept) for part in turn.parts]
    results = tuple(part for part in parts if isinstance(part, ToolResult))
    others = tuple(part for part in parts if not isinstance(part, ToolResult))
    return [Turn(turn.role, some) for some in (results, others) if some]


@QUIET
@given(requests(CHAT))
def test_a_request_comes_back(drawn: Request) -> None:
    request = said_plainly(drawn)
    assert TONGUE.read_request(TONGUE.write_request(request, Target(model=OWN_MODEL)), Entry()) == request


@QUIET
@given(requests(CHAT))
def test_other_servers_get_no_lists_of_texts_and_no_members_of_the_vendors_own(drawn: Request) -> None:
    body = json.loads(TONGUE.write_request(drawn, Target(model="llama-4")))
    assert not body.keys() & {"prompt_cache_key", "safety_identifier", "max_completion_tokens"}
    assert b"prompt_cache_breakpoint" not in json.dumps(body).encode()
    for message in body["messages"]:
        if isinstance(message["content"], list):
            assert {part["type"] for part in message["content"]} != {"text"}


def told_once(reply: Reply) -> Reply:
    """A context that is full has no word of its own."""
    return msgspec.structs.replace(reply, choices=tuple(map(_told_once, reply.choices)))


def _told_once(choice: Choice) -> Choice:
    return msgspec.structs.replace(choice, finish="length") if choice.finish == "context_full" else choice


@QUIET
@given(replies(CHAT))
def test_an_answer_comes_back(reply: Reply) -> None:
    to = asked(model=reply.model)
    assert TONGUE.read_reply(TONGUE.write_reply(reply, to), to) == _with_braces(told_once(reply))


@QUIET
@given(replies(replace(CHAT, has_citations=False)), st.data())
def test_a_stream_comes_back_however_it_is_cut(reply: Reply, data: st.DataObject) -> None:
    to = asked(model=reply.model)
    writer, reader, splitter = TONGUE.stream_writer(to), TONGUE.stream_reader(to), EventSplitter()
    written = b"".join(writer.write(event) for event in events_of(reply))
    pieces = data.draw(chunked(written))
    events = [event for piece in pieces for raw in splitter.feed(piece) for event in reader.read(raw)]
    assert collect(events) == msgspec.structs.replace(told_once(reply), tier=None)


def _with_braces(reply: Reply) -> Reply:
    """Nothing to say to a function is an empty object."""
    choices = []
    for choice in reply.choices:
        parts = tuple(
            msgspec.structs.replace(part, arguments="{}")
            if isinstance(part, ToolCall) and not part.is_custom and not part.arguments
            else part
            for part in choice.parts
        )
        choices.append(msgspec.structs.replace(choice, parts=parts))
    return msgspec.structs.replace(reply, choices=tuple(choices))


@given(usages(CHAT))
def test_accounting_comes_back(usage: Usage) -> None:
    assert read_usage(msgspec.Raw(msgspec.json.encode(write_usage(usage)))) == usage


@given(usages(Dialect(features=frozenset(), buckets=("uncached", "write_5m", "write_1h", "write_30m", "read"))))
def test_no_token_is_lost_to_the_dialects_one_bucket_for_writes(usage: Usage) -> None:
    back = read_usage(msgspec.Raw(msgspec.json.encode(write_usage(usage))))
    assert back is not None
    assert (back.input_tokens, back.written_tokens) == (usage.input_tokens, usage.written_tokens)


MEMBERS = [
    *("choices", "delta", "message", "tool_calls", "function", "custom", "arguments", "index", "id", "name", "content"),
    *("finish_reason", "usage", "logprobs", "annotations", "role", "messages", "model", "tools"),
]
NOISE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


@QUIET
@given(NOISE | st.binary(max_size=60))
def test_noise_is_refused_in_our_own_words(noise: bytes) -> None:
    for read, error in ((TONGUE.read_reply, UpstreamBroken), (_read_body, InvalidRequest)):
        with contextlib.suppress(error):
            read(noise, asked())


def _read_body(body: bytes, _asked: object) -> object:
    return TONGUE.read_request(body, Entry())


PIECES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.none() | st.integers(0, 2),
        "id": st.none() | st.sampled_from(["", "a", "b"]),
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.none() | st.sampled_from(["", "f", "g"]),
                "arguments": st.none() | st.sampled_from(["", "{", "}"]) | st.just({"a": 1}),
            },
        ),
    },
)
SCORED = st.just({"content": [{"token": "a", "logprob": -1}]})
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "content": st.none() | st.sampled_from(["", "a"]),
        "refusal": st.none() | st.just("no"),
        "reasoning_content": st.none() | st.sampled_from(["", "hm"]),
        "tool_calls": st.none() | st.lists(PIECES, max_size=2),
        "annotations": st.just([{"type": "url_citation", "url_citation": {"url": "https://a"}}]),
    },
)
CHUNKS = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries(
                {"index": st.integers(0, 1), "delta": DELTAS},
                optional={
                    "finish_reason": st.none() | st.sampled_from(["", "stop", "tool_calls", "length"]),
                    "logprobs": st.none() | SCORED,
                },
            ),
            max_size=2,
        )
    },
    optional={"id": st.just("x"), "usage": st.just({"prompt_tokens": 3, "completion_tokens": 1})},
)


@QUIET
@given(st.lists(CHUNKS, max_size=8))
def test_whatever_a_provider_streams_is_a_stream_of_ours(chunks: list[object]) -> None:
    reader = TONGUE.stream_reader(asked())
    events: list[StreamEvent] = []
    try:
        for data in [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]:
            events += reader.read(f"data: {data}\n\n".encode())
    except GatewayError:
        return
    assert_well_formed(events)


def assert_well_formed(events: list[StreamEvent]) -> None:
    """What `chat.reply` says of every stream."""
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)
    choice_of: dict[int, int] = {}
    still_open: set[int] = set()
    for event in events:
        match event:
            case PartStarted():
                assert event.index == len(choice_of)
                choice_of[event.index] = event.choice
                still_open.add(event.index)
            case PartGrew() | PartSigned() | PartCited() | PartScored():
                assert event.index in still_open
            case PartEnded():
                still_open.remove(event.index)
            case Finished():
                assert event.choice not in {choice_of[index] for index in still_open}
    assert still_open == set()


@QUIET
@given(st.lists(NOISE, max_size=6))
def test_a_noisy_stream_is_read_or_refused(noise: list[bytes]) -> None:
    reader = TONGUE.stream_reader(asked())
    with contextlib.suppress(GatewayError):
        for data in [*noise, b"[DONE]"]:
            reader.read(b"data: " + data + b"\n\n")


@pytest.mark.parametrize("body", [b'{"choices":[]}', b"[]", b"{}", b"null", b'{"choices":[{}', b""])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        TONGUE.read_reply(body, asked())


def test_a_refusal_without_words_comes_back() -> None:
    reply = Reply(reply_id="chatcmpl-1", model="m", choices=(Choice(parts=(), finish="refusal"),))
    to = asked(model="m")
    assert TONGUE.read_reply(TONGUE.write_reply(reply, to), to) == reply
    declined = Choice(parts=(Text(text="I "), Refusal(text="No.")), finish="refusal")
    reply = msgspec.structs.replace(reply, choices=(declined,))
    assert TONGUE.read_reply(TONGUE.write_reply(reply, to), to) == reply
