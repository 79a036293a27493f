"""The machine as the benchmark needs it: which core a part runs on, and what CPU time a process has used."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
GATEWAY_CORE, LOAD_CORE = 0, 1  # no system under test shares a core with the load


def pinned(core: int, command: Sequence[str]) -> list[str]:
    return ["taskset", "-c", str(core), *command]


def pids_of(root: int) -> list[int]:
    """A process and its children, such as nginx's worker."""
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return [root, *(pid for child in children for pid in pids_of(int(child)))]


def cpu_us(root: int) -> int:
    """User and system time of the process and its children so far, all threads."""
    return sum(_ticks(pid) for pid in pids_of(root)) * TICK_US


def rss_kb(root: int) -> int:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KB for pid in pids_of(root))


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def version_of(*command: str) -> str:
    """What a program says of its version, on one line."""
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return (said.stdout + said.stderr).strip().splitlines()[0]
