"""Streams of Anthropic read with all their oddities, and streams of any origin written so that its SDKs follow them."""

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.wire.anthropic.asked import REQUEST_ID, asked
from trollproxy.chat import (
    Choice,
    Citation,
    Counted,
    Ended,
    Finished,
    PartCited,
    PartEnded,
    PartGrew,
    PartScored,
    PartSigned,
    PartStarted,
    Refusal,
    Started,
    State,
    StreamEvent,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
    Usage,
    collect,
)
from trollproxy.errors import GatewayError, Overloaded, UpstreamBroken, UpstreamUnavailable
from trollproxy.wire.anthropic.stream_reader import MessagesReader
from trollproxy.wire.anthropic.stream_writer import MessagesWriter
from trollproxy.wire.sse import EventSplitter, event_data

ASKED = asked()
SIGNED = State("anthropic", "c2ln")


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + json.dumps({"type": kind, **members}).encode() + b"\n\n"


def begin(**usage: Any) -> bytes:
    message = {
        "id": "msg_1",
        "model": "claude",
        "content": [],
        "usage": {"input_tokens": 3, "output_tokens": 1} | usage,
    }
    return event("message_start", message=message)


def start(index: int, kind: str, **members: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": kind, **members})


def delta(index: int, kind: str, **members: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **members})


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def end(reason: str | None = "end_turn", **usage: Any) -> bytes:
    given = {"stop_reason": reason, "stop_sequence": None}
    return event("message_delta", delta=given, usage={"output_tokens": 9} | usage)


STOP = event("message_stop")
RECORDED = [
    begin(),
    event("ping"),
    start(0, "thinking", thinking="", signature=""),
    delta(0, "thinking_delta", thinking="hm"),
    delta(0, "signature_delta", signature="c2ln"),
    stop(0),
    start(1, "redacted_thinking", data="ZGF0YQ=="),
    stop(1),
    start(2, "server_tool_use", id="srvtoolu_1", name="web_search", input={}),
    delta(2, "input_json_delta", partial_json='{"query"'),
    stop(2),
    start(3, "text", text=""),
    delta(3, "text_delta", text="Hellå "),
    delta(3, "text_delta", text=""),
    delta(3, "text_delta", text="there"),
    stop(3),
    start(4, "text", text="", citations=[]),
    delta(4, "text_delta", text="green"),
    delta(4, "citations_delta", citation={"type": "char_location", "cited_text": "c", "document_title": "d"}),
    stop(4),
    start(5, "tool_use", id="toolu_1", name="look", input={}),
    delta(5, "input_json_delta", partial_json=""),
    delta(5, "input_json_delta", partial_json='{"a":'),
    delta(5, "input_json_delta", partial_json="1}"),
    stop(5),
    start(6, "tool_use", id="toolu_2", name="look", input={}),
    stop(6),
    event("an_event_of_tomorrow", anything=[1]),
    end("tool_use", output_tokens_details={"thinking_tokens": 4}),
    STOP,
]
PARTS = (
    Thinking(text="hm", state=SIGNED),
    Thinking(state=State("anthropic", "ZGF0YQ=="), is_redacted=True),
    Text(text="Hellå there"),
    Text(text="green", citations=(Citation(title="d", cited_text="c", start=11, end=16),)),
    ToolCall(call_id="toolu_1", name="look", arguments='{"a":1}'),
    ToolCall(call_id="toolu_2", name="look"),
)
COUNTED = Usage(uncached=3, out_text=5, out_reasoning=4)


def read(*events: bytes) -> list[StreamEvent]:
    reader = MessagesReader(ASKED)
    return [told for raw in events for told in reader.read(raw)] + reader.finish()


def kinds(events: list[StreamEvent]) -> list[str]:
    return [type(told).__name__ for told in events]


def test_a_recorded_stream_is_read() -> None:
    events = read(*RECORDED)
    reply = collect(events)
    assert (reply.reply_id, reply.model, reply.usage) == ("msg_1", "claude", COUNTED)
    assert reply.choices == (Choice(parts=PARTS, finish="tool_calls"),)
    assert kinds(events)[:2] == ["Started", "Counted"]
    assert kinds(events)[-3:] == ["Finished", "Counted", "Ended"]
    assert [told.index for told in events if isinstance(told, PartStarted)] == list(range(6))
    counts = [told for told in events if isinstance(told, Counted)]
    assert [count.is_final for count in counts] == [False, True]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(b"".join(RECORDED))), max_size=20))
