"""Streams and answers: what providers send and how it is taken, and what clients need to see."""

import json
from typing import Any

import pytest

from tests.unit.wire.openai_responses.talk import TONGUE, asked, event, read_reply_of, read_stream, told, write_stream
from trollproxy.chat import (
    Choice,
    Citation,
    Counted,
    Ended,
    Finished,
    Media,
    PartCited,
    PartEnded,
    PartGrew,
    PartSigned,
    PartStarted,
    Reasoning,
    Refusal,
    Reply,
    Request,
    Sampling,
    Started,
    State,
    StreamEvent,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
    Turn,
    Usage,
    events_of,
)
from trollproxy.errors import UpstreamBroken, UpstreamRateLimited, UpstreamRejected, UpstreamUnavailable

CREATED = event("response.created", response={"id": "resp_1", "model": "gpt"}, sequence_number=0)
USAGE = {"input_tokens": 3, "output_tokens": 2}


def done(kind: str = "completed", **members: Any) -> bytes:
    return event(f"response.{kind}", response={"id": "resp_1", "usage": USAGE, **members})


def parts_of(*chunks: bytes) -> tuple[Any, ...]:
    return read_reply_of(CREATED, *chunks, done()).choices[0].parts


def item(kind: str, number: int, **members: Any) -> bytes:
    return event(f"response.output_item.{kind}", output_index=number, item=members)


def test_a_stream_of_everything() -> None:
    raw = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "ab\n\nc"}],
        "encrypted_content": "gAAA",
    }
    cite = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2}
    events = read_stream(
        CREATED,
        event("response.in_progress", response={"id": "resp_1"}),
        item("added", 0, type="reasoning", id="rs_1", summary=[]),
        event("response.reasoning_summary_part.added", output_index=0, summary_index=0),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="a"),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="b"),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=1, delta="c"),
        item("done", 0, **raw),
        item("added", 1, type="message", content=[]),
        event("response.content_part.added", output_index=1, content_index=0, part={"type": "output_text", "text": ""}),
        event("response.output_text.delta", output_index=1, content_index=0, delta="hi", logprobs=[]),
        event("response.output_text.annotation.added", output_index=1, content_index=0, annotation=cite),
        event("response.output_text.done", output_index=1, content_index=0, text="hi"),
        event(
            "response.content_part.done",
            output_index=1,
            content_index=0,
            part={"type": "output_text", "text": "hi", "annotations": [cite]},
        ),
        item("done", 1, type="message", content=[{"type": "output_text", "text": "hi", "annotations": [cite]}]),
        done(),
        event("response.output_text.delta", output_index=9, delta="after the end"),
    )
    state = events[5]
    assert isinstance(state, PartSigned)
    assert json.loads(state.state.data) == raw
    assert events[:5] == [
        Started(reply_id="resp_1", model="gpt"),
        PartStarted(index=0, part=Thinking()),
        PartGrew(index=0, text="a"),
        PartGrew(index=0, text="b"),
        PartGrew(index=0, text="\n\nc"),
    ]
    assert events[6:-3] == [
        PartEnded(index=0),
        PartStarted(index=1, part=Text(text="")),
        PartGrew(index=1, text="hi"),
        PartCited(index=1, citation=Citation(url="u", title="t", start=0, end=2)),
        PartEnded(index=1),
    ]
    assert events[-3:] == [
        Finished(finish="stop"),
        Counted(usage=Usage(uncached=3, out_text=2), is_final=True),
        Ended(),
    ]


