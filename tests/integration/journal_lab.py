"""Small journals on a disk that fails as it is told, and what a fresh process finds in them."""

from contextlib import contextmanager
from pathlib import Path

from tests.unit.money.test_segments import FaultyDisk
from trollproxy.money.disk import Disk
from trollproxy.money.journal import Journal

SMALL = 120  # bytes a segment: three or four records of the samples


class Clock:
    """Time goes on by a tenth of a second whenever it is asked for."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.1
        return self.now_s


def ids(size: int) -> bytes:
    return b"journal1"[:size]


def make(path: Path, disk: Disk | None = None, *, max_bytes: int = 1 << 20, segment_bytes: int = SMALL) -> Journal:
    return Journal(path, disk=disk, segment_bytes=segment_bytes, max_bytes=max_bytes, clock=Clock(), random_bytes=ids)


def append(journal: Journal, payload: bytes, *, is_reserved: bool = False) -> int:
    """One record by one write."""
    number = journal.add(payload, is_reserved=is_reserved)
    journal.put_down()
    return number


@contextmanager
def opened(path: Path, disk: Disk | None = None, *, max_bytes: int = 1 << 20, segment_bytes: int = SMALL):
    journal = make(path, disk, max_bytes=max_bytes, segment_bytes=segment_bytes)
    journal.open()
    try:
        yield journal
    finally:
        journal.close()


def read_all(journal: Journal, after: int = 0) -> list[tuple[int, bytes]]:
    records: list[tuple[int, bytes]] = []
    while found := journal.read(records[-1][0] if records else after, max_records=3, max_bytes=60):
        records += found
    return records


def reopened(path: Path) -> dict[int, bytes]:
    """What a fresh process finds; and that it can go on, and that a second start finds the same."""
    with opened(path, FaultyDisk()) as journal:
        records = read_all(journal)
        number = append(journal, b"later")
        assert number > max([number for number, _ in records], default=0)
    with opened(path, FaultyDisk()) as journal:
        assert read_all(journal) == [*records, (number, b"later")]
        assert not list(path.glob("*.new"))
    numbers = [number for number, _ in records]
    assert numbers == sorted(set(numbers))
    return dict(records)


def fill(path: Path, count: int, *, segment_bytes: int = SMALL) -> dict[int, bytes]:
    with opened(path, segment_bytes=segment_bytes) as journal:
        return {append(journal, payload): payload for payload in (b"payload %d" % n for n in range(count))}


def segments(path: Path) -> list[Path]:
    return sorted(path.glob("*.journal"))