def test_any_chunking_is_read_alike(places: list[int]) -> None:
    whole = b"".join(RECORDED)
    splitter = EventSplitter()
    pieces = [whole[a:b] for a, b in pairwise([0, *sorted(places), len(whole)])]
    assert read(*(raw for piece in pieces for raw in splitter.feed(piece))) == read(*RECORDED)


def test_a_second_beginning_says_nothing_new() -> None:
    events = read(
        begin(), start(0, "text", text=""), delta(0, "text_delta", text="a"), begin(input_tokens=8), end(), STOP
    )
    assert kinds(events).count("Started") == 1
    assert collect(events).usage == Usage(uncached=8, out_text=9)


def test_a_spliced_stream_goes_on_in_new_parts() -> None:
    events = read(
        begin(),
        start(0, "text", text=""),
        delta(0, "text_delta", text="a"),
        begin(),
        start(0, "text", text=""),
        delta(0, "text_delta", text="b"),
        stop(0),
        end(),
        STOP,
    )
    assert collect(events).choices[0].parts == (Text(text="a"), Text(text="b"))


def test_thoughts_inside_of_a_text_are_a_part_of_their_own() -> None:
    events = read(
        begin(),
        start(0, "text", text=""),
        delta(0, "thinking_delta", thinking="hm"),
        delta(0, "text_delta", text="a"),
        stop(0),
        end(),
        STOP,
    )
    assert collect(events).choices[0].parts == (Text(text=""), Thinking(text="hm"), Text(text="a"))


def test_a_part_without_beginning_or_end() -> None:
    events = read(begin(), delta(3, "text_delta", text="a"), end(), STOP)
    assert kinds(events) == [
        "Started",
        "Counted",
        "PartStarted",
        "PartGrew",
        "PartEnded",
        "Finished",
        "Counted",
        "Ended",
    ]


def test_arguments_that_come_with_the_beginning() -> None:
    whole = [begin(), start(0, "tool_use", id="t", name="look", input={"a": 1}), stop(0), end("tool_use"), STOP]
    assert collect(read(*whole)).choices[0].parts == (ToolCall(call_id="t", name="look", arguments='{"a": 1}'),)
    both = [*whole[:2], delta(0, "input_json_delta", partial_json='{"b":2}'), *whole[2:]]
    assert collect(read(*both)).choices[0].parts == (ToolCall(call_id="t", name="look", arguments='{"b":2}'),)


def test_what_a_beginning_says_already() -> None:
    events = read(
        begin(),
        start(0, "thinking", thinking="hm", signature="c2ln"),
        stop(0),
        start(1, "text", text="a"),
        stop(1),
        start(2, "tool_use", name="look"),
        end(),
        STOP,
    )
    assert collect(events).choices[0].parts == (
        Thinking(text="hm", state=SIGNED),
        Text(text="a"),
        ToolCall(call_id=f"call_{'0' * 24}_2", name="look"),
    )