def test_calls_that_overlap() -> None:
    said = parts_of(
        item("added", 0, type="function_call", call_id="a", name="f", arguments=""),
        item("added", 1, type="custom_tool_call", call_id="b", name="g", input=""),
        event("response.function_call_arguments.delta", output_index=0, delta='{"x":'),
        event("response.custom_tool_call_input.delta", output_index=1, delta="in"),
        event("response.function_call_arguments.delta", output_index=0, delta="1}"),
        event("response.function_call_arguments.done", output_index=0, arguments='{"x":1}'),
        item("done", 0, type="function_call", call_id="a", name="f", namespace="ns", arguments='{"x":1}'),
        event("response.custom_tool_call_input.done", output_index=1, input="in"),
        item("done", 1, type="custom_tool_call", call_id="b", name="g", input="in"),
    )
    assert said == (
        ToolCall(call_id="a", name="f", arguments='{"x":1}'),
        ToolCall(call_id="b", name="g", arguments="in", is_custom=True),
    )


CALL = {"type": "function_call", "call_id": "a", "name": "f"}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "hi"}, {"type": "refusal", "refusal": "no"}]}


@pytest.mark.parametrize(
    "chunks",
    [
        [item("added", 0, **CALL), event("response.function_call_arguments.done", output_index=0, arguments="{}")],
        [item("added", 0, **CALL), item("done", 0, **CALL, arguments="{}")],
        [item("done", 0, **CALL, arguments="{}")],
        [
            item("added", 0, **CALL, arguments="{}"),
            event("response.function_call_arguments.delta", output_index=0, delta="{"),
            item("done", 0, **CALL, arguments="{}"),
        ],
        [item("done", 0, **CALL, arguments={})],
    ],
)
def test_arguments_that_only_the_end_has(chunks) -> None:
    assert parts_of(*chunks) == (ToolCall(call_id="a", name="f", arguments="{}"),)


@pytest.mark.parametrize(
    "chunks",
    [
        [item("done", 0, **MESSAGE)],
        [
            event("response.output_text.delta", output_index=0, content_index=0, delta="hi"),
            event("response.refusal.delta", output_index=0, content_index=1, delta="no"),
        ],
        [
            event("response.output_text.done", output_index=0, content_index=0, text="hi"),
            event("response.refusal.done", output_index=0, content_index=1, refusal="no"),
        ],
    ],
)
def test_texts_without_their_announcement(chunks) -> None:
    reply = read_reply_of(CREATED, *chunks, done())
    assert reply.choices == (Choice(parts=(Text(text="hi"), Refusal(text="no")), finish="refusal"),)


def test_an_answer_that_only_the_last_event_holds() -> None:
    reply = read_reply_of(CREATED, done(output=[MESSAGE, CALL | {"arguments": "{}"}]))
    assert [type(part) for part in reply.choices[0].parts] == [Text, Refusal, ToolCall]
    assert reply.choices[0].finish == "tool_calls"


def test_thoughts_that_are_told_in_full() -> None:
    whole = {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "ab"}]}
    said = parts_of(
        item("added", 0, type="reasoning", id="rs"),
        event("response.reasoning_text.delta", output_index=0, content_index=0, delta="a"),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="not twice"),
        event("response.reasoning_text.delta", output_index=0, content_index=0, delta="b"),
        item("done", 0, **whole),
    )
    assert said[0].text == "ab"
    assert json.loads(said[0].state.data) == whole
    assert parts_of(item("done", 0, type="reasoning", id="rs", summary=[])) == (Thinking(),)


def test_a_picture_comes_whole() -> None:
    made = item("done", 0, type="image_generation_call", result="aGk=", output_format="webp")
    assert parts_of(item("added", 0, type="image_generation_call"), made) == (
        Media(kind="image", data="aGk=", media_type="image/webp"),
    )


def test_scores() -> None:
    scores = [{"token": "h", "logprob": -0.5, "bytes": [104], "top_logprobs": [{"token": "H", "logprob": -1}]}]
    score = TokenScore(token="h", logprob=-0.5, bytes=(104,), top=(TokenScore(token="H", logprob=-1.0),))
    told_early = event("response.output_text.delta", output_index=0, delta="h", logprobs=scores)
    content = {"type": "output_text", "text": "h", "logprobs": scores}
    told_late = event("response.content_part.done", output_index=0, content_index=0, part=content)
    assert parts_of(told_early, told_late) == parts_of(told_late) == (Text(text="h", scores=(score,)),)
    reply = Reply(
        reply_id="resp_1", model="m", choices=(Choice(parts=(Text(text="h", scores=(score,)),), finish="stop"),)
    )
    again = read_reply_of(write_stream(events_of(reply))).choices[0].parts[0]
    whole = TONGUE.read_reply(TONGUE.write_reply(reply, asked()), asked()).choices[0].parts[0]
    assert again == whole
    assert isinstance(whole, Text)
    assert whole.scores[0].top[0].bytes == (72,)


