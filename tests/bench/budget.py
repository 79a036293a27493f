"""What the main paths may cost: measured against a reference, so that a change that makes them dearer is seen.

    python -m tests.bench.budget            prints each path's cost and its share of the budget
    python -m tests.bench.budget --write    makes the present cost the budget (budget.json)

No machine that the tests run on counts instructions: virtual ones have no hardware counters, valgrind comes in no
package of Python's or npm's and takes minutes to start a gateway, and single-stepping takes 20 µs an instruction. So
this is CPU time, made to repeat itself within a few per cent on a busy machine as well:

- client and provider are one thread of blocking sockets that moves one request, or one chunk, at a time, so that the
  gateway always does the same in the same order, never a batch whose size depends on who was scheduled when;
- the gateway is the real process, and its CPU time the process's clock, in nanoseconds;
- all run on the core that is quietest, in turns, so that waking another one costs the same each time;
- rounds take a millisecond, less than another process runs at a stretch, and alternate with the reference; the least of
  many counts, over several processes: what disturbs only adds;
- hashes and addresses are the same each time: left to chance, they alone make one process a tenth dearer;
- cost is counted in *references*, a fixed piece of pure Python and of loopback traffic, so that neither a faster
  machine nor another build of Python moves it.

What runs beside the requests in batches (store, sync of the journal) is in few rounds and so in no minimum: this
guards the path of a request, `make bench` measures the whole.
"""

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.asked import PIECE, Pattern
from tests.bench.machine import cpu_us
from tests.bench.systems import System, Trollproxy
from tests.bench.upstreams import ANSWER, MESSAGE, STREAM_HEAD, framed, openai_parts
from tests.e2e.process import PROGRAM, ROOT, clean_environment

BUDGETS = Path(__file__).with_name("budget.json")
_KIND = "compiled" if any(PROGRAM.glob("trollproxy*.so")) else "source"
GROWTH = 1.10

REPEATS = 5  # times, in new processes each
WARM_UP, ROUNDS, REQUESTS, CHUNKS = 100, 240, 4, 16
PATIENCE_S = 10.0
LOOK_S = 0.2  # twenty ticks of the kernel's idle time
_MUCH = 65_536
_UNIT = "reference"

Costs = dict[str, float]  # by path, in references; `least_us` in microseconds, the reference among them


class Reference:
    """A fixed piece of work of about half a millisecond, half Python, half the kernel."""

    def __init__(self) -> None:
        self._ends = socket.socketpair()
        self._message = b"x" * 1000

    def run(self) -> None:
        sums: dict[int, int] = {}
        total = 0
        for number in range(3000):
            sums[number & 63] = total
            total += len(sums) + (number ^ 3)
        one, other = self._ends
        for _ in range(200):
            one.send(self._message)
            other.recv(_MUCH)

    def close(self) -> None:
        for end in self._ends:
            end.close()


class Provider:
    """A provider on blocking sockets. It answers when it is told to, whoever asked on whichever connection."""

    authority = None

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lines: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def take(self) -> socket.socket:
        """The connection that a whole request has come on."""
        while True:
            ready, _, _ = select.select([self._listener, *self._lines], [], [], PATIENCE_S)
            assert ready, "no request came"
            if ready[0] is self._listener:
                self._lines.append(self._listener.accept()[0])
            else:
                receive(ready[0])
                return ready[0]

    def close(self) -> None:
        for line in (self._listener, *self._lines):
            line.close()


class LockStep:
    """A gateway with one client and one provider, which take turns."""

    def __init__(self, system: System, provider: Provider) -> None:
        self._provider = provider
        self._client = socket.create_connection(("127.0.0.1", system.port), PATIENCE_S)
        self._plain = system.request(is_sdk=True)
        self._translated = system.speaking("openai", "a", "translated").request(is_sdk=True)
        self._stream = system.request(Pattern(1, 1), is_sdk=True)
        self._delta = framed(openai_parts()["delta"])

    def ask(self) -> None:
        self._exchange(self._plain, _answer(ANSWER))

    def ask_translated(self) -> None:
        self._exchange(self._translated, _answer(MESSAGE))

    def begin_stream(self) -> None:
        self._client.sendall(self._stream)
        self._line = self._provider.take()
        self._line.sendall(STREAM_HEAD + framed(openai_parts()["first"]))
        receive_until(self._client, b"Yes")

    def relay_chunk(self) -> None:
        self._line.sendall(self._delta)
        receive_until(self._client, PIECE.encode())

    def end_stream(self) -> None:
        self._line.sendall(framed(openai_parts()["last"]) + b"0\r\n\r\n")
        receive_until(self._client, b"\r\n0\r\n\r\n")

    def close(self) -> None:
        self._client.close()

    def _exchange(self, request: bytes, answer: bytes) -> None:
        self._client.sendall(request)
        self._provider.take().sendall(answer)
        head = receive(self._client)
        assert head.startswith(b"HTTP/1.1 200"), head


