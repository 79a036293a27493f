"""Puts intents, progress and charges into the journal: the `UsageSink` of the gateway.

What one turn of the loop brings is put down at its end, by one write; the outbox holds back till then what must not go
out before. An intent that cannot be put down refuses its request. A charge is never refused: if the disk takes nothing,
it waits in memory until the disk does, and no new request is let in before. What was put down is handed over to the
writer. A charge's number is the number of its record, so the numbers of one journal grow for ever and every store can
tell what it has seen.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec
from msgspec.structs import force_setattr

from trollproxy.errors import GatewayError
from trollproxy.money.boundaries import Boundary, pass_by
from trollproxy.money.entries import Settled, Unsettled, decode, encode
from trollproxy.money.handover import Handover
from trollproxy.money.journal import Journal, JournalUnavailable
from trollproxy.outbox import Outbox
from trollproxy.ports import UsageSink
from trollproxy.records import Charge, Intent, Progress

log = logging.getLogger(__name__)

_CHUNK_RECORDS = 1000
_CHUNK_BYTES = 1024 * 1024


class Recorder(UsageSink):
    """The writing side of one journal."""

    def __init__(self, journal: Journal, outbox: Outbox | None = None, *, at: Boundary = pass_by) -> None:
        self._journal = journal
        self._outbox = outbox or Outbox()
        self._outbox.put_down = self._put_down
        self._at = at
        self._open: dict[str, int] = {}  # request id -> number of its intent; as many as requests in flight
        self._refused: deque[Charge] = deque()  # by the disk; as many as were in flight when it failed
        self._added: list[Charge] = []  # to be put down with this turn's records
        self._added_progress = 0
        self._told: set[str] = set()  # whose refusal is in the log; as many as `_refused` at the most
        self.fresh = Handover(journal.last)
        self.when_recorded: Callable[[], None] = _nothing
        self.when_intended: Callable[[Intent], None] = _nothing
        self.progress_lost = 0
        self.unwritable = 0

    @property
    def refused(self) -> int:
        """Charges that wait for the disk."""
        return len(self._refused)

    @property
    def added(self) -> int:
        """Charges that are put down at the end of this turn."""
        return len(self._added)

    @property
    def unsettled(self) -> int:
        """Intents whose charge is not in the journal."""
        return len(self._open)

    def intend(self, intent: Intent, *, at_once: bool = False) -> None:
        if self._refused:
            self._add_refused()
        self._at("before_intent")
        number = self._journal.add(encode(intent))
        self.when_intended(intent)
        if intent.request_id in self._open:  # one for another provider before: the newer counts, once it is down
            self._wait(at_once=True)
            del self._open[intent.request_id]
            self._open[intent.request_id] = number
            return
        self._open[intent.request_id] = number
        try:
            self._wait(at_once=at_once)
        except GatewayError:  # no charge will follow
            del self._open[intent.request_id]
            raise

    def progress(self, progress: Progress) -> None:
        try:
            self._journal.add(encode(progress), is_reserved=True)
        except JournalUnavailable:
            self.progress_lost += 1  # only a crash would have needed it
            return
        self._added_progress += 1
        with suppress(JournalUnavailable):
            self._outbox.wait()

    def record(self, charge: Charge) -> None:
        self._refused.append(charge)
        self._retry()

    def flush(self) -> None:
        """Put down what waits, for the end of the turn or because the disk refused it."""
        self._retry()
        self._outbox.flush()

    def done_before(self, number: int) -> int:
        """The highest number up to `number` below which no intent waits for its charge."""
        oldest = next(iter(self._open.values()), number + 1)
        return min(number, oldest - 1)

    def recover(self) -> int:
        """Charge what a crash cut off; how many exchanges that were."""
        unsettled = Unsettled()
        position = self._journal.acknowledged
        while found := self._journal.read(position, max_records=_CHUNK_RECORDS, max_bytes=_CHUNK_BYTES):
            for number, payload in found:
                unsettled.take(number, decode(payload))
                position = number
        self._at("before_recovery")
        self._open.update(unsettled.numbers())
        for charge in unsettled.crashed():
            self.record(charge)
        self.flush()
        self._at("after_recovery")
        return len(unsettled)

    def _wait(self, *, at_once: bool) -> None:
        self._outbox.wait()
        if at_once and (error := self._outbox.flush()) is not None:
            raise error

    def _retry(self) -> None:
        """Where the disk refuses again, it stays where it is, and `refused` shows it."""
        try:
            self._add_refused()
        except JournalUnavailable as error:
            self._tell(self._refused, error)

    def _add_refused(self) -> None:
        while self._refused:
            charge = self._refused[0]
            force_setattr(charge, "seq", self._journal.next)  # nobody else has it before it is put down
            self._at("before_charge")
            try:
                self._journal.add(encode(Settled(charge)), is_reserved=True)
            except ValueError:  # longer than a record can be: a bug of ours, and no reason to hold up all others
                self.unwritable += 1
                log.critical("a charge is too long", extra={"fields": msgspec.to_builtins(charge)})
                self._open.pop(charge.request_id, None)
                self._refused.popleft()
                continue
            self._refused.popleft()
            self._added.append(charge)
            self._outbox.wait()

    def _put_down(self) -> None:
        """What was added in this turn of the loop. Where the disk does not take it, the charges wait."""
        charges, self._added = self._added, []
        progress, self._added_progress = self._added_progress, 0
        self._at("before_put_down")
        try:
            self._journal.put_down()
        except JournalUnavailable as error:
            self.progress_lost += progress
            self._refused.extendleft(reversed(charges))
            self._tell(charges, error)
            self._hold_back()
            raise
        self._at("after_put_down")
        for charge in charges:
            self.fresh.put(charge)
            self.when_recorded()
            self._open.pop(charge.request_id, None)
        if self._told:
            self._told.difference_update([charge.request_id for charge in charges])

    def _hold_back(self) -> None:
        """The numbers of intents that are not down are given again; until they have their charges, nothing that comes
        with or behind these numbers is done.
        """
        following = self._journal.last + 1
        for request_id, number in self._open.items():
            if number > following:
                self._open[request_id] = following

    def _tell(self, charges: Iterable[Charge], error: JournalUnavailable) -> None:
        """Once of each: should the process end before the disk takes it, the log has the only trace of it."""
        for charge in charges:
            if charge.request_id not in self._told:
                self._told.add(charge.request_id)
                fields = {"request_id": charge.request_id, "cost_nusd": charge.cost_nusd, "reason": error.message}
                log.critical("the disk takes no charge; it waits in memory", extra={"fields": fields})


def _nothing(*_: object) -> None:
    """Nobody listens yet."""