def test_unknown_events_and_items_are_passed_over() -> None:
    assert (
        parts_of(
            b": comment\n\n",
            b"data: [DONE]\n\n",
            event("response.web_search_call.searching", output_index=0, item_id="ws"),
            event("keepalive", sequence_number=3),
            item("added", 0, type="web_search_call"),
            item("done", 0, type="web_search_call", action={"type": "search"}),
            event("response.function_call_arguments.delta", output_index=7, delta="of nothing"),
            event("response.content_part.added", output_index=1, part={"type": "reasoning_text", "text": "x"}),
            event("response.audio.delta", delta={"odd": True}),
        )
        == ()
    )


@pytest.mark.parametrize(
    ("kind", "members", "finish"),
    [
        ("completed", {}, "stop"),
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, "refusal"),
        ("incomplete", {"incomplete_details": {"reason": "steered"}}, "paused"),
        ("incomplete", {}, "paused"),
    ],
)
def test_why_it_ended(kind, members, finish) -> None:
    assert read_reply_of(CREATED, done(kind, **members)).choices[0].finish == finish
    body = {"id": "resp_1", "output": [], "status": kind, **members}
    assert TONGUE.read_reply(json.dumps(body).encode(), asked()).choices[0].finish == finish


def test_what_is_open_ends_with_the_stream() -> None:
    events = read_stream(CREATED, item("added", 0, **CALL), done("incomplete"))
    assert events[2] == PartEnded(index=0)
    assert read_stream(CREATED, item("added", 0, **CALL))[-1] == PartStarted(
        index=0, part=ToolCall(call_id="a", name="f")
    )


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (event("error", error={"type": "server_error", "message": "x"}), UpstreamUnavailable),
        (event("error", code="rate_limit_exceeded", message="Please try again in 2s"), UpstreamRateLimited),
        (done("failed", error={"code": "context_length_exceeded", "message": "Too long."}), UpstreamRejected),
        (done("failed"), UpstreamBroken),
        (done("cancelled"), UpstreamBroken),
        (event("response.completed", response=7), UpstreamBroken),
        (b"data: {oops\n\n", UpstreamBroken),
    ],
)
def test_errors_inside_are_raised(failing, error) -> None:
    with pytest.raises(error):
        read_stream(CREATED, failing)


@pytest.mark.parametrize("body", [b"x", b"{}", b'{"output":[7]}', b'{"output":[],"status":"in_progress"}'])
def test_what_is_no_reply_is_broken(body) -> None:
    with pytest.raises(UpstreamBroken):
        TONGUE.read_reply(body, asked())


def test_a_failed_reply_is_its_error() -> None:
    body = {"output": [], "status": "failed", "error": {"code": "invalid_prompt", "message": "No."}}
    with pytest.raises(UpstreamRejected, match="No"):
        TONGUE.read_reply(json.dumps(body).encode(), asked())


def lifecycle(data: bytes) -> list[str]:
    return [line["type"].removeprefix("response.") for line in told(data)]


