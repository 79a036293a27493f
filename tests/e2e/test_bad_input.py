"""What must be refused, in both dialects: how it is said, and that nothing is charged, held or counted for it."""

import base64
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import openai
import pytest

from tests.e2e.people import People, settle_in
from tests.e2e.process import QUICK, GatewayProcess
from tests.e2e.talk import ANTHROPIC, DIALECTS, OPENAI, Answer, Dialect, ask

MAX_BODY = 8192
CONFIG: dict[str, Any] = {
    **QUICK,
    "limits": {"maxBodyBytes": MAX_BODY, "devRpm": 5, "failedAuthPerMinutePerIp": 1000},
    "models": [{"id": "another", "upstream": "demo", "pricing": {"input": 1, "output": 1}}],
}
UNKNOWN = "sk-troll-aaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
NESTED = b'{"model": "demo", "max_tokens": 9, "messages": [' + b"[" * 3000 + b"]" * 3000 + b"]}"
LEAVE_OUT = object()

AM_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
CC_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
EXCEPTIONS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
}
AM_EXCEPTIONS = EXCEPTIONS | {402: "PaymentRequiredError", 413: "ContentTooLargeError"}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is refused: what is different about it, and the answer."""

    name: str
    status: int
    code: str
    changes: dict[str, Any] = {}
    raw: bytes | None = None
    key: str = "good"
    only: str | None = None

    def body(self, dialect: Dialect) -> bytes:
        if self.raw is not None:
            return self.raw
        members = dialect.ask("hello") | self.changes
        return json.dumps({name: value for name, value in members.items() if value is not LEAVE_OUT}).encode()


CASES = [
    Case(name="not JSON", raw=b'{"model": "demo", oops', status=400, code="invalid_json"),
    Case(name="no body", raw=b"", status=400, code="invalid_json"),
    Case(name="not UTF-8", raw=b'{"model": "\xff"}', status=400, code="invalid_json"),
    Case(name="a list", raw=b"[]", status=400, code="invalid_request"),
    Case(name="deeply nested", raw=NESTED, status=400, code="invalid_json"),
    Case(name="model is a number", changes={"model": 7}, status=400, code="invalid_request"),
    Case(name="messages is an object", changes={"messages": {}}, status=400, code="invalid_request"),
    Case(name="stream is text", changes={"stream": "yes"}, status=400, code="invalid_request"),
    Case(name="max_tokens is text", changes={"max_tokens": "9"}, status=400, code="invalid_request"),
    Case(name="max_tokens is negative", changes={"max_tokens": -1}, status=400, code="invalid_request"),
    Case(name="no model", changes={"model": LEAVE_OUT}, status=400, code="invalid_request"),
    Case(name="no messages", changes={"messages": LEAVE_OUT}, status=400, code="invalid_request"),
    Case(name="empty messages", changes={"messages": []}, status=400, code="invalid_request"),
    Case(name="no max_tokens", changes={"max_tokens": LEAVE_OUT}, status=400, code="invalid_request", only="anthropic"),
    Case(name="n is 0", changes={"n": 0}, status=400, code="invalid_request", only="openai_chat"),
    Case(name="unknown model", changes={"model": "no-such"}, status=404, code="model_not_found"),
    Case(name="empty model", changes={"model": ""}, status=404, code="model_not_found"),
    Case(name="too large", changes={"x": "x" * MAX_BODY}, status=413, code="payload_too_large"),
    Case(name="no key", key="", status=401, code="missing_key"),
    Case(name="garbage key", key="garbage", status=401, code="invalid_key"),
    Case(name="garbage key with prefix", key="sk-garbage", status=401, code="invalid_key"),
    Case(name="huge key", key="sk-" + "x" * 5000, status=401, code="invalid_key"),
    Case(name="mistyped key", key="mistyped", status=401, code="invalid_key"),
    Case(name="wrong secret", key="wrong_secret", status=401, code="invalid_key"),
    Case(name="unknown key", key="unknown", status=401, code="invalid_key"),
    Case(name="revoked", key="revoked", status=401, code="key_revoked"),
    Case(name="expired", key="expired", status=401, code="key_expired"),
    Case(name="unmigrated", key="unmigrated", status=403, code="migration_required"),
    Case(name="disabled", key="disabled", status=403, code="account_disabled"),
    Case(name="out of credit", key="poor", status=402, code="insufficient_credits"),
    Case(name="more than there is", changes={"max_tokens": 10_000_000}, status=402, code="insufficient_credits"),
    Case(name="not open to a friend", key="elsewhere", status=403, code="model_not_allowed"),
    Case(name="over a friend's day", key="friend", status=402, code="friend_limit_exceeded"),
]
TABLE = [(dialect, case) for dialect in DIALECTS for case in CASES if case.only in {None, dialect.name}]


def name_of(value: object) -> str:
    return value.name if isinstance(value, (Dialect, Case)) else ""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("bad-input"), config=CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def people(gateway: GatewayProcess) -> People:
    return settle_in(gateway)


def credential(people: People, name: str) -> str:
    """The key of a case: of somebody, or a good one spoilt, or just what the case says."""
    good = people.keys["good"]
    stem, _, _ = good.rpartition("-")
    spoilt = {
        "mistyped": good[:30] + ("a" if good[30] != "a" else "b") + good[31:],
        "wrong_secret": _with_checksum(stem[:-32] + "a" * 32),
        "unknown": _with_checksum(UNKNOWN),
    }
    return people.keys.get(name) or spoilt.get(name, name)


def _with_checksum(stem: str) -> str:
    return f"{stem}-{base64.b32encode(zlib.crc32(stem.encode()).to_bytes(4, 'big')).decode().lower()[:6]}"


def headers_of(dialect: Dialect, key: str) -> dict[str, str]:
    return dialect.authorize(key) if key else dialect.headers


def check_refusal(answer: Answer, dialect: Dialect, status: int, code: str) -> None:
    """Status, shape of the body, and the headers of every refusal."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer.body
    body = answer.json()
    request_id = answer.headers[dialect.request_id]
    assert request_id.startswith("req_")
    assert body["request_id"] == request_id
    if dialect is ANTHROPIC:
        assert body.keys() == {"type", "error", "request_id"}
        assert (body["type"], body["error"]["type"]) == ("error", AM_TYPES[status])
        assert body["error"]["details"]["code"] == code
    else:
        assert body["error"].keys() == {"message", "type", "param", "code"}
        assert body["error"]["type"] == CC_TYPES.get(status, "invalid_request_error")
        assert body["error"]["code"] == {"invalid_key": "invalid_api_key"}.get(code, code)
    assert body["error"]["message"]
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert answer.headers.get("x-should-retry") == ("false" if status == 402 else None)


