"""Chat Completions: requests read and prepared, usage and errors taken from replies and streams."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.chat import Ask, Usage
from trollproxy.errors import InsufficientCredits, InvalidRequest, RateLimited, Unauthenticated, UpstreamBroken
from trollproxy.wire import OPENAI_CHAT
from trollproxy.wire.format import Entry, LimitState, StreamMeter

MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'


def body_of(members: bytes) -> bytes:
    return b'{"model":"m",' + MESSAGES + (b"," + members if members else b"") + b"}"


def read(members: bytes) -> Ask:
    return OPENAI_CHAT.read_ask(body_of(members), Entry())


@pytest.mark.parametrize(
    ("members", "ask"),
    [
        (b"", Ask(model="m")),
        (b'"stream":null,"max_tokens":null,"n":null,"stream_options":null', Ask(model="m")),
        (b'"max_tokens":5', Ask(model="m", max_output_tokens=5)),
        (b'"max_tokens":5,"max_completion_tokens":7', Ask(model="m", max_output_tokens=7)),
        (b'"stream":true', Ask(model="m", stream=True, wants_usage=False)),
        (b'"stream":true,"stream_options":{}', Ask(model="m", stream=True, wants_usage=False)),
        (b'"stream":true,"stream_options":{"include_usage":false}', Ask(model="m", stream=True, wants_usage=False)),
        (b'"stream":true,"stream_options":{"include_usage":true}', Ask(model="m", stream=True)),
        (b'"stream":false', Ask(model="m")),
        (b'"n":3', Ask(model="m", choices=3)),
        (b'"n":128,"anything":{"goes":[1]}', Ask(model="m", choices=128)),
    ],
)
def test_a_request_is_read(members: bytes, ask: Ask) -> None:
    assert read(members) == ask


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages":[1]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":"hi"}', "messages"),
        (b'{"model":null,"messages":[1]}', "model"),
        (body_of(b'"stream":"yes"'), "stream"),
        (body_of(b'"max_tokens":"5"'), "max_tokens"),
        (body_of(b'"max_tokens":1.5'), "max_tokens"),
        (body_of(b'"max_completion_tokens":0'), "max_completion_tokens"),
        (body_of(b'"max_completion_tokens":-1'), "max_completion_tokens"),
        (body_of(b'"max_tokens":0'), "max_tokens"),
        (body_of(b'"n":0'), "n"),
        (body_of(b'"n":129'), "n"),
        (body_of(b'"stream_options":7'), "stream_options"),
        (body_of(b'"stream_options":{"include_usage":"x"}'), "stream_options.include_usage"),
        (b"[]", None),
        (b"not json", None),
    ],
)
def test_a_refusal_names_the_place(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        OPENAI_CHAT.read_ask(body, Entry())
    assert caught.value.param == param
    assert caught.value.status == 400


def prepare(body: bytes, upstream_model: str) -> bytes:
    return OPENAI_CHAT.prepare(body, OPENAI_CHAT.read_ask(body, Entry()), upstream_model)


@pytest.mark.parametrize("members", [b'"x": 1.0', b'"stream":true,"stream_options":{"include_usage": true}'])
def test_bytes_pass_unchanged_where_nothing_changes(members: bytes) -> None:
    body = b" " + body_of(members) + b"\n"
    assert prepare(body, "m") is body


def test_usage_is_asked_for_beside_the_other_options() -> None:
    body = body_of(b'"stream":true,"stream_options":{"include_usage":false,"include_obfuscation":false,"x":1.0}')
    prepared = prepare(body, "m")
    assert b'"x":1.0' in prepared
    assert json.loads(prepared)["stream_options"] == {"include_usage": True, "include_obfuscation": False, "x": 1.0}


@pytest.mark.parametrize("options", [b"", b',"stream_options":null'])
def test_usage_is_asked_for_where_no_options_were(options: bytes) -> None:
    prepared = json.loads(prepare(body_of(b'"stream":true' + options), "m"))
    assert prepared["stream_options"] == {"include_usage": True}
    assert prepared["messages"] == [{"role": "user", "content": "hi"}]


def test_a_rename_keeps_all_other_bytes() -> None:
    body = rb'{"a":1.50,"model":"m","z":{"b" :  2},' + MESSAGES + rb',"t":"\u00e9"}'
    assert prepare(body, "real") == body.replace(b'"m"', b'"real"')


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"dear","model":"m",' + MESSAGES + b"}",
        b'{"model":"m",' + MESSAGES + rb',"mode\u006c":"m"}',
        rb'{"\u006dodel":"m",' + MESSAGES + b"}",
        b'{"model":"m",' + MESSAGES + rb',"\u004dodel":"dear"}',
        b'{"model":"dear",' + MESSAGES + rb',"\u006d\u006F\u0064\u0065\u006c":"m"}',
    ],
)
def test_provider_and_price_agree_on_the_model(body: bytes) -> None:
    ask = OPENAI_CHAT.read_ask(body, Entry())
    prepared = OPENAI_CHAT.prepare(body, ask, ask.model)
    names = [name for name, _ in json.loads(prepared, object_pairs_hook=list)]
    assert names.count("model") == 1
    assert json.loads(prepared)["model"] == ask.model == "m"


def chunk(**members: object) -> bytes:
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", **members}).encode() + b"\n\n"


def delta(content: Any = None, finish: Any = None, **more: Any) -> bytes:
    return chunk(choices=[{"index": 0, "delta": {"content": content, **more}, "finish_reason": finish}])


USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 12},
}
COUNTED = Usage(uncached=30, write_30m=10, read=60, out_text=18, out_reasoning=12)
USAGE_CHUNK = chunk(choices=[], usage=USAGE)
DONE = b"data: [DONE]\n\n"
RECORDED = (
    b": keep-alive\r\n\r\n"
    + delta(role="assistant", content="")
    + delta("Hellå ")
    + delta("wørld", finish=None, reasoning_content="hm")
    + delta(finish="stop")
    + USAGE_CHUNK
    + DONE
)


def meter_of(*, wants_usage: bool = True) -> StreamMeter:
    return OPENAI_CHAT.meter(Ask(model="m", stream=True, wants_usage=wants_usage), Entry())


def facts(meter: StreamMeter) -> tuple[object, ...]:
    return meter.usage, meter.text_bytes, meter.has_output, meter.is_complete, meter.may_end, meter.error


def test_a_recorded_stream_is_read() -> None:
    meter = meter_of()
    assert meter.feed(RECORDED) == RECORDED
    text = len("Hellå wørldhm".encode())
    assert facts(meter) == (COUNTED, text, True, True, True, None)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(RECORDED)), max_size=30), st.booleans())
def test_any_chunking_is_read_alike(places: list[int], wants_usage: bool) -> None:
    whole, pieces = meter_of(wants_usage=wants_usage), meter_of(wants_usage=wants_usage)
    expected = whole.feed(RECORDED) + whole.finish()
    bounds = [0, *sorted(places), len(RECORDED)]
    passed = b"".join(pieces.feed(RECORDED[a:b]) for a, b in pairwise(bounds)) + pieces.finish()
    assert passed == expected
    assert facts(pieces) == facts(whole)


def test_the_usage_chunk_is_hidden_exactly_when_it_was_not_asked_for() -> None:
    assert meter_of(wants_usage=False).feed(RECORDED) == RECORDED.replace(USAGE_CHUNK, b"")
    beside = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USAGE)
    meter = meter_of(wants_usage=False)
    assert meter.feed(beside) == beside
    assert meter.usage == COUNTED


def test_an_end_without_its_blank_line_counts() -> None:
    meter = meter_of()
    assert meter.feed(b"data: [DONE]") == b""
    assert not meter.is_complete
    assert meter.finish() == DONE
    assert meter.is_complete


@pytest.mark.parametrize(("finish", "may_end"), [(None, False), ("stop", True), ("a_new_reason", True)])
def test_a_stream_may_end_after_its_finish_reason(finish: str | None, may_end: bool) -> None:
    meter = meter_of()
    meter.feed(delta("x", finish=finish))
    assert (meter.is_complete, meter.may_end) == (False, may_end)


@pytest.mark.parametrize(
    "nothing", [{"tool_calls": []}, {"tool_calls": None}, {"refusal": ""}, {"function_call": None}]
)
def test_an_empty_delta_is_no_output(nothing: dict[str, object]) -> None:
    meter = meter_of()
    meter.feed(delta(**nothing))
    assert (meter.text_bytes, meter.has_output) == (0, False)


def test_a_tool_call_counts_by_its_words_and_not_by_its_wrapping() -> None:
    """What was counted stands in for tokens when the client hangs up: the frame of a delta costs the provider none."""
    meter = meter_of()
    letters = '{"city":"Trondheim"}'
    for letter in letters:
        call = {"index": 0, "id": None, "type": "function", "function": {"arguments": letter}}
        meter.feed(delta(tool_calls=[call]))
    assert meter.has_output
    assert len(letters) <= meter.text_bytes <= 2 * len(letters)


@pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: []\n\n", b'data: {"choices":7}\n\n', b"data: \xff\n\n"])
def test_what_is_not_of_the_format_ends_the_stream(bad: bytes) -> None:
    meter = meter_of()
    assert meter.feed(delta("x") + bad + delta("y")) == delta("x")
    assert isinstance(meter.error, UpstreamBroken)


def test_an_error_event_is_kept_back() -> None:
    meter = meter_of()
    error = b'data: {"error":{"message":"slow down","type":"rate_limit_error","code":429}}\n\n'
    assert meter.feed(delta("x") + error + DONE) == delta("x")
    assert meter.error is not None
    assert meter.error.code == "upstream_rate_limited"
    assert not meter.is_complete


@pytest.mark.parametrize("extra", [{"error": None}, {"usage": None}, {"new_member": {"a": 1}}, {"choices": None}])
def test_what_is_unknown_or_null_passes(extra: dict[str, object]) -> None:
    meter = meter_of()
    event = chunk(**{"choices": [], **extra})
    assert meter.feed(event) == event
    assert (meter.usage, meter.error) == (None, None)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE, COUNTED),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage()),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(uncached=5, out_text=2)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(read=9)),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": None}}, Usage(out_text=5)),
        ({"prompt_tokens": -5, "completion_tokens": -1}, Usage()),
        (None, None),
    ],
)
def test_usage_is_brought_to_disjoint_buckets(usage: object, expected: Usage | None) -> None:
    body = json.dumps({"choices": [{}], "usage": usage}).encode()
    assert OPENAI_CHAT.read_whole(body).usage == expected


def test_missing_usage_is_not_zero_usage() -> None:
    assert OPENAI_CHAT.read_whole(b'{"choices":[{}]}').usage is None
    meter = meter_of()
    meter.feed(chunk(choices=[]))
    assert meter.usage is None
    meter.feed(chunk(choices=[], usage={"prompt_tokens": 0, "completion_tokens": 0}))
    assert meter.usage == Usage()


def test_a_whole_reply_is_empty_or_none_at_all() -> None:
    assert not OPENAI_CHAT.read_whole(b'{"choices":[]}').text_bytes
    assert not OPENAI_CHAT.read_whole(b'{"choices":[{"message":{"content":"","tool_calls":[]}}]}').text_bytes
    said = OPENAI_CHAT.read_whole(b'{"choices":[{"message":{"content":"h\\u00e9","reasoning_content":"x"}},{}]}')
    assert said.text_bytes == len("hé".encode()) + 1
    called = OPENAI_CHAT.read_whole(
        b'{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]}}]}'
    )
    assert called.text_bytes == len("f{}")
    for bad in (b"", b"{}", b"<html>", b"[]"):
        with pytest.raises(UpstreamBroken):
            OPENAI_CHAT.read_whole(bad)


def test_errors_have_the_vendors_shape() -> None:
    status, body = OPENAI_CHAT.write_error(InvalidRequest("No.", param="n"), "req_1")
    error = {"message": "No.", "type": "invalid_request_error", "param": "n", "code": "invalid_request"}
    assert (status, json.loads(body)) == (400, {"error": error, "request_id": "req_1"})
    event = OPENAI_CHAT.meter(Ask(model="m"), Entry()).write_error(InvalidRequest("No.", param="n"), "req_1")
    assert event == b"data: " + body + b"\n\n"


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (Unauthenticated("x"), "authentication_error", "invalid_api_key"),
        (InsufficientCredits("x"), "insufficient_quota", "insufficient_credits"),
        (RateLimited("x"), "rate_limit_error", "rate_limit_exceeded"),
        (UpstreamBroken("x"), "api_error", "upstream_broken"),
    ],
)
def test_errors_have_the_types_that_clients_know(error: Unauthenticated, kind: str, code: str) -> None:
    said = json.loads(OPENAI_CHAT.write_error(error, "r")[1])["error"]
    assert (said["type"], said["code"]) == (kind, code)


def test_headers() -> None:
    assert OPENAI_CHAT.auth_headers("s") == [("authorization", "Bearer s")]
    assert OPENAI_CHAT.forward_headers({"openai-beta": "b", "cookie": "c"}) == [("openai-beta", "b")]
    assert OPENAI_CHAT.request_id_header("r") == ("x-request-id", "r")
    assert OPENAI_CHAT.limit_headers(LimitState(300, 7, 1.5, now_s=0.0)) == [
        ("x-ratelimit-limit-requests", "300"),
        ("x-ratelimit-remaining-requests", "7"),
        ("x-ratelimit-reset-requests", "1.500s"),
    ]
