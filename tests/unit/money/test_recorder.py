"""The writing side of the journal: no charge without a number, none refused, none forgotten by a restart."""

import logging

import msgspec
import pytest

from tests.fake_journal import MemoryJournal
from tests.fakes import make_charge, make_intent
from trollproxy.chat import Usage
from trollproxy.money.entries import Settled
from trollproxy.money.journal import JournalUnavailable
from trollproxy.money.recorder import Recorder
from trollproxy.money.segments import MAX_PAYLOAD_BYTES
from trollproxy.records import Charge, Intent, Progress


def progress(number: int, output_bytes: int = 40) -> Progress:
    return Progress(request_id=f"req-{number}", usage=None, is_usage_final=False, output_bytes=output_bytes)


def told(journal: MemoryJournal) -> list[str]:
    """What the journal holds, in words."""
    words = {Intent: "intent", Progress: "progress"}
    return [
        f"charge {entry.charge.request_id}"
        if isinstance(entry, Settled)
        else f"{words[type(entry)]} {entry.request_id}"
        for entry in journal.entries
    ]


def charges(journal: MemoryJournal) -> list[Charge]:
    return [entry.charge for entry in journal.entries if isinstance(entry, Settled)]


def test_an_exchange_from_intent_to_charge() -> None:
    journal = MemoryJournal()
    recorder = Recorder(journal)
    recorder.intend(make_intent(1))
    recorder.progress(progress(1))
    recorder.record(make_charge(1))
    assert journal.entries == [make_intent(1), progress(1), Settled(msgspec.structs.replace(make_charge(1), seq=3))]
    assert recorder.done_before(journal.last) == 3


def test_a_charges_number_is_that_of_its_record() -> None:
    journal = MemoryJournal()
    recorder = Recorder(journal)
    for number in (1, 2, 3):
        recorder.intend(make_intent(number))
    for number in (2, 1, 3):
        recorder.record(make_charge(number))
    assert [(charge.request_id, charge.seq) for charge in charges(journal)] == [
        ("req-2", 4),
        ("req-1", 5),
        ("req-3", 6),
    ]
    assert [number for number, _ in journal.records] == list(range(1, 7))


def test_whoever_waits_for_charges_hears_of_each() -> None:
    heard: list[int] = []
    journal = MemoryJournal()
    recorder = Recorder(journal)
    recorder.when_recorded = lambda: heard.append(journal.last)
    recorder.intend(make_intent(1))
    recorder.progress(progress(1))
    assert heard == []
    recorder.record(make_charge(1))
    assert heard == [3]


def test_an_intent_that_cannot_be_put_down_is_refused() -> None:
    journal = MemoryJournal()
    recorder = Recorder(journal)
    journal.refusing = "unreserved"
    with pytest.raises(JournalUnavailable):
        recorder.intend(make_intent(1))
    assert journal.records == []
    assert recorder.done_before(7) == 7  # nothing is open
    journal.refusing = "nothing"
    recorder.intend(make_intent(2))
    assert recorder.done_before(journal.last) == 0


def test_what_was_admitted_is_still_put_down_when_intents_are_refused() -> None:
    journal = MemoryJournal()
    recorder = Recorder(journal)
    recorder.intend(make_intent(1))
    journal.refusing = "unreserved"
    recorder.progress(progress(1))
    recorder.record(make_charge(1))
    assert told(journal) == ["intent req-1", "progress req-1", "charge req-1"]
    assert (recorder.refused, recorder.progress_lost) == (0, 0)