def test_the_life_of_a_written_stream() -> None:
    text = Text(text="hi", citations=(Citation(url="u"), Citation(title="doc", start=1)))
    parts = (
        Thinking(text="t", state=State("anthropic", "s")),
        text,
        Refusal(text="no"),
        ToolCall(call_id="1", name="f"),
    )
    usage = Usage(uncached=1, write_5m=2, write_1h=3, read=4, out_text=5, out_reasoning=6, tool_requests=7)
    reply = Reply(reply_id="", model="", choices=(Choice(parts=parts, finish="tool_calls"),), usage=usage)
    data = write_stream(events_of(reply))
    assert lifecycle(data) == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.annotation.added",
        "output_text.annotation.added", "output_text.done", "content_part.done",
        "content_part.added", "refusal.delta", "refusal.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    lines = told(data)
    assert [line["sequence_number"] for line in lines] == list(range(len(lines)))
    assert {line["response"]["id"] for line in lines if "response" in line} == {"resp_0123456789abcdef01234567"}
    last = lines[-1]["response"]
    assert [found["type"] for found in last["output"]] == ["reasoning", "message", "function_call"]
    assert last["usage"]["input_tokens_details"]["cache_write_tokens_details"] == {
        "ttl_30m_tokens": 2,
        "ttl_12h_tokens": 3,
    }
    assert (last["usage"]["total_tokens"], last["tool_usage"]) == (21, {"web_search": {"num_requests": 7}})
    assert last["output"][2]["arguments"] == "{}"
    assert last["output"][1]["content"][0]["annotations"][1] == {
        "type": "file_citation", "file_id": "", "filename": "doc", "index": 1,
    }  # fmt: skip


