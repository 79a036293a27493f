"""Run a coroutine from a synchronous test, on the loop that production uses."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import uvloop

T = TypeVar("T")


def run(coro: Coroutine[object, object, T], *, timeout_s: float = 60) -> T:
    """Return what `coro` returns; TimeoutError if it takes longer than `timeout_s`."""

    async def bounded() -> T:
        async with asyncio.timeout(timeout_s):
            return await coro

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())
