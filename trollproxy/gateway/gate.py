"""Where requests come in: bounded in number, closed while draining; gives each its id and its clock."""

import asyncio
from collections.abc import Callable

from trollproxy.errors import Overloaded
from trollproxy.gateway.exchange import ClientRequest, Clock, Exchange


class Gate:
    """Counts the requests inside. Every `enter` is followed by one `leave`."""

    def __init__(self, *, clock: Clock, new_request_id: Callable[[], str], max_in_flight: int) -> None:
        self.clock = clock
        self._new_request_id = new_request_id
        self._max_in_flight = max_in_flight
        self._empty = asyncio.Event()
        self._empty.set()
        self.in_flight = 0
        self.is_draining = False

    def enter(self, request: ClientRequest) -> Exchange:
        self.in_flight += 1
        self._empty.clear()
        return Exchange(request, self._new_request_id(), self.clock)

    def check(self) -> None:
        """Refuse while there is no room. The caller has entered already, so that the refusal is seen and answered."""
        if self.is_draining:
            raise Overloaded("The gateway is restarting. Try again in a few seconds.", retry_after_s=2)
        if self.in_flight > self._max_in_flight:
            raise Overloaded("The gateway has no room for another request. Try again in a second.", retry_after_s=1)

    def leave(self) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self._empty.set()

    async def wait_until_empty(self, deadline_s: float) -> bool:
        """Wait for the requests inside to finish; whether they did."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
