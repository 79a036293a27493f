"""Stand-ins for what the core needs from outside: a store in memory, a scripted provider, a clock.

Every call that awaits in production awaits a `Checkpoints` here, so a test can stop the world at each of them.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from trollproxy.chat import Usage
from trollproxy.errors import GatewayError, InvalidRequest, NotFound, UpstreamBroken
from trollproxy.gateway.exchange import Clock
from trollproxy.money.accounts import drained
from trollproxy.policy.limits import utc_day
from trollproxy.policy.wallets import Balance, give
from trollproxy.ports import UpstreamCall
from trollproxy.records import (
    Batch,
    Charge,
    ClientKey,
    ClientKeyMaterial,
    Credit,
    FriendKey,
    Intent,
    Price,
    Statement,
    User,
)

K = TypeVar("K", ClientKey, FriendKey)
NOON_S = 1_760_011_200.0  # 2025-10-09 12:00 UTC
TODAY = utc_day(NOON_S)


def make_price(**per_mtok_nusd: int) -> Price:
    """Every bucket at one dollar a million tokens, unless told."""
    buckets = dict.fromkeys(Usage.__struct_fields__, 1_000_000_000)
    return Price(version="v1", per_mtok_nusd=buckets | per_mtok_nusd)


def make_charge(seq: int, **changes: object) -> Charge:
    charge = Charge(
        request_id=f"req-{seq}",
        seq=seq,
        username="ann",
        key_id="key-1",
        wallet="legacy",
        format="openai_chat",
        model="m-1",
        upstream_model="m-1",
        provider="acme",
        upstream_key_id="uk-1",
        stream=False,
        status=200,
        ended_by="completed",
        usage=Usage(uncached=10, out_text=5),
        price_version="v1",
        multiplier_micro=1_000_000,
        cost_nusd=100,
        day=TODAY,
        started_at_s=NOON_S,
        duration_ms=10.0,
    )
    return msgspec.structs.replace(charge, **changes)


def make_intent(number: int, **changes: object) -> Intent:
    """What `make_charge` of the same number ends."""
    intent = Intent(
        request_id=f"req-{number}",
        username="ann",
        key_id="key-1",
        friend_key_id=None,
        wallet="legacy",
        format="openai_chat",
        model="m-1",
        upstream_model="m-1",
        provider="acme",
        stream=False,
        price=make_price(),
        upstream_price=None,
        input_bytes=400,
        hold_nusd=1_000_000,
        day=TODAY,
        started_at_s=NOON_S,
    )
    return msgspec.structs.replace(intent, **changes)


class FakeClock:
    """Both times, moved by hand."""

    def __init__(self) -> None:
        self.wall_s = NOON_S
        self.now_s = 1_000.0
        self.clock = Clock(wall=lambda: self.wall_s, monotonic=lambda: self.now_s)

    def advance(self, seconds: float) -> None:
        self.wall_s += seconds
        self.now_s += seconds


class Checkpoints:
    """Where the fakes await. The one numbered `stop_at`, counted from 1, is never left; all others yield once."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.passed: list[str] = []
        self.reached = asyncio.Event()
        self._stop_at = stop_at

    async def __call__(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self._stop_at:
            self.reached.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)


