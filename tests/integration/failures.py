"""Every way in which a provider can fail, by the phase that it has come to, and what must come of it.

`then` says what a failure is to the gateway: *never* (the request's own fault), *key* (another key may help), *rate*
(the same, and the first comes back so soon that it is waited for), *provider* (the next provider), *silent* (the same,
and this one is not asked again by the request) or *late* (the client has part of the answer already). *fine*: it only
looks like a failure.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tests.e2e.native import Vendor, answer, error, error_event
from tests.integration.failing_upstream import (
    END,
    HTML,
    JSON,
    SAID,
    SSE,
    Act,
    Acts,
    begun,
    chunk,
    complete,
    head,
    nearly,
    speaking,
    spoken,
    whole,
)

Phase = Literal["connect", "head", "first", "middle", "last"]
Then = Literal["never", "key", "rate", "provider", "silent", "late", "fine"]

SPOKEN_BY: tuple[Vendor, ...] = ("openai", "anthropic", "gemini")
PAGE = b"<!doctype html><title>502</title>"
ENOUGH = 300_000  # bytes: more than the gateway is told to take in these tests
DRIP_S = 0.04  # a body that drips outlasts the deadline of `test_upstream_failures`
OVERLOADED: dict[Vendor, str] = {  # what a client is told of a vendor's error inside a stream
    "openai": "upstream_failed",
    "anthropic": "upstream_overloaded",
    "gemini": "upstream_overloaded",
}
THROTTLED: dict[Vendor, bytes] = {
    "openai": b'data: {"error":{"code":429,"message":"no"}}\n\n',
    "anthropic": b'data: {"type":"error","error":{"type":"rate_limit_error","message":"no"}}\n\n',
    "gemini": b'data: {"error":{"code":429,"message":"no","status":"RESOURCE_EXHAUSTED"}}\n\n',
}


@dataclass(frozen=True)
class Failure:
    """One failure of one vendor. `status` and `code` are the client's, where no other provider helps."""

    name: str
    phase: Phase
    vendor: Vendor
    stream: bool
    acts: Acts
    then: Then
    status: int = 502
    code: str = "upstream_broken"
    retry_after: str | None = None
    port: Literal["open", "closed", "clogged"] = "open"

    def __str__(self) -> str:
        return f"{self.phase}-{self.name}-{self.vendor}-{'stream' if self.stream else 'whole'}"


def failures() -> Iterator[Failure]:
    for vendor in SPOKEN_BY:
        for make in (_statuses, _at_connect, _at_head, _whole_bodies, _before_token, _after_token, _at_the_end):
            yield from make(vendor)


# A refusal: the provider's status, what it says, what the client is told
AUTH, BUDGET, RATE = (502, "upstream_auth"), (502, "upstream_budget"), (429, "upstream_rate_limited")
FAILED, BUSY = (502, "upstream_failed"), (503, "upstream_overloaded")
REFUSALS: list[tuple[str, int, str, Then, tuple[int, str]]] = [
    ("400", 400, "max_tokens is too large", "never", (400, "upstream_rejected")),
    ("400-overflow", 400, "prompt is too long: 9 tokens", "never", (400, "context_length_exceeded")),
    ("400-key", 400, "API key not valid. Please pass a valid API key.", "key", AUTH),
    ("400-budget", 400, "Your credit balance is too low to access the API.", "key", BUDGET),
    ("401", 401, "no", "key", AUTH),
    ("402", 402, "no", "key", BUDGET),
    ("403", 403, "no", "key", AUTH),
    ("403-budget", 403, "Budget has been exceeded!", "key", BUDGET),
    ("404", 404, "no such thing", "never", (404, "upstream_rejected")),
    ("408", 408, "slow", "provider", FAILED),
    ("409", 409, "conflict", "never", (409, "upstream_rejected")),
    ("413", 413, "too much", "never", (413, "upstream_rejected")),
    ("415", 415, "what is it", "never", (415, "upstream_rejected")),
    ("422", 422, "what is it", "never", (422, "upstream_rejected")),
    ("429-quota", 429, "You exceeded your current quota, please check your plan.", "key", BUDGET),
    ("451", 451, "lawyers", "provider", FAILED),
    ("500", 500, "oops", "provider", FAILED),
    ("502", 502, "oops", "provider", FAILED),
    ("503", 503, "oops", "provider", BUSY),
    ("504", 504, "oops", "provider", FAILED),
    ("529", 529, "oops", "provider", BUSY),
]