@pytest.mark.parametrize(("dialect", "case"), TABLE, ids=name_of)
def test_refusals(gateway: GatewayProcess, people: People, dialect: Dialect, *, case: Case) -> None:
    headers = headers_of(dialect, credential(people, case.key))
    with gateway.bill() as bill:
        answer = ask(gateway.port, "POST", dialect.path, body=case.body(dialect), headers=headers)
    check_refusal(answer, dialect, case.status, case.code)
    assert bill == []


@pytest.mark.parametrize(("dialect", "case"), [row for row in TABLE if row[1].raw is None], ids=name_of)
def test_refusals_are_the_sdks_exceptions(
    gateway: GatewayProcess, people: People, dialect: Dialect, *, case: Case
) -> None:
    body = json.loads(case.body(dialect))
    key = credential(people, case.key)
    caught: openai.APIStatusError | anthropic.APIStatusError
    if dialect is OPENAI:
        names, caught = EXCEPTIONS, refused_openai(gateway, key, body)
    else:
        names, caught = AM_EXCEPTIONS, refused_anthropic(gateway, key, body)
    assert (caught.status_code, type(caught).__name__) == (case.status, names.get(case.status, "APIStatusError"))
    assert (caught.request_id or "").startswith("req_")


def refused_openai(gateway: GatewayProcess, key: str, body: object) -> openai.APIStatusError:
    headers: Any = {} if key else {"Authorization": openai.Omit()}
    with (
        openai.OpenAI(api_key=key or "none", base_url=f"{gateway.url}/v1", max_retries=0, timeout=20) as sdk,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        sdk.post("/chat/completions", body=body, cast_to=object, options={"headers": headers})
    return caught.value


def refused_anthropic(gateway: GatewayProcess, key: str, body: object) -> anthropic.APIStatusError:
    headers: Any = {} if key else {"X-Api-Key": anthropic.Omit()}
    with (
        anthropic.Anthropic(api_key=key or "none", base_url=gateway.url, max_retries=0, timeout=20) as sdk,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        sdk.post("/v1/messages", body=body, cast_to=object, options={"headers": headers})
    return caught.value


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_chunked_body_is_bounded_too(gateway: GatewayProcess, people: People, dialect: Dialect) -> None:
    headers = dialect.authorize(people.keys["good"]) | {"transfer-encoding": "chunked"}
    pieces = iter([b'{"model": "demo", "x": "', b"x" * MAX_BODY, b'"}'])
    with gateway.bill() as bill:
        answer = ask(gateway.port, "POST", dialect.path, body=pieces, headers=headers)
    check_refusal(answer, dialect, 413, "payload_too_large")
    assert bill == []


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_compressed_body_is_refused(gateway: GatewayProcess, people: People, dialect: Dialect) -> None:
    headers = dialect.authorize(people.keys["good"]) | {"content-encoding": "gzip"}
    with gateway.bill() as bill:
        answer = ask(gateway.port, "POST", dialect.path, body=b"\x1f\x8b\x08", headers=headers)
    check_refusal(answer, dialect, 400, "unsupported_encoding")
    assert bill == []


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_wrong_path(gateway: GatewayProcess, people: People, dialect: Dialect) -> None:
    headers = dialect.authorize(people.keys["good"])
    answer = ask(gateway.port, "POST", "/v1/nonsense", body=dialect.ask("hello"), headers=headers)
    check_refusal(answer, dialect, 404, "not_found")


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_wrong_method(gateway: GatewayProcess, people: People, dialect: Dialect) -> None:
    answer = ask(gateway.port, "GET", dialect.path, headers=dialect.authorize(people.keys["good"]))
    assert answer.headers["allow"] == "POST"
    check_refusal(answer, dialect, 405, "method_not_allowed")


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_models_without_a_key(gateway: GatewayProcess, dialect: Dialect) -> None:
    check_refusal(ask(gateway.port, "GET", "/v1/models", headers=dialect.headers), dialect, 401, "missing_key")


LIMIT_HEADERS = {
    "openai_chat": ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    "anthropic": (
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
}


def test_over_the_limit(gateway: GatewayProcess, people: People) -> None:
    """The window belongs to the key, so both dialects use up one allowance."""
    key = people.keys["busy"]
    with gateway.bill() as bill:
        for left in (4, 3, 2, 1, 0):
            answer = ask(gateway.port, "POST", OPENAI.path, body=OPENAI.ask("hello"), headers=OPENAI.authorize(key))
            assert (answer.status, answer.headers["x-ratelimit-remaining-requests"]) == (200, str(left))
    assert len(bill) == 5
    with gateway.bill() as bill:
        for dialect in DIALECTS:
            body = dialect.ask("hello")
            answer = ask(gateway.port, "POST", dialect.path, body=body, headers=dialect.authorize(key))
            check_refusal(answer, dialect, 429, "rate_limit_exceeded")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            limit, remaining, reset = (answer.headers[name] for name in LIMIT_HEADERS[dialect.name])
            assert (limit, remaining) == ("5", "0")
            assert reset
        assert type(refused_openai(gateway, key, OPENAI.ask("hello"))) is openai.RateLimitError
        assert type(refused_anthropic(gateway, key, ANTHROPIC.ask("hello"))) is anthropic.RateLimitError
    assert bill == []


def test_a_friend_spends_the_owners_credit_up_to_the_days_limit(gateway: GatewayProcess, people: People) -> None:
    """The limit is 0.0005 USD: one answer of 100 tokens fits (0.0004 and the prompt), a second does not."""
    headers = OPENAI.authorize(people.keys["spender"])
    body = OPENAI.ask("#demo tokens=100 delay_ms=0", max_tokens=100)
    with gateway.bill() as bill:
        first = ask(gateway.port, "POST", OPENAI.path, body=body, headers=headers)
        second = ask(gateway.port, "POST", OPENAI.path, body=body, headers=headers)
    assert first.status == 200
    check_refusal(second, OPENAI, 402, "friend_limit_exceeded")
    (charge,) = bill
    assert (charge.username, charge.friend_key_id) == ("admin", people.key_ids["spender"])


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_friend_sees_only_the_models_that_are_open(gateway: GatewayProcess, people: People, dialect: Dialect) -> None:
    answer = ask(gateway.port, "GET", "/v1/models", headers=dialect.authorize(people.keys["elsewhere"]))
    assert [model["id"] for model in answer.json()["data"]] == ["another"]
    closed = ask(gateway.port, "GET", "/v1/models/demo", headers=dialect.authorize(people.keys["elsewhere"]))
    assert closed.status == 404


def test_guessing_is_slowed_down_without_holding_up_who_is_known(tmp_path: Path) -> None:
    config = {**QUICK, "limits": {"failedAuthPerMinutePerIp": 3}}
    with GatewayProcess(tmp_path, config=config) as gateway:
        assert gateway.ask("POST", OPENAI.path, OPENAI.ask("hello")).status == 200
        answers = [
            ask(gateway.port, "POST", OPENAI.path, body=OPENAI.ask("hello"), headers=OPENAI.authorize(f"sk-guess-{n}"))
            for n in range(5)
        ]
        for answer in answers[:3]:
            check_refusal(answer, OPENAI, 401, "invalid_key")
        for answer in answers[3:]:
            check_refusal(answer, OPENAI, 429, "too_many_failures")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert gateway.ask("POST", OPENAI.path, OPENAI.ask("hello")).status == 200
