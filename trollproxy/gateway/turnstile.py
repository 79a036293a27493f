"""The way in to a provider that may only be sent so much: who finds room goes, who does not waits in line.

The counting is `policy.throttle`'s; here are those who wait. Nobody waits for longer than the line's patience, who
hangs up leaves it at once, and whoever makes room (a request that ends, one that was not sent, time) lets in the
next.
"""

import asyncio
from collections.abc import Callable

from trollproxy.errors import GatewayError, Overloaded
from trollproxy.policy.throttle import Pass, Throttle, Ticket
from trollproxy.records import Pace

Now = Callable[[], float]
LONGEST_LOOK_S = 1.0  # while somebody waits: a reload may have made room
_LEAST_RETRY_S = 1.0


class Slot:
    """Leave to send one request, until its answer has been relayed."""

    __slots__ = ("_is_open", "_leave", "_now", "_turnstile")

    def __init__(self, turnstile: "Turnstile", leave: Pass, now: Now) -> None:
        self._turnstile = turnstile
        self._leave = leave
        self._now = now
        self._is_open = True

    def report(self, error: GatewayError) -> None:
        """A provider that says "too many" or "overloaded" is sent less; any other failure has causes of its own."""
        if error.origin == "upstream" and (error.failure == "rate" or error.code == "upstream_overloaded"):
            self._turnstile.throttle.cut(self._leave, self._now())

    def release(self) -> None:
        """More than once is as good as once."""
        if self._is_open:
            self._is_open = False
            self._turnstile.throttle.give_back()
            self._turnstile.look(self._now)

    def undo(self) -> None:
        """Nothing was sent."""
        if self._is_open:
            self._is_open = False
            self._turnstile.throttle.undo(self._leave)
            self._turnstile.look(self._now)


class Turnstile:
    """One provider's."""

    def __init__(self, pace: Pace) -> None:
        self.throttle = Throttle(pace)
        self._waiting: dict[Ticket, asyncio.Future[Slot]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.refused: dict[str, int] = {"full": 0, "timeout": 0}

    def adopt(self, pace: Pace) -> None:
        """Another pace from now on; those who wait are looked at before long."""
        self.throttle.pace = pace

    def has_room(self, now_s: float) -> bool:
        return not self.throttle.waiting and self.throttle.has_room(now_s)

    def enter(self, now: Now) -> Slot | None:
        leave = self.throttle.enter(now())
        return None if leave is None else Slot(self, leave, now)

    async def wait(self, now: Now, *, is_retry: bool) -> Slot:
        """A slot as soon as there is one; Overloaded where the line is full or it takes too long."""
        ticket = self.throttle.line_up(is_retry=is_retry)
        if ticket is None:
            raise self.refusal("full", now())
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        self.look(now)
        try:
            async with asyncio.timeout(self.throttle.pace.queue_timeout_s):
                return await future
        except BaseException as error:
            if future.done() and not future.cancelled():  # let in and called off in one moment
                future.result().undo()
            if isinstance(error, TimeoutError):
                raise self.refusal("timeout", now()) from None
            raise
        finally:
            del self._waiting[ticket]
            self.throttle.leave(ticket)

    def refusal(self, cause: str, now_s: float) -> Overloaded:
        self.refused[cause] += 1
        text = "The gateway sends the model's provider no more than it was told to, and others wait already."
        retry_after_s = max(_LEAST_RETRY_S, self.throttle.free_at_s(now_s) - now_s)
        return Overloaded(text, code="upstream_throttled", retry_after_s=retry_after_s)

    def look(self, now: Now) -> None:
        """Let in whoever may go, and know when to look again. Called whenever there may be room."""
        throttle = self.throttle
        while (ticket := throttle.first()) is not None:
            future = self._waiting[ticket]
            if future.done():  # it has hung up, and will notice when it runs
                throttle.leave(ticket)
                continue
            leave = throttle.admit(now())
            if leave is None:
                break
            future.set_result(Slot(self, leave, now))
        self._arrange(now)

    def _arrange(self, now: Now) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.throttle.waiting:
            now_s = now()
            delay_s = min(max(0.0, self.throttle.free_at_s(now_s) - now_s), LONGEST_LOOK_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.look, now)
