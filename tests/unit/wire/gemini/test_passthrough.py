"""Gemini as bytes: asks, paths, the meter in both framings, errors."""

import msgspec
import pytest
from hypothesis import given

from tests.unit.wire.strategies import chunked
from trollproxy.chat import Ask, Usage
from trollproxy.errors import (
    InsufficientCredits,
    InvalidRequest,
    Overloaded,
    RateLimited,
    UpstreamBroken,
    UpstreamRateLimited,
)
from trollproxy.wire.format import Entry, LimitState, StreamMeter
from trollproxy.wire.gemini import Gemini

GEMINI = Gemini()
ENTRY = Entry(model="gemini-3-flash", stream=True)
ASK = Ask(model="gemini-3-flash", stream=True)
CONTENTS = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'

HELLO = b'data: {"candidates":[{"content":{"parts":[{"text":"Hel"}],"role":"model"},"index":0}]}\r\n\r\n'
THOUGHT = b'data: {"candidates":[{"content":{"parts":[{"text":"hmm","thought":true}]}}]}\n\n'
LAST = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"lo"}]},"finishReason":"STOP"}],'
    b'"usageMetadata":{"promptTokenCount":10,"cachedContentTokenCount":4,"toolUsePromptTokenCount":3,'
    b'"candidatesTokenCount":5,"thoughtsTokenCount":7,"totalTokenCount":25}}\n\n'
)
TRAFFIC = b'data: {"usageMetadata":{"trafficType":"ON_DEMAND"}}\n\n'
USAGE = Usage(uncached=9, read=4, out_text=5, out_reasoning=7)


def meter(*, is_array: bool = False) -> StreamMeter:
    return GEMINI.meter(ASK, Entry(model="m", stream=True, is_array=is_array))


class TestAsk:
    def test_the_path_says_the_model_and_whether_to_stream(self):
        ask = GEMINI.read_ask(CONTENTS, Entry(model="models/gemini-3-flash", stream=True))
        assert ask == Ask(model="gemini-3-flash", stream=True)

    @pytest.mark.parametrize("config", ["generationConfig", "generation_config"])
    @pytest.mark.parametrize(
        ("limit", "count"), [("maxOutputTokens", "candidateCount"), ("max_output_tokens", "candidate_count")]
    )
    def test_limits_are_read_in_every_spelling(self, config, limit, count):
        body = msgspec.json.encode({"contents": [{}], config: {limit: 7, count: 2}})
        ask = GEMINI.read_ask(body, ENTRY)
        assert (ask.max_output_tokens, ask.choices) == (7, 2)

    def test_a_path_without_a_model_takes_the_bodys(self):
        body = b'{"model":"models/gemini-3-pro","contents":[{}]}'
        assert GEMINI.read_ask(body, Entry()).model == "gemini-3-pro"
        assert GEMINI.prepare(body, ASK, "x") == b'{"contents":[{}]}'

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (b'{"contents":[]}', "contents"),
            (b"{}", "contents"),
            (b'{"contents":[{}],"generationConfig":{"maxOutputTokens":0}}', "generationConfig.maxOutputTokens"),
            (b'{"contents":[{}],"generationConfig":{"candidate_count":9}}', "generationConfig.candidateCount"),
            (b'{"contents":[{}],"generationConfig":{"maxOutputTokens":"x"}}', "generationConfig.maxOutputTokens"),
        ],
    )
    def test_what_is_wrong_is_named(self, body, param):
        with pytest.raises(InvalidRequest) as caught:
            GEMINI.read_ask(body, ENTRY)
        assert caught.value.param == param

    def test_no_model_anywhere_is_refused(self):
        with pytest.raises(InvalidRequest) as caught:
            GEMINI.read_ask(CONTENTS, Entry())
        assert caught.value.param == "model"

    def test_a_count_has_its_contents_outside_or_inside(self):
        entry = Entry(operation="count_tokens", model="m")
        inside = b'{"generateContentRequest":{"model":"models/ours","contents":[{}]}}'
        assert GEMINI.read_ask(CONTENTS, entry) == Ask(model="m", max_output_tokens=0)
        assert GEMINI.read_ask(inside, entry).model == "m"
        renamed = GEMINI.prepare(inside, ASK, "theirs")
        assert msgspec.json.decode(renamed)["generateContentRequest"]["model"] == "models/theirs"

    def test_bytes_stay_as_they_came(self):
        body = b'{ "contents" : [{"parts":{"text":"\\u00e9 model"}}], "unknown": 1e5 }'
        assert GEMINI.prepare(body, ASK, "other") is body

    def test_a_model_inside_a_calls_arguments_is_not_the_requests(self):
        body = b'{"contents":[{"parts":[{"functionCall":{"name":"f","args":{"model": "x"}}}]}]}'
        assert GEMINI.prepare(body, ASK, "other") == body

    def test_a_model_spelt_with_an_escape_is_found(self):
        assert GEMINI.prepare(b'{"\\u006dodel":"x","contents":[{}]}', ASK, "y") == b'{"contents":[{}]}'
        assert GEMINI.prepare(b'{"\\u004dodel":"x","contents":[{}]}', ASK, "y") == b'{"contents":[{}]}'


