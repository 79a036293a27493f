"""Round-robin over what is healthy: a provider's keys, and the proxies that lead out, by the same code.

A member is healthy, resting or half-open. One that fails by a class of the rests' table rests: as long as the provider
says or as the table does, twice as long for each repeated failure, the longest of all it was given. When the rest is
over, one real request carries the probe: success heals, failure rests it longer, and an end that says nothing leaves
it to the next request. Failures of a class that the table lacks say nothing of the member.

Members come and go by leases, so that a member's requests can be counted and bounded. Backups stand by: one is called
up for each member that is lost (see `CONFIRMED`), and all of them while nothing else can be picked.

Time is passed in; a pick costs the same for three members and a thousand. A pool made from a `previous` one takes over
the state of the members that stayed, with their leases, and the previous one picks through it from then on. Must not
know: what members are, nor what a failure looks like.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Mapping
from heapq import heappop, heappush
from math import inf
from typing import Generic, Literal, NamedTuple, TypeVar

from trollproxy.errors import Failure
from trollproxy.policy.status import MemberStatus, State

T = TypeVar("T")
Change = Literal["healthy", "resting", "half_open", "lost", "called_up", "stood_down"]
Verdict = Literal["ok"] | Failure

CONFIRMED = 3  # failures in a row of a lasting kind (the first and two probes) until a member counts as lost
PROBE_PATIENCE_S = 5.0  # refusals come at once; who is silent for longer was let in, and another request may probe too
BUSY_S = 0.25  # when to look again where every member has as many requests as it may
MAX_NEWS = 256  # transitions that wait to be told; who does not ask loses the oldest
_MAX_DOUBLINGS = 32


class Rest(NamedTuple):
    """How long a failure rests a member, the first time and at most. `is_lasting`: it may never come back by itself."""

    first_s: float
    longest_s: float
    is_lasting: bool = False


class Member(NamedTuple, Generic[T]):
    """What can be picked. Under one id, another `identity` is another member, which begins healthy."""

    id: str
    value: T
    identity: Hashable = None
    is_backup: bool = False
    max_leases: int | None = None


class Transition(NamedTuple):
    """A change of a member's state, for logs and metrics."""

    member_id: str
    change: Change
    cause: Failure | None
    at_s: float
    rests_for_s: float = 0.0


class _Seat(Generic[T]):
    """A member's state, which outlives the pool that it was made in."""

    __slots__ = (
        "failure", "failures", "has_probe", "home", "is_called", "is_lost", "is_timed", "lasting", "leases", "member",
        "state", "term", "until_s",
    )  # fmt: skip

    def __init__(self, member: Member[T], home: "Pool[T]") -> None:
        self.member = member
        self.home = home
        self.state: State = "healthy"
        self.leases = 0
        self.term = 0  # grows with each rest: a lease of an earlier term cannot heal, nor make the rest longer
        self.failure: Failure | None = None
        self.failures = 0  # of that class in a row
        self.lasting = 0  # of lasting classes in a row
        self.is_lost = False
        self.has_probe = False
        self.until_s = 0.0  # of the rest, or of the patience with a probe
        self.is_timed = False  # its rest is on the heap of its pool
        self.is_called = not member.is_backup

    @property
    def is_full(self) -> bool:
        most = self.member.max_leases
        return most is not None and self.leases >= most


class Lease(Generic[T]):
    """A member for one request. `report` what became of it, if that is known, then `release` it."""

    __slots__ = ("_is_open", "is_probe", "seat", "term")

    def __init__(self, seat: _Seat[T], *, is_probe: bool) -> None:
        self.seat = seat
        self.term = seat.term
        self.is_probe = is_probe
        self._is_open = True

    @property
    def id(self) -> str:
        return self.seat.member.id

    @property
    def value(self) -> T:
        return self.seat.member.value

    def report(self, verdict: Verdict, now_s: float, retry_after_s: float | None = None) -> None:
        """May come before the release: a stream's first token says that its key is good."""
        seat = self.seat
        if verdict != "ok":
            seat.home.take_failure(seat, self, verdict, now_s=now_s, retry_after_s=retry_after_s)
        elif seat.state != "healthy" and self.term == seat.term:
            seat.home.heal(seat, now_s)

    def release(self) -> None:
        """Without a report before: it was given up, which says nothing. More than once is as good as once."""
        if self._is_open:
            self._is_open = False
            self.seat.home.take_back(self.seat, self)