class FakeStore:
    """The Store port in memory. `failing` holds errors that the next calls raise, one each."""

    def __init__(self, checkpoints: Checkpoints | None = None) -> None:
        self.users: dict[str, User] = {}
        self.client_keys: dict[str, ClientKey] = {}
        self.friend_keys: dict[str, FriendKey] = {}
        self.plain: dict[str, ClientKey | FriendKey] = {}  # keys in the seeds' form: by their text
        self.spend: dict[tuple[str, str], dict[str, int]] = {}
        self.charges: dict[str, Charge] = {}
        self.credits: dict[str, Credit] = {}
        self.batches: list[Batch] = []
        self.prices: dict[str, Price] = {}
        self.calls: Counter[str] = Counter()
        self.failing: deque[Exception] = deque()
        self.checkpoints = checkpoints or Checkpoints()

    async def _call(self, name: str) -> None:
        self.calls[name] += 1
        await self.checkpoints(name)
        if self.failing:
            raise self.failing.popleft()

    async def open(self) -> None:
        await self._call("open")

    async def close(self) -> None:
        await self._call("close")

    async def ping(self) -> None:
        await self._call("ping")

    async def find_client_key(self, key_id: str) -> ClientKey | None:
        await self._call("find_client_key")
        return self.client_keys.get(key_id)

    async def find_friend_key(self, key_id: str) -> FriendKey | None:
        await self._call("find_friend_key")
        return self.friend_keys.get(key_id)

    async def adopt_client_key(self, material: ClientKeyMaterial) -> ClientKey | None:
        await self._call("adopt_client_key")
        return self._adopt(material, ClientKey, self.client_keys)

    async def adopt_friend_key(self, material: ClientKeyMaterial) -> FriendKey | None:
        await self._call("adopt_friend_key")
        return self._adopt(material, FriendKey, self.friend_keys)

    def _adopt(self, material: ClientKeyMaterial, kind: type[K], keys: dict[str, K]) -> K | None:
        found = self.plain.get(material.plain)
        if not isinstance(found, kind):
            return None
        del self.plain[material.plain]
        keys[material.key_id] = msgspec.structs.replace(found, key_id=material.key_id, key_hash=material.key_hash)
        return keys[material.key_id]

    async def read_users(self, usernames: Sequence[str]) -> list[User]:
        await self._call("read_users")
        return [self.users[name] for name in usernames if name in self.users]

    async def read_client_keys(self, key_ids: Sequence[str]) -> list[ClientKey]:
        await self._call("read_client_keys")
        return [self.client_keys[key_id] for key_id in key_ids if key_id in self.client_keys]

    async def read_friend_keys(self, key_ids: Sequence[str]) -> list[FriendKey]:
        await self._call("read_friend_keys")
        return [self.friend_keys[key_id] for key_id in key_ids if key_id in self.friend_keys]

    async def read_friend_spend(self, key_id: str, day: str) -> dict[str, int]:
        await self._call("read_friend_spend")
        return dict(self.spend.get((key_id, day), {}))

    async def add_user(self, user: User) -> None:
        await self._call("add_user")
        if user.username in self.users:
            raise InvalidRequest("The name is taken.", code="already_exists")
        self.users[user.username] = user

    async def add_client_key(self, key: ClientKey) -> None:
        await self._call("add_client_key")
        self.client_keys[key.key_id] = key

    async def add_friend_key(self, key: FriendKey) -> None:
        await self._call("add_friend_key")
        self.friend_keys[key.key_id] = key

    async def replace_client_key(self, old_key_id: str, key: ClientKey) -> None:
        await self._call("replace_client_key")
        del self.client_keys[old_key_id]
        self.client_keys[key.key_id] = key

    async def set_client_key_active(self, key_id: str, *, active: bool) -> bool:
        await self._call("set_client_key_active")
        return _set_active(self.client_keys, key_id, active=active)

    async def set_friend_key_active(self, key_id: str, *, active: bool) -> bool:
        await self._call("set_friend_key_active")
        return _set_active(self.friend_keys, key_id, active=active)

    async def list_users(self, *, after: str = "", limit: int = 100) -> list[User]:
        await self._call("list_users")
        return [self.users[name] for name in sorted(self.users) if name > after][:limit]

    async def list_client_keys(self, username: str) -> list[ClientKey]:
        await self._call("list_client_keys")
        return [key for key in self.client_keys.values() if key.username == username]

    async def list_friend_keys(self, owner: str) -> list[FriendKey]:
        await self._call("list_friend_keys")
        return [key for key in self.friend_keys.values() if key.owner == owner]

    async def apply_credit(self, credit: Credit) -> bool:
        await self._call("apply_credit")
        if credit.username not in self.users:
            raise NotFound("There is no such user.")
        if credit.entry_id in self.credits:
            return False
        self.credits[credit.entry_id] = credit
        user = self.users[credit.username]
        balance = give(msgspec.convert(user, Balance, from_attributes=True), credit)
        self.users[user.username] = msgspec.structs.replace(user, **msgspec.structs.asdict(balance))
        return True

    async def write_batch(self, batch: Batch) -> None:
        await self._call("write_batch")
        self.batches.append(batch)
        for charge in batch.charges:
            user = self.users.get(charge.username)
            if user is not None and charge.request_id not in self.charges:
                self.users[user.username] = drained(user, charge.wallet, charge.cost_nusd)
            self.charges.setdefault(charge.request_id, charge)

    async def read_last_seq(self, writer: str) -> int:
        await self._call("read_last_seq")
        return max((c.seq for batch in self.batches if batch.writer == writer for c in batch.charges), default=0)

    async def read_charge(self, request_id: str) -> Charge | None:
        await self._call("read_charge")
        return self.charges.get(request_id)

    async def list_charges(self, username: str, *, limit: int = 100) -> list[Charge]:
        await self._call("list_charges")
        return [charge for charge in reversed(self.charges.values()) if charge.username == username][:limit]

    async def sum_ledger(self, username: str, wallet: str) -> int:
        await self._call("sum_ledger")
        return self._sum_ledger(username, wallet)

    def _sum_ledger(self, username: str, wallet: str) -> int:
        given = sum(c.amount_nusd for c in self.credits.values() if (c.username, c.wallet) == (username, wallet))
        return given - sum(c.cost_nusd for c in self.charges.values() if (c.username, c.wallet) == (username, wallet))

    async def write_prices(self, prices: Sequence[Price]) -> None:
        await self._call("write_prices")
        for price in prices:
            if self.prices.setdefault(price.version, price) != price:
                raise GatewayError("Another.", code="price_conflict")

    async def read_prices(self, versions: Sequence[str]) -> list[Price]:
        await self._call("read_prices")
        return [self.prices[version] for version in versions if version in self.prices]

    async def read_statements(self, usernames: Sequence[str]) -> list[Statement]:
        await self._call("read_statements")
        return [
            Statement(
                user=self.users[name],
                ledger_nusd={"legacy": self._sum_ledger(name, "legacy"), "new": self._sum_ledger(name, "new")},
            )
            for name in usernames
            if name in self.users
        ]

    async def sum_upstream_costs(self, since_day: str) -> dict[tuple[str, str], int]:
        await self._call("sum_upstream_costs")
        sums: Counter[tuple[str, str]] = Counter()
        for charge in self.charges.values():
            if charge.day >= since_day and charge.upstream_cost_nusd is not None:
                sums[charge.provider, charge.upstream_key_id] += charge.upstream_cost_nusd
        return dict(sums)

    async def page_charges(self, *, after: str = "", limit: int = 1000) -> list[Charge]:
        await self._call("page_charges")
        return [self.charges[name] for name in sorted(self.charges) if name > after][:limit]