def _statuses(vendor: Vendor) -> Iterator[Failure]:
    for place, (name, status, words, then, told) in enumerate(REFUSALS):
        body = json.loads(error(vendor, status, words).pieces[0])
        yield _failure(vendor, name, "head", [whole(body, status)], then, stream=bool(place % 2), told=told)
    for name, status, told, then in (("429", 429, RATE, "key"), ("503", 503, BUSY, "provider")):
        body, wait = json.loads(error(vendor, status).pieces[0]), "retry-after: 7"
        acts, named = [whole(body, status, JSON, wait)], f"{name}-retry-after"
        yield _failure(vendor, named, "head", acts, then, stream=False, told=told, retry_after="7")
    yield _failure(vendor, "500-page", "head", [whole(PAGE, 500, HTML)], "provider", stream=True, told=FAILED)
    yield _failure(vendor, "500-cut", "head", [head(500, length=99), b"{", "close"], "provider", told=FAILED)
    yield _failure(vendor, "redirect", "head", [head(302, HTML, "location: /", length=0)], "provider", told=FAILED)


def _at_connect(vendor: Vendor) -> Iterator[Failure]:
    told = (502, "upstream_unavailable")
    yield _failure(vendor, "refused", "connect", [], "provider", told=told, port="closed")
    yield _failure(vendor, "hang", "connect", [], "silent", told=(504, "upstream_timeout"), port="clogged")


