"""Errands and what became of them, for the tests of what they wait for."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from trollproxy.gateway.errand import Errand

T = TypeVar("T")

TURNS = 12  # of the loop: more than any wake-up here takes


class Ride:
    """A coroutine on its way as an errand, how often it has ended, and what the loop was told of it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ends = 0
        self.failures: list[BaseException] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context["exception"]))
        self.errand = Errand(self._end, self.loop)

    def _end(self) -> None:
        self.ends += 1


async def outside(act: Callable[[], T]) -> T:
    """Call it as the loop calls callbacks: from within no task."""
    loop = asyncio.get_running_loop()
    called: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        assert asyncio.current_task() is None
        try:
            called.set_result(act())
        except Exception as error:  # noqa: BLE001 - it is the caller's
            called.set_exception(error)

    loop.call_soon(call)
    return await called


async def begin(coroutine: Coroutine[Any, Any, None]) -> Ride:
    """Set out at once, as a request that has arrived does."""
    ride = Ride()
    await outside(lambda: ride.errand.run(coroutine))
    return ride


async def settle() -> None:
    """Let everything happen that waits for nothing but its turn."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