def _set_active(keys: dict[str, K], key_id: str, *, active: bool) -> bool:
    if key_id in keys:
        keys[key_id] = msgspec.structs.replace(keys[key_id], is_active=active)
    return key_id in keys


class FakeReply:
    """A provider's answer: its pieces, any of which may be an error that is raised instead."""

    def __init__(self, *pieces: bytes | Exception, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers: Mapping[str, str] = headers or {"content-type": "application/json"}
        self.is_closed = False
        self.checkpoints = Checkpoints()
        self._pieces = deque(pieces)

    async def read(self) -> bytes:
        await self.checkpoints("upstream read")
        piece = self._pieces.popleft() if self._pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        while piece := await self.read():
            if not take(piece):
                return False
        return True

    async def read_all(self, limit: int) -> bytes:
        body = b""
        while piece := await self.read():
            body += piece
        if len(body) > limit:
            raise UpstreamBroken("The provider's answer is too large.")
        return body

    def close(self) -> None:
        self.is_closed = True


def streamed(*pieces: bytes | Exception) -> FakeReply:
    return FakeReply(*pieces, headers={"content-type": "text/event-stream; charset=utf-8"})


class FakeUpstream:
    """Gives the scripted answers in turn and remembers the calls."""

    def __init__(self, *answers: FakeReply | Exception, checkpoints: Checkpoints | None = None) -> None:
        self.answers = deque(answers)
        self.calls: list[UpstreamCall] = []
        self.checkpoints = checkpoints or Checkpoints()

    async def send(self, call: UpstreamCall) -> FakeReply:
        self.calls.append(call)
        call.when_sent()
        await self.checkpoints("upstream send")
        answer = self.answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        answer.checkpoints = self.checkpoints
        return answer

    def secrets(self) -> list[str]:
        """The keys that were spent, in order."""
        return [dict(call.headers)["authorization"].removeprefix("Bearer ") for call in self.calls]
