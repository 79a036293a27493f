"""What each upstream key has spent of what it may spend, by our own count and by its provider's.

Our count is the sum of what providers asked of us, by the key that answered; it begins anew with each period of UTC's
calendar. The provider's word, where it gives one, counts as well: it knows of what others spent with the key. A key is
spent a margin before the limit, so that what is under way still fits. Time is passed in as a UTC day.
"""

from collections.abc import Mapping

import msgspec

from trollproxy.records import SpendPeriod

Name = tuple[str, str]  # provider, key
_DAY_PART: dict[SpendPeriod, int] = {"total": 0, "month": len("2026-01"), "day": len("2026-01-01")}


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """Of one key. Under the same id, another `identity` is another key. `nusd` None: only its provider sets one."""

    nusd: int | None
    period: SpendPeriod = "total"
    identity: str = ""

    def period_of(self, day: str) -> str:
        return day[: _DAY_PART[self.period]]


class Spend(msgspec.Struct, kw_only=True):
    """Of one key, in the period at hand."""

    limit: Limit
    period: str
    own_nusd: int = 0
    told_nusd: int | None = None  # by the provider
    told_limit_nusd: int | None = None

    @property
    def most_nusd(self) -> int:
        """The provider counts over all time: that is the limit's own count only if it does so too."""
        told = self.told_nusd if self.told_nusd is not None and self.limit.period == "total" else 0
        return max(self.own_nusd, told)


class Spendings:
    """Every key that is watched."""

    def __init__(self, margin_percent: int) -> None:
        self.margin_percent = margin_percent
        self._spends: dict[Name, Spend] = {}

    def __len__(self) -> int:
        return len(self._spends)

    def watch(self, limits: Mapping[Name, Limit], day: str) -> set[Name]:
        """These and no others. Return those that were not watched for such a period before: their past is unknown."""
        before, self._spends = self._spends, {}
        fresh = set()
        for name, limit in limits.items():
            spend = before.get(name)
            if spend is None or (spend.limit.period, spend.limit.identity) != (limit.period, limit.identity):
                spend = Spend(limit=limit, period=limit.period_of(day))
                fresh.add(name)
            spend.limit = limit
            self._spends[name] = spend
        return fresh

    def first_days(self, names: set[Name], day: str) -> dict[SpendPeriod, str]:
        """From which day on the past must be known, by the periods of these keys."""
        limits = [self._spends[name].limit for name in names if name in self._spends]
        return {limit.period: limit.period_of(day) for limit in limits}

    def add(self, name: Name, nusd: int, day: str) -> None:
        spend = self._at(name, day)
        if spend is not None and spend.limit.period_of(day) == spend.period:
            spend.own_nusd += nusd

    def recall(self, sums_nusd: Mapping[Name, int], period: SpendPeriod, day: str) -> None:
        """What the books say of keys with such a period. What is not on them yet was added already, and nothing is ever
        unspent.
        """
        for name, nusd in sums_nusd.items():
            spend = self._at(name, day)
            if spend is not None and spend.limit.period == period:
                spend.own_nusd = max(spend.own_nusd, nusd)

    def tell(self, name: Name, nusd: int, limit_nusd: int | None) -> None:
        """What the provider says."""
        if name in self._spends:
            self._spends[name].told_nusd, self._spends[name].told_limit_nusd = nusd, limit_nusd

    def is_spent(self, name: Name, day: str) -> bool:
        spend = self._at(name, day)
        if spend is None:
            return False
        has_told = spend.told_nusd is not None and self._reaches(spend.told_nusd, spend.told_limit_nusd)
        return has_told or self._reaches(spend.most_nusd, spend.limit.nusd)

    def get(self, name: Name) -> Spend | None:
        return self._spends.get(name)

    def names(self) -> list[Name]:
        return list(self._spends)

    def items(self) -> list[tuple[Name, Spend]]:
        return list(self._spends.items())

    def _at(self, name: Name, day: str) -> Spend | None:
        """The key's spend in the period of that day; a new period begins at nothing, a late charge begins none."""
        spend = self._spends.get(name)
        if spend is not None and spend.limit.period_of(day) > spend.period:
            spend.period, spend.own_nusd = spend.limit.period_of(day), 0
        return spend

    def _reaches(self, nusd: int, limit_nusd: int | None) -> bool:
        return limit_nusd is not None and nusd * 100 >= limit_nusd * (100 - self.margin_percent)
