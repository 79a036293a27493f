"""What is written and read again is the same, as far as the dialect can say it; nothing that is read breaks us."""

import json
from contextlib import suppress

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.wire.openai_responses.talk import ENTRY, TONGUE, asked, read_stream, write_stream
from tests.unit.wire.strategies import BASE64, JSON, WORDS, Dialect, chunked, replies, requests, usages
from trollproxy.chat import (
    Choice,
    Citation,
    Feature,
    PartStarted,
    Reasoning,
    Reply,
    Request,
    State,
    Text,
    Usage,
    collect,
    events_of,
)
from trollproxy.errors import GatewayError, InvalidRequest
from trollproxy.wire.format import Target
from trollproxy.wire.openai_responses.sealed import open_sealed, seal_signature, seal_thought
from trollproxy.wire.openai_responses.usage import read_usage, write_usage
from trollproxy.wire.sse import EventSplitter

FOREIGN = st.sampled_from(["anthropic", "gemini"]).flatmap(
    lambda origin: BASE64.map(lambda data: State(origin, data))  # type: ignore[arg-type]
)
LOSSLESS: frozenset[Feature] = frozenset(feature for feature, loss in TONGUE.carries.items() if not loss)
SHOWS = st.none() | st.just(value=True)
ASKING = Dialect(
    features=LOSSLESS.union(("document_url", "cache_marks", "cache_whole", "output_schema", "max_output_tokens")),
    lifetimes=("30m", "12h"),
    reasonings=st.builds(
        Reasoning,
        effort=st.sampled_from(["minimal", "low", "medium", "high", "xhigh", "max"]),
        shows_thoughts=SHOWS,
    )
    | st.builds(Reasoning, mode=st.just("off"), shows_thoughts=SHOWS),
    sampling_max=2.0,
    tiers=("flex", "priority"),
    result_texts=2,
    turn_texts=2,
    schema_is_named=True,
)
ANSWERING = Dialect(
    features=LOSSLESS,
    state_of={"thinking": st.none() | FOREIGN, "tool_call": st.none() | FOREIGN, "text": st.none() | FOREIGN},
    has_redacted=True,
    finishes=("stop", "length", "paused"),
    reply_texts=1,
    has_refusal=True,
    has_citations=True,
    has_custom_calls=True,
    buckets=("uncached", "write_30m", "write_12h", "read", "out_text", "out_reasoning", "tool_requests"),
    reply_prefix="resp_",
)


def plain(value: object) -> object:
    return json.loads(msgspec.json.encode(value))


def normal(request: Request) -> Request:
    """The dialect keeps marks on what the user and the system say only."""
    without = []
    for turn in request.turns:
        parts = turn.parts
        if turn.role == "assistant":
            parts = tuple(
                msgspec.structs.replace(part, cache=None) if hasattr(part, "cache") else part for part in parts
            )
        without.append(msgspec.structs.replace(turn, parts=parts))
    tools = tuple(msgspec.structs.replace(tool, cache=None) for tool in request.tools)
    output = max(16, request.max_output_tokens) if request.max_output_tokens else request.max_output_tokens
    return msgspec.structs.replace(request, turns=tuple(without), tools=tools, max_output_tokens=output)


@given(requests(ASKING))
def test_requests(request):
    body = TONGUE.write_request(request, Target(model="gpt-5.6"))
    read = TONGUE.read_request(body, ENTRY)
    expected = msgspec.structs.replace(normal(request), model="gpt-5.6")
    assert plain(read) == plain(expected)


@given(replies(ANSWERING), st.sampled_from([None, "priority", "flex"]))
def test_replies(reply, tier):
    whole = msgspec.structs.replace(reply, tier=tier, model="named-by-client")
    assert TONGUE.read_reply(TONGUE.write_reply(whole, asked()), asked()) == whole


CITED = Citation(url="https://example.com/a", title="a", start=0, end=1)
CITED_TWICE = Reply(
    reply_id="resp_a",
    model="m",
    choices=(Choice(parts=(Text(text="a", citations=(CITED, CITED)),), finish="stop"),),
    usage=Usage(),
)