class TestPath:
    @pytest.mark.parametrize(
        ("entry", "path"),
        [
            (Entry(), "/v1beta/models/g-1:generateContent"),
            (Entry(stream=True), "/v1beta/models/g-1:streamGenerateContent?alt=sse"),
            (Entry(stream=True, is_array=True), "/v1beta/models/g-1:streamGenerateContent?alt=sse"),
            (Entry(operation="count_tokens"), "/v1beta/models/g-1:countTokens"),
        ],
    )
    def test_it_is_completed(self, entry, path):
        assert GEMINI.upstream_path("/v1beta/models", entry, "models/g-1") == path

    @pytest.mark.parametrize("model", ["", "a/b", "../x", "a?b", "a#b", "a b", "a%2fb", ".."])
    def test_a_name_that_would_change_it_is_refused(self, model):
        with pytest.raises(InvalidRequest):
            GEMINI.upstream_path("/v1beta/models", Entry(), model)


class TestHeaders:
    def test_the_key_goes_in_the_vendors_header(self):
        assert GEMINI.auth_headers("k") == [("x-goog-api-key", "k")]

    def test_only_the_clients_patience_goes_upstream(self):
        headers = {"x-server-timeout": "60", "x-goog-api-client": "a", "x-goog-user-project": "p"}
        assert GEMINI.forward_headers(headers) == [("x-server-timeout", "60")]
        assert GEMINI.forward_headers({}) == []

    def test_the_rest(self):
        assert GEMINI.request_id_header("req_1") == ("x-request-id", "req_1")
        assert GEMINI.limit_headers(LimitState(1, 1, 1.0, now_s=1.0)) == []
        assert GEMINI.stream_type(Entry(is_array=True)).startswith("application/json")
        assert GEMINI.stream_type(Entry()).startswith("text/event-stream")


class TestMeter:
    def test_a_stream_passes_and_is_counted(self):
        read = meter()
        assert read.feed(HELLO + THOUGHT) == HELLO + THOUGHT
        assert not read.may_end
        assert read.feed(LAST) == b""
        assert read.may_end
        assert not read.is_complete
        assert read.finish() == LAST
        assert read.is_complete
        assert read.usage == USAGE
        assert read.is_usage_final
        assert read.text_bytes == len("Helhmmlo")

    def test_what_comes_behind_the_last_reason_takes_its_place(self):
        read = meter()
        assert read.feed(LAST + TRAFFIC) == LAST
        assert read.finish() == TRAFFIC
        assert read.usage == USAGE, "a chunk with nothing but the kind of traffic must not zero the counts"

    @given(chunked(HELLO + THOUGHT + LAST + TRAFFIC))
    def test_any_chunking_gives_the_same(self, pieces):
        read = meter()
        passed = b"".join([*map(read.feed, pieces), read.finish()])
        assert passed == HELLO + THOUGHT + LAST + TRAFFIC
        assert read.usage == USAGE

    def test_an_end_without_a_reason_is_no_end(self):
        read = meter()
        read.feed(HELLO)
        assert read.finish() == b""
        assert not read.is_complete
        assert not read.may_end

    def test_every_candidate_that_was_seen_needs_its_reason(self):
        read = meter()
        read.feed(b'data: {"candidates":[{"index":0,"finishReason":"STOP"},{"index":1}]}\n\n')
        assert not read.may_end
        read.feed(b'data: {"candidates":[{"index":1,"finishReason":"MAX_TOKENS"}]}\n\n')
        assert read.may_end

    def test_a_refused_prompt_is_an_answer(self):
        read = meter()
        event = b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n'
        assert read.feed(event) == b""
        assert read.finish() == event
        assert read.is_complete
        assert not read.has_output

    def test_calls_media_and_code_are_output(self):
        read = meter()
        read.feed(b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}}}]}}]}\n\n')
        assert read.text_bytes == 8
        read.feed(b'data: {"candidates":[{"content":{"parts":[{"inlineData":{"data":"AAAA"}}]}}]}\n\n')
        assert read.text_bytes > 5_000

    def test_searches_are_counted(self):
        read = meter()
        read.feed(
            b'data: {"candidates":[{"groundingMetadata":{"webSearchQueries":["a","b"]},"finishReason":"STOP"}],'
            b'"usageMetadata":{"promptTokenCount":1}}\n\n'
        )
        assert read.usage == Usage(uncached=1, tool_requests=2)

    @pytest.mark.parametrize("noise", [b": ping\n\n", b"event: ping\n\n", b"data: [DONE]\n\n", b"\n\n", b"data:\n\n"])
    def test_what_breaks_the_vendors_clients_does_not_reach_them(self, noise):
        read = meter()
        assert read.feed(HELLO + noise) == HELLO

    def test_an_event_of_another_shape_is_written_anew(self):
        read = meter()
        assert read.feed(b'event: message\ndata:{"candidates":\ndata: []}\n\n') == b'data: {"candidates": []}\n\n'

    @pytest.mark.parametrize(
        "event",
        [
            b'data: {"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}\n\n',
            b'{\n  "error": {\n    "code": 429,\n    "status": "RESOURCE_EXHAUSTED"\n  }\n}\n',
            b'[{"error":{"code":429}}]',
        ],
    )
    def test_an_error_inside_is_kept(self, event):
        read = meter()
        passed = read.feed(HELLO + event) + read.finish()
        assert passed == HELLO
        assert isinstance(read.error, UpstreamRateLimited)
        assert not read.is_complete

    def test_what_is_not_of_the_format_is_an_error(self):
        read = meter()
        read.feed(b"data: nonsense\n\n")
        assert isinstance(read.error, UpstreamBroken)


