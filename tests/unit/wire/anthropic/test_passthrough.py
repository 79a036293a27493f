"""Anthropic Messages: requests read and prepared, cumulative usage, errors in the dialect."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.chat import Ask, Usage
from trollproxy.errors import (
    GatewayError,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    UpstreamBroken,
    UpstreamRejected,
    UpstreamTimeout,
)
from trollproxy.wire import ANTHROPIC
from trollproxy.wire.anthropic import DEFAULT_VERSION
from trollproxy.wire.format import Entry, LimitState, StreamMeter

MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'
COUNT = Entry(operation="count_tokens")
ASK = Ask(model="m", stream=True, max_output_tokens=9)


def body_of(members: bytes) -> bytes:
    return b'{"model":"m",' + MESSAGES + (b"," + members if members else b"") + b"}"


@pytest.mark.parametrize(
    ("members", "ask"),
    [
        (b'"max_tokens":9', Ask(model="m", max_output_tokens=9)),
        (b'"max_tokens":9,"stream":true', ASK),
        (b'"max_tokens":9,"stream":null,"x":[]', Ask(model="m", max_output_tokens=9)),
        (b'"max_tokens":0', Ask(model="m", max_output_tokens=0)),  # warms the cache
    ],
)
def test_a_request_is_read(members: bytes, ask: Ask) -> None:
    assert ANTHROPIC.read_ask(body_of(members), Entry()) == ask


def test_counting_needs_no_limit_and_generates_nothing() -> None:
    assert ANTHROPIC.read_ask(body_of(b""), COUNT) == Ask(model="m", max_output_tokens=0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (body_of(b""), "max_tokens"),
        (body_of(b'"max_tokens":null'), "max_tokens"),
        (body_of(b'"max_tokens":-1'), "max_tokens"),
        (body_of(b'"max_tokens":"9"'), "max_tokens"),
        (body_of(b'"max_tokens":9,"stream":1'), "stream"),
        (b'{"model":"m","max_tokens":9}', "messages"),
        (b'{"model":"m","max_tokens":9,"messages":[]}', "messages"),
        (b'{"max_tokens":9,"messages":[1]}', "model"),
        (b"{", None),
    ],
)
def test_a_refusal_names_the_place(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ANTHROPIC.read_ask(body, Entry())
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "param"), [(b'{"messages":[1]}', "model"), (b'{"model":"m","messages":[]}', "messages")]
)
def test_counting_refuses_too(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ANTHROPIC.read_ask(body, COUNT)
    assert caught.value.param == param


def test_bytes_pass_unchanged_where_nothing_changes() -> None:
    body = b"\n" + body_of(b'"max_tokens": 9 ,"system":"\xc3\xa9"')
    assert ANTHROPIC.prepare(body, ASK, "m") is body


def test_a_rename_keeps_all_other_bytes() -> None:
    body = rb'{"max_tokens":9,"model":"m","t":1.0,"u":"\u00e9",' + MESSAGES + b"}"
    assert ANTHROPIC.prepare(body, ASK, "real") == body.replace(b'"m"', b'"real"')


@pytest.mark.parametrize("second", [b'"model":"m"', rb'"\u006dodel":"m"'])
def test_provider_and_price_agree_on_the_model(second: bytes) -> None:
    body = b'{"model":"dear","max_tokens":9,' + MESSAGES + b"," + second + b"}"
    ask = ANTHROPIC.read_ask(body, Entry())
    pairs = json.loads(ANTHROPIC.prepare(body, ask, ask.model), object_pairs_hook=list)
    assert [value for name, value in pairs if name == "model"] == [ask.model] == ["m"]


def event(kind: str, **members: object) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + json.dumps({"type": kind, **members}).encode() + b"\n\n"


def start(**usage: object) -> bytes:
    return event("message_start", message={"id": "msg_1", "content": [], "usage": usage})


def text(words: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


def end(**usage: object) -> bytes:
    return event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)


STOP = event("message_stop")
STARTED = {
    "input_tokens": 4,
    "cache_creation_input_tokens": 3068,
    "cache_read_input_tokens": 17,
    "cache_creation": {"ephemeral_5m_input_tokens": 3068, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 1,
}
ENDED = {"cache_creation_input_tokens": 3337, "output_tokens": 40, "output_tokens_details": {"thinking_tokens": 15}}
RECORDED = (
    start(**STARTED)
    + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + event("ping")
    + text("Hellå")
    + event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"})
    + event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ln"})
    + event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a":'})
    + event("content_block_stop", index=0)
    + event("an_event_of_tomorrow", anything=[1])
    + end(**ENDED)
    + STOP
)
COUNTED = Usage(uncached=4, write_5m=3337, read=17, out_text=25, out_reasoning=15)


def facts(meter: StreamMeter) -> tuple[object, ...]:
    return meter.usage, meter.text_bytes, meter.has_output, meter.is_complete, meter.may_end, meter.error


def usage_of(*events: bytes) -> Usage | None:
    meter = ANTHROPIC.meter(ASK, Entry())
    assert meter.feed(b"".join(events)) == b"".join(events)
    return meter.usage


def test_a_recorded_stream_is_read() -> None:
    meter = ANTHROPIC.meter(ASK, Entry())
    assert meter.feed(RECORDED) == RECORDED
    assert facts(meter) == (COUNTED, len("Hellåhm".encode()) + 5, True, True, False, None)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(RECORDED)), max_size=30))
def test_any_chunking_is_read_alike(places: list[int]) -> None:
    meter = ANTHROPIC.meter(ASK, Entry())
    bounds = [0, *sorted(places), len(RECORDED)]
    passed = b"".join(meter.feed(RECORDED[a:b]) for a, b in pairwise(bounds)) + meter.finish()
    assert passed == RECORDED
    assert meter.usage == COUNTED
    assert (meter.text_bytes, meter.is_complete) == (len("Hellåhm".encode()) + 5, True)


def test_later_figures_replace_earlier_ones_and_missing_ones_stay() -> None:
    assert usage_of(start(input_tokens=10, output_tokens=1), end(output_tokens=7)) == Usage(uncached=10, out_text=7)
    assert usage_of(start(input_tokens=10), end(input_tokens=12, output_tokens=7)) == Usage(uncached=12, out_text=7)
    assert usage_of(start(input_tokens=10, output_tokens=1), end(output_tokens=None)) == Usage(uncached=10, out_text=1)


def test_an_explicit_zero_replaces_what_was_said_before() -> None:
    assert usage_of(start(input_tokens=10, cache_read_input_tokens=5), end(input_tokens=0)) == Usage(read=5)


def test_an_explicit_zero_total_is_not_topped_by_an_earlier_split() -> None:
    written = {"cache_creation_input_tokens": 8, "cache_creation": {"ephemeral_5m_input_tokens": 8}}
    assert usage_of(start(input_tokens=1, **written), end(cache_creation_input_tokens=0)) == Usage(uncached=1)


def test_a_total_without_its_split_belongs_to_the_lifetime_asked_for() -> None:
    only_5m = {"cache_creation_input_tokens": 3068, "cache_creation": {"ephemeral_5m_input_tokens": 3068}}
    assert usage_of(start(**only_5m), end(cache_creation_input_tokens=3337)) == Usage(write_5m=3337)
    only_1h = {"cache_creation_input_tokens": 3068, "cache_creation": {"ephemeral_1h_input_tokens": 3068}}
    assert usage_of(start(**only_1h), end(cache_creation_input_tokens=3337)) == Usage(write_1h=3337)
    both = {
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    }
    assert usage_of(start(**both), end(cache_creation_input_tokens=33)) == Usage(write_5m=13, write_1h=20)


def test_no_usage_is_unknown_usage() -> None:
    assert usage_of(event("message_start", message={"id": "x"}), text("a"), STOP) is None
    assert ANTHROPIC.read_whole(b'{"content":[]}').usage is None
    assert ANTHROPIC.read_whole(b'{"content":[],"usage":{}}').usage == Usage()


def test_server_tools_are_counted() -> None:
    assert usage_of(start(server_tool_use={"web_search_requests": 3})) == Usage(tool_requests=3)
    assert usage_of(start(server_tool_use={"web_fetch_requests": 3})) == Usage()


def test_a_truncated_stream_is_not_complete() -> None:
    meter = ANTHROPIC.meter(ASK, Entry())
    meter.feed(RECORDED.removesuffix(STOP))
    assert (meter.is_complete, meter.may_end) == (False, False)
    meter.feed(STOP.rstrip())
    assert not meter.is_complete
    assert meter.finish() == STOP
    assert meter.is_complete


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", "upstream_overloaded"),
        ("rate_limit_error", "upstream_rate_limited"),
        ("invalid_request_error", "upstream_rejected"),
        ("authentication_error", "upstream_auth"),
        ("api_error", "upstream_failed"),
        ("an_error_of_tomorrow", "upstream_failed"),
    ],
)
def test_an_error_event_is_kept_back(kind: str, code: str) -> None:
    meter = ANTHROPIC.meter(ASK, Entry())
    error = event("error", error={"type": kind, "message": "No."})
    assert meter.feed(text("a") + error + STOP) == text("a")
    assert meter.error is not None
    assert meter.error.code == code
    assert not meter.is_complete


@pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: {}\n\n", b'data: {"type":1}\n\n'])
def test_what_is_not_of_the_format_ends_the_stream(bad: bytes) -> None:
    meter = ANTHROPIC.meter(ASK, Entry())
    assert meter.feed(text("a") + bad) == text("a")
    assert isinstance(meter.error, UpstreamBroken)


def test_a_whole_reply_is_read() -> None:
    body = json.dumps(
        {"type": "message", "content": [{"type": "text", "text": "hi"}], "usage": {**STARTED, **ENDED}}
    ).encode()
    assert ANTHROPIC.read_whole(body).usage == COUNTED
    assert ANTHROPIC.read_whole(body).text_bytes
    assert not ANTHROPIC.read_whole(b'{"content":[]}').text_bytes
    for bad in (b"", b"{}", b'{"content":7}'):
        with pytest.raises(UpstreamBroken):
            ANTHROPIC.read_whole(bad)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("x"), 400, "invalid_request_error"),
        (PayloadTooLarge("x"), 413, "request_too_large"),
        (RateLimited("x"), 429, "rate_limit_error"),
        (Overloaded("x"), 529, "overloaded_error"),
        (UpstreamTimeout("x"), 504, "timeout_error"),
        (UpstreamBroken("x"), 502, "api_error"),
        (GatewayError("x"), 500, "api_error"),
    ],
)
def test_errors_have_the_vendors_shape(error: GatewayError, status: int, kind: str) -> None:
    given_status, body = ANTHROPIC.write_error(error, "req_1")
    detail = {"type": kind, "message": "x", "details": {"code": error.code}}
    assert (given_status, json.loads(body)) == (status, {"type": "error", "error": detail, "request_id": "req_1"})
    assert ANTHROPIC.meter(ASK, Entry()).write_error(error, "req_1") == b"event: error\ndata: " + body + b"\n\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("prompt is too long: 9 tokens > 8 maximum", "prompt is too long: 9 tokens > 8 maximum"),
        ("It exceeds the context window.", "prompt is too long: It exceeds the context window."),
    ],
)
def test_too_long_a_prompt_is_told_in_the_words_that_clients_act_on(said: str, told: str) -> None:
    error = UpstreamRejected(said, code="context_length_exceeded")
    assert json.loads(ANTHROPIC.write_error(error, "req_1")[1])["error"]["message"] == told


def test_headers() -> None:
    assert ANTHROPIC.auth_headers("s") == [("x-api-key", "s")]
    assert ANTHROPIC.forward_headers({"cookie": "c"}) == [("anthropic-version", DEFAULT_VERSION)]
    named = {"anthropic-version": "2026-10-21", "anthropic-beta": "a,b"}
    assert ANTHROPIC.forward_headers(named) == [*named.items()]
    assert ANTHROPIC.request_id_header("r") == ("request-id", "r")
    assert ANTHROPIC.limit_headers(LimitState(300, 7, 90.0, now_s=1_760_011_200.0)) == [
        ("anthropic-ratelimit-requests-limit", "300"),
        ("anthropic-ratelimit-requests-remaining", "7"),
        ("anthropic-ratelimit-requests-reset", "2025-10-09T12:01:30Z"),
    ]


MESSAGE_RUN = {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000}
COMPACTION = {
    "type": "compaction",
    "input_tokens": 7,
    "cache_read_input_tokens": 180_000,
    "cache_creation_input_tokens": 0,
    "output_tokens": 3_500,
}


@pytest.mark.parametrize(
    ("told", "paid"),
    [
        # compaction is in the list only
        ({"iterations": [COMPACTION, MESSAGE_RUN]}, Usage(uncached=23_007, read=180_000, out_text=4_500)),
        # so is an advisor; thinking is told of the totals only
        (
            {
                "iterations": [MESSAGE_RUN, {**COMPACTION, "type": "advisor_message", "model": "claude-x"}],
                "output_tokens_details": {"thinking_tokens": 400},
            },
            Usage(uncached=23_007, read=180_000, out_text=4_100, out_reasoning=400),
        ),
        # one run is what the totals say
        ({"iterations": [MESSAGE_RUN]}, Usage(uncached=23_000, out_text=1_000)),
        ({"iterations": []}, Usage(uncached=23_000, out_text=1_000)),
        ({"iterations": None}, Usage(uncached=23_000, out_text=1_000)),
        # a list that explains less than the totals is not believed
        ({"iterations": [{"type": "message"}]}, Usage(uncached=23_000, out_text=1_000)),
        # the model that declined, and the one that answered
        (
            {"iterations": [{"type": "message", "input_tokens": 9, "output_tokens": 1}, MESSAGE_RUN]},
            Usage(uncached=23_009, out_text=1_001),
        ),
        # the lifetimes of each run's cache are its own
        (
            {
                "iterations": [
                    {**MESSAGE_RUN, "cache_creation": {"ephemeral_1h_input_tokens": 5}},
                    {
                        **COMPACTION,
                        "cache_creation": {"ephemeral_5m_input_tokens": 3},
                        "cache_creation_input_tokens": 4,
                    },
                ]
            },
            Usage(uncached=23_007, read=180_000, write_1h=5, write_5m=4, out_text=4_500),
        ),
    ],
)
def test_every_run_of_a_model_is_billed(told: dict[str, object], paid: Usage) -> None:
    totals = {"input_tokens": 23_000, "output_tokens": 1_000}
    assert ANTHROPIC.read_whole(json.dumps({"content": [], "usage": totals | told}).encode()).usage == paid
    assert usage_of(start(input_tokens=23_000, output_tokens=1), end(**(totals | told))) == paid


def test_thoughts_of_other_vendors_do_not_reach_this_one() -> None:
    own = b'{"type":"thinking","thinking":"mine","signature":"c2ln"}'
    foreign = b'{"type":"thinking","thinking":"theirs","signature":"trollproxy:gemini:c2ln"}'
    redacted = b'{"type":"redacted_thinking","data":"trollproxy:openai_responses:x"}'
    text = b'{"type":"text","text": "about trollproxy:gemini:c2ln"}'

    def body_with(*blocks: bytes) -> bytes:
        turn = b'{"role":"assistant","content":[' + b",".join(blocks) + b"]}"
        return b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"},' + turn + b"]}"

    mixed = body_with(own, foreign, redacted, text)
    assert ANTHROPIC.prepare(mixed, ASK, "m") == body_with(own, text)
    kept = body_with(own, text)
    assert ANTHROPIC.prepare(kept, ASK, "m") is kept
    assert b'"assistant"' not in ANTHROPIC.prepare(body_with(foreign), ASK, "m")
    odd = b'{"model":"m","max_tokens":9,"messages":["trollproxy:"]}'
    assert ANTHROPIC.prepare(odd, ASK, "m") is odd
