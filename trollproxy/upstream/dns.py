"""Names of providers to addresses, through c-ares (`/etc/hosts` included) and a bounded cache.

Invariants: an IP literal is never looked up; concurrent questions for one name share one look-up, which no single
asker's cancellation ends; failures are not remembered, are UpstreamUnavailable (Overloaded once closed), name no host.
Must not know: connections, deadlines (the asker brings its own).
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Sequence

import aiodns
import msgspec

from trollproxy.errors import Overloaded, UpstreamUnavailable

Answer = tuple[str, float]  # an address and its time to live in seconds
Lookup = Callable[[str], Awaitable[Sequence[Answer]]]


class _Entry(msgspec.Struct, frozen=True):
    addresses: tuple[str, ...]
    expires_at_s: float


class Resolver:
    """`lookup` and `clock` are for tests; by default c-ares answers and the monotonic clock counts."""

    def __init__(
        self,
        *,
        max_entries: int = 256,  # names come from the configuration: tens of providers
        min_ttl_s: float = 5.0,  # a burst of connects at TTL 0 (as /etc/hosts has) is one look-up
        max_ttl_s: float = 300.0,  # a provider that moves is followed in five minutes whatever its records say
        lookup: Lookup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._min_ttl_s = min_ttl_s
        self._max_ttl_s = max_ttl_s
        self._lookup = lookup or self._ask_ares
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._pending: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self._ares: aiodns.DNSResolver | None = None

    async def resolve(self, host: str) -> tuple[str, ...]:
        """Addresses in the order in which they should be tried; at least one."""
        if _is_address(host):
            return (host,)
        entry = self._entries.get(host)
        if entry is not None and self._clock() < entry.expires_at_s:
            return entry.addresses
        task = self._pending.get(host)
        if task is None:
            task = self._pending[host] = asyncio.get_running_loop().create_task(self._refresh(host))
            task.add_done_callback(lambda done: self._forget(host, done))
        try:
            return await asyncio.shield(task)
        except aiodns.error.DNSError as error:
            raise UpstreamUnavailable("The provider's name could not be resolved.") from error

    async def close(self) -> None:
        pending = list(self._pending.values())
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if self._ares is not None:
            await self._ares.close()
            self._ares = None

    async def _refresh(self, host: str) -> tuple[str, ...]:
        try:
            answers = await self._lookup(host)
        except asyncio.CancelledError:  # `close` is the only one who cancels this task; the askers are not cancelled
            raise Overloaded("The gateway is shutting down.") from None
        if not answers:
            raise aiodns.error.DNSError(aiodns.error.ARES_ENODATA, "no addresses")
        addresses = tuple(dict.fromkeys(address for address, _ in answers))
        ttl_s = max(self._min_ttl_s, min(self._max_ttl_s, *(ttl_s for _, ttl_s in answers)))
        self._entries.pop(host, None)  # re-inserted last: the first entry is the one refreshed longest ago
        if len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[host] = _Entry(addresses, self._clock() + ttl_s)
        return addresses

    def _forget(self, host: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        self._pending.pop(host, None)
        if not task.cancelled():
            task.exception()  # seen, in case every asker has left

    async def _ask_ares(self, host: str) -> Sequence[Answer]:
        if self._ares is None:  # made late: it wants a running loop, and costs a thread that IP literals never need
            self._ares = aiodns.DNSResolver()
        result = await self._ares.getaddrinfo(host, type=socket.SOCK_STREAM)
        return [(node.addr[0].decode("ascii"), float(node.ttl)) for node in result.nodes]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
