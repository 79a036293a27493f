"""The records of one turn of the loop, put down by one write: all or none, and what becomes of each if it is none."""

import logging
from collections.abc import Callable

import pytest

from tests.fake_journal import MemoryJournal
from tests.fakes import make_charge, make_intent
from tests.unit.money.test_recorder import charges, progress, told
from trollproxy.money.journal import JournalUnavailable
from trollproxy.money.recorder import Recorder
from trollproxy.outbox import Outbox


class Written(MemoryJournal):
    """Counts the writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def put_down(self) -> None:
        self.writes += bool(self._added)
        super().put_down()


class Loop:
    """A recorder in a loop whose turns the test ends."""

    def __init__(self) -> None:
        self.journal = Written()
        self.turn: list[Callable[[], object]] = []
        self.passed: list[str] = []
        self.recorder = Recorder(self.journal, Outbox(self.turn.append), at=self.passed.append)
        self.heard: list[int] = []
        self.recorder.when_recorded = lambda: self.heard.append(self.journal.last)

    def end_turn(self) -> None:
        calls = self.turn[:]
        self.turn.clear()
        for call in calls:
            call()

    def intend(self, *numbers: int) -> None:
        for number in numbers:
            self.recorder.intend(make_intent(number))

    def record(self, *numbers: int) -> None:
        for number in numbers:
            self.recorder.record(make_charge(number))

    @property
    def fresh(self) -> list[int]:
        """The numbers of the charges that the writer can take."""
        return [charge.seq for charge in self.recorder.fresh.take(0, 100) or ()]

    @property
    def waiting(self) -> list[str]:
        return [charge.request_id for charge in self.recorder._refused]


def test_what_a_turn_brings_is_one_write() -> None:
    loop = Loop()
    loop.intend(1, 2)
    loop.recorder.progress(progress(1))
    loop.record(1)
    assert (loop.journal.writes, told(loop.journal)) == (0, [])
    loop.end_turn()
    assert loop.journal.writes == 1
    assert told(loop.journal) == ["intent req-1", "intent req-2", "progress req-1", "charge req-1"]
    assert charges(loop.journal)[0].seq == 4
    assert loop.recorder.done_before(4) == 1
    assert loop.passed == ["before_intent", "before_intent", "before_charge", "before_put_down", "after_put_down"]


def test_a_charge_is_handed_over_once_it_is_down() -> None:
    loop = Loop()
    loop.intend(1)
    loop.record(1, 2)
    assert (loop.fresh, loop.heard, loop.recorder.unsettled) == ([], [], 1)
    loop.end_turn()
    assert (loop.fresh, loop.heard, loop.recorder.unsettled) == ([2, 3], [3, 3], 0)


def test_a_charge_is_seen_to_wait_from_the_moment_that_it_is_made() -> None:
    """Who looks between two calls of a turn must not take the books for complete."""
    loop = Loop()
    loop.intend(1)
    loop.end_turn()
    loop.record(1)
    assert (loop.recorder.added, loop.heard) == (1, [])
    loop.end_turn()
    assert (loop.recorder.added, loop.heard) == (0, [2])


def test_who_flushes_does_not_wait_for_the_end_of_the_turn() -> None:
    loop = Loop()
    loop.intend(1)
    loop.record(1)
    loop.recorder.flush()
    assert told(loop.journal) == ["intent req-1", "charge req-1"]
    loop.end_turn()
    assert loop.journal.writes == 1


def test_a_turn_that_cannot_be_put_down_leaves_nothing_and_keeps_its_charges(caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop()
    loop.intend(1, 2, 3)
    loop.end_turn()
    loop.journal.refusing = "writes"
    loop.intend(4)
    loop.record(2, 1)
    loop.recorder.progress(progress(3))
    loop.recorder.progress(progress(4))
    loop.end_turn()
    assert told(loop.journal) == ["intent req-1", "intent req-2", "intent req-3"]
    assert (loop.recorder.refused, loop.waiting) == (2, ["req-2", "req-1"])
    assert loop.recorder.progress_lost == 2
    assert (loop.fresh, loop.heard) == ([], [])
    assert loop.recorder.done_before(loop.journal.last) == 0
    loop.record(3)
    loop.end_turn()
    loop.recorder.flush()
    assert loop.waiting == ["req-2", "req-1", "req-3"]
    assert loop.recorder.progress_lost == 2
    critical = [record.fields["request_id"] for record in caplog.records if record.levelno == logging.CRITICAL]  # type: ignore[attr-defined]
    assert critical == ["req-2", "req-1", "req-3"]


def test_what_waits_is_put_down_before_what_is_new() -> None:
    loop = Loop()
    loop.intend(1, 2)
    loop.end_turn()
    loop.journal.refusing = "writes"
    loop.record(2, 1)
    loop.end_turn()
    loop.journal.refusing = "nothing"
    writes = loop.journal.writes
    loop.intend(3)
    loop.record(3)
    assert loop.recorder.refused == 0
    loop.end_turn()
    assert told(loop.journal)[2:] == ["charge req-2", "charge req-1", "intent req-3", "charge req-3"]
    assert [charge.seq for charge in charges(loop.journal)] == loop.fresh == [3, 4, 6]
    assert loop.journal.writes == writes + 1
    assert loop.recorder.done_before(6) == 6


def test_what_waits_is_put_down_by_a_flush_though_nothing_new_comes() -> None:
    """The writer flushes on its timer."""
    loop = Loop()
    loop.journal.refusing = "writes"
    loop.record(1)
    loop.end_turn()
    loop.recorder.flush()
    assert told(loop.journal) == []
    loop.journal.refusing = "nothing"
    loop.recorder.flush()
    assert (told(loop.journal), loop.fresh) == (["charge req-1"], [1])


def test_each_refusal_of_a_charge_is_told_anew_after_it_was_down(caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop()
    for number in (1, 2):
        loop.journal.refusing = "writes"
        loop.record(number)
        loop.end_turn()
        loop.journal.refusing = "nothing"
        loop.recorder.flush()
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(critical) == 2
    assert loop.recorder._told == set()


def test_an_intent_that_was_not_put_down_holds_back_until_its_charge_is() -> None:
    """Its number is given again. Whoever has it then must not be forgotten on its account."""
    loop = Loop()
    loop.intend(1)
    loop.record(1)
    loop.end_turn()
    loop.journal.refusing = "writes"
    loop.intend(2, 3)
    loop.end_turn()
    assert (loop.journal.last, loop.recorder.unsettled) == (2, 2)
    assert loop.recorder.done_before(2) == 2
    loop.journal.refusing = "nothing"
    loop.recorder.progress(progress(9))
    loop.end_turn()
    assert loop.recorder.done_before(3) == 2
    loop.record(2, 3)
    loop.end_turn()
    assert told(loop.journal)[2:] == ["progress req-9", "charge req-2", "charge req-3"]
    assert loop.recorder.done_before(5) == 5


def test_an_intent_whose_number_was_given_before_is_not_forgotten() -> None:
    """The numbers of intents go back when they could not be put down, and the oldest is not the first any more."""
    loop = Loop()
    loop.journal.refusing = "writes"
    loop.intend(1, 2, 3)
    loop.end_turn()
    loop.journal.refusing = "nothing"
    loop.intend(4)
    loop.record(1, 2)
    loop.end_turn()
    assert told(loop.journal) == ["intent req-4", "charge req-1", "charge req-2"]
    assert loop.recorder.done_before(3) == 0


def test_no_request_is_let_in_while_the_disk_takes_no_charge() -> None:
    loop = Loop()
    loop.journal.refusing = "everything"
    loop.record(1)
    with pytest.raises(JournalUnavailable):
        loop.intend(2)
    loop.end_turn()
    assert (told(loop.journal), loop.recorder.unsettled) == ([], 0)


def test_what_a_crash_cut_off_is_put_down_by_one_write() -> None:
    before = Loop()
    before.intend(1, 2, 3)
    before.end_turn()
    loop = Loop()
    loop.journal.records, loop.journal.last = before.journal.records, before.journal.last
    assert loop.recorder.recover() == 3
    assert told(loop.journal)[3:] == ["charge req-1", "charge req-2", "charge req-3"]
    assert loop.journal.writes == 1
    assert loop.passed[-3:] == ["before_put_down", "after_put_down", "after_recovery"]


def test_a_charge_that_is_too_long_does_not_take_its_turn_along() -> None:
    loop = Loop()
    loop.intend(1, 2)
    loop.recorder.record(make_charge(1, upstream_model="m" * (1 << 20)))
    loop.record(2)
    loop.end_turn()
    assert told(loop.journal) == ["intent req-1", "intent req-2", "charge req-2"]
    assert (loop.recorder.unwritable, loop.recorder.unsettled, loop.recorder.refused) == (1, 0, 0)


def test_an_intent_whose_request_is_not_sent_in_this_turn_is_put_down_at_once() -> None:
    """Nobody could tell it later that it has none."""
    loop = Loop()
    loop.intend(1)
    loop.recorder.intend(make_intent(2), at_once=True)
    assert told(loop.journal) == ["intent req-1", "intent req-2"]
    loop.journal.refusing = "writes"
    with pytest.raises(JournalUnavailable):
        loop.recorder.intend(make_intent(3), at_once=True)
    loop.end_turn()
    assert loop.recorder.unsettled == 2
    loop.journal.refusing = "nothing"
    loop.record(1, 2)
    loop.end_turn()
    assert loop.recorder.done_before(4) == 4


def test_an_intent_for_another_provider_counts_once_it_is_down() -> None:
    """Until then a crash must find the first one: the exchange is under way."""
    loop = Loop()
    loop.intend(1)
    loop.end_turn()
    loop.journal.refusing = "writes"
    with pytest.raises(JournalUnavailable):
        loop.recorder.intend(make_intent(1, provider="other"))
    loop.journal.refusing = "nothing"
    loop.intend(2)
    loop.end_turn()
    assert loop.recorder.done_before(2) == 0
    loop.recorder.intend(make_intent(1, provider="other"))
    assert told(loop.journal) == ["intent req-1", "intent req-2", "intent req-1"]
    assert loop.recorder.done_before(3) == 1
    loop.record(1, 2)
    loop.end_turn()
    assert loop.recorder.done_before(5) == 5


def test_without_an_end_of_the_turn_an_intent_that_is_refused_leaves_nothing_open() -> None:
    journal = MemoryJournal()
    recorder = Recorder(journal)
    journal.refusing = "writes"
    with pytest.raises(JournalUnavailable):
        recorder.intend(make_intent(1))
    assert (recorder.unsettled, recorder.done_before(7)) == (0, 7)
