"""Providers' refusals: their class by status or type, and nothing secret in their words."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy import errors
from trollproxy.wire.errors_in import MAX_MESSAGE, embedded_error, mask, reply_error, stream_error


def refused(status: int, headers: dict[str, str] | None = None, **error: object) -> errors.GatewayError:
    return reply_error(status, headers or {}, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("status", "kind", "answered", "retry"),
    [
        (400, errors.UpstreamRejected, 400, "never"),
        (401, errors.UpstreamAuthFailed, 502, "other_key"),
        (402, errors.UpstreamBudgetSpent, 502, "other_key"),
        (403, errors.UpstreamAuthFailed, 502, "other_key"),
        (404, errors.UpstreamRejected, 404, "never"),
        (409, errors.UpstreamRejected, 409, "never"),
        (413, errors.UpstreamRejected, 413, "never"),
        (415, errors.UpstreamRejected, 415, "never"),
        (422, errors.UpstreamRejected, 422, "never"),
        (429, errors.UpstreamRateLimited, 429, "other_key"),
        (500, errors.UpstreamUnavailable, 502, "other_provider"),
        (502, errors.UpstreamUnavailable, 502, "other_provider"),
        (503, errors.UpstreamUnavailable, 503, "other_provider"),
        (504, errors.UpstreamUnavailable, 502, "other_provider"),
        (529, errors.UpstreamUnavailable, 503, "other_provider"),
        (302, errors.UpstreamUnavailable, 502, "other_provider"),
        (418, errors.UpstreamUnavailable, 502, "other_provider"),
    ],
)
def test_a_status_has_its_error(status: int, kind: type[errors.GatewayError], answered: int, retry: str) -> None:
    error = refused(status, message="words")
    assert type(error) is kind
    assert (error.status, error.retry, error.origin) == (answered, retry, "upstream")


def test_only_the_clients_own_faults_are_told_in_the_providers_words() -> None:
    for status in (401, 402, 403, 429, 500, 503, 529):
        assert "secret plan" not in refused(status, message="secret plan").message
    error = refused(400, message="prompt is too long: 9 tokens > 8 maximum", param="messages")
    assert (error.message, error.param) == ("prompt is too long: 9 tokens > 8 maximum", "messages")


def test_the_code_that_agents_act_on_is_kept_and_no_other() -> None:
    assert refused(400, code="context_length_exceeded", message="x").code == "context_length_exceeded"
    assert refused(400, code="some_new_code", message="x").code == "upstream_rejected"
    assert refused(400, code=400, message="x").code == "upstream_rejected"


@pytest.mark.parametrize(
    "body", [b"", b"<html>nginx</html>", b"[]", b'{"error":7}', b'{"error":"x"}', b"\xff", b"[" * 9_000]
)
def test_a_body_that_says_nothing_is_still_classified(body: bytes) -> None:
    assert reply_error(400, {}, body).message == "The provider refused the request."
    assert isinstance(reply_error(429, {}, body), errors.UpstreamRateLimited)
    assert isinstance(reply_error(500, {}, body), errors.UpstreamUnavailable)


def test_a_message_beside_the_error_is_read() -> None:
    assert reply_error(400, {}, b'{"message":"no such field"}').message == "no such field"


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abc123DEF456",
        "sk-ant-api03-xxxxxxxx",
        "fk-abcdefgh",
        "org-Abc123XYZ",
        "proj_abc123",
        "acct_12345",
        "req_011CSHoEeqs5C35K2UUqR7Fy",
        "https://internal.example.com/v1?key=1",
        "http://10.0.0.1:8080/x",
        "ops+llm@example.co.uk",
        "Bearer abc.def.ghi",
    ],
)
def test_secrets_and_names_are_masked(secret: str) -> None:
    for text in (f"wrong: {secret}", f"({secret}) is wrong", f"'{secret}'", f"a\n{secret}\nb", f"key={secret},"):
        assert secret not in mask(text)
        assert "[hidden]" in mask(text)
    assert secret not in refused(400, message=f"No access to {secret}.").message


def test_words_stay_as_they_are() -> None:
    text = "prompt is too long: 210000 tokens > 200000 maximum; ask a task-list or a risk-free one"
    assert mask(text) == text


@settings(deadline=None)
@given(st.text(max_size=50), st.text(max_size=50))
def test_a_key_is_masked_in_any_surroundings(before: str, after: str) -> None:
    masked = mask(f"{before} sk-abcdef123456 {after}")
    assert "abcdef123456" not in masked


def test_a_long_message_is_cut() -> None:
    assert len(refused(400, message="x " * 10_000).message) <= MAX_MESSAGE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("999999", 3600.0),
        ("-1", None),
        ("nan", None),
        ("1e9", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    for status in (429, 503, 500):
        assert refused(status, {"retry-after": text}).retry_after_s == seconds


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"type":"overloaded_error","message":"x"}', "upstream_overloaded"),
        (b'{"type":"rate_limit_error"}', "upstream_rate_limited"),
        (b'{"code":"insufficient_quota"}', "upstream_budget"),
        (b'{"type":null,"code":"rate_limit_exceeded"}', "upstream_rate_limited"),
        (b'{"type":"authentication_error"}', "upstream_auth"),
        (b'{"type":"invalid_request_error"}', "upstream_rejected"),
        (b'{"type":"invalid_request_error","code":"context_length_exceeded"}', "context_length_exceeded"),
        (b'{"type":"timeout_error"}', "upstream_failed"),
        (b'{"code":429}', "upstream_rate_limited"),
        (b'{"code":"503"}', "upstream_overloaded"),
        (b'{"code":200}', "upstream_failed"),
        (b"{}", "upstream_failed"),
        (b'"words"', "upstream_broken"),
        (b"7", "upstream_broken"),
    ],
)
def test_an_error_inside_a_stream_has_its_class(raw: bytes, code: str) -> None:
    assert stream_error(raw).code == code


def test_googles_details_are_read_and_others_are_let_be() -> None:
    limited = b'{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"x"},{"retryDelay":"34.07s"}]}'
    assert reply_error(429, {}, b'{"error":' + limited + b"}").retry_after_s == 34.07
    assert reply_error(429, {}, b'[{"error":' + limited + b"}]").retry_after_s == 34.07
    assert stream_error(limited).retry_after_s == 34.07
    dead = b'{"error":{"code":400,"message":"API key not valid.","details":[{"reason":"API_KEY_INVALID"}]}}'
    assert isinstance(reply_error(400, {}, dead), errors.UpstreamAuthFailed)
    overloaded = stream_error(b'{"type":"overloaded_error","message":"x","details":{"a":1}}')
    assert overloaded.code == "upstream_overloaded"


@pytest.mark.parametrize(
    "words",
    [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "This model's maximum context length is 128000 tokens.",
        "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
    ],
)
def test_an_overflow_is_known_by_its_words(words: str) -> None:
    error = reply_error(400, {}, json.dumps({"error": {"message": words}}).encode())
    assert (error.code, error.message, error.status) == ("context_length_exceeded", words, 400)


def test_a_wait_that_is_told_in_words() -> None:
    told = b'{"code":"rate_limit_exceeded","message":"Rate limit reached. Please try again in 11.054s."}'
    assert stream_error(told).retry_after_s == 11.054


# What a failure says of the key and the provider

OPENAI_QUOTA = "You exceeded your current quota, please check your plan and billing details."
ANTHROPIC_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
GEMINI_KEY = "API key not valid. Please pass a valid API key."


@pytest.mark.parametrize(
    ("status", "error", "failure"),
    [
        (400, {"message": "`messages` is required"}, "content"),
        (400, {"message": ANTHROPIC_CREDIT, "type": "invalid_request_error"}, "budget"),
        (400, {"message": "Budget has been exceeded! Current cost: 10.1", "type": "budget_exceeded"}, "budget"),
        (400, {"message": "ExceededBudget: User over budget"}, "budget"),
        (400, {"message": GEMINI_KEY, "status": "INVALID_ARGUMENT"}, "auth"),
        (400, {"message": "x", "details": [{"reason": "API_KEY_INVALID"}]}, "auth"),
        (400, {"message": "Invalid API Key", "code": "invalid_api_key"}, "auth"),
        (401, {"message": "invalid x-api-key", "type": "authentication_error"}, "auth"),
        (401, {"message": "Your credit balance is too low"}, "budget"),
        (402, {"message": "Insufficient Balance"}, "budget"),
        (403, {"message": "forbidden"}, "auth"),
        (403, {"message": "Project has no access to model `x`", "code": "model_not_found"}, "content"),
        (404, {"message": "The model does not exist"}, "content"),
        (429, {"message": OPENAI_QUOTA, "code": "insufficient_quota"}, "budget"),
        (429, {"message": "Rate limit reached", "type": "rate_limit_error"}, "rate"),
        (500, {"message": "x"}, "overload"),
        (500, {"message": "x", "type": "rate_limit_error"}, "rate"),
        (500, {"message": "x", "code": 429}, "rate"),
        (502, {"message": "x", "type": "overloaded_error"}, "overload"),
        (500, {"message": "x", "type": "authentication_error"}, "auth"),
        (500, {"message": "x", "type": "invalid_request_error"}, "overload"),
        (503, {"message": "Your credit balance is too low"}, "overload"),
        (529, {"message": "x"}, "overload"),
    ],
)
def test_the_class_of_a_failure_is_read_from_status_and_words(
    status: int, error: dict[str, object], failure: str
) -> None:
    assert reply_error(status, {}, json.dumps({"error": error}).encode()).failure == failure


@pytest.mark.parametrize(
    "message",
    [
        "Invalid value: 'invalid api key'. Supported values are: 'a'",
        'Unknown tool "your credit balance is too low"',
        "`insufficient_quota` is not a model",
        "tools.0.name: " + "x" * 100 + " invalid api key",
        "Invalid value: 'unfinished, invalid api key",
    ],
)
def test_a_client_cannot_speak_for_the_provider_about_our_key(message: str) -> None:
    assert refused(400, message=message).failure == "content"
    assert refused(404, message="Incorrect API key provided").failure == "content"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"type":"overloaded_error","message":"x"}}', "upstream_overloaded"),
        (b'{"error":{"code":429,"message":"x"}}', "upstream_rate_limited"),
        (b'{"error":"words"}', "upstream_broken"),
        (b'{"choices":[],"error":null}', None),
        (b'{"output":[], "error" : null, "usage":{}}', None),
        (b'{"output":[{"error":null}],"error":{"code":429,"message":"x"}}', "upstream_rate_limited"),
        (b'{"error":nullify}', None),
        (b'{"choices":[{"message":{"content":"an \\"error\\""}}]}', None),
        (b'{"choices":[{"error":{"code":429}}]}', None),
        (b'{"choices":[]}', None),
        (b'"error"', None),
        (b'{"error":{"code":429},"padding":"' + b"x" * 70_000 + b'"}', None),
    ],
)
def test_an_error_inside_a_good_answer(body: bytes, code: str | None) -> None:
    found = embedded_error(body)
    assert (found.code if found is not None else None) == code
