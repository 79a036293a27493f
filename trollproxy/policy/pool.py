"""Round-robin over what is healthy: upstream keys now, outbound proxies by the same code.

State changes are synchronous and time is passed in. A member that failed rests until its time is up; when all rest,
there is nothing to pick, and the pool says when there will be.
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Members are picked in turn; a failed one is reported and rests."""

    __slots__ = ("_members", "_next", "_rests_until_s")

    def __init__(self, members: tuple[T, ...]) -> None:
        self._members = members
        self._next = 0
        self._rests_until_s = [0.0] * len(members)

    def __len__(self) -> int:
        return len(self._members)

    def pick(self, now_s: float) -> T | None:
        """The next healthy member, or None if all rest."""
        count = len(self._members)
        for step in range(count):
            index = (self._next + step) % count
            if self._rests_until_s[index] <= now_s:
                self._next = index + 1
                return self._members[index]
        return None

    def report_failure(self, member: T, until_s: float) -> None:
        """Let a member rest; the longest rest it was given counts."""
        index = self._members.index(member)
        self._rests_until_s[index] = max(self._rests_until_s[index], until_s)

    def free_at_s(self) -> float:
        """When the first member can be picked again."""
        return min(self._rests_until_s, default=float("inf"))

    def status(self, now_s: float) -> list[tuple[T, float]]:
        """Every member with the seconds it still rests, 0 if healthy."""
        return [(m, max(0.0, until - now_s)) for m, until in zip(self._members, self._rests_until_s, strict=True)]
