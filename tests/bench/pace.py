"""Requests at a fixed pace, whatever the answers do: latency is counted from when each was due.

    python -m tests.bench.pace SPEC      a JSON object: port, request, rate, seconds

prints one JSON object. A closed loop would wait for a slow answer and so leave out the requests that it would have hit.
"""

import asyncio
import gc
import json
import sys
import time
from collections import deque
from typing import Any, cast

import msgspec
import uvloop

CONNECTIONS = 64
SETTLE_S = 5.0


class Spec(msgspec.Struct, kw_only=True):
    port: int
    request: bytes
    rate: int
    seconds: float


class Client(asyncio.Protocol):
    """One kept-alive connection; an answer is over when its declared length has arrived."""

    def __init__(self, idle: "deque[Client]", taken_s: list[float]) -> None:
        self._idle = idle
        self._taken_s = taken_s
        self._left = -1
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is not derived from it
        self._idle.append(self)

    def send(self, request: bytes, due_s: float) -> None:
        self._due_s = due_s
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 200"), head[:100]
            self._left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self._left -= len(data)
        if self._left == 0:
            self._left, self._head = -1, b""
            self._taken_s.append(time.perf_counter() - self._due_s)
            self._idle.append(self)


async def load(spec: Spec) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    idle: deque[Client] = deque()
    taken_s: list[float] = []
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Client(idle, taken_s), "127.0.0.1", spec.port)
    gc.freeze()  # the load's own pauses are not the system's
    total, late = int(spec.rate * spec.seconds), 0
    began_s = time.perf_counter()  # uvloop's own time counts whole milliseconds
    for number in range(total):
        due_s = began_s + number / spec.rate
        while (wait_s := due_s - time.perf_counter()) > 0 or not idle:
            assert wait_s > -SETTLE_S, "no answer comes"
            await asyncio.sleep(max(0.0, wait_s))
        late += time.perf_counter() - due_s > 1 / spec.rate
        idle.popleft().send(spec.request, due_s)
    deadline_s = loop.time() + SETTLE_S
    while len(taken_s) < total and loop.time() < deadline_s:
        await asyncio.sleep(0.01)
    ordered = sorted(taken_s)
    return {
        "sent": total,
        "answered": len(ordered),
        "late": late,
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
    }


if __name__ == "__main__":
    _spec = msgspec.json.decode(sys.argv[1], type=Spec)
    sys.stdout.write(json.dumps(uvloop.run(load(_spec))) + "\n")