def receive(line: socket.socket) -> bytes:
    """A whole message of a declared length."""
    data = line.recv(_MUCH)
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return data
        more = line.recv(_MUCH)
        assert more, data
        data += more


def receive_until(line: socket.socket, wanted: bytes) -> None:
    data = b""
    while wanted not in data:
        more = line.recv(_MUCH)
        assert more, data
        data += more


class Budget:
    """Measures all paths in turn."""

    def __init__(self, step: LockStep, reference: Reference, pid: int) -> None:
        self._step = step
        self._reference = reference
        self._pid = pid
        self._least_us: Costs = {}

    def measure(self) -> Costs:
        for _ in range(WARM_UP):
            self._step.ask()
            self._step.ask_translated()
        self._step.begin_stream()
        for _ in range(ROUNDS):
            self._see_reference()
            self._see("SSE passthrough, a chunk", self._cpu_us(self._step.relay_chunk, CHUNKS))
        self._step.end_stream()
        for _ in range(ROUNDS):
            self._see_reference()
            self._see("JSON passthrough, a request", self._cpu_us(self._step.ask, REQUESTS))
            self._see("JSON translated, a request", self._cpu_us(self._step.ask_translated, REQUESTS))
        return self._least_us

    def _see_reference(self) -> None:
        began = time.thread_time_ns()
        self._reference.run()
        self._see(_UNIT, (time.thread_time_ns() - began) / 1000)

    def _see(self, name: str, us: float) -> None:
        self._least_us[name] = min(us, self._least_us.get(name, us))

    def _cpu_us(self, work: Callable[[], None], times: int) -> float:
        before = cpu_us(self._pid)
        for _ in range(times):
            work()
        return (cpu_us(self._pid) - before) / times


@contextmanager
def on_one_core() -> Iterator[int]:
    """This process, and what it starts meanwhile, on the core that has the least to do."""
    allowed = os.sched_getaffinity(0)
    before = idle_ticks()
    time.sleep(LOOK_S)
    after = idle_ticks()
    quiet = max(allowed, key=lambda core: after[core] - before[core])
    os.sched_setaffinity(0, {quiet})
    try:
        yield quiet
    finally:
        os.sched_setaffinity(0, allowed)


def idle_ticks() -> dict[int, int]:
    """How long each core has been idle since the start of the machine."""
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    return {int(fields[0][3:]): int(fields[4]) for fields in lines if fields[0][:3] == "cpu" and fields[0] != "cpu"}


def measure(folder: Path, least_us: Costs) -> Costs:
    """Measure in processes of their own; `least_us` carries what was found from one time to the next."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [*unrandomized(), sys.executable, "-m", "tests.bench.budget", "--once", str(folder)]
    environment = clean_environment(PYTHONHASHSEED="0", PYTHONPATH=str(ROOT), PROGRAM=str(PROGRAM))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: Costs = json.loads(done.stdout)
    least_us |= {name: min(us, least_us.get(name, us)) for name, us in found.items()}
    return {path: us / least_us[_UNIT] for path, us in least_us.items() if path != _UNIT}


def unrandomized() -> list[str]:
    """What puts memory to the same places each time; elsewhere it may cost a tenth more. Some containers forbid it."""
    fixed = ["setarch", "--addr-no-randomize"]
    try:
        tried = subprocess.run([*fixed, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return []
    return fixed if tried.returncode == 0 else []


def measure_here(folder: Path) -> Costs:
    """The least of each path and of the reference, in microseconds, of one gateway."""
    with ExitStack() as stack:
        core = stack.enter_context(on_one_core())
        provider, reference = Provider(), Reference()
        stack.callback(reference.close)
        stack.callback(provider.close)
        gateway = stack.enter_context(Trollproxy(folder, upstream=provider, core=core))
        step = LockStep(gateway.system, provider)
        stack.callback(step.close)
        return Budget(step, reference, gateway.pid).measure()


def read_budgets() -> Costs:
    """Of the program that is measured: compiled or as it is."""
    return _read_all()[_KIND]


def _read_all() -> dict[str, Costs]:
    budgets: dict[str, Costs] = json.loads(BUDGETS.read_text())
    return budgets


def _answer(content: object) -> bytes:
    body = json.dumps(content).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def main() -> None:
    if "--once" in sys.argv:
        sys.stdout.write(json.dumps(measure_here(Path(sys.argv[-1]))) + "\n")
    else:
        compare()


def compare() -> None:
    least_us: Costs = {}
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            costs = measure(Path(folder), least_us)
    budgets = read_budgets()
    for path, cost in costs.items():
        share = f"{cost / budgets[path]:.0%} of its budget" if path in budgets else "no budget yet"
        sys.stdout.write(f"{path}: {cost:.4f} references, {share}\n")
    if "--write" in sys.argv:
        rounded = {path: round(cost, 5) for path, cost in costs.items()}
        BUDGETS.write_text(json.dumps(_read_all() | {_KIND: rounded}, indent=2) + "\n")


if __name__ == "__main__":
    main()
