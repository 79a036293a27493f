"""What a coroutine waits for without a detour by the loop: who fires it carries on whoever waits."""

import asyncio
from collections.abc import Callable, Generator
from typing import Any


class Signal:
    """Waited for by one; `fire` carries it on at once. Once only."""

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_is_cancelled", "_loop", "is_fired")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._callback: Callable[[Any], object] | None = None
        self._context: Any = None
        self._is_cancelled = False
        self._loop = loop
        self.is_fired = False

    def fire(self) -> None:
        if self.is_fired:
            return
        self.is_fired = True
        callback, self._callback = self._callback, None
        if callback is None:
            return
        if self._context is None:
            callback(self)
        else:  # a Task expects to be called by the loop
            self._loop.call_soon(callback, self, context=self._context)

    def __await__(self) -> Generator["Signal", None, None]:
        if not self.is_fired:
            self._asyncio_future_blocking = True
            yield self
        if self._is_cancelled:
            raise asyncio.CancelledError

    # What tasks ask of a future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        assert self._callback is None, "two wait for one signal"
        self._callback, self._context = callback, context

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - as a Future has it
        if self.is_fired:
            return False
        self._is_cancelled = True
        # Not at once: whoever cancels may hold what the cancelled one will want to change.
        self.is_fired = True
        callback, self._callback = self._callback, None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)
        return True

    def result(self) -> None:
        if self._is_cancelled:
            raise asyncio.CancelledError
