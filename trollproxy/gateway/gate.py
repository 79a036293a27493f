"""Where requests come in: bounded in number, closed while draining; gives each its id and its clock."""

import asyncio
from collections.abc import Callable, Container

from trollproxy.errors import Overloaded
from trollproxy.gateway.exchange import Carrier, ClientRequest, Clock, Exchange


class Gate:
    """Counts the requests inside. Every `enter` is followed by one `leave`."""

    def __init__(self, *, clock: Clock, new_request_id: Callable[[], str], max_in_flight: int) -> None:
        self.clock = clock
        self._new_request_id = new_request_id
        self._max_in_flight = max_in_flight
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: dict[Carrier, str] = {}  # and whose request each carries
        self.is_draining = False

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    def request_ids(self) -> Container[str]:
        """Whose requests are inside."""
        return set(self._tasks.values())

    def enter(self, request: ClientRequest, task: Carrier) -> Exchange:
        """Begin an exchange, which `task` carries to its end."""
        if not self._tasks:
            self._empty.clear()
        request_id = self._tasks[task] = self._new_request_id()
        exchange = Exchange(request, request_id, self.clock)
        exchange.task = task
        return exchange

    def check(self) -> None:
        """Refuse while there is no room. The caller has entered already, so that the refusal is seen and answered."""
        if self.is_draining:
            raise Overloaded("The gateway is restarting. Try again in a few seconds.", retry_after_s=2)
        if self.in_flight > self._max_in_flight:
            raise Overloaded("The gateway has no room for another request. Try again in a second.", retry_after_s=1)

    def leave(self, task: Carrier) -> None:
        self._tasks.pop(task, None)
        if not self._tasks:
            self._empty.set()

    def cut(self) -> None:
        """End what is still inside."""
        for task in self._tasks:
            task.cancel()

    async def wait_until_empty(self, deadline_s: float) -> bool:
        """Wait for the requests inside to finish; whether they did."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
