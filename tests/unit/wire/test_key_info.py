"""LiteLLM's answer about a key."""

import pytest

from trollproxy.wire.key_info import KeyInfo, read_key_info


@pytest.mark.parametrize(
    ("body", "info"),
    [
        (b'{"key":"sk-x","info":{"token":"t","spend":0.001065,"max_budget":10.5}}', (1_065_000, 10_500_000_000)),
        (b'{"info":{"spend":0,"max_budget":null}}', (0, None)),
        (b'{"info":{"spend":1e3}}', (1_000_000_000_000, None)),
        (b'{"info":{"spend":-1}}', None),
        (b'{"info":{"spend":"NaN"}}', None),
        (b'{"info":{"spend":1e30}}', None),
        (b'{"info":{}}', None),
        (b"<html>", None),
        (b"", None),
    ],
)  # fmt: skip
def test_what_is_read(body: bytes, info: tuple[int, int | None] | None) -> None:
    assert read_key_info(body) == (KeyInfo(*info) if info is not None else None)
