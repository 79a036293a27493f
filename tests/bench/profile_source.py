"""Where the time of the source goes, which py-spy samples: `make profile` where perf is missing or may not sample.

    python -m tests.bench.profile_source [--seconds 10] [--write]

leaves .cache/profile/{json,streams}.svg (open it in a browser) and .raw; `--write` puts the shares into
docs/performance.md. A sample counts for the innermost of our packages, or aiohttp, on its stack: what a package calls
in C, the kernel's part included, is the package's. Threads other than the loop's count by their names.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import page, wrk
from tests.bench.machine import GATEWAY_CORE, LOAD_CORE, pinned
from tests.bench.measures import CONNECTIONS, measure_streams
from tests.bench.options import read_options
from tests.bench.profile import FOLDER, scenario
from tests.bench.profile_stacks import thread_name
from tests.bench.systems import System, Trollproxy
from tests.bench.upstreams import ROOT, JsonUpstream, StreamUpstream

RATE = 500  # samples a second: the gateway stands still for each, and at 500 for under a tenth of the time
LEAD_S = 1.0  # the load goes on before and after the sampling

LOOP = "event loop and kernel"
AREAS = {
    "web": "server and parsing",
    "aiohttp": "server and parsing",
    "gateway": "gateway",
    "money": "money",
    "policy": "limits, keys, prices",
    "upstream": "upstream",
    "wire": "wire",
    "chat": "wire",
    "telemetry": "telemetry",
    "records": "money",
    "store": "store",
    "cli": LOOP,  # what starts the loop stands on every stack
    "__main__": LOOP,
}
THREAD = re.compile(r"^thread \(\w+\)(?:: (?P<name>.*))?$")
# py-spy does not see on every kernel that a thread sleeps: what waits for work is told by where it stands.
_WAITS = r"_worker \(concurrent/futures/|Condition\.wait \(threading|Waiting\.take \("
RESTING = re.compile(rf"^thread (?!.*: MainThread).*;(?:{_WAITS})[^;]*$")
OURS = re.compile(r"\((?:.*/)?(?:trollproxy/(?P<package>\w+)|(?P<library>aiohttp))[/.]")


def area_of(stack: str) -> str:
    """The part of the house that one line of py-spy's raw format, without its count, belongs to."""
    frames = stack.split(";")
    thread = THREAD.match(frames[0])
    name = (thread["name"] or "") if thread else ""
    if thread and name != "MainThread":
        return f"thread {thread_name(name)}"
    for frame in reversed(frames):
        found = OURS.search(frame)
        if found:
            package = found["package"] or found["library"]
            return AREAS.get(package, package)
    return LOOP


def shares(raw: str) -> dict[str, float]:
    """Of all samples, by area, the greatest first."""
    counts: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if not RESTING.match(stack):
            counts[area_of(stack)] += int(count)
    return {area: count / counts.total() for area, count in counts.most_common()}


def record(name: str, pid: int, seconds: float) -> dict[str, float]:
    """Sample twice, since py-spy writes one format at a time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kind, ending in (("raw", "raw"), ("flamegraph", "svg")):
        where = ["--pid", str(pid), "--output", str(FOLDER / f"{name}.{ending}"), "--format", kind]
        how = ["--threads", "--rate", str(RATE), "--duration", str(max(1, round(seconds)))]
        program = str(Path(sys.executable).with_name("py-spy"))
        done = subprocess.run(
            pinned(LOAD_CORE, [program, "record", *where, *how]), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return shares((FOLDER / f"{name}.raw").read_text())


def profile_whole(folder: Path, seconds: float) -> dict[str, float]:
    with ExitStack() as stack:
        upstream = stack.enter_context(JsonUpstream(folder))
        system = stack.enter_context(Trollproxy(folder / "whole", upstream=upstream, core=GATEWAY_CORE)).system
        loading = stack.enter_context(ThreadPoolExecutor(1))
        script = wrk.write_script(folder, system, is_sdk=True)
        load = loading.submit(wrk.run, script, system, connections=CONNECTIONS, seconds=load_s(seconds))
        found = record("json", system.pid, seconds)
        assert not load.result().bad
        return found


def profile_streams(folder: Path, seconds: float) -> dict[str, float]:
    with ExitStack() as stack:
        upstream = stack.enter_context(StreamUpstream(folder))
        gateway = stack.enter_context(Trollproxy(folder / "streams", upstream=upstream, core=GATEWAY_CORE))
        loading = stack.enter_context(ThreadPoolExecutor(1))
        load = loading.submit(stream, upstream, gateway.system, load_s(seconds))
        found = record("streams", gateway.pid, seconds)
        load.result()
        return found


def stream(upstream: StreamUpstream, system: System, seconds: float) -> None:
    measure_streams(upstream, scenario(seconds))(system)


def load_s(seconds: float) -> float:
    return 2 * (seconds + LEAD_S) + LEAD_S


def report(whole: dict[str, float], streamed: dict[str, float]) -> Iterator[str]:
    yield f"Sampled {datetime.now(UTC):%Y-%m-%d} by `make profile` without perf, of the source, by py-spy."
    yield ""
    yield "| part | JSON passthrough | SSE passthrough |"
    yield "|---|---|---|"
    for area in dict.fromkeys([*whole, *streamed]):
        cells = (f"{found[area]:.1%}" if area in found else "" for found in (whole, streamed))
        yield f"| {area} | {' | '.join(cells)} |"


def main() -> None:
    options = read_options(__doc__, rounds=1, seconds=10)
    with tempfile.TemporaryDirectory() as folder:
        whole = profile_whole(Path(folder), options.seconds)
        streamed = profile_streams(Path(folder), options.seconds)
    lines = list(report(whole, streamed))
    sys.stdout.write("\n".join([*lines, f"Flame graphs: {FOLDER.relative_to(ROOT)}/json.svg, streams.svg", ""]))
    if options.write:
        page.write("performance.md", "shares", lines)


if __name__ == "__main__":
    main()
