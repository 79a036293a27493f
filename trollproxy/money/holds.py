"""What is promised of a balance while a request runs.

Everything here is synchronous: between looking at a balance and holding a part of it nothing else can run, so many
requests of one user cannot spend the same money. A hold ends exactly once, settled or released; ending it again does
nothing.
"""

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

    __slots__ = ("_account", "_friend", "_is_open", "amount_nusd", "day", "model", "wallet")

    def __init__(self, account: Account | None, wallet: Wallet, amount_nusd: int) -> None:
        self._account = account
        self._friend: FriendSpend | None = None
        self._is_open = True
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
        """End the hold with a charge, which counts as unflushed until the writer has stored it."""
        if not self.release():
            return
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
        if self._account is not None:
            self._account.held[self.wallet] -= self.amount_nusd
        friend = self._friend
        if friend is not None and friend.day == self.day:
            friend.held[self.model] -= self.amount_nusd
        return True


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
