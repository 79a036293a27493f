"""The journal through everything that can happen to it, in any order, beside a dictionary of what it must hold."""

import errno
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.integration.journal_lab import make, read_all
from tests.unit.money.test_segments import FaultyDisk
from trollproxy.money.journal import JournalUnavailable


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of damaged journals are opened here, and each says so."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class JournalMachine(RuleBasedStateMachine):
    """`told` is what was put down, `added` what waits for that, `durable` what must outlive the machine.

    `doubtful` is what was refused and could not be taken back from the disk: if the process or the machine ends before
    that is mended or made good for, it may be found after all.
    """

    @initialize(segment_bytes=st.sampled_from([60, 120, 5000]))
    def start(self, segment_bytes: int) -> None:
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "j"
        self.segment_bytes = segment_bytes
        self.disk, self.told = FaultyDisk(), dict[int, bytes]()
        self.added, self.doubtful = dict[int, bytes](), list[tuple[int, bytes]]()
        self.acknowledged = 0
        self.replace(FaultyDisk())

    @rule(payload=st.binary(max_size=50), is_reserved=st.booleans())
    def add(self, payload: bytes, is_reserved: bool) -> None:
        following = self.journal.last + len(self.added) + 1
        assert self.journal.next == following
        with suppress(JournalUnavailable):
            assert self.journal.add(payload, is_reserved=is_reserved) == following
            self.added[following] = payload

    @rule()
    def put_down(self) -> None:
        last, added, self.added = self.journal.last, self.added, {}
        try:
            self.journal.put_down()
        except JournalUnavailable:
            self.doubtful += added.items()
            assert self.journal.last == last
        else:
            self.told |= added
            assert self.journal.last == last + len(added)

    @rule(payloads=st.lists(st.binary(max_size=50), min_size=1, max_size=6))
    def add_and_put_down(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self.add(payload, is_reserved=True)
        self.put_down()

    @rule(call=st.sampled_from(["write", "truncate", "fsync", "fdatasync", "rename", "unlink", "open"]))
    def fail(self, call: str) -> None:
        self.disk.failing[call] = errno.EIO

    @rule(ahead=st.integers(1, 4), fault=st.sampled_from(["short", "EINTR", "EIO"]))
    def fail_once(self, ahead: int, fault: str) -> None:
        self.disk.faults = {len(self.disk.calls) + ahead: fault}

    @rule()
    def heal(self) -> None:
        self.disk.failing, self.disk.faults = {}, {}

    @rule()
    def sync(self) -> None:
        assert self.journal.sync() == (self.journal.durable == self.journal.last)

    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        self.journal.acknowledge(int(self.journal.last * share))
        self.acknowledged = max(self.journal.acknowledged, self.acknowledged)

    @rule()
    def discard(self) -> None:
        self.journal.discard_before(now_s=1e12)

    @rule(is_closed=st.booleans())
    def restart(self, is_closed: bool) -> None:
        """What is not mended now and was not made good for is the last that was refused."""
        last, added, part = self.journal.last, self.added, self.journal._active
        if is_closed:
            self.journal.close()
        is_doubtful = part is not None and part.is_torn and self.journal.last == last
        if self.journal.last > last:
            self.told |= added
        elif is_closed:
            self.doubtful += added.items()
        told = self.told
        self.replace(FaultyDisk())
        self.told = dict(read_all(self.journal, self.journal.first - 1))
        wanted = {number: told[number] for number in told if number > self.acknowledged}
        assert wanted.items() <= self.told.items()
        found = self.told.items() - told.items()
        assert found <= (set(self.doubtful) if is_doubtful else set())
        self.doubtful.clear()

    @rule()
    def lose_power(self) -> None:
        durable, told = self.journal.durable, self.told
        self.disk.lose_power(self.path)
        self.replace(FaultyDisk())
        self.told = dict(read_all(self.journal, self.journal.first - 1))
        safe = {number: told[number] for number in told if self.acknowledged < number <= durable}
        assert safe.items() <= self.told.items()
        assert self.told.items() - told.items() <= set(self.doubtful)
        self.doubtful.clear()

    def replace(self, disk: FaultyDisk) -> None:
        if self.path.exists():
            self.disk.release()
            disk.adopt(self.path)
        self.disk = disk
        self.added = {}
        self.journal = make(self.path, disk, segment_bytes=self.segment_bytes)
        self.journal.open()

    @invariant()
    def everything_is_there(self) -> None:
        if "open" in self.disk.failing:
            return
        faults, self.disk.faults = self.disk.faults, {}
        found = read_all(self.journal, self.journal.first - 1)
        wanted = {number: payload for number, payload in self.told.items() if number > self.acknowledged}
        assert wanted.items() <= dict(found).items() <= self.told.items()
        assert [number for number, _ in found] == sorted(dict(found))
        assert self.journal.unacknowledged_bytes >= sum(map(len, wanted.values()))
        self.disk.faults = faults

    def teardown(self) -> None:
        self.disk.release()
        self.folder.cleanup()


JournalMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestJournalMachine = JournalMachine.TestCase
