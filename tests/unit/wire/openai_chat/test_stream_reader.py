"""What providers of the dialect stream, oddities included."""

import json
from typing import Any

import pytest

from tests.unit.wire.openai_chat.asked import asked
from trollproxy.chat import (
    Citation,
    Counted,
    Ended,
    Finished,
    PartEnded,
    Refusal,
    Reply,
    State,
    StreamEvent,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
    Usage,
    collect,
)
from trollproxy.errors import GatewayError, UpstreamBroken, UpstreamRateLimited
from trollproxy.wire.openai_chat.stream_reader import ChatReader

DONE = "[DONE]"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **members: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "gpt", "choices": [choice]} | members


def calling(index: int | None = 0, call_id: str | None = None, **said: Any) -> dict[str, Any]:
    call = {"index": index, "id": call_id, "type": "function", "function": said}
    return chunk({"tool_calls": [{name: value for name, value in call.items() if value is not None}]})


def events_of(*chunks: dict[str, Any] | str) -> list[StreamEvent]:
    reader = ChatReader(asked())
    datas = [data if isinstance(data, str) else json.dumps(data) for data in chunks]
    return [event for data in datas for event in reader.read(f"data: {data}\n\n".encode())] + reader.finish()


def reply_of(*chunks: dict[str, Any] | str) -> Reply:
    return collect(events_of(*chunks))


def parts_of(*chunks: dict[str, Any] | str) -> tuple[Any, ...]:
    return reply_of(*chunks).choices[0].parts


def test_a_plain_answer():
    reply = reply_of(chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), chunk(finish="stop"), DONE)
    assert reply.reply_id == "chatcmpl-1"
    assert reply.choices[0].parts == (Text(text="Hi"),)
    assert reply.choices[0].finish == "stop"


def test_thoughts_go_back_under_the_name_that_they_came_by():
    for name, data in (("reasoning_content", ""), ("reasoning", "reasoning")):
        thought, text = parts_of(chunk({name: "Hm"}), chunk({name: "."}), chunk({"content": "Hi"}, "stop"), DONE)
        assert thought == Thinking(text="Hm.", state=State("openai_chat", data))
        assert text == Text(text="Hi")


def test_who_sends_thoughts_under_both_names_says_them_once():
    assert parts_of(chunk({"reasoning_content": "Hm", "reasoning": "Hm"}, "stop"), DONE) == (
        Thinking(text="Hm", state=State("openai_chat", "")),
    )


def test_mistrals_thoughts_stand_inside_the_content():
    inner = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]
    assert parts_of(chunk({"content": inner}), chunk({"content": "Hi"}, "stop"), DONE) == (
        Thinking(text="Hm"),
        Text(text="Hi"),
    )


def test_parallel_calls_may_be_interleaved():
    calls = parts_of(
        calling(0, "a", name="f", arguments=""),
        calling(1, "b", name="g", arguments=""),
        calling(0, arguments='{"x":'),
        calling(1, arguments="{}"),
        calling(0, arguments="1}"),
        chunk(finish="tool_calls"),
        DONE,
    )
    assert calls == (
        ToolCall(call_id="a", name="f", arguments='{"x":1}'),
        ToolCall(call_id="b", name="g", arguments="{}"),
    )


def test_calls_that_all_have_the_index_0_are_told_apart_by_their_ids():
    calls = parts_of(
        calling(0, "a", name="f", arguments="{"),
        calling(0, arguments="}"),
        calling(0, "b", name="f", arguments="["),
        calling(0, arguments="]"),
        chunk(finish="tool_calls"),
        DONE,
    )
    assert [(call.call_id, call.arguments) for call in calls] == [("a", "{}"), ("b", "[]")]


def test_two_names_in_one_chunk_are_two_calls():
    """Neither the index nor the id tells them apart: Gemini's endpoint, earlier."""
    both = [{"index": 0, "id": "", "function": {"name": "f", "arguments": text}} for text in ('{"a":1}', '{"a":2}')]
    assert [call.arguments for call in parts_of(chunk({"tool_calls": both}), "[DONE]")] == ['{"a":1}', '{"a":2}']


def test_calls_without_an_index_or_an_id_are_told_apart_by_their_names():
    calls = parts_of(
        calling(None, name="f", arguments={"x": 1}), calling(None, name="f", arguments="{}"), chunk(finish="stop"), DONE
    )
    zeros = "0" * 24
    assert calls == (
        ToolCall(call_id=f"call_{zeros}_0", name="f", arguments='{"x": 1}'),
        ToolCall(call_id=f"call_{zeros}_1", name="f", arguments="{}"),
    )