class _Line(Generic[T]):
    """Seats that can be picked now: those whose probe is due, and the healthy ones in their turn."""

    __slots__ = ("due", "ready")

    def __init__(self) -> None:
        self.due: OrderedDict[str, _Seat[T]] = OrderedDict()
        self.ready: OrderedDict[str, _Seat[T]] = OrderedDict()

    def drop(self, member_id: str) -> None:
        self.due.pop(member_id, None)
        self.ready.pop(member_id, None)


class Pool(Generic[T]):
    """Members are picked in turn; those that fail rest."""

    def __init__(
        self, members: Iterable[Member[T]], rests: Mapping[Failure, Rest], *, previous: "Pool[T] | None" = None
    ) -> None:
        self._rests = rests
        self._called: _Line[T] = _Line()
        self._standing_by: _Line[T] = _Line()
        self._timers: list[tuple[float, int, _Seat[T]]] = []  # of rests, one for each seat that rests
        self._pushed = 0
        self._probing: OrderedDict[str, _Seat[T]] = OrderedDict()  # patience ends in the order in which it began
        self._heir: Pool[T] | None = None
        self.changes: dict[tuple[Change, str], int] = {}  # how often, by cause; ever, also before a reload
        self.untold: deque[Transition] = deque(maxlen=MAX_NEWS)  # for `news`
        before: dict[str, _Seat[T]] = {}
        if previous is not None:
            before, self.changes = previous.hand_over(self), previous.changes
        self._seats = {member.id: self._seat(member, before.get(member.id)) for member in members}
        for member_id in dict.fromkeys((*before, *self._seats)):  # who stayed keeps its turn, the new come after
            if member_id in self._seats:
                self._place(self._seats[member_id])
                self._time(self._seats[member_id])
        self._call_up(0.0)

    def __len__(self) -> int:
        return len(self._seats)

    def __repr__(self) -> str:
        states = [seat.state for seat in self._seats.values()]
        return f"<Pool healthy={states.count('healthy')} of {len(states)}>"

    def pick(self, now_s: float, *, may_probe: bool = True) -> Lease[T] | None:
        """The next member; None if all rest or are busy. One whose probe is due comes first, unless `may_probe` is
        False: then only where nothing healthy is left, for who has failed before should not carry a probe.
        """
        if self._heir is not None:
            return self._if_stayed(self._heir.pick(now_s, may_probe=may_probe))
        self._wake(now_s)
        for line in (self._called, self._standing_by):
            for queue in (line.due, line.ready) if may_probe else (line.ready, line.due):
                if queue:
                    return self._lend(next(iter(queue.values())), now_s)
        return None

    def pick_named(self, member_id: str, now_s: float) -> Lease[T] | None:
        """This very member, if it can be picked now: something is bound to it."""
        if self._heir is not None:
            return self._if_stayed(self._heir.pick_named(member_id, now_s))
        self._wake(now_s)
        seat = self._seats.get(member_id)
        if seat is None or seat.is_full or seat.state == "resting" or seat.has_probe:
            return None
        return self._lend(seat, now_s)

    def rest(self, member_id: str, failure: Failure, *, now_s: float, rest_s: float) -> None:
        """Do not pick this member until then, though no request has failed: somebody knows that the next would. Again
        and again, for as long as that is known; what it was before comes back with the first good answer after it.
        """
        if self._heir is not None:
            self._heir.rest(member_id, failure, now_s=now_s, rest_s=rest_s)
            return
        seat = self._seats.get(member_id)
        if seat is None:
            return
        was_resting = seat.state == "resting"
        seat.until_s = max(now_s + rest_s, seat.until_s if was_resting else 0.0)
        seat.state, seat.failure, seat.has_probe = "resting", failure, False
        self._place(seat)
        self._time(seat)
        if not was_resting:
            seat.term += 1  # what is under way says nothing of it
            self._tell(seat, "resting", now_s)

    def pick_due(self, now_s: float) -> Lease[T] | None:
        """One whose probe is due, for who probes without a request; None if there is none."""
        if self._heir is not None:
            return self._if_stayed(self._heir.pick_due(now_s))
        self._wake(now_s)
        for line in (self._called, self._standing_by):
            if line.due:
                return self._lend(next(iter(line.due.values())), now_s)
        return None

    def free_at_s(self, now_s: float) -> float:
        """When a member can be picked: now, at the end of a rest, or (some are busy) at a time that nobody knows.

        Infinite for a pool without members.
        """
        if self._heir is not None:
            return self._heir.free_at_s(now_s)
        self._wake(now_s)
        if any(line.due or line.ready for line in (self._called, self._standing_by)):
            return now_s
        while self._timers and self._timers[0][2].until_s > self._timers[0][0]:
            self._retime()
        is_any_busy = len(self._seats) > len(self._timers) + len(self._probing)
        return min(
            self._timers[0][0] if self._timers else inf,
            next(iter(self._probing.values())).until_s if self._probing else inf,
            now_s + BUSY_S if is_any_busy else inf,
        )

    def news(self) -> list[Transition]:
        """The transitions since the last call."""
        told = list(self.untold)
        self.untold.clear()
        return told

    def status(self, now_s: float) -> list[MemberStatus]:
        self._wake(now_s)
        return [
            MemberStatus(
                id=seat.member.id,
                state=seat.state,
                failure=seat.failure,
                is_lost=seat.is_lost,
                rests_for_s=max(0.0, seat.until_s - now_s) if seat.state == "resting" else 0.0,
                leases=seat.leases,
                is_standing_by=not seat.is_called,
            )
            for seat in self._seats.values()
        ]

    # What leases tell

    def take_failure(
        self, seat: _Seat[T], lease: Lease[T], failure: Failure, *, now_s: float, retry_after_s: float | None
    ) -> None:
        rest = self._rests.get(failure)
        if rest is None:
            return
        is_new = lease.term == seat.term  # what was sent before the rest began tells nothing new of how bad it is
        if failure != seat.failure:
            seat.failure, seat.failures = failure, 1
        elif is_new:
            seat.failures += 1
        if is_new:
            seat.lasting = seat.lasting + 1 if rest.is_lasting else 0
        rest_s = min(rest.first_s * 2 ** min(seat.failures - 1, _MAX_DOUBLINGS), rest.longest_s)
        if retry_after_s is not None:
            rest_s = retry_after_s if seat.failures == 1 else max(rest_s, retry_after_s)
        until_s = now_s + rest_s
        seat.until_s = max(until_s, seat.until_s) if seat.state == "resting" else until_s
        if seat.state != "resting":
            seat.state, seat.has_probe = "resting", False
            seat.term += 1
            self._tell(seat, "resting", now_s)
        self._place(seat)
        self._time(seat)
        if seat.lasting >= CONFIRMED and not seat.is_lost:
            seat.is_lost = True
            self._tell(seat, "lost", now_s)
            self._call_up(now_s)

    def heal(self, seat: _Seat[T], now_s: float) -> None:
        was_lost = seat.is_lost
        seat.state, seat.failure, seat.failures, seat.lasting = "healthy", None, 0, 0
        seat.has_probe = seat.is_lost = False
        self._place(seat)
        self._tell(seat, "healthy", now_s)
        if was_lost:
            self._call_up(now_s)

    def take_back(self, seat: _Seat[T], lease: Lease[T]) -> None:
        was_full = seat.is_full
        seat.leases -= 1
        if lease.is_probe and seat.state == "half_open" and lease.term == seat.term:
            seat.has_probe = False  # it ended without a verdict: the next request may try
            self._place(seat)
        elif was_full:
            self._place(seat)

    # What changes where a seat is found

    def _lend(self, seat: _Seat[T], now_s: float) -> Lease[T]:
        line = self._line(seat)
        is_probe = seat.state == "half_open"
        seat.leases += 1
        if is_probe:
            seat.has_probe = True
            seat.until_s = now_s + PROBE_PATIENCE_S
            self._place(seat)
        elif seat.is_full:
            line.drop(seat.member.id)
        else:
            line.ready.move_to_end(seat.member.id)
        return Lease(seat, is_probe=is_probe)

    def _if_stayed(self, lease: Lease[T] | None) -> Lease[T] | None:
        """Who still works with the old members gets one only if it stayed what it was."""
        if lease is not None and self._seats.get(lease.id) is not lease.seat:
            lease.release()
            return None
        return lease

    def _line(self, seat: _Seat[T]) -> _Line[T]:
        return self._called if seat.is_called else self._standing_by

    def _place(self, seat: _Seat[T]) -> None:
        member_id = seat.member.id
        self._called.drop(member_id)
        self._standing_by.drop(member_id)
        if seat.has_probe:
            self._probing.setdefault(member_id, seat)
            return
        self._probing.pop(member_id, None)
        if seat.is_full:
            return
        if seat.state == "healthy":
            self._line(seat).ready[member_id] = seat
        elif seat.state == "half_open":
            self._line(seat).due[member_id] = seat

    def _time(self, seat: _Seat[T]) -> None:
        """One place on the heap for each that rests. A rest only grows, so that it is never too late there."""
        if seat.state == "resting" and not seat.is_timed:
            self._pushed += 1
            heappush(self._timers, (seat.until_s, self._pushed, seat))
            seat.is_timed = True

    def _retime(self) -> _Seat[T]:
        """Take the first off the heap, and put it back if its rest has grown."""
        until_s, _, seat = heappop(self._timers)
        seat.is_timed = False
        if seat.until_s > until_s:
            self._time(seat)
        return seat

    def _wake(self, now_s: float) -> None:
        while self._timers and self._timers[0][0] <= now_s:
            seat = self._retime()
            if not seat.is_timed:
                seat.state = "half_open"
                self._place(seat)
                self._tell(seat, "half_open", now_s)
        while self._probing and (seat := next(iter(self._probing.values()))).until_s <= now_s:
            seat.has_probe = False
            self._place(seat)

    def _call_up(self, now_s: float) -> None:
        """As many healthy backups as there are members lost, in their order; those beyond stand down."""
        if self._heir is not None:
            return  # the seats are its own: who was lost here has gone
        wanted = sum(seat.is_lost for seat in self._seats.values() if not seat.member.is_backup)
        for seat in self._seats.values():
            if seat.member.is_backup and seat.is_called != (wanted > 0):
                seat.is_called = wanted > 0
                self._place(seat)
                self._tell(seat, "called_up" if seat.is_called else "stood_down", now_s)
            wanted -= seat.member.is_backup and not seat.is_lost

    def _tell(self, seat: _Seat[T], change: Change, now_s: float) -> None:
        label = (change, seat.failure or "")
        self.changes[label] = self.changes.get(label, 0) + 1
        rests_for_s = seat.until_s - now_s if seat.state == "resting" else 0.0
        self.untold.append(
            Transition(member_id=seat.member.id, change=change, cause=seat.failure, at_s=now_s, rests_for_s=rests_for_s)
        )

    # What becomes of a pool at a reload

    def _seat(self, member: Member[T], before: _Seat[T] | None) -> _Seat[T]:
        if before is None or before.member.identity != member.identity:
            return _Seat(member, self)
        was_backup = before.member.is_backup
        before.member, before.home, before.is_timed = member, self, False
        if was_backup != member.is_backup:
            before.is_called = not member.is_backup
        return before

    def hand_over(self, heir: "Pool[T]") -> dict[str, _Seat[T]]:
        """The seats, those in line first and in their turn. From here on this pool picks through its heir."""
        if self._heir is not None:
            return self._heir.hand_over(heir)
        self._heir = heir
        in_turn = {**self._called.ready, **self._standing_by.ready, **self._probing}
        return {**in_turn, **{name: seat for name, seat in self._seats.items() if name not in in_turn}}
