"""Providers' refusals: their class by status or type, and nothing secret in their words."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy import errors
from trollproxy.wire.errors_in import MAX_MESSAGE, mask, reply_error, stream_error


def refused(status: int, headers: dict[str, str] | None = None, **error: object) -> errors.GatewayError:
    return reply_error(status, headers or {}, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("status", "kind", "answered", "retry"),
    [
        (400, errors.UpstreamRejected, 400, "never"),
        (401, errors.UpstreamAuthFailed, 502, "other_key"),
        (402, errors.UpstreamAuthFailed, 502, "other_key"),
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
        (b'{"code":"insufficient_quota"}', "upstream_rate_limited"),
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
