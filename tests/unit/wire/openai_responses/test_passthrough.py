"""Responses as bytes: requests read and prepared, usage and errors taken from replies and streams."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.openai_responses.talk import ENTRY, REQUEST_ID, TONGUE, event, told
from tests.unit.wire.strategies import chunked
from trollproxy.chat import Ask, State, Usage
from trollproxy.errors import (
    InsufficientCredits,
    InvalidRequest,
    Overloaded,
    Unauthenticated,
    UpstreamBroken,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from trollproxy.wire.format import Entry, LimitState, StreamMeter
from trollproxy.wire.openai_responses import OpenAIResponses
from trollproxy.wire.openai_responses.sealed import seal_signature, seal_thought

WIRE = OpenAIResponses()


def body_of(**members: Any) -> bytes:
    return json.dumps({"model": "m", "input": "hi"} | members).encode()


@pytest.mark.parametrize(
    ("members", "ask"),
    [
        ({}, Ask(model="m")),
        ({"stream": None, "max_output_tokens": None}, Ask(model="m")),
        ({"stream": True, "max_output_tokens": 5}, Ask(model="m", stream=True, max_output_tokens=5)),
        ({"input": [{"role": "user", "content": "hi"}], "background": False}, Ask(model="m")),
        ({"input": None, "previous_response_id": "resp_1"}, Ask(model="m")),
        ({"input": [], "conversation": "conv_1"}, Ask(model="m")),
        ({"input": None, "prompt": {"id": "p"}, "anything": 1}, Ask(model="m")),
    ],
)
def test_a_request_is_read(members, ask) -> None:
    assert WIRE.read_ask(body_of(**members), ENTRY) == ask


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": None}, "model"),
        ({"model": "m" * 300}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"background": True}, "background"),
    ],
)
def test_a_refusal_names_the_place(members, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        WIRE.read_ask(body_of(**members), ENTRY)
    assert (caught.value.param, caught.value.status) == (param, 400)


def test_counting_generates_nothing() -> None:
    entry = Entry(operation="count_tokens")
    assert WIRE.read_ask(body_of(), entry) == Ask(model="m", max_output_tokens=0)
    assert WIRE.upstream_path("/v1/responses", entry, "m") == "/v1/responses/input_tokens"
    assert json.loads(TONGUE.write_count(7)) == {"object": "response.input_tokens", "input_tokens": 7}


def prepare(body: bytes, model: str = "m") -> bytes:
    return WIRE.prepare(body, WIRE.read_ask(body, ENTRY), model)


def test_bytes_pass_unchanged_where_nothing_changes() -> None:
    body = b' {"model":"m", "input":"x","z": 1.0}\n'
    assert prepare(body) is body


def test_a_rename_keeps_all_other_bytes() -> None:
    body = rb'{"a":1.50,"model":"m","input":[{"b" :  2}],"t":"\u00e9"}'
    assert prepare(body, "real") == body.replace(b'"m"', b'"real"')


def test_states_of_other_vendors_do_not_reach_this_one() -> None:
    own = '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"}'
    theirs = seal_thought(State("anthropic", "sig"), is_redacted=False)
    wrapped = seal_thought(State("openai_responses", own), is_redacted=False)
    carrier = seal_signature(State("gemini", "sig"), "call", "call_1")
    forged = seal_thought(State("openai_responses", "no item"), is_redacted=False)
    kept = [{"role": "user", "content": "trollproxy:anthropic:words"}, json.loads(own)]
    items = [{"type": "reasoning", "summary": [], "encrypted_content": text} for text in (theirs, carrier, forged)]
    body = body_of(input=[*kept, *items, {"type": "reasoning", "encrypted_content": wrapped}])
    assert json.loads(prepare(body))["input"] == [*kept, json.loads(own)]


def test_headers_and_paths() -> None:
    assert WIRE.auth_headers("k") == [("authorization", "Bearer k")]
    assert WIRE.forward_headers({"openai-beta": "x", "other": "y"}) == [("openai-beta", "x")]
    assert WIRE.upstream_path("/v1/responses", ENTRY, "m") == "/v1/responses"
    assert WIRE.request_id_header("req_1") == ("x-request-id", "req_1")
    assert WIRE.stream_type(ENTRY).startswith("text/event-stream")
    limits = WIRE.limit_headers(LimitState(limit=5, remaining=2, reset_s=1.5, now_s=0))
    assert limits[2] == ("x-ratelimit-reset-requests", "1.500s")


USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 10},
    "total_tokens": 150,
}
COUNTED = Usage(uncached=50, write_30m=20, read=30, out_text=40, out_reasoning=10)


def meter() -> StreamMeter:
    return WIRE.meter(Ask(model="m", stream=True), ENTRY)


PASSING = b"".join(
    [
        event("response.created", response={"id": "resp_1", "usage": None}, sequence_number=0),
        b": ping\n\n",
        event("response.output_item.added", item={"type": "message"}, sequence_number=1),
        event("response.output_text.delta", delta="Ł", sequence_number=2),
        event("response.output_text.done", text="Ł", sequence_number=3),
        event("response.function_call_arguments.done", arguments="{}x", sequence_number=4),
        event("response.new_kind", delta={"a": 1}, sequence_number=5),
        event(
            "response.completed",
            response={"id": "resp_1", "usage": USAGE, "tool_usage": {"web_search": {"num_requests": 2}}},
            sequence_number=6,
        ),
    ]
)


def test_a_stream_passes_unchanged_and_is_counted() -> None:
    reading = meter()
    assert reading.feed(PASSING) == PASSING
    assert reading.is_complete
    assert reading.has_output
    assert reading.usage == Usage(uncached=50, write_30m=20, read=30, out_text=40, out_reasoning=10, tool_requests=2)
    assert reading.is_usage_final
    assert reading.error is None
    assert reading.text_bytes >= 5


@given(chunked(PASSING))
def test_any_chunking_counts_the_same(chunks) -> None:
    reading, known = meter(), meter()
    known.feed(PASSING)
    assert b"".join(map(reading.feed, chunks)) + reading.finish() == PASSING
    assert (reading.usage, reading.text_bytes) == (known.usage, known.text_bytes)


def test_a_stream_that_is_cut_is_not_complete() -> None:
    reading = meter()
    reading.feed(PASSING[: len(PASSING) // 2])
    reading.finish()
    assert not reading.is_complete
    assert not reading.may_end


@pytest.mark.parametrize("kind", ["completed", "incomplete"])
def test_each_end_is_an_end(kind) -> None:
    reading = meter()
    reading.feed(event(f"response.{kind}", response={"id": "r", "usage": USAGE}))
    assert (reading.is_complete, reading.usage) == (True, COUNTED)


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        ({"type": "error", "error": {"type": "server_error", "message": "x"}}, UpstreamUnavailable),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "x"}, UpstreamRateLimited),
        ({"type": "error", "error": None, "code": "context_length_exceeded", "message": "x"}, UpstreamRejected),
        (
            {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "x"}}},
            UpstreamUnavailable,
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "invalid_prompt", "message": "x"}}},
            UpstreamRejected,
        ),
        ({"type": 7}, UpstreamBroken),
    ],
)
def test_errors_inside_are_kept_back(failing, error) -> None:
    reading = meter()
    assert reading.feed(b"data: " + json.dumps(failing).encode() + b"\n\n" + PASSING) == b""
    assert type(reading.error) is error


def test_usage_of_a_failed_answer_counts() -> None:
    reading = meter()
    reading.feed(event("response.failed", response={"usage": USAGE, "error": {"code": "server_error", "message": "x"}}))
    assert reading.usage == COUNTED


def test_a_failure_goes_on_in_the_provider_s_stream() -> None:
    reading = meter()
    reading.feed(PASSING[: PASSING.index(b"event: response.output_text.done")])
    nested, failed = told(reading.write_error(UpstreamBroken("Cut."), REQUEST_ID))
    assert (nested["type"], nested["sequence_number"], failed["sequence_number"]) == ("error", 3, 4)
    assert (failed["response"]["id"], failed["response"]["status"]) == ("resp_1", "failed")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UpstreamRejected("x", code="context_length_exceeded"), "context_length_exceeded", "x"),
        (InsufficientCredits("x"), "insufficient_quota", "x"),
        (UpstreamRateLimited("Slow.", retry_after_s=11.5), "rate_limit_exceeded", "Slow. Please try again in 11.5s."),
        (UpstreamRateLimited("Slow."), "rate_limit_exceeded", "Slow."),
        (Overloaded("x"), "server_error", "x"),
        (UpstreamRejected("x"), "invalid_prompt", "x"),
        (UpstreamBroken("x"), "server_error", "x"),
    ],
)
def test_codes_that_agents_act_on(error, code, words) -> None:
    _, failed = told(meter().write_error(error, REQUEST_ID))
    assert failed["response"]["error"] == {"code": code, "message": words}
    assert failed["response"]["id"] == "resp_0123456789abcdef01234567"


def test_a_whole_reply_is_counted() -> None:
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "abc"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Ł"}, {"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "name": "g", "input": "in"},
    ]
    whole = WIRE.read_whole(json.dumps({"output": output, "usage": USAGE}).encode())
    assert whole.usage == COUNTED
    assert whole.text_bytes == 3 + 2 + 2 + 3 + 3
    assert WIRE.read_whole(b'{"output":[]}').usage is None


@pytest.mark.parametrize("body", [b"x", b"[]", b"{}", b'{"output":null}'])
def test_what_is_no_reply_is_broken(body) -> None:
    with pytest.raises(UpstreamBroken):
        WIRE.read_whole(body)


def test_an_error_body() -> None:
    status, body = WIRE.write_error(Unauthenticated("No."), "req_1")
    assert status == 401
    assert json.loads(body) == {
        "error": {"message": "No.", "type": "authentication_error", "param": None, "code": "invalid_api_key"},
        "request_id": "req_1",
    }


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data) -> None:
    reading = meter()
    reading.feed(b"data: " + data)
    reading.finish()
