"""What the core needs from outside, as protocols. `app.py` alone picks who fulfils them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from trollproxy.records import (
    Batch,
    Charge,
    ClientKey,
    ClientKeyMaterial,
    Credit,
    Endpoint,
    FriendKey,
    Intent,
    OutboundProxy,
    Price,
    Progress,
    Statement,
    Timeouts,
    User,
)


class Store(Protocol):
    """Users, keys and the books. Every call ends within 5 s or raises StoreUnavailable; every write is idempotent.

    Those of the audit take up to a minute, and never hold up the others.
    """

    async def open(self) -> None:
        """Connect and bring the schema up to date."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Return if the store can take a write now, raise StoreUnavailable if not."""

    # Callers
    async def find_client_key(self, key_id: str) -> ClientKey | None: ...

    async def find_friend_key(self, key_id: str) -> FriendKey | None: ...

    async def adopt_client_key(self, material: ClientKeyMaterial) -> ClientKey | None:
        """Find a key stored in the seeds' plain form (`user_keys.key`, then `usersNew.apiKey`), replace the plain text
        by id and hash, and return it. None if there is no such key.
        """

    async def adopt_friend_key(self, material: ClientKeyMaterial) -> FriendKey | None:
        """The same for `friend_keys.key`."""

    async def read_users(self, usernames: Sequence[str]) -> list[User]: ...

    async def read_client_keys(self, key_ids: Sequence[str]) -> list[ClientKey]: ...

    async def read_friend_keys(self, key_ids: Sequence[str]) -> list[FriendKey]: ...

    async def read_friend_spend(self, key_id: str, day: str) -> dict[str, int]:
        """Nano-dollars spent by a friend key on a UTC day, by model."""

    # Administration
    async def add_user(self, user: User) -> None:
        """Raise InvalidRequest(code="already_exists") if the name is taken."""

    async def add_client_key(self, key: ClientKey) -> None: ...

    async def add_friend_key(self, key: FriendKey) -> None: ...

    async def replace_client_key(self, old_key_id: str, key: ClientKey) -> None:
        """Rotation: the old key stops working in the same step in which the new one starts."""

    async def set_client_key_active(self, key_id: str, *, active: bool) -> bool:
        """Return whether there is such a key."""

    async def set_friend_key_active(self, key_id: str, *, active: bool) -> bool: ...

    async def list_users(self, *, after: str = "", limit: int = 100) -> list[User]: ...

    async def list_client_keys(self, username: str) -> list[ClientKey]: ...

    async def list_friend_keys(self, owner: str) -> list[FriendKey]: ...

    # Money
    async def apply_credit(self, credit: Credit) -> bool:
        """Move a wallet's balance and write the ledger entry. False: this entry id was applied before."""

    async def write_batch(self, batch: Batch) -> None:
        """Put charges on the books. Safe to repeat with the same or overlapping charges, in any grouping.

        A writer's charges first arrive in order of `seq`: one that comes late is taken for one that was seen.
        """

    async def read_last_seq(self, writer: str) -> int:
        """The highest number of a writer on the ledger; 0 if it wrote nothing."""

    async def read_charge(self, request_id: str) -> Charge | None: ...

    async def list_charges(self, username: str, *, limit: int = 100) -> list[Charge]:
        """Newest first."""

    async def sum_ledger(self, username: str, wallet: str) -> int:
        """What the wallet's balance must be, from its entries alone."""

    async def sum_upstream_costs(self, since_day: str) -> dict[tuple[str, str], int]:
        """What providers asked of us for charges of that UTC day and later, by provider and upstream key. Takes as
        long as an audit.
        """

    # Prices
    async def write_prices(self, prices: Sequence[Price]) -> None:
        """Keep these for good, by version. One that is there with other content: GatewayError `price_conflict`."""

    async def read_prices(self, versions: Sequence[str]) -> list[Price]: ...

    # The audit
    async def read_statements(self, usernames: Sequence[str]) -> list[Statement]:
        """Balances beside ledger, of those users that exist. What is being written meanwhile may be in one alone."""

    async def page_charges(self, *, after: str = "", limit: int = 1000) -> list[Charge]:
        """Every charge there is, page by page, in order of request ids."""


class UsageSink(Protocol):
    """Where the money side of an exchange is put down. Synchronous; after an intent the charge is always taken."""

    def intend(self, intent: Intent, *, at_once: bool = False) -> None:
        """Before the provider sees the request; Overloaded while nothing can be put down. It may be put down only at
        the end of the turn of the loop, with what is sent till then behind it; who sends later must have it `at_once`.
        """

    def progress(self, progress: Progress) -> None: ...

    def record(self, charge: Charge) -> None:
        """Before the client has the last bytes. Ends the intent."""


def _nobody() -> None:
    """Nobody wants to know."""


class UpstreamCall(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One request to a provider, ready to be written. Headers are complete but for Host and Content-Length."""

    endpoint: Endpoint
    headers: tuple[tuple[str, str], ...]
    body: bytes
    timeouts: Timeouts
    method: Literal["POST", "GET"] = "POST"
    proxy: OutboundProxy | None = None  # the only way that this call may take; None: straight to the endpoint
    when_sent: Callable[[], object] = _nobody  # told once the request is on its way and the provider may act on it


class UpstreamReply(Protocol):
    """A provider's answer whose head has arrived. Either read to the end or close: both free the connection."""

    status: int
    headers: Mapping[str, str]  # names in lower case; repeated fields joined by ", "

    async def read(self) -> bytes:
        """The next piece of the body as it arrived, b"" at the end; UpstreamBroken if it was cut short."""

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        """Give `take` the pieces of the body, each in the very moment that it arrives, until the end or until it says
        that it takes no more now; whether that was the end. Raises as `read` does, and what `take` raises.
        """

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body; UpstreamBroken if it is longer than `limit` bytes."""

    def close(self) -> None:
        """Give up: drop the connection unless the body was read to its end. May be called any number of times."""


class Upstream(Protocol):
    """Sends calls to providers. Failures are UpstreamUnavailable, UpstreamTimeout or UpstreamBroken, and ProxyFailed
    where the call's own proxy opened no way. What failed behind a proxy has `retry` "other_proxy" as well.
    """

    async def send(self, call: UpstreamCall) -> UpstreamReply: ...


class ProxyProbe(Protocol):
    """Asks whether a proxy is worth a call."""

    async def probe(self, proxy: OutboundProxy, endpoint: Endpoint, timeouts: Timeouts) -> None:
        """Go through the proxy as far as a request could be sent, and hang up. Raises as `Upstream.send` does."""


class ClientStream(Protocol):
    """The client's side of an exchange. Nothing can be taken back after `start`."""

    @property
    def is_started(self) -> bool: ...

    @property
    def is_gone(self) -> bool:
        """Whether the client hung up."""

    def send(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Answer in one piece."""

    def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Begin a streamed answer."""

    def write(self, data: bytes) -> None:
        """Send a piece; to a client that is gone, do nothing."""

    @property
    def is_full(self) -> bool:
        """Whether to `drain` before more is written."""

    def when_gone(self, call: Callable[[], object] | None) -> None:
        """Whom to tell when the client hangs up: at once if it has. One at a time; None: nobody."""

    async def drain(self) -> None:
        """Wait until the client has taken enough, or is gone."""

    def end(self) -> None:
        """End a streamed answer properly; without it the client sees a truncated one."""
