"""Where users, keys and the books are kept."""

from collections.abc import Sequence
from typing import Protocol

from trollproxy.records import (
    Batch,
    Charge,
    ClientKey,
    ClientKeyMaterial,
    Credit,
    FriendKey,
    Price,
    Statement,
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