def _at_head(vendor: Vendor) -> Iterator[Failure]:
    half = head(kind=SSE)[:30]
    late = (504, "upstream_timeout")
    for stream in (False, True):
        for name, acts in (("nothing", []), ("half", [half])):
            for act in ("close", "reset"):
                yield _failure(vendor, f"{name}-{act}", "head", [*acts, act], "provider", stream=stream)
            yield _failure(vendor, f"{name}-hang", "head", [*acts, "hang"], "silent", stream=stream, told=late)
        drip: list[Act] = [piece for byte in b"x: " + b"y" * 40 for piece in (bytes([byte]), DRIP_S)]
        yield _failure(vendor, "drip", "head", [half, *drip, "hang"], "silent", stream=stream, told=late)
        yield _failure(vendor, "noise", "head", [b"\x15\x03\x01\x00\x02\x02\x0a", "close"], "provider", stream=stream)
        too_long: Acts = [b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", "hang"]
        yield _failure(vendor, "too-long", "head", too_long, "provider", stream=stream)
        yield _failure(vendor, "page", "head", [whole(PAGE, 200, HTML)], "provider", stream=stream)
        yield _failure(vendor, "empty", "head", [head(kind=HTML, length=0)], "provider", stream=stream)
        encoded = [head(200, JSON, "content-encoding: gzip", length=5), b"\x1f\x8b\x08\x00\x00"]
        yield _failure(vendor, "gzip", "head", encoded, "provider", stream=stream)
    events = b"".join(complete(vendor))
    yield _failure(vendor, "stream-for-whole", "head", [head(kind=SSE), events, END], "provider", stream=False)
    yield _failure(vendor, "whole-for-stream", "head", [whole(_good(vendor))], "provider", stream=True)


def _good(vendor: Vendor) -> Any:
    return json.loads(answer(vendor, SAID).pieces[0])


def _whole_bodies(vendor: Vendor) -> Iterator[Failure]:
    good = whole(_good(vendor))
    late = (504, "upstream_timeout")

    def made(
        name: str, acts: Acts, then: Then = "provider", told: tuple[int, str] = (502, "upstream_broken")
    ) -> Failure:
        return _failure(vendor, name, "first" if then != "fine" else "last", acts, then, stream=False, told=told)

    for act in ("close", "reset"):
        yield made(f"cut-{act}", [good[:-9], act])
    yield made("cut-hang", [good[:-9], "hang"], "silent", late)
    yield made("chunks-cut", [head(), chunk(b'{"choices":'), "close"])
    yield made("malformed", [whole(b'{"choices":[{"mess')])
    yield made("not-an-object", [whole(b"[1]")])
    yield made("other-json", [whole({"hello": "world"})])
    yield made("too-large", [whole(b'{"x":"' + b"y" * ENOUGH + b'"}')])
    yield made("200-with-error", [whole(json.loads(error(vendor, 529).pieces[0]))], told=BUSY)
    yield made("200-with-429", [whole({"error": {"code": 429, "message": "Slow down"}})], "rate", RATE)
    yield made("200-with-key", [whole({"error": {"code": "invalid_api_key", "message": "no"}})], "key", AUTH)
    slowly: list[Act] = [good[:-20]]
    slowly += [piece for byte in good[-20:] for piece in (DRIP_S, bytes([byte]))]
    yield made("drip", slowly, "fine")


def _before_token(vendor: Vendor) -> Iterator[Failure]:
    preambles: dict[str, list[bytes]] = {"nothing": [], "comment": [chunk(b": hello\n\n")], "begun": begun(vendor)}
    late = (504, "upstream_timeout")
    told_inside = BUSY if OVERLOADED[vendor] == BUSY[1] else FAILED

    def made(
        name: str, acts: Acts, then: Then = "provider", told: tuple[int, str] = (502, "upstream_broken")
    ) -> Failure:
        return _failure(vendor, name, "first", [head(kind=SSE), *acts], then, stream=True, told=told)

    for name, events in preambles.items():
        for act in ("close", "reset"):
            yield made(f"{name}-{act}", [*events, act])
        yield made(f"{name}-hang", [*events, "hang"], "silent", late)
        yield made(f"{name}-end", [*events, END])
        yield made(f"{name}-error", [*events, chunk(error_event(vendor)), END], told=told_inside)
        yield made(f"{name}-malformed", [*events, chunk(b"data: {{{\n\n"), END])
        yield made(f"{name}-half-an-event", [*events, chunk(error_event(vendor)[:-9]), END])
    yield made("429-inside", [chunk(THROTTLED[vendor]), END], "rate", RATE)
    yield made("too-large", [*[chunk(b"data: " + b"x" * 60_000)] * 6, "hang"])
    told = FAILED if vendor == "gemini" else (502, "upstream_broken")  # it writes some of its errors so
    yield made("json-error", [chunk(b'{"error":{"message":"no"}}'), END], told=told)
    drip: list[Act] = [piece for _ in range(10) for piece in (chunk(b": hello\n\n"), DRIP_S)]
    yield made("drip", [*drip, *complete(vendor), END], "fine")


def _after_token(vendor: Vendor) -> Iterator[Failure]:
    bad: list[tuple[str, Acts, str]] = [
        ("close", ["close"], "upstream_broken"),
        ("reset", ["reset"], "upstream_broken"),
        ("hang", ["hang"], "upstream_timeout"),
        ("end", [END], "upstream_broken"),
        ("error", [chunk(error_event(vendor)), END], OVERLOADED[vendor]),
        ("429", [chunk(THROTTLED[vendor]), END], "upstream_rate_limited"),
        ("malformed", [chunk(b"data: {{{\n\n"), END], "upstream_broken"),
        ("too-large", [*[chunk(b"data: " + b"x" * 60_000)] * 6, "hang"], "upstream_broken"),
        ("bad-chunk", [b"zz\r\n"], "upstream_broken"),
    ]
    for name, acts, code in bad:
        begin: Acts = [head(kind=SSE), *speaking(vendor), "relayed"]
        yield _failure(vendor, name, "middle", [*begin, *acts], "late", stream=True, told=(200, code))


def _at_the_end(vendor: Vendor) -> Iterator[Failure]:
    breaks = (("close", "upstream_broken"), ("reset", "upstream_broken"), ("hang", "upstream_timeout"))
    for act, code in breaks:
        begin: Acts = [head(kind=SSE), *spoken(vendor), "relayed"]
        yield _failure(vendor, f"unfinished-{act}", "last", [*begin, act], "late", stream=True, told=(200, code))
        begin = [head(kind=SSE), *complete(vendor), "relayed"]
        # A stream of Gemini's has no last event: it ends with its connection, and that has to end well.
        then: Then = "late" if vendor == "gemini" else "fine"
        yield _failure(vendor, f"complete-{act}", "last", [*begin, act], then, stream=True, told=(200, code))
    if vendor == "openai":  # what comes behind the count is [DONE], which some providers leave out
        for act in ("close", "reset"):
            acts: Acts = [head(kind=SSE), *nearly(vendor), "relayed", act]
            yield _failure(vendor, f"no-done-{act}", "last", acts, "late", stream=True, told=(200, "upstream_broken"))
        acts = [head(kind=SSE), *nearly(vendor), END]
        yield _failure(vendor, "no-done-end", "last", acts, "fine", stream=True)


def _failure(
    vendor: Vendor,
    name: str,
    phase: Phase,
    acts: Acts,
    then: Then,
    *,
    stream: bool = True,
    told: tuple[int, str] = (502, "upstream_broken"),
    **more: Any,
) -> Failure:
    status, code = told
    return Failure(
        name=name, phase=phase, vendor=vendor, stream=stream, acts=acts, then=then, status=status, code=code, **more
    )
