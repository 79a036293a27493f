"""What the answers of these tests are to."""

from typing import Any

from trollproxy.chat import Request, Turn
from trollproxy.wire.format import Asked, Entry

REQUEST_ID = "req_" + "0" * 24
MODEL = "named-by-client"


def asked(*, wants_usage: bool = True, **members: Any) -> Asked:
    known: dict[str, Any] = {
        "request": Request(model="m", turns=(Turn("user", ()),), wants_usage=wants_usage),
        "entry": Entry(),
        "model": MODEL,
        "request_id": REQUEST_ID,
        "now_s": 1_760_000_000,
        "input_tokens": 42,
    }
    return Asked(**(known | members))