@given(replies(ANSWERING))
@example(CITED_TWICE)
def test_streams(reply):
    reply = msgspec.structs.replace(reply, model="named-by-client")
    assert collect(read_stream(write_stream(events_of(reply)))) == reply


@given(st.data(), replies(ANSWERING))
def test_chunking_changes_nothing(data, reply):
    written = write_stream(events_of(reply))
    assert read_stream(*data.draw(chunked(written))) == read_stream(written)


@given(
    usages(
        Dialect(
            features=frozenset(),
            buckets=("uncached", "write_5m", "write_30m", "write_1h", "write_12h", "read", "out_text", "out_reasoning"),
        )
    )
)
def test_usage_keeps_its_sums(usage):
    again = read_usage(msgspec.Raw(msgspec.json.encode(write_usage(usage))), msgspec.Raw())
    assert again == Usage(
        uncached=usage.uncached,
        write_30m=usage.write_5m + usage.write_30m,
        write_12h=usage.write_1h + usage.write_12h,
        read=usage.read,
        out_text=usage.out_text,
        out_reasoning=usage.out_reasoning,
    )


@given(FOREIGN | WORDS.map(lambda data: State("openai_responses", data)), st.booleans(), WORDS)
def test_seals_open(state, is_redacted, name):
    sealed = open_sealed(seal_thought(state, is_redacted=is_redacted))
    assert sealed is not None
    assert (sealed.state, sealed.is_redacted, sealed.what) == (state, is_redacted, None)
    signature = open_sealed(seal_signature(state, "call", name))
    assert signature is not None
    assert (signature.state, signature.what) == (state, "call")


MEMBERS = st.sampled_from(
    ["input", "tools", "tool_choice", "reasoning", "text", "instructions", "include", "prompt_cache_options", "x"]
)
KINDS = st.sampled_from(["message", "reasoning", "function_call", "function_call_output", "tool_search_call", "x"])
ITEMS = st.dictionaries(
    st.sampled_from(["type", "role", "content", "summary", "call_id", "name", "arguments", "output", "id", "tools"]),
    KINDS | JSON | st.sampled_from(["user", "assistant", [{"type": "input_text", "text": "t"}]]),
    max_size=5,
)


@given(st.dictionaries(MEMBERS, JSON | st.lists(ITEMS, max_size=3)))
def test_any_request_is_read_or_refused(members):
    body = json.dumps({"model": "m", "input": "hi"} | members).encode()
    with suppress(InvalidRequest):
        TONGUE.read_request(body, ENTRY)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(data):
    with suppress(InvalidRequest):
        TONGUE.read_request(data, ENTRY)
    with suppress(GatewayError):
        TONGUE.read_reply(data, asked())


EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                f"response.{kind}"
                for kind in (
                    "created",
                    "output_item.added",
                    "output_item.done",
                    "content_part.added",
                    "content_part.done",
                    "output_text.delta",
                    "output_text.done",
                    "refusal.delta",
                    "function_call_arguments.delta",
                    "function_call_arguments.done",
                    "reasoning_summary_text.delta",
                    "reasoning_text.delta",
                    "output_text.annotation.added",
                    "completed",
                    "incomplete",
                    "failed",
                    "x",
                )
            ]
            + ["error"]
        )
    },
    optional={
        "output_index": st.integers(0, 2),
        "content_index": st.integers(0, 1),
        "delta": WORDS | JSON,
        "text": WORDS,
        "item": ITEMS,
        "part": st.fixed_dictionaries(
            {"type": st.sampled_from(["output_text", "refusal", "x"])}, optional={"text": WORDS}
        ),
        "response": st.fixed_dictionaries({}, optional={"id": WORDS, "output": st.lists(ITEMS, max_size=2)}) | JSON,
    },
)


@given(st.lists(EVENTS, max_size=12))
def test_any_stream_is_read_or_refused(events):
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    assert len(EventSplitter().feed(data)) == len(events)
    with suppress(GatewayError):
        found = read_stream(data)
        indexes = [said.index for said in found if isinstance(said, PartStarted)]
        assert indexes == list(range(len(indexes)))
        collect(found)