def test_an_id_and_a_name_that_come_with_every_piece_count_once():
    calls = parts_of(
        calling(0, "a", name="f", arguments="{"), calling(0, "a", name="f", arguments="}"), chunk(finish="stop"), DONE
    )
    assert calls == (ToolCall(call_id="a", name="f", arguments="{}"),)


def test_indexes_of_calls_need_not_begin_at_0():
    calls = parts_of(calling(1, "a", name="f", arguments="{}"), chunk(finish="tool_calls"), DONE)
    assert calls == (ToolCall(call_id="a", name="f", arguments="{}"),)


def test_a_name_may_come_after_the_first_arguments():
    calls = parts_of(
        calling(0, "a", arguments="{"), calling(0, name="f", arguments="}"), chunk(finish="tool_calls"), DONE
    )
    assert calls == (ToolCall(call_id="a", name="f", arguments="{}"),)


def test_a_custom_call():
    opened = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    more = {"index": 0, "custom": {"input": " -l"}}
    calls = parts_of(chunk({"tool_calls": [opened]}), chunk({"tool_calls": [more]}, "tool_calls"), DONE)
    assert calls == (ToolCall(call_id="a", name="shell", arguments="ls -l", is_custom=True),)


def test_the_deprecated_call():
    calls = reply_of(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": "{}"}}),
        chunk(finish="function_call"),
        DONE,
    ).choices[0]
    assert calls.finish == "tool_calls"
    assert calls.parts == (ToolCall(call_id=f"call_{'0' * 24}_0", name="f", arguments="{}"),)


@pytest.mark.parametrize("empty", [[], None])
def test_an_empty_list_of_calls_is_no_call(empty):
    choice = reply_of(chunk({"content": "Hi", "tool_calls": empty}), chunk(finish="tool_calls"), DONE).choices[0]
    assert (choice.parts, choice.finish) == ((Text(text="Hi"),), "stop")


def test_stop_with_a_call_means_the_call():
    assert reply_of(calling(0, "a", name="f"), chunk(finish="stop"), DONE).choices[0].finish == "tool_calls"


def test_a_call_that_is_never_named_is_broken_unless_it_says_nothing():
    with pytest.raises(UpstreamBroken):
        reply_of(calling(0, "a", arguments="{}"), chunk(finish="tool_calls"), DONE)
    assert parts_of(chunk({"content": "Hi"}), calling(0, arguments=""), chunk(finish="stop"), DONE) == (
        Text(text="Hi"),
    )


def test_without_its_last_marker_a_stream_with_a_nameless_call_is_cut():
    cut = events_of(calling(0, "a", arguments="{}"), chunk(finish="tool_calls"))
    assert not any(isinstance(event, Ended | Finished) for event in cut)


def test_everything_may_come_in_one_chunk():
    delta = {
        "reasoning_content": "Hm",
        "content": "Hi",
        "tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}],
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    reply = reply_of(chunk(delta, "tool_calls", usage=usage), DONE)
    assert [type(part) for part in reply.choices[0].parts] == [Thinking, Text, ToolCall]
    assert reply.usage == Usage(uncached=3, out_text=2)


def test_an_empty_reason_to_finish_is_none():
    events = events_of(chunk({"content": "H"}, ""), chunk({"content": "i"}, ""), chunk(finish="stop"), DONE)
    assert [type(event) for event in events[-3:]] == [PartEnded, Finished, Ended]
    assert collect(events).choices[0].parts == (Text(text="Hi"),)


def test_words_after_the_reason_to_finish_are_not_lost():
    assert parts_of(chunk({"content": "H"}, "stop"), chunk({"content": "i"}, "stop"), DONE) == (Text(text="Hi"),)


def test_usage_may_come_with_every_chunk_and_the_last_is_final():
    first = chunk({"content": "H"}, usage={"prompt_tokens": 3, "completion_tokens": 1})
    last = chunk(finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 2})
    counted = [event for event in events_of(first, last, DONE) if isinstance(event, Counted)]
    assert counted == [
        Counted(usage=Usage(uncached=3, out_text=1), is_final=False),
        Counted(usage=Usage(uncached=3, out_text=2), is_final=True),
    ]


def test_usage_may_come_after_the_end():
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 10},
    }
    events = events_of(chunk({"content": "Hi"}, "stop"), {"id": "chatcmpl-1", "choices": [], "usage": usage}, DONE)
    counted = [event for event in events if isinstance(event, Counted)]
    assert counted == [
        Counted(usage=Usage(uncached=10, write_30m=30, read=60, out_text=20, out_reasoning=10), is_final=True)
    ]


