"""Words replaced and reasoning left out, in every format, of requests, of whole answers and of streams cut anywhere."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.chat import Ask, FormatName
from trollproxy.errors import InvalidRequest, UpstreamRejected
from trollproxy.policy.filters import Filters
from trollproxy.records import FilterRule
from trollproxy.wire import FORMATS
from trollproxy.wire.edited import MAX_WAITING, Edited, Edits, plain
from trollproxy.wire.format import Entry, StreamMeter, Target
from trollproxy.wire.passage import Passthrough
from trollproxy.wire.sse import EventSplitter, event_data

WORDS = Filters(
    [
        FilterRule(pattern="Claude Code", replacement="the assistant", ignore_case=True),
        FilterRule(pattern="Droid", replacement="agent", whole_word=True),
    ]
)
EDITS = Edits(request=WORDS, response=WORDS, drops_thinking=True)
SAID = "I am Claude Code, a Droid; no Android. Cl"
MEANT = "I am the assistant, a agent; no Android. Cl"


def edited(name: FormatName, edits: Edits = EDITS, entry: Entry = Entry()) -> Edited:  # noqa: B008 - frozen
    wire = FORMATS[name]
    return Edited(Passthrough(wire, Ask(model="m", stream=True), plain(entry)), wire, edits, entry=entry)


def sse(*events: dict[str, Any]) -> bytes:
    lines = (
        (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}" for event in events
    )
    return "".join(f"{line}\n\n" for line in lines).encode()


def read(data: bytes) -> list[dict[str, Any]]:
    events = (event_data(event) for event in EventSplitter().feed(data))
    return [json.loads(event) for event in events if event.startswith(b"{")]


def pass_through(meter: StreamMeter, pieces: list[bytes]) -> bytes:
    return b"".join(map(meter.feed, pieces)) + meter.finish()


# Requests

REQUESTS: dict[FormatName, tuple[object, list[str]]] = {
    "anthropic": (
        {
            "model": "m",
            "max_tokens": 5,
            "system": [{"type": "text", "text": SAID, "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": SAID},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "a", "name": "Droid", "input": {"x": SAID}}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": SAID}]},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": SAID, "signature": "s"}]},
            ],
        },
        ["input", "thinking"],
    ),
    "openai_chat": (
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": SAID},
                {"role": "user", "content": [{"type": "text", "text": SAID}]},
                {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": SAID}}]},
                {"role": "tool", "tool_call_id": "a", "content": SAID},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "description": SAID, "parameters": {"x": SAID}}}],
        },
        ["arguments", "parameters"],
    ),
    "openai_responses": (
        {
            "model": "m",
            "instructions": SAID,
            "input": [
                {"role": "user", "content": SAID},
                {"type": "function_call", "call_id": "a", "name": "f", "arguments": SAID},
                {"type": "function_call_output", "call_id": "a", "output": SAID},
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": SAID}]},
            ],
        },
        ["arguments", "reasoning_text"],
    ),
    "gemini": (
        {
            "systemInstruction": {"parts": [{"text": SAID}]},
            "contents": [
                {"role": "user", "parts": [{"text": SAID}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"x": SAID}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": SAID}}}]},
                {"role": "model", "parts": [{"text": SAID, "thought": True}]},
            ],
        },
        ["args", "thought"],
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_changed_where_its_words_are(name: FormatName) -> None:
    request, untouched = REQUESTS[name]
    written = json.loads(edited(name).write_request(json.dumps(request).encode(), Target(model="m")))
    flat, expected = json.dumps(written), json.dumps(request)
    assert flat.count(SAID) == len(untouched)
    assert flat.count(MEANT) == expected.count(SAID) - len(untouched)
    assert json.loads(flat.replace(MEANT, SAID)) == request


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_without_such_words_is_the_same_bytes(name: FormatName) -> None:
    body = b"\n" + json.dumps(REQUESTS[name][0], indent=1).replace("Claude", "Clod").replace("Droid", "it").encode()
    assert edited(name).write_request(body, Target(model="m")) == body


def test_members_that_nobody_knows_keep_their_bytes() -> None:
    body = b'{"model":"m","max_tokens":5,"n":12345678901234567890.50,"messages":[{"x":1e2,"content":"Droid"}]}'
    assert edited("anthropic").write_request(body, Target(model="m")) == body.replace(b"Droid", b"agent")


# Answers

OPENING: dict[str, Any] = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
CALLS = [{"function": {"arguments": SAID}}]
REASONING = {"type": "reasoning", "summary": []}
THOUGHT = {"text": "hm", "thought": True}


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


def candidate(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP"}]}


ANSWERS: dict[FormatName, tuple[object, object]] = {
    "anthropic": (
        {"content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": SAID}]},
        {"content": [{"type": "text", "text": MEANT}]},
    ),
    "openai_chat": (
        {"choices": [{"message": {"content": SAID, "reasoning_content": "hm", "tool_calls": CALLS}}]},
        {"choices": [{"message": {"content": MEANT, "tool_calls": CALLS}}]},
    ),
    "openai_responses": ({"output": [REASONING, message(SAID)]}, {"output": [message(MEANT)]}),
    "gemini": (candidate(THOUGHT, {"text": SAID}), candidate({"text": MEANT})),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_whole_answer(name: FormatName) -> None:
    answer, expected = ANSWERS[name]
    body = json.dumps(answer).encode()
    whole, written = edited(name).read_whole(body)
    assert json.loads(written) == expected
    counted = Passthrough(FORMATS[name], Ask(model="m"), Entry()).read_whole(body)[0]
    assert (whole.usage, whole.text_bytes, whole.text_crc) == (counted.usage, counted.text_bytes, counted.text_crc)


# Streams: the text in these pieces, behind a thought


def anthropic_stream(pieces: list[str]) -> bytes:
    def block(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
        grown = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        opened = {"type": "content_block_start", "index": index, "content_block": start}
        return [opened, *grown, {"type": "content_block_stop", "index": index}]

    return sse(
        OPENING,
        *block(0, {"type": "thinking", "thinking": ""}, [{"type": "thinking_delta", "thinking": "hm"}]),
        *block(1, {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]),
        *block(2, {"type": "tool_use", "name": "f"}, [{"type": "input_json_delta", "partial_json": '{"x":"Droid"}'}]),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    )


def chat_stream(pieces: list[str]) -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    thought = {"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    count = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 7}}
    return sse(thought, *chunks, end, count) + b"data: [DONE]\n\n"


def responses_stream(pieces: list[str]) -> bytes:
    text = "".join(pieces)
    part = {"type": "output_text", "text": text}
    thought, item = {"type": "reasoning", "summary": []}, {"type": "message", "content": [part]}
    at = {"output_index": 1, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "r", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": thought},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "hm"},
        {"type": "response.output_item.done", "output_index": 0, "item": thought},
        {"type": "response.output_item.added", "output_index": 1, "item": {"type": "message", "content": []}},
        {"type": "response.content_part.added", **at, "part": {"type": "output_text", "text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": piece} for piece in pieces),
        {"type": "response.output_text.done", **at, "text": text},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 1, "item": item},
        {
            "type": "response.completed",
            "response": {"id": "r", "output": [thought, item], "usage": {"input_tokens": 9}},
        },
    ]
    return sse(*(event | {"sequence_number": number} for number, event in enumerate(events)))


def gemini_stream(pieces: list[str]) -> bytes:
    def chunk(part: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": [part]}, **more}]}

    said = [chunk({"text": piece}) for piece in pieces]
    return sse(chunk({"text": "hm", "thought": True}), *said, chunk({"text": "."}, finishReason="STOP"))


def text_of(name: FormatName, events: list[dict[str, Any]]) -> str:
    if name == "anthropic":
        return "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
    if name == "openai_chat":
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        return "".join(delta.get("content", "") for delta in deltas)
    if name == "openai_responses":
        return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    contents = [candidate["content"] for event in events for candidate in event["candidates"]]
    return "".join(part["text"] for content in contents for part in content["parts"]).removesuffix(".")


STREAMS = {
    "anthropic": anthropic_stream,
    "openai_chat": chat_stream,
    "openai_responses": responses_stream,
    "gemini": gemini_stream,
}
CUTS = st.lists(st.integers(0, len(SAID)), max_size=12).map(sorted)


@pytest.mark.parametrize("name", STREAMS)
@given(cuts=CUTS, network=st.integers(1, 400))
def test_any_pieces_give_the_filtered_text(name: FormatName, cuts: list[int], network: int) -> None:
    pieces = [SAID[start:end] for start, end in zip([0, *cuts], [*cuts, len(SAID)], strict=True)]
    stream = STREAMS[name](pieces)
    meter = edited(name).meter()
    written = pass_through(meter, [stream[at : at + network] for at in range(0, len(stream), network)])
    events = read(written)
    assert text_of(name, events) == MEANT
    assert "hm" not in written.decode()
    plain_meter = FORMATS[name].meter(Ask(model="m", stream=True), Entry())
    pass_through(plain_meter, [stream])
    for fact in ("usage", "text_bytes", "is_complete", "has_output", "text_crc"):
        assert getattr(meter, fact) == getattr(plain_meter, fact)


def test_indexes_have_no_gaps_and_arguments_stay() -> None:
    events = read(pass_through(edited("anthropic").meter(), [anthropic_stream([SAID])]))
    assert [event["index"] for event in events if event["type"] == "content_block_start"] == [0, 1]
    assert {event["index"] for event in events if "index" in event} == {0, 1}
    assert '{"x":"Droid"}' in [event["delta"].get("partial_json") for event in events if "delta" in event]


def test_what_is_told_again_at_the_end_is_changed_alike() -> None:
    events = read(pass_through(edited("openai_responses").meter(), [responses_stream([SAID[:7], SAID[7:]])]))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert {event["output_index"] for event in events if "output_index" in event} == {0}
    done = {event["type"]: event for event in events}
    assert done["response.output_text.done"]["text"] == MEANT
    assert done["response.content_part.done"]["part"]["text"] == MEANT
    assert done["response.output_item.done"]["item"]["content"][0]["text"] == MEANT
    [item] = done["response.completed"]["response"]["output"]
    assert item["content"][0]["text"] == MEANT


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_without_such_words_is_the_same_bytes(name: FormatName) -> None:
    stream = STREAMS[name](["Hello ", "world"])
    pieces = [stream[at : at + 50] for at in range(0, len(stream), 50)]
    assert pass_through(edited(name, Edits(response=WORDS)).meter(), pieces) == stream


def test_interleaved_choices_do_not_mix() -> None:
    def chunk(index: int, text: str) -> dict[str, Any]:
        return {"choices": [{"index": index, "delta": {"content": text}}]}

    end: dict[str, Any] = {"choices": [{"index": number, "delta": {}, "finish_reason": "stop"} for number in (0, 1)]}
    stream = sse(chunk(0, "Dro"), chunk(1, "Dr"), chunk(0, "id"), chunk(1, "oids"), end) + b"data: [DONE]\n\n"
    events = read(pass_through(edited("openai_chat").meter(), [stream]))
    said: dict[int, str] = {0: "", 1: ""}
    for choice in (choice for event in events for choice in event["choices"]):
        said[choice["index"]] += choice["delta"].get("content", "")
    assert said == {0: "agent", 1: "Droids"}


def test_an_array_of_a_stream() -> None:
    entry = Entry(stream=True, is_array=True)
    written = pass_through(edited("gemini", entry=entry).meter(), [gemini_stream([SAID[:8], SAID[8:]])])
    assert text_of("gemini", json.loads(written)) == MEANT
    meter = edited("gemini", entry=entry).meter()
    broken = meter.feed(gemini_stream([SAID])[:200]) + meter.finish()
    broken += meter.write_error(InvalidRequest("no"), "req_1")
    assert json.loads(broken)[-1]["error"]["message"] == "no"


def test_what_waits_is_released_before_an_error_and_when_too_much_stands_behind_it() -> None:
    start = sse({"choices": [{"index": 0, "delta": {"content": "Cl"}}]})
    meter = edited("openai_chat").meter()
    assert meter.feed(start) == b""
    assert meter.write_error(InvalidRequest("no"), "req_1").startswith(start)
    meter = edited("openai_chat").meter()
    other = sse({"choices": [{"index": 1, "delta": {"tool_calls": []}}]})
    written = meter.feed(start) + b"".join(meter.feed(other) for _ in range(MAX_WAITING))
    assert written == start + other * MAX_WAITING


def test_a_providers_words_about_an_error_are_filtered() -> None:
    theirs, ours = UpstreamRejected("Droid says no", status=400), InvalidRequest("Droid")
    for error in (theirs, ours):
        edited("openai_chat").clean(error)
    assert (theirs.message, ours.message) == ("agent says no", "Droid")
