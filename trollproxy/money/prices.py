"""Price tables on their way to the store, where every charge's price version can be looked up for good.

A version names its content, so each is written once; writing it again does nothing. The writer carries them with its
flushes, before the charges that name them: an outage delays them as it delays charges, and nobody waits for them.
"""

import logging
from collections.abc import Iterable

from trollproxy.errors import GatewayError, StoreUnavailable
from trollproxy.money.invariants import Violations
from trollproxy.ports import Store
from trollproxy.records import Intent, Price

log = logging.getLogger(__name__)


class PriceShelf:
    """What is known to be stored, and what waits. As many as the configuration has had prices since start."""

    def __init__(self, store: Store, violations: Violations) -> None:
        self._store = store
        self._violations = violations
        self._stored: set[str] = set()
        self._waiting: dict[str, Price] = {}

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def take(self, prices: Iterable[Price | None]) -> None:
        for price in prices:
            if price is not None and price.version not in self._stored:
                self._waiting[price.version] = price

    def take_of(self, intent: Intent) -> None:
        """Take what an exchange is charged by, and what it costs us; of every request, so with little ado."""
        stored, paid = self._stored, intent.upstream_price
        if intent.price.version not in stored or (paid is not None and paid.version not in stored):
            self.take((intent.price, paid))

    async def write(self) -> None:
        """Write what waits; StoreUnavailable leaves it waiting. What is refused for good is told, and holds up none."""
        waiting = dict(self._waiting)
        if not waiting:
            return
        try:
            await self._store.write_prices(tuple(waiting.values()))
        except StoreUnavailable:
            raise
        except GatewayError as error:
            self._violations.add("price_conflict", reason=error.message)
        self._stored.update(waiting)
        for version in waiting:
            del self._waiting[version]