def test_the_words_of_a_refusal() -> None:
    given = {"stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "No."}}
    events = read(begin(), event("message_delta", delta=given, usage={"output_tokens": 1}), STOP)
    assert collect(events).choices == (Choice(parts=(Refusal(text="No."),), finish="refusal"),)


def test_usage_in_an_event_of_its_own() -> None:
    events = read(begin(), end("end_turn"), event("message_delta", delta={}, usage={"output_tokens": 11}), STOP)
    assert kinds(events).count("Finished") == 1
    assert collect(events).usage == Usage(uncached=3, out_text=11)


def test_only_a_last_marker_may_be_missing() -> None:
    assert isinstance(read(begin(), end())[-1], Ended)
    assert read(begin(), end(), STOP).count(Ended()) == 1
    cut = read(begin(), start(0, "text", text=""), delta(0, "text_delta", text="a"))
    assert not {"Ended", "Finished"} & set(kinds(cut))


def test_an_end_without_a_reason() -> None:
    call = start(0, "tool_use", id="t", name="look", input={})
    assert Finished(finish="stop") in read(begin(), STOP)
    assert Finished(finish="tool_calls") in read(begin(), call, STOP)
    assert Finished(finish="tool_calls") in read(begin(), call, end("of_tomorrow"), STOP)


def test_what_is_not_the_dialects_but_sent_all_the_same() -> None:
    assert read(b": ping\n\n", b"\n\n", b"event: ping\n\n", b"data: [DONE]\n\n", event("ping")) == []


@pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: {}\n\n", b'data: {"type":1}\n\n', b"data: []\n\n"])
def test_what_is_not_of_the_format(bad: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        read(bad)


def test_an_error_inside() -> None:
    with pytest.raises(UpstreamUnavailable) as caught:
        read(begin(), event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
    assert caught.value.code == "upstream_overloaded"


MEMBERS = st.dictionaries(
    st.sampled_from(["index", "message", "content_block", "delta", "usage", "error", "text", "input"]),
    st.none()
    | st.integers()
    | st.text(max_size=3)
    | st.dictionaries(st.sampled_from(["type", "text"]), st.text(max_size=9)),
    max_size=3,
)
KINDS = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error"]


@given(st.lists(st.tuples(st.sampled_from([*KINDS, "message_stop", "x"]), MEMBERS), max_size=8))
def test_anything_is_read_or_an_error_of_ours(told: list[tuple[str, dict[str, Any]]]) -> None:
    with suppress(GatewayError):
        read(*(b"data: " + json.dumps({"type": kind} | members).encode() + b"\n\n" for kind, members in told))


# Writing


def write(*events: StreamEvent, given: Any = ASKED) -> list[dict[str, Any]]:
    writer = MessagesWriter(given)
    told = EventSplitter().feed(b"".join(writer.write(event) for event in events))
    decoded = [json.loads(event_data(raw)) for raw in told]
    named = [raw.split(b"\n")[0].removeprefix(b"event: ").decode() for raw in told]
    assert named == [each["type"] for each in decoded], "an event has its name in a line of its own"
    return decoded


def types(events: list[dict[str, Any]]) -> list[str]:
    return [each["type"].removeprefix("content_block_") for each in events]


TEXT = (PartStarted(index=0, part=Text(text="")), PartGrew(index=0, text="hi"), PartEnded(index=0))
LAST = (Finished(finish="stop"), Counted(usage=Usage(uncached=5, read=2, out_text=7), is_final=True), Ended())


def test_a_plain_stream_is_written() -> None:
    events = write(Started(reply_id="chatcmpl-1", model="x"), *TEXT, *LAST)
    assert types(events) == ["message_start", "start", "delta", "stop", "message_delta", "message_stop"]
    message = events[0]["message"]
    assert (message["id"], message["model"], message["content"]) == ("msg_chatcmpl-1", "named-by-client", [])
    assert events[1]["content_block"] == {"type": "text", "text": ""}
    assert events[2]["delta"] == {"type": "text_delta", "text": "hi"}
    assert events[4]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}
    assert (events[4]["usage"]["input_tokens"], events[4]["usage"]["output_tokens"]) == (5, 7)


def test_the_beginning_carries_a_real_figure() -> None:
    assert write(Started(), *TEXT, *LAST)[0]["message"]["usage"]["input_tokens"] == 42
    early = Counted(usage=Usage(uncached=5, read=2), is_final=False)
    usage = write(Started(), early, *TEXT, *LAST)[0]["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (5, 2)
    assert write(*TEXT, *LAST)[0]["message"]["id"] == "msg_" + REQUEST_ID.removeprefix("req_")


def test_usage_may_come_after_the_finish_or_never() -> None:
    assert write(Started(), *TEXT, *LAST)[-2]["usage"]["output_tokens"] == 7
    usage = write(Started(), *TEXT, PartStarted(index=1, part=Text(text="x" * 38)), PartEnded(index=1), Ended())[-2][
        "usage"
    ]
    assert (usage["input_tokens"], usage["output_tokens"]) == (42, 10)


def test_parts_that_overlap_wait_for_their_turn() -> None:
    events = write(
        Started(),
        PartStarted(index=0, part=ToolCall(call_id="a", name="look")),
        PartStarted(index=1, part=ToolCall(call_id="b", name="look")),
        PartStarted(index=2, part=Text(text="")),
        PartGrew(index=1, text='{"b":'),
        PartGrew(index=0, text="{}"),
        PartGrew(index=2, text="later"),
        PartGrew(index=1, text="1}"),
        PartEnded(index=1),
        PartEnded(index=0),
        PartEnded(index=2),
        *LAST,
    )
    blocks = [(each["index"], each["type"].removeprefix("content_block_")) for each in events if "index" in each]
    assert blocks == [
        *((0, "start"), (0, "delta"), (0, "stop")),
        *((1, "start"), (1, "delta"), (1, "delta"), (1, "stop")),
        *((2, "start"), (2, "delta"), (2, "stop")),
    ]
    assert events[1]["content_block"] == {"type": "tool_use", "id": "a", "name": "look", "input": {}}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_what_says_nothing_is_no_block() -> None:
    events = write(
        Started(),
        PartStarted(index=0, part=Text(text="")),
        PartEnded(index=0),
        PartStarted(index=1, part=Thinking()),
        PartEnded(index=1),
        PartStarted(index=2, part=Thinking(is_redacted=True)),
        PartEnded(index=2),
        PartStarted(index=3, part=Text(text="a")),
        PartEnded(index=3),
        *LAST,
    )
    assert [each["index"] for each in events if each["type"] == "content_block_start"] == [0]


def test_thoughts_have_one_signature_at_their_end() -> None:
    events = write(
        Started(),
        PartStarted(index=0, part=Thinking(text="h")),
        PartSigned(index=0, state=State("gemini", "old")),
        PartGrew(index=0, text="m"),
        PartSigned(index=0, state=State("gemini", "new")),
        PartEnded(index=0),
        PartStarted(index=1, part=Thinking(is_redacted=True)),
        PartSigned(index=1, state=State("openai_responses", "gAAA")),
        PartEnded(index=1),
        PartStarted(index=2, part=Thinking(state=SIGNED)),
        PartEnded(index=2),
        *LAST,
    )
    deltas = [each["delta"] for each in events if each["type"] == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "h"},
        {"type": "thinking_delta", "thinking": "m"},
        {"type": "signature_delta", "signature": "trollproxy:gemini:new"},
        {"type": "signature_delta", "signature": "c2ln"},
    ]
    starts = [each["content_block"] for each in events if each["type"] == "content_block_start"]
    assert starts[0] == {"type": "thinking", "thinking": "", "signature": ""}
    assert starts[1] == {"type": "redacted_thinking", "data": "trollproxy:openai_responses:gAAA"}


def test_citations_refusals_and_scores() -> None:
    events = write(
        Started(),
        PartStarted(index=0, part=Text(text="a", citations=(Citation(url="https://x"),))),
        PartCited(index=0, citation=Citation(url="https://y")),
        PartScored(index=0, scores=(TokenScore(token="a", logprob=-0.1),)),
        PartEnded(index=0),
        PartStarted(index=1, part=Refusal(text="")),
        PartGrew(index=1, text="No."),
        PartEnded(index=1),
        *LAST,
    )
    deltas = [each["delta"] for each in events if each["type"] == "content_block_delta"]
    assert [given.get("citation", {}).get("url") for given in deltas] == [None, "https://y", "https://x", None]
    assert deltas[-1] == {"type": "text_delta", "text": "No."}
    assert events[-2]["delta"]["stop_reason"] == "refusal"
    assert events[-2]["delta"]["stop_details"]["type"] == "refusal"


def test_a_second_answer_was_never_asked_for() -> None:
    second = (
        PartStarted(index=1, part=Text(text="b"), choice=1),
        PartEnded(index=1),
        Finished(finish="length", choice=1),
    )
    assert write(Started(), *TEXT, *second, *LAST) == write(Started(), *TEXT, *LAST)


def test_a_failure() -> None:
    writer = MessagesWriter(ASKED)
    raw = writer.fail(Overloaded("x"))
    assert raw.startswith(b"event: error\ndata: ")
    told = json.loads(event_data(raw))
    assert (told["error"]["type"], told["request_id"]) == ("overloaded_error", REQUEST_ID)
    assert types(write(Started(), *TEXT, Finished(finish="malformed"), Ended()))[-1] == "error"