class TestArray:
    def test_a_stream_becomes_one(self):
        read = meter(is_array=True)
        passed = read.feed(HELLO + LAST)
        assert passed.startswith(b"[{")
        answers = msgspec.json.decode(passed + read.finish())
        assert [answer["candidates"][0]["content"]["parts"][0]["text"] for answer in answers] == ["Hel", "lo"]

    def test_keep_alives_may_stand_between(self):
        read = meter(is_array=True)
        passed = GEMINI.keep_alive + read.feed(HELLO) + GEMINI.keep_alive + read.feed(LAST + TRAFFIC)
        assert len(msgspec.json.decode(passed + GEMINI.keep_alive + read.finish())) == 3

    @pytest.mark.parametrize("before", [b"", HELLO])
    def test_an_error_is_its_last_element(self, before):
        read = meter(is_array=True)
        answers = msgspec.json.decode(read.feed(before) + read.write_error(Overloaded("Full."), "req_1"))
        assert answers[-1]["error"]["status"] == "UNAVAILABLE"
        assert len(answers) == (2 if before else 1)


class TestWhole:
    def test_it_is_read(self):
        whole = GEMINI.read_whole(LAST[6:])
        assert whole.usage == USAGE
        assert whole.text_bytes == 2

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"candidates":3}'])
    def test_what_is_no_reply_is_broken(self, body):
        with pytest.raises(UpstreamBroken):
            GEMINI.read_whole(body)

    def test_no_count_is_no_usage(self):
        assert GEMINI.read_whole(b'{"candidates":[],"usageMetadata":{}}').usage is None

    def test_an_answer_counted_in_the_total_only(self):
        body = b'{"candidates":[],"usageMetadata":{"promptTokenCount":3,"thoughtsTokenCount":2,"totalTokenCount":9}}'
        assert GEMINI.read_whole(body).usage == Usage(uncached=3, out_text=4, out_reasoning=2)


class TestErrors:
    def test_error_is_the_first_key_and_says_when_to_come_back(self):
        status, body = GEMINI.write_error(RateLimited("Slow down.", retry_after_s=12.5), "req_1")
        assert status == 429
        assert body.startswith(b'{"error":')
        error = msgspec.json.decode(body)["error"]
        assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
        assert error["details"][-1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}

    def test_the_place_is_named(self):
        error = msgspec.json.decode(GEMINI.write_error(InvalidRequest("No.", param="contents"), "r")[1])["error"]
        assert error["status"] == "INVALID_ARGUMENT"
        assert error["details"][0]["metadata"] == {"param": "contents"}

    def test_a_spent_balance(self):
        status, body = GEMINI.write_error(InsufficientCredits("Spent."), "r")
        assert (status, msgspec.json.decode(body)["error"]["code"]) == (402, 402)

    def test_a_stream_fails_with_one_event(self):
        assert meter().write_error(Overloaded("Full."), "r").startswith(b'data: {"error":{')