def test_azures_first_chunk_names_nothing():
    reply = reply_of(
        {"id": "", "model": "", "choices": [], "prompt_filter_results": []}, chunk({"content": "Hi"}, "stop"), DONE
    )
    assert (reply.reply_id, reply.model) == ("chatcmpl-1", "gpt")


def test_a_stream_may_lack_its_last_marker_but_not_its_reason_to_finish():
    assert isinstance(events_of(chunk({"content": "Hi"}, "stop"))[-1], Ended)
    cut = events_of(chunk({"content": "Hi"}))
    assert not any(isinstance(event, Ended | Finished) for event in cut)


def test_two_choices_end_both_or_the_stream_is_cut():
    other = {"id": "chatcmpl-1", "choices": [{"index": 1, "delta": {"content": "Yo"}, "finish_reason": None}]}
    assert not any(isinstance(event, Ended) for event in events_of(chunk({"content": "Hi"}, "stop"), other))
    reply = reply_of(other, chunk({"content": "Hi"}, "stop"), other, DONE)
    assert [choice.parts for choice in reply.choices] == [(Text(text="Hi"),), (Text(text="YoYo"),)]


def test_the_marker_alone_is_an_end():
    assert reply_of(chunk({"content": "Hi"}), DONE).choices[0].finish == "stop"


def test_a_stream_without_an_answer_is_broken():
    with pytest.raises(UpstreamBroken):
        events_of(DONE)
    assert events_of() == []


def test_scores_belong_to_the_text():
    logprobs = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72], "top_logprobs": []}], "refusal": None}
    scored = chunk({"content": "Hi"})
    scored["choices"][0]["logprobs"] = logprobs
    assert parts_of(scored, chunk(finish="stop"), DONE) == (
        Text(text="Hi", scores=(TokenScore(token="Hi", logprob=-0.5, bytes=(72,)),)),
    )


def test_scores_of_thoughts_and_calls_do_not_tear_them():
    scored = [chunk({"reasoning_content": "H"}), chunk({"reasoning_content": "m"}), calling(0, "a", name="f")]
    for each in scored:
        each["choices"][0]["logprobs"] = {"content": [{"token": "H", "logprob": -0.5}]}
    assert parts_of(*scored, chunk(finish="tool_calls"), DONE) == (
        Thinking(text="Hm", state=State("openai_chat", "")),
        ToolCall(call_id="a", name="f"),
    )


def test_citations():
    cited = {
        "type": "url_citation",
        "url_citation": {"url": "https://a", "title": "A", "start_index": 0, "end_index": 2},
    }
    citation = Citation(url="https://a", title="A", start=0, end=2)
    assert parts_of(chunk({"content": "Hi"}), chunk({"annotations": [cited, cited]}, "stop"), DONE) == (
        Text(text="Hi", citations=(citation, citation)),
    )


def test_a_refusal():
    choice = reply_of(chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk(finish="content_filter"), DONE)
    assert choice.choices[0].parts == (Refusal(text="I cannot."),)
    assert choice.choices[0].finish == "refusal"


@pytest.mark.parametrize(
    ("word", "finish"),
    [("length", "length"), ("model_length", "length"), ("error", "malformed"), ("eos", "stop")],
)
def test_words_for_the_end(word, finish):
    assert reply_of(chunk({"content": "Hi"}, word), DONE).choices[0].finish == finish


def test_comments_and_what_follows_the_end_say_nothing():
    reader = ChatReader(asked())
    assert reader.read(b": ping\n\n") == []
    reader.read(f"data: {json.dumps(chunk({'content': 'Hi'}, 'stop'))}\n\n".encode())
    assert isinstance(reader.read(b"data: [DONE]\r\n\r\n")[-1], Ended)
    assert reader.read(b"data: {}\n\n") == []
    assert reader.finish() == []


def test_an_error_inside_is_what_it_stands_for():
    with pytest.raises(UpstreamRateLimited):
        events_of(chunk({"content": "Hi"}), {"error": {"message": "slow down", "type": "rate_limit_error"}})
    with pytest.raises(GatewayError):
        events_of({"error": "broken"})


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        '"Hi"',
        '{"choices":[{"delta":{"content":1}}]}',
        '{"choices":[{"index":-1}]}',
        '{"choices":[{"index":1000000}]}',
    ],
)
def test_what_is_not_of_the_format_is_broken(data):
    with pytest.raises(UpstreamBroken):
        events_of(data)


def test_arguments_that_are_no_text_are_broken():
    raw = '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"\\ud800"}}]}}]}'
    with pytest.raises(UpstreamBroken):
        events_of(raw)