def test_charges_that_the_disk_refuses_wait_in_order(caplog: pytest.LogCaptureFixture) -> None:
    journal = MemoryJournal()
    recorder = Recorder(journal)
    for number in (1, 2, 3):
        recorder.intend(make_intent(number))
    journal.refusing = "everything"
    recorder.record(make_charge(2))
    recorder.record(make_charge(1))
    assert (recorder.refused, journal.last) == (2, 3)
    assert recorder.done_before(journal.last) == 0
    with pytest.raises(JournalUnavailable):
        recorder.intend(make_intent(4))
    journal.refusing = "nothing"
    recorder.intend(make_intent(5))
    assert told(journal)[3:] == ["charge req-2", "charge req-1", "intent req-5"]
    assert [charge.seq for charge in charges(journal)] == [4, 5]
    assert recorder.refused == 0
    assert recorder.done_before(journal.last) == 2
    critical = [record.fields for record in caplog.records if record.levelno == logging.CRITICAL]  # type: ignore[attr-defined]
    assert [(fields["request_id"], fields["cost_nusd"]) for fields in critical] == [("req-2", 100), ("req-1", 100)]


def test_the_next_charge_takes_those_that_wait_along() -> None:
    heard: list[int] = []
    journal = MemoryJournal()
    recorder = Recorder(journal)
    recorder.when_recorded = lambda: heard.append(journal.last)
    for number in (1, 2):
        recorder.intend(make_intent(number))
    journal.refusing = "everything"
    recorder.record(make_charge(1))
    journal.refusing = "unreserved"
    recorder.record(make_charge(2))
    assert told(journal)[2:] == ["charge req-1", "charge req-2"]
    assert heard == [3, 4]


def test_an_intent_is_refused_while_charges_wait_even_if_it_would_fit() -> None:
    class Grudging(MemoryJournal):
        def add(self, payload: bytes, *, is_reserved: bool = False) -> int:
            if is_reserved:
                raise JournalUnavailable("no")
            return super().add(payload)

    journal = Grudging()
    recorder = Recorder(journal)
    recorder.record(make_charge(1))
    with pytest.raises(JournalUnavailable):
        recorder.intend(make_intent(2))
    assert journal.records == []


def test_lost_progress_is_counted_and_harms_nobody() -> None:
    journal = MemoryJournal()
    recorder = Recorder(journal)
    recorder.intend(make_intent(1))
    journal.refusing = "everything"
    for _ in range(3):
        recorder.progress(progress(1))
    assert recorder.progress_lost == 3
    journal.refusing = "nothing"
    recorder.record(make_charge(1))
    assert told(journal) == ["intent req-1", "charge req-1"]


@pytest.mark.parametrize("room", [0, 10, 50, 100, 200])
def test_a_charge_that_is_too_long_blocks_nobody(room: int) -> None:
    """The name of a prefix model is the client's, of any length: a charge needs no more room than its intent had."""
    journal = MemoryJournal()
    recorder = Recorder(journal)
    short = make_intent(1)
    spare = MAX_PAYLOAD_BYTES - room - len(msgspec.msgpack.encode(short))
    intent = msgspec.structs.replace(short, upstream_model="m" * spare)
    charge = make_charge(1, upstream_model=intent.upstream_model, upstream_key_id="k" * 60, code="c" * 30)
    try:
        recorder.intend(intent)
    except (ValueError, JournalUnavailable):
        assert journal.records == []  # refused before it cost anything
    else:
        recorder.record(charge)
    recorder.intend(make_intent(2))
    recorder.record(make_charge(2))
    assert told(journal)[-1] == "charge req-2"


def crashed(*numbers: int, after: int = 0) -> MemoryJournal:
    """A journal in which these were charged, then a stream and a whole answer cut off."""
    journal = MemoryJournal()
    recorder = Recorder(journal)
    for number in (*numbers, 101, 102):
        recorder.intend(make_intent(number))
    for number in numbers:
        recorder.progress(progress(number))
        recorder.record(make_charge(number))
    for output_bytes in (40, 400):
        recorder.progress(progress(101, output_bytes))
    journal.acknowledge(after)
    return journal.reopened()


