"""Several suppliers asked the same: the first answer that can be relayed counts, and all others are called off at once.

Each has a head start over the next, which is asked at once where an earlier one fails. What the losers have cost us is
on their visits' account. Must not know: who may enter, nor how anybody is asked.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from trollproxy.errors import GatewayError
from trollproxy.gateway.peek import Peeked
from trollproxy.gateway.visit import Visit


class Race:
    """One race. `run` asks one of them; `another` enters the next, if one can be asked."""

    __slots__ = ("_another", "_head_start_s", "_run", "_running", "_width", "asked", "errors")

    def __init__(
        self,
        run: Callable[[Visit], Coroutine[Any, Any, Peeked]],
        another: Callable[[], Visit | None],
        *,
        width: int,
        head_start_s: float,
    ) -> None:
        self._run = run
        self._another = another
        self._width = width
        self._head_start_s = head_start_s
        self._running: dict[asyncio.Task[Peeked], Visit] = {}
        self.asked: list[Visit] = []
        self.errors: dict[int, GatewayError] = {}  # by place

    async def win(self, first: Visit) -> tuple[Visit, Peeked] | None:
        """Who answered, and what; None if all have failed."""
        is_won = False
        self._enter(first)
        try:
            while self._running:
                wait_s = self._head_start_s if len(self.asked) < self._width else None
                done, _ = await asyncio.wait(self._running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                won = self._judge(done)
                if won is not None:
                    is_won = True
                    return self._running.pop(won), won.result()
                self._enter_another()
            return None
        finally:
            self._call_off(has_winner=is_won)

    def _enter(self, visit: Visit) -> None:
        self.asked.append(visit)
        task = asyncio.create_task(self._run(visit))
        task.add_done_callback(_look_at)
        self._running[task] = visit

    def _enter_another(self) -> None:
        visit = self._another() if len(self.asked) < self._width else None
        if visit is not None:
            self._enter(visit)
        else:
            self._width = len(self.asked)  # nobody is left to ask

    def _judge(self, done: set[asyncio.Task[Peeked]]) -> asyncio.Task[Peeked] | None:
        """The winner: of several in one moment, the one that stands first. What is no failure of theirs is raised."""
        good: list[asyncio.Task[Peeked]] = []
        for task in done:
            error = task.exception()
            if error is None:
                good.append(task)
            elif isinstance(error, GatewayError):
                self.errors[self._running.pop(task).leg.stop.place] = error
            else:
                raise error
        return min(good, key=lambda task: self._running[task].leg.stop.place, default=None)

    def _call_off(self, *, has_winner: bool) -> None:
        """At once, and without waiting. Where nobody has won, the client has gone: the first stands for the request."""
        for task, visit in self._running.items():
            if visit is self.asked[0] and not has_winner:
                visit.fail(None, chance=0.0)
            else:
                visit.lose()
            task.cancel()
        self._running.clear()


def _look_at(task: asyncio.Task[Peeked]) -> None:
    """An error that nobody looked at is complained of."""
    if not task.cancelled():
        task.exception()
