"""Puts intents, progress and charges into the journal: the `UsageSink` of the gateway.

An intent that cannot be put down refuses its request. A charge is never refused: if the disk takes nothing, it waits in
memory until the disk does, and no new request is let in before. What was put down is handed over to the writer. A
charge's number is the number of its record, so the numbers of one journal grow for ever and every store can tell what
it has seen.
"""

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from trollproxy.money.boundaries import Boundary, pass_by
from trollproxy.money.entries import Settled, Unsettled, decode, encode
from trollproxy.money.handover import Handover
from trollproxy.money.journal import Journal, JournalUnavailable
from trollproxy.records import Charge, Intent, Progress

log = logging.getLogger(__name__)

_CHUNK_RECORDS = 1000
_CHUNK_BYTES = 1024 * 1024


class Recorder:
    """The writing side of one journal."""

    def __init__(self, journal: Journal, *, at: Boundary = pass_by) -> None:
        self._journal = journal
        self._at = at
        self._open: dict[str, int] = {}  # request id -> number of its intent; as many as requests in flight
        self._refused: deque[Charge] = deque()  # by the disk; as many as were in flight when it failed
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
    def unsettled(self) -> int:
        """Intents whose charge is not in the journal."""
        return len(self._open)

    def intend(self, intent: Intent) -> None:
        if self._refused:
            self._put_down_refused()
        self._at("before_intent")
        number = self._journal.append(encode(intent))
        self.when_intended(intent)
        if intent.request_id in self._open:  # one for another provider before: the newer counts, at its place
            del self._open[intent.request_id]
        self._open[intent.request_id] = number
        self._at("after_intent")

    def progress(self, progress: Progress) -> None:
        try:
            self._journal.append(encode(progress), is_reserved=True)
        except JournalUnavailable:
            self.progress_lost += 1  # only a crash would have needed it
        self._at("after_progress")

    def record(self, charge: Charge) -> None:
        self._refused.append(charge)
        try:
            self._put_down_refused()
        except JournalUnavailable as error:
            fields = {"request_id": charge.request_id, "cost_nusd": charge.cost_nusd, "reason": error.message}
            log.critical("the disk takes no charge; it waits in memory", extra={"fields": fields})

    def retry(self) -> None:
        """Try to put down what the disk refused."""
        with suppress(JournalUnavailable):  # it stays where it is, and `refused` shows it
            self._put_down_refused()

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
        self._at("after_recovery")
        return len(unsettled)

    def _put_down_refused(self) -> None:
        while self._refused:
            charge = msgspec.structs.replace(self._refused[0], seq=self._journal.last + 1)
            self._at("before_charge")
            try:
                self._journal.append(encode(Settled(charge)), is_reserved=True)
            except ValueError:  # longer than a record can be: a bug of ours, and no reason to hold up all others
                self.unwritable += 1
                log.critical("a charge is too long", extra={"fields": msgspec.to_builtins(charge)})
            else:
                assert self._journal.last == charge.seq
                self.fresh.put(charge)
                self.when_recorded()
            self._refused.popleft()
            self._open.pop(charge.request_id, None)
            self._at("after_charge")


def _nothing(*_: object) -> None:
    """Nobody listens yet."""
