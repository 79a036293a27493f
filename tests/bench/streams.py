"""Many streams at once, read to their end: chunks, stalls, what was lost, and the time to the first token.

    python -m tests.bench.streams PORT PATH STREAMS HEADERS_JSON

prints one JSON object. A raw protocol, so that the load costs as little as it can.
"""

import asyncio
import json
import sys
import time
from typing import Any, cast

import uvloop

STALL_S = 0.1  # ten periods of the source
WITHIN_S = 60.0
BODY = json.dumps(
    {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * 900}], "max_tokens": 10}
    | {"stream_options": {"include_usage": True}}
).encode()

_END = b"data: [DONE]\n\n\r\n0\r\n\r\n"


class Stream(asyncio.Protocol):
    """One client with one stream."""

    def __init__(self, request: bytes) -> None:
        self.events = 0
        self.stalls = 0
        self.first_s: float | None = None
        self.is_whole = False
        self._request = request
        self._tail = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is not derived from it
        self._began_s = self._last_s = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now_s, events = time.perf_counter(), data.count(b"data: ")
        if events and self.first_s is None:
            self.first_s = now_s - self._began_s
        elif now_s - self._last_s > STALL_S:
            self.stalls += 1
        self._last_s = now_s
        self.events += events
        self._tail = (self._tail + data)[-len(_END) :]
        if self._tail == _END:
            self.is_whole = True
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def load(port: int, path: str, *, streams: int, headers: dict[str, str]) -> dict[str, Any]:
    named = {"host": "bench", "content-type": "application/json", "content-length": str(len(BODY)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    request = f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + BODY
    loop = asyncio.get_running_loop()
    began_s = time.perf_counter()
    opened = [await loop.create_connection(lambda: Stream(request), "127.0.0.1", port) for _ in range(streams)]
    made = [protocol for _, protocol in opened]
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*(stream.ended for stream in made))
    first_ms = sorted(1000 * stream.first_s for stream in made if stream.first_s is not None)
    return {
        "events": sum(stream.events for stream in made),
        "whole": sum(stream.is_whole for stream in made),
        "stalls": sum(stream.stalls for stream in made),
        "seconds": time.perf_counter() - began_s,
        "first_ms_p50": first_ms[len(first_ms) // 2] if first_ms else None,
        "first_ms_p99": first_ms[len(first_ms) * 99 // 100] if first_ms else None,
    }


if __name__ == "__main__":
    _port, _path, _streams, _headers = sys.argv[1:]
    sys.stdout.write(
        json.dumps(uvloop.run(load(int(_port), _path, streams=int(_streams), headers=json.loads(_headers)))) + "\n"
    )
