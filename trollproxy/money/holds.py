"""What is promised of a balance while a request runs.

Everything here is synchronous: between looking at a balance and holding a part of it nothing else can run, so many
requests of one user cannot spend the same money. A hold ends exactly once, settled or released; ending it again does
nothing. Every exit of a request ends its hold; `Holds` is the net below, for one that a bug forgot.
"""

from collections.abc import Container

from trollproxy.errors import Forbidden, InsufficientCredits
from trollproxy.money.accounts import Account
from trollproxy.policy.pricing import usd
from trollproxy.records import ModelLimit, Wallet


class FriendSpend:
    """What one friend key has spent and holds today, by model. The day is UTC and fixed at admission."""

    __slots__ = ("day", "held", "spent")

    def __init__(self, day: str, spent: dict[str, int]) -> None:
        self.day = day
        self.spent = spent
        self.held: dict[str, int] = {}

    def roll(self, day: str) -> None:
        """Begin a new day. Holds of the old one end against the old day's numbers, which nobody reads any more.

        Never back: a request of yesterday that is held only today counts against today.
        """
        if day > self.day:
            self.day, self.spent, self.held = day, {}, {}

    def left(self, model: str, limit: ModelLimit) -> int | None:
        if limit.daily_limit_nusd is None:
            return None
        return limit.daily_limit_nusd - self.spent.get(model, 0) - self.held.get(model, 0)


class Hold:
    """A promise on an account, and on a friend key's day where one is spending. Ends once."""

    __slots__ = (
        "_account",
        "_among",
        "_friend",
        "_is_open",
        "_is_swept",
        "amount_nusd",
        "day",
        "deadline_s",
        "model",
        "request_id",
        "wallet",
    )

    def __init__(self, account: Account | None, wallet: Wallet, amount_nusd: int) -> None:
        self._account = account
        self._friend: FriendSpend | None = None
        self._is_open = True
        self._is_swept = False
        self._among: dict[str, Hold] | None = None
        self.request_id = ""
        self.deadline_s = float("inf")  # monotonic: until when its exchange may be alive
        self.amount_nusd = amount_nusd
        self.wallet: Wallet = wallet
        self.model = ""
        self.day = ""
        if account is not None:
            account.held[wallet] += amount_nusd

    @property
    def is_open(self) -> bool:
        return self._is_open

    def bind(self, friend: FriendSpend, model: str) -> None:
        """Count the hold against a friend key's day as well."""
        self._friend, self.model, self.day = friend, model, friend.day
        friend.held[model] = friend.held.get(model, 0) + self.amount_nusd

    def settle(self, cost_nusd: int) -> None:
        """End the hold with a charge, which counts as unflushed until the writer has stored it.

        One that was swept meanwhile holds nothing any more; its charge is owed all the same.
        """
        if not self.release() and not self._is_swept:
            return
        self._is_swept = False
        if self._account is not None:
            self._account.owe(self.wallet, cost_nusd)
        friend = self._friend
        if friend is not None and friend.day == self.day:
            friend.spent[self.model] = friend.spent.get(self.model, 0) + cost_nusd

    def release(self) -> bool:
        """End the hold; return whether it was still open."""
        if not self._is_open:
            return False
        self._is_open = False
        if self._among is not None:
            self._among.pop(self.request_id, None)
        if self._account is not None:
            self._account.held[self.wallet] -= self.amount_nusd
        friend = self._friend
        if friend is not None and friend.day == self.day:
            friend.held[self.model] -= self.amount_nusd
        return True

    def watch(self, request_id: str, *, among: "dict[str, Hold]", deadline_s: float) -> None:
        """Stand among the open holds until it ends."""
        self.request_id, self.deadline_s, self._among = request_id, deadline_s, among
        among[request_id] = self

    def sweep(self) -> bool:
        """Release what nobody else will; return whether it was still open."""
        self._is_swept = self.release()
        return self._is_swept


class Holds:
    """The open holds of a process, by request. As many as there are requests in flight, if all goes well."""

    def __init__(self, life_s: float) -> None:
        """`life_s`: how long after a sign of life an exchange may still be alive."""
        self._open: dict[str, Hold] = {}
        self._life_s = life_s

    def __len__(self) -> int:
        return len(self._open)

    def outlast(self, life_s: float) -> None:
        """Take a longer life into account. Never a shorter one: exchanges of the former configuration still run."""
        self._life_s = max(self._life_s, life_s)

    def watch(self, hold: Hold, request_id: str, *, now_s: float) -> None:
        """Remember an open hold until it ends."""
        hold.watch(request_id, among=self._open, deadline_s=now_s + self._life_s)

    def sweep(self, now_s: float, *, alive: Container[str]) -> list[str]:
        """Release the holds that are past their deadline; return whose they were.

        An exchange that is seen alive is given its time anew: a stream may last for as long as it keeps sending.
        """
        swept = []
        for request_id, hold in list(self._open.items()):
            if request_id in alive:
                hold.deadline_s = now_s + self._life_s
            elif hold.deadline_s <= now_s and hold.sweep():
                swept.append(request_id)
        return swept


def hold(account: Account, wallet: Wallet, amount_nusd: int, *, now_s: float) -> Hold:
    """Hold a part of a wallet, or refuse with what is there and what is needed."""
    available = account.available(wallet, now_s)
    if amount_nusd > 0 and available < amount_nusd:
        raise InsufficientCredits(
            f"This request may cost {usd(amount_nusd)}, and {usd(max(0, available))} of your credit is free. "
            "Add credit, or ask for fewer output tokens."
        )
    return Hold(account, wallet, amount_nusd)


def check_friend(spend: FriendSpend, model: str, limit: ModelLimit | None, *, amount_nusd: int) -> None:
    """Refuse what the owner has not opened to the friend, or has limited."""
    if limit is None or not limit.enabled:
        raise Forbidden(f"The model {model!r} is not open to this friend key.", code="model_not_allowed")
    left = spend.left(model, limit)
    if left is not None and amount_nusd > 0 and left < amount_nusd:
        raise InsufficientCredits(
            f"This friend key has {usd(max(0, left))} left today for {model!r}, and this request may cost "
            f"{usd(amount_nusd)}. The limit starts anew at midnight UTC.",
            code="friend_limit_exceeded",
        )
