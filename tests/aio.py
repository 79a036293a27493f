"""Run a coroutine from a synchronous test, on the loop that production uses or on another."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

import uvloop

T = TypeVar("T")
NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, NewLoop] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def run(coro: Coroutine[object, object, T], *, timeout_s: float = 60, new_loop: NewLoop = uvloop.new_event_loop) -> T:
    """Return what `coro` returns; TimeoutError if it takes longer than `timeout_s`."""

    async def bounded() -> T:
        async with asyncio.timeout(timeout_s):
            return await coro

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(bounded())
