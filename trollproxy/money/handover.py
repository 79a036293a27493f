"""What was just recorded, kept in memory until the writer has it on the books, so that it need not be read back.

The journal stays the truth. Behind `whole_after` every charge of the journal is here; what lies before (of earlier
runs, or dropped because an outage left no room) is read from the journal. Taking changes nothing: a flush that failed
takes the same again, and only what is on the books is dropped.
"""

from collections import deque

from trollproxy.records import Charge

MAX_CHARGES = 10_000  # a kilobyte each: two seconds of full load; what an outage leaves beyond costs disk, not memory


class Handover:
    """The newest charges, in order of their numbers."""

    __slots__ = ("_charges", "_size", "whole_after")

    def __init__(self, whole_after: int) -> None:
        self.whole_after = whole_after
        self._charges: deque[Charge] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, charge: Charge) -> None:
        if self._size == MAX_CHARGES:
            self.whole_after = self._charges.popleft().seq
        else:
            self._size += 1
        self._charges.append(charge)

    def take(self, after: int, to: int) -> tuple[Charge, ...] | None:
        """The charges of these numbers; None if not all of them are here."""
        if after < self.whole_after:
            return None
        taken = []
        for charge in self._charges:
            if charge.seq > to:
                break
            if charge.seq > after:
                taken.append(charge)
        return tuple(taken)

    def drop(self, to: int) -> None:
        """Forget what is on the books."""
        charges = self._charges
        while charges and charges[0].seq <= to:
            charges.popleft()
        self._size = len(charges)
        self.whole_after = max(self.whole_after, to)
