"""Many streams, read to their end: what came, what stalled, what was lost, and the time to the first token.

    python -m tests.bench.streams SPEC   a JSON object: port, request, streams, rate, deltas, period_ms

prints one JSON object. Streams begin at a fixed pace, `rate` a second, each on a connection that is idle by then or a
new one, and time to the first token is counted from when the stream was due. All in one instant would measure how long
a burst of requests takes to be worked off, which no clients cause that do not know of each other.

A delta is *stalled* when it comes more than STALL_S later than its period after the one before: the length of a pause
that a reader sees. It is *lost* when its stream ends, or the run does, without it. A raw protocol, so that the load
costs as little as it can.
"""

import asyncio
import gc
import json
import sys
import time
from typing import Any, cast

import msgspec
import uvloop

from tests.bench.asked import PIECE

STALL_S = 0.1
SETTLE_S = 20.0  # for a system that cannot keep up
CONNECTIONS_AT_A_TIME = 64

_END = b"\r\n0\r\n\r\n"
_PIECE = PIECE.encode()


class Spec(msgspec.Struct, kw_only=True):
    port: int
    request: bytes
    streams: int
    rate: float
    deltas: int
    period_ms: int


class Run:
    """What all streams add to."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.idle: list[Stream] = []
        self.first_s: list[float] = []
        self.deltas = self.stalls = self.whole = self.refused = 0
        self.patience_s = spec.period_ms / 1000 + STALL_S


class Stream(asyncio.Protocol):
    """One client's connection, with one stream at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._due_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is not derived from it
        self._run.idle.append(self)

    def begin(self, due_s: float) -> None:
        self._due_s, self._last_s, self._tail = due_s, 0.0, b""
        self._transport.write(self._run.spec.request)

    def data_received(self, data: bytes) -> None:
        now_s, run = time.perf_counter(), self._run
        assert self._due_s is not None
        seen = self._tail + data
        if not self._last_s:
            if b"data:" not in seen:
                self._tail = seen
                return
            assert seen.startswith(b"HTTP/1.1 200"), seen[:200]
            run.first_s.append(now_s - self._due_s)
        elif now_s - self._last_s > run.patience_s:
            run.stalls += 1
        self._last_s = now_s
        run.deltas += seen.count(_PIECE)
        self._tail = seen[1 - len(_PIECE) :]  # a delta may be cut anywhere, and must not be counted twice
        if self._tail.endswith(_END):
            run.whole += 1
            self._due_s = None
            run.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._run.idle:
            self._run.idle.remove(self)


async def load(spec: Spec) -> dict[str, Any]:
    loop, run = asyncio.get_running_loop(), Run(spec)
    await open_connections(run, min(spec.streams, CONNECTIONS_AT_A_TIME))
    gc.freeze()  # the load's own pauses are not the system's
    began_s = time.perf_counter()
    for number in range(spec.streams):
        due_s = began_s + number / spec.rate
        if (wait_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        if not run.idle:
            await open_connections(run, min(spec.streams - number, CONNECTIONS_AT_A_TIME))
        run.idle.pop().begin(due_s)
    until_s = loop.time() + spec.deltas * spec.period_ms / 1000 + SETTLE_S
    while run.whole < spec.streams and loop.time() < until_s:
        await asyncio.sleep(0.005)
    first_ms = sorted(1000 * first for first in run.first_s)
    return {
        "deltas": run.deltas,
        "lost": spec.streams * spec.deltas - run.deltas + spec.streams - run.whole,
        "stalls": run.stalls,
        "seconds": time.perf_counter() - began_s,
        "first_ms_p50": first_ms[len(first_ms) // 2],
        "first_ms_p99": first_ms[len(first_ms) * 99 // 100],
    }


async def open_connections(run: Run, count: int) -> None:
    loop = asyncio.get_running_loop()
    opening = (loop.create_connection(lambda: Stream(run), "127.0.0.1", run.spec.port) for _ in range(count))
    await asyncio.gather(*opening)


if __name__ == "__main__":
    _spec = msgspec.json.decode(sys.argv[1], type=Spec)
    sys.stdout.write(json.dumps(uvloop.run(load(_spec))) + "\n")
