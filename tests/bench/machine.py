"""The machine as the benchmark needs it: which core a part runs on, and what CPU time and memory a process has used."""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
GATEWAY_CORE, LOAD_CORE = 0, 1  # no system under test shares a core with the load
LOOK_S = 0.05

_CPU_CLOCK = 2  # CPUCLOCK_SCHED of clock_getcpuclockid(3): all threads, user and system, in nanoseconds


def pinned(core: int, command: Sequence[str]) -> list[str]:
    return ["taskset", "-c", str(core), *command]


def pin(pid: int, core: int) -> None:
    """All threads of a process that runs already."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def pids_of(root: int) -> list[int]:
    """A process and its children, such as nginx's worker."""
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return [root, *(pid for child in children for pid in pids_of(int(child)))]


def cpu_us(root: int) -> float:
    """User and system time of the process and its children so far, all threads.

    Not from /proc/PID/stat: that counts in ticks of 10 ms, which is a tenth of a short round.
    """
    return sum(time.clock_gettime_ns((~pid << 3) | _CPU_CLOCK) for pid in pids_of(root)) / 1000


def rss_kb(root: int) -> int:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KB for pid in pids_of(root))


class Peak:
    """The most memory that a process was seen with."""

    kb = 0


@contextmanager
def watch_memory(root: int) -> Iterator[Peak]:
    """Look at a process's memory all the while: what it holds for streams is gone when they have ended."""
    peak, over = Peak(), Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            peak.kb = max(peak.kb, rss_kb(root))

    watcher = Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def version_of(*command: str) -> str:
    """What a program says of its version, on one line."""
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return (said.stdout + said.stderr).strip().splitlines()[0]
