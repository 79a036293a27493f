"""Providers that cost next to nothing: nginx for whole answers, a raw-protocol source for streams.

    python -m tests.bench.upstreams PORT

is the source: every POST is answered with CHUNKS events, one each PERIOD_S, written to all open streams in one
turn of the loop. It reads no header but the end of the head, and the length of the body from the bench's own request.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import uvloop

CHUNKS = 200
PERIOD_S = 0.01
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a" * 330}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 300, "completion_tokens": 80, "total_tokens": 380},
}


def json_config(folder: Path, port: int) -> str:
    body = json.dumps(ANSWER)
    return _http(
        folder,
        "json",
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / "
        f"{{ default_type application/json; return 200 '{body}'; }} }}",
    )


def proxy_config(folder: Path, port: int, *, upstream: int) -> str:
    """A plain reverse proxy with keep-alive on both sides, and no buffering, so that streams pass at once."""
    return _http(
        folder,
        f"proxy-{port}",
        f"upstream u {{ server 127.0.0.1:{upstream}; keepalive 1024; }} "
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://u; proxy_http_version 1.1; "
        'proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off; } }',
    )


def _http(folder: Path, name: str, servers: str) -> str:
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; client_body_buffer_size 64k; client_body_temp_path {folder}/body;
{temporary}
{servers} }}
"""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(body: object) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def frames() -> list[bytes]:
    """What a stream consists of, ready to be written."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    delta = {**head, "choices": [{"index": 0, "delta": {"content": " and then some"}, "finish_reason": None}]}
    finish = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {**head, "choices": [], "usage": ANSWER["usage"]}
    last = _chunk(_event(finish)) + _chunk(_event(usage)) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return [_chunk(_event(delta))] * CHUNKS + [last]


class Source:
    """All open streams, each with the place it has got to."""

    def __init__(self) -> None:
        self.frames = frames()
        self.open: dict[asyncio.Transport, int] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s += PERIOD_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            for transport, place in list(self.open.items()):
                transport.write(self.frames[place])
                self.open[transport] = place + 1
                if place + 1 == len(self.frames):
                    del self.open[transport]


class Connection(asyncio.Protocol):
    """One connection of a gateway to the source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is not derived from it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            self._buffer = b""
            self._transport.write(_HEAD)
            self._source.open[self._transport] = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._source.open.pop(self._transport, None)


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next(int(value) for name, _, value in lines if name == b"content-length")


async def serve(port: int) -> None:
    source = Source()
    await asyncio.get_running_loop().create_server(lambda: Connection(source), "127.0.0.1", port, backlog=4096)
    await source.run()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
