"""Linux' perf around a load: it samples all threads of a process by CPU time, compiled functions and the kernel too."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.machine import LOAD_CORE, pinned
from tests.bench.profile_stacks import thread_name

# Each sample takes a piece of the stack along, for frames that are found by the compiler's notes and no other way.
RATE = 2_500
STACK_BYTES = 16_000
RECORD = ("perf", "record", "-F", str(RATE), "--call-graph", f"dwarf,{STACK_BYTES}")


def may_sample() -> bool:
    """Whether it is there, with leave to show the kernel's part, which it leaves out otherwise."""
    if shutil.which("perf") is None:
        return False
    tried = [*RECORD, "-e", "cpu-clock:k", "-o", "/dev/null", "--", "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@contextmanager
def sampling(pid: int, data: Path) -> Iterator[None]:
    """For as long as the block takes, and no longer where this process ends in it: perf ends with what it started."""
    started = ["sh", "-c", "echo && exec cat"]
    command = pinned(LOAD_CORE, [*RECORD, "-e", "cpu-clock", "-p", str(pid), "-o", str(data), "--", *started])
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as perf:
        assert perf.stdout is not None
        is_sampling = bool(perf.stdout.readline())
        if is_sampling:
            yield
        _, said = perf.communicate()
        assert is_sampling, said
    assert perf.returncode == 0, said
    assert "lost" not in said, said


def stacks(data: Path) -> Iterator[str]:
    """The text of all samples, without functions that the compiler put into others: to find them takes minutes."""
    command = ["perf", "script", "-i", str(data), "-F", "tid,ip,sym,dso", "--no-inline"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as script:
        assert script.stdout is not None
        yield from script.stdout
    assert script.returncode == 0, "perf script failed"


def threads(pid: int) -> dict[int, str]:
    """Those beside the first, by name. Python's names are its own, not the system's; py-spy reads them."""
    command = [str(Path(sys.executable).with_name("py-spy")), "dump", "--json", "--pid", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {thread["os_thread_id"]: thread["thread_name"] for thread in json.loads(done.stdout)}
    return {number: thread_name(name or "") for number, name in found.items() if number != pid}