def test_a_message_ends_once_all_of_it_has() -> None:
    data = write_stream(
        [
            PartStarted(index=0, part=Text(text="a")),
            PartStarted(index=1, part=ToolCall(call_id="1", name="f")),
            PartGrew(index=0, text="b"),
            PartEnded(index=1),
            PartEnded(index=0),
            PartEnded(index=0),
            Finished(finish="tool_calls"),
            Ended(),
        ]
    )
    assert lifecycle(data)[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert [part["type"] for part in told(data)[-1]["response"]["output"]] == ["message", "function_call"]


def test_usage_may_come_after_the_end_of_the_text_and_more_than_once() -> None:
    data = write_stream(
        [
            Started(reply_id="chatcmpl-1"),
            Counted(usage=Usage(uncached=1), is_final=False),
            Finished(finish="stop"),
            Counted(usage=Usage(uncached=1, out_text=2), is_final=True),
            Ended(),
        ]
    )
    last = told(data)[-1]["response"]
    assert (last["id"], last["usage"]["total_tokens"]) == ("resp_chatcmpl-1", 3)


def test_other_choices_are_not_shown() -> None:
    data = write_stream(
        [
            PartStarted(index=0, part=Text(text="a"), choice=1),
            PartGrew(index=0, text="b"),
            PartSigned(index=0, state=State("gemini", "x")),
            PartEnded(index=0),
            Finished(finish="length", choice=1),
            Ended(),
        ]
    )
    assert lifecycle(data) == ["created", "in_progress", "completed"]


def test_unusable_output_is_a_failure() -> None:
    reply = Reply(reply_id="r", model="", choices=(Choice(parts=(), finish="malformed"),))
    last = told(write_stream(events_of(reply)))[-1]
    assert (last["type"], last["response"]["error"]["code"]) == ("response.failed", "server_error")


def test_the_vendor_s_own_thought_keeps_its_bytes() -> None:
    raw = '{"type":"reasoning","id":"rs_9","summary":[],"content":null,"encrypted_content":"gAAA"}'
    own = State("openai_responses", raw)
    late = write_stream(
        [
            PartStarted(index=0, part=Thinking()),
            PartSigned(index=0, state=own),
            PartEnded(index=0),
            Finished(finish="stop"),
            Ended(),
        ]
    )
    early = write_stream(
        [PartStarted(index=0, part=Thinking(state=own)), PartEnded(index=0), Finished(finish="stop"), Ended()]
    )
    assert told(early)[3]["item"] == json.loads(raw)
    for data in (early, late):
        added, finished = (line["item"]["id"] for line in told(data) if "item" in line)
        assert added == finished
        assert read_reply_of(data).choices[0].parts == (Thinking(state=own),)


def test_what_was_asked_for_is_repeated() -> None:
    request = Request(
        model="m",
        turns=(Turn("user", ()),),
        parallel_tools=False,
        max_output_tokens=9,
        sampling=Sampling(temperature=0.5),
        reasoning=Reasoning(effort="low"),
    )
    reply = Reply(reply_id="resp_x", model="theirs", choices=(), tier="priority")
    body = json.loads(TONGUE.write_reply(reply, asked(request=request)))
    assert (body["parallel_tool_calls"], body["max_output_tokens"], body["temperature"]) == (False, 9, 0.5)
    assert (body["reasoning"]["effort"], body["service_tier"], body["model"]) == ("low", "priority", "named-by-client")


def test_a_failure_tells_what_was_said() -> None:
    writer = TONGUE.stream_writer(asked())
    said: list[StreamEvent] = [PartStarted(index=0, part=ToolCall(call_id="1", name="f")), PartEnded(index=0)]
    count = len(told(b"".join(map(writer.write, said))))
    nested, failed = told(writer.fail(UpstreamRateLimited("Slow.", retry_after_s=3)))
    assert (nested["sequence_number"], failed["sequence_number"]) == (count, count + 1)
    assert failed["response"]["error"] == {"code": "rate_limit_exceeded", "message": "Slow. Please try again in 3s."}
    assert failed["response"]["output"][0]["name"] == "f"


def test_answers_of_an_odd_shape_are_read() -> None:
    search = {"type": "tool_search_call", "call_id": "1", "execution": "client", "arguments": {"query": "x"}}
    output = [
        {"type": "message", "content": [{"type": "reasoning_text", "text": "x"}]},
        {"type": "image_generation_call", "result": "aGk="},
        {"type": "file_search_call"},
        CALL | {"arguments": {"a": 1}},
        CALL | {"arguments": None},
        search,
    ]
    reply = TONGUE.read_reply(json.dumps({"output": output}).encode(), asked())
    assert reply.choices[0].parts == (
        Media(kind="image", data="aGk=", media_type="image/png"),
        ToolCall(call_id="a", name="f", arguments='{"a": 1}'),
        ToolCall(call_id="a", name="f"),
        ToolCall(call_id="1", name="tool_search", arguments='{"query": "x"}'),
    )
    with pytest.raises(UpstreamBroken):
        TONGUE.read_reply(b'{"output":[],"status":"failed","error":null}', asked())


def test_a_cited_file_is_read() -> None:
    cited = [
        {"type": "file_citation", "file_id": "f", "filename": "a.txt", "index": 3},
        {"type": "file_path", "file_id": "f", "index": 0},
        {"type": "url_citation"},
    ]
    content = {"type": "output_text", "text": "x", "annotations": cited}
    done_item = item("done", 0, type="message", content=[content])
    assert parts_of(done_item) == (Text(text="x", citations=(Citation(title="a.txt", start=3),)),)


def test_a_whole_answer_with_signatures_and_other_media() -> None:
    parts = (
        Text(text="a", state=State("gemini", "s")),
        ToolCall(call_id="1", name="f", arguments="{}", state=State("gemini", "t")),
        Media(kind="video", url="https://example.com/v.mp4"),
    )
    reply = Reply(reply_id="r", model="", choices=(Choice(parts=parts, finish="tool_calls"),))
    again = TONGUE.read_reply(TONGUE.write_reply(reply, asked()), asked()).choices[0].parts
    assert again == (*parts[:2], Text(text="[video](https://example.com/v.mp4)"))


def test_a_picture_that_is_not_drawn_twice() -> None:
    picture = Media(kind="image", data="aGk=", media_type="image/png")
    lines = told(write_stream([PartStarted(index=0, part=picture), PartEnded(index=0), Ended()]))
    assert [line["item"]["result"] for line in lines if "item" in line] == [None, "aGk="]