def test_what_a_crash_cut_off_is_charged_once_from_its_last_progress() -> None:
    journal = crashed(1, 2)
    recorder = Recorder(journal)
    before = journal.last
    assert recorder.recover() == 2
    stream, whole = charges(journal)[2:]
    assert (stream.request_id, stream.ended_by, stream.seq) == ("req-101", "gateway_crashed", before + 1)
    assert stream.usage == Usage(uncached=100, out_text=100)
    assert stream.is_estimated
    assert (whole.request_id, whole.ended_by, whole.seq) == ("req-102", "gateway_crashed_before_token", before + 2)
    assert (whole.cost_nusd, whole.usage) == (0, Usage())
    assert recorder.done_before(journal.last) == journal.last


def test_recovering_again_charges_nothing_more() -> None:
    journal = crashed(1)
    Recorder(journal).recover()
    recovered = list(journal.records)
    assert Recorder(journal).recover() == 0
    assert Recorder(journal.reopened()).recover() == 0
    assert journal.records == recovered


@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_was_acknowledged_need_not_be_read_again(after: int) -> None:
    """Acknowledged is never beyond an open intent: here after 1 the intent itself, after 2 another's."""
    journal = MemoryJournal()
    recorder = Recorder(journal)
    recorder.intend(make_intent(1))
    recorder.record(make_charge(1))
    recorder.intend(make_intent(2))
    journal.acknowledge(after)
    later = journal.reopened()
    assert Recorder(later).recover() == 1
    assert told(later)[-1] == "charge req-2"


def test_an_empty_journal_has_nothing_to_recover() -> None:
    journal = MemoryJournal()
    assert Recorder(journal).recover() == 0
    assert journal.records == []


def test_many_records_are_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trollproxy.money.recorder._CHUNK_RECORDS", 3)
    journal = crashed(*range(1, 10))
    assert Recorder(journal).recover() == 2
    assert len(charges(journal)) == 11


def test_what_is_recovered_while_the_disk_refuses_is_not_acknowledged_away() -> None:
    """Until its charge is put down, the intent must be found again by the next start."""
    journal = MemoryJournal()
    Recorder(journal).intend(make_intent(1))
    later = journal.reopened()
    later.refusing = "everything"
    recorder = Recorder(later)
    assert recorder.recover() == 1
    assert recorder.refused == 1
    assert recorder.done_before(later.last) == 0


def test_boundaries_are_passed_in_order() -> None:
    passed: list[str] = []
    journal = MemoryJournal()
    recorder = Recorder(journal, at=lambda name: passed.append(f"{name} {journal.last}"))
    recorder.intend(make_intent(1))
    recorder.progress(progress(1))
    recorder.record(make_charge(1))
    down = [("before_put_down", 0), ("after_put_down", 1), ("before_put_down", 1), ("after_put_down", 2)]
    down += [("before_put_down", 2), ("after_put_down", 3)]
    expected = [("before_intent", 0), *down[:4], ("before_charge", 2), *down[4:]]
    assert passed == [f"{name} {last}" for name, last in expected]


def test_recovery_passes_its_boundaries() -> None:
    passed: list[str] = []
    Recorder(crashed(), at=passed.append).recover()
    one = ["before_charge", "before_put_down", "after_put_down"]
    assert passed == ["before_recovery", *one, *one, "after_recovery"]


def test_an_intent_for_another_provider_takes_the_place_of_the_first() -> None:
    """What is below the newer one is no longer waited for, and nothing below another's is forgotten."""
    journal = MemoryJournal()
    recorder = Recorder(journal)
    recorder.intend(make_intent(1))
    recorder.intend(make_intent(2))
    recorder.intend(make_intent(1, provider="other"))
    assert recorder.unsettled == 2
    assert recorder.done_before(3) == 1
    recorder.record(make_charge(2))
    assert recorder.done_before(4) == 2
    again = Recorder(journal)
    assert again.recover() == 1
    assert charges(journal)[-1].provider == "other"
