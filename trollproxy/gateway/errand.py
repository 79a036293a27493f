"""Running a coroutine at once, in the very callback that its request arrived in, with no Task and no turn of the loop.

An errand goes on in the callback that ends its wait. To what it runs it is the current task: deadlines and
cancellation work as they do in asyncio's own, and it may wait for whatever a Task may.
"""

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # documented for who implements tasks
from collections.abc import Callable, Coroutine
from typing import Any

Done = Callable[[], object]


class Errand:
    """One coroutine on its way. `done` is called after its end, however it ended; its errors are the loop's to tell."""

    __slots__ = ("_awaited", "_cancelling", "_coroutine", "_done", "_loop", "_must_cancel")

    def __init__(self, done: Done, loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._done = done
        self._loop = loop
        self._awaited: Any = None
        self._cancelling = 0
        self._must_cancel = False

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Go as far as it goes without waiting."""
        self._coroutine = coroutine
        self._step()

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - as a Task has it
        if self._coroutine is None:
            return False
        self._cancelling += 1
        if self._awaited is None or not self._awaited.cancel():
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        return self._cancelling

    def uncancel(self) -> int:
        self._cancelling = max(0, self._cancelling - 1)
        return self._cancelling

    def _step(self, _awaited: object = None) -> None:
        coroutine, loop = self._coroutine, self._loop
        if coroutine is None:
            return
        try:
            _enter_task(loop, self)  # type: ignore[arg-type]
        except RuntimeError:  # called from within a task: after it
            loop.call_soon(self._step)
            return
        self._awaited = None
        try:
            if self._must_cancel:
                self._must_cancel = False
                awaited = coroutine.throw(asyncio.CancelledError())
            else:
                awaited = coroutine.send(None)
            self._wait(awaited)
        except (StopIteration, asyncio.CancelledError):
            self._coroutine = None
        except BaseException as error:
            self._coroutine = None
            loop.call_exception_handler({"message": "an errand failed", "exception": error})
            coroutine.close()  # if what failed is to wait, it has not ended
            if not isinstance(error, Exception):
                raise
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]
            if self._coroutine is None:
                self._done()

    def _wait(self, awaited: Any) -> None:
        if awaited is None:  # a bare yield, as of sleep(0)
            self._loop.call_soon(self._step)
            return
        awaited._asyncio_future_blocking = False  # noqa: SLF001 - the protocol between futures and tasks
        self._awaited = awaited
        awaited.add_done_callback(self._step)
        if self._must_cancel and awaited.cancel():
            self._must_cancel = False
