"""Log lines on their way: from whoever logs to the thread that writes, and the time that each begins with.

Two things of the log are done for every request, and are here: putting a line among those that wait, and its stamp.
Must not know: what a line says, where it is written.
"""

import logging
import threading
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache

# At about 500 bytes a record or line, 8,192 waiting ones are 4 MB: what 1,000 requests/s write in 8 s of a stuck disk.
MAX_WAITING = 8_192
# One write for many records; a larger batch gives no more, as the cost of a write is per call.
MAX_LINES_PER_WRITE = 128
# A line may be this late. At 1,000 records/s it makes 20 wakings out of 1,000.
GATHER_S = 0.05
_MILLISECONDS = [f".{n:03d}Z" for n in range(1000)]  # to look one up takes half as long as to write one

Line = logging.LogRecord | str


class Waiting:
    """What is to be written, from the threads that log to the one that writes."""

    def __init__(self) -> None:
        self.dropped = 0
        self._lines: deque[Line] = deque()  # appending and taking need no lock
        self._is_told = False
        self._is_there = threading.Event()
        self._is_closing = threading.Event()

    def put(self, line: Line) -> None:
        lines = self._lines
        if len(lines) >= MAX_WAITING:
            self.dropped += 1
            return
        lines.append(line)
        if not self._is_told:
            self._is_told = True
            self._is_there.set()

    def close(self) -> None:
        """The one who takes gets what is there, and then nothing."""
        self._is_closing.set()
        self._is_there.set()

    def take(self) -> list[Line]:
        """The next ones; none where the queue was closed and is empty.

        After others they are let gather, since each waking of the thread that writes takes the event loop's turn; one
        that comes alone goes at once.
        """
        lines = self._lines
        if len(lines) < MAX_LINES_PER_WRITE:
            self._is_closing.wait(GATHER_S)
        while not lines and not self._is_closing.is_set():
            self._is_there.clear()
            self._is_told = False
            if not lines and not self._is_closing.is_set():  # what came just before told of itself in vain
                self._is_there.wait()
        return [lines.popleft() for _ in range(min(len(lines), MAX_LINES_PER_WRITE))]


@lru_cache(maxsize=2)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def stamp(at_s: float) -> str:
    """`2026-01-31T12:00:00.000Z`."""
    whole_s = int(at_s)
    return _second(whole_s) + _MILLISECONDS[int((at_s - whole_s) * 1000)]
