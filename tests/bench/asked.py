"""What the load asks: bodies of either dialect, with wrk's few headers or with those that a real SDK sends."""

import json
from collections.abc import Mapping
from typing import Literal

import msgspec

Dialect = Literal["openai", "anthropic"]
PATHS: dict[Dialect, str] = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
PIECE = " and then some"  # the text of every delta, in whatever format it arrives

# openai 3.52 on Linux, as seen on the wire. With host, authorization and content-length that makes seventeen.
SDK_HEADERS = {
    "accept-encoding": "gzip, deflate, br, zstd",
    "connection": "keep-alive",
    "accept": "application/json",
    "content-type": "application/json",
    "user-agent": "OpenAI/Python 3.52.0",
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.52.0",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.11.7",
    "x-stainless-async": "async:asyncio",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
FEW_HEADERS = {"content-type": "application/json"}


class Pattern(msgspec.Struct, frozen=True):
    """How many deltas the source of streams is to send, and how far apart."""

    deltas: int
    period_ms: int

    @property
    def max_tokens(self) -> int:
        """What tells it (source.c): the one number that passes through every translation."""
        return self.deltas * 1000 + self.period_ms


def body(dialect: Dialect, model: str, pattern: Pattern | None = None) -> bytes:
    """About 1 kB. With a pattern: of a stream."""
    asked = {"model": model, "messages": [{"role": "user", "content": "x" * 900}]}
    if pattern is None:
        return json.dumps(asked | {"max_tokens": 10}).encode()
    more = {"stream_options": {"include_usage": True}} if dialect == "openai" else {}
    return json.dumps(asked | {"max_tokens": pattern.max_tokens, "stream": True} | more).encode()


def request(path: str, headers: Mapping[str, str], content: bytes) -> bytes:
    """All of it, ready to be written."""
    named = {"host": "bench", **headers, "content-length": str(len(content))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + content
