"""What is measured of a system, one round at a time, and that everything it was asked did reach the provider."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import pace, streams, wrk
from tests.bench.asked import Pattern
from tests.bench.machine import LOAD_CORE, cpu_us, pinned, watch_memory
from tests.bench.systems import System
from tests.bench.upstreams import JsonUpstream, StreamUpstream

CONNECTIONS = 64
RATE = 1_000
SETTLE_S = 0.5  # LiteLLM works off what it was asked after its clients have gone

CPU, PER_CORE = "CPU µs/request", "requests/s/core"
CHUNK_CPU, CHUNKS_PER_CORE = "CPU µs/chunk", "chunks/s/core"
STALLED, LOST, STREAM_KB = "stalled", "lost", "kB/open stream"
FIRST_P50, FIRST_P99 = "first token p50 ms", "first token p99 ms"

Figures = dict[str, float]
Measure = Callable[[System], Figures]
Rounds = dict[str, list[float]]  # by the figure's name, one value for each round


class Scenario(msgspec.Struct, frozen=True):
    """Streams that begin `rate` a second until there are so many. `shown`: which of their figures go into the table."""

    name: str
    streams: int
    rate: float
    pattern: Pattern
    shown: tuple[str, ...]


class Taken:
    """All figures, by system and name."""

    def __init__(self, systems: Iterable[str]) -> None:
        self.by_system: dict[str, Rounds] = {name: {} for name in systems}

    def add(self, system: str, figures: Figures) -> None:
        for name, value in figures.items():
            self.by_system[system].setdefault(name, []).append(value)

    def median(self, system: str, name: str) -> float:
        return statistics.median(self.by_system[system][name])

    def ratio(self, name: str, ours: str, theirs: str) -> float:
        """The median of the ratios within each round: what slows the machine slows both."""
        pairs = zip(self.by_system[ours][name], self.by_system[theirs][name], strict=True)
        return statistics.median(one / other for one, other in pairs)

    def subtract(self, names: Sequence[str], base: str, prefix: str = "added ") -> None:
        """Beside the latencies of everybody, what they are above those of asking the provider itself."""
        for system, rounds in self.by_system.items():
            for name in names:
                if system != base and name in rounds:
                    pairs = zip(rounds[name], self.by_system[base][name], strict=True)
                    rounds[prefix + name] = [one - direct for one, direct in pairs]


def alternate(systems: Sequence[System], measures: Sequence[Measure], rounds: int) -> Taken:
    """Every measure of every system in each round; the order turns each time, so that none is always first."""
    taken = Taken(system.name for system in systems)
    for number in range(rounds):
        for measure in measures:
            for system in systems if number % 2 == 0 else reversed(systems):
                taken.add(system.name, measure(system))
    return taken


def measure_load(folder: Path, upstream: JsonUpstream, *, seconds: float, is_sdk: bool = False) -> Measure:
    """As many as it can, over 64 connections that ask again as soon as they are answered."""

    def measure(system: System) -> Figures:
        script = wrk.write_script(folder, system, is_sdk=is_sdk)
        return load_with(script, system, upstream, seconds=seconds)

    def named(system: System) -> Figures:
        return {f"{name}, SDK's headers": value for name, value in measure(system).items()}

    return named if is_sdk else measure


def load_with(script: Path, system: System, upstream: JsonUpstream, *, seconds: float) -> Figures:
    """CPU time by what reached the provider: wrk forgets what is under way at its end, but a slow system serves it."""
    asked, before = upstream.count(), cpu_us(system.pid)
    counted = wrk.run(script, system, connections=CONNECTIONS, seconds=seconds)
    reached = settled(upstream) - asked
    used = cpu_us(system.pid) - before
    assert counted.requests, f"{system.name}: {counted.said}"
    assert not counted.bad, f"{system.name}: {counted.said}"
    require_forwarded(system, counted.requests, reached, open_at_end=CONNECTIONS)
    return {CPU: used / reached, PER_CORE: counted.requests / counted.seconds}


def settled(upstream: JsonUpstream) -> int:
    """Its count, once what the load left under way has arrived."""
    before, now = -1, upstream.count()
    while now != before:
        time.sleep(SETTLE_S)
        before, now = now, upstream.count()
    return now


def measure_alone(folder: Path, upstream: JsonUpstream, *, seconds: float) -> Measure:
    def measure(system: System) -> Figures:
        counted = wrk.run(wrk.write_script(folder, system), system, connections=1, seconds=seconds)
        settled(upstream)
        return {"p50 ms, 1 connection": counted.p50_ms, "p99 ms, 1 connection": counted.p99_ms}

    return measure


def measure_pace(upstream: JsonUpstream, *, seconds: float, is_sdk: bool = False) -> Measure:
    def measure(system: System) -> Figures:
        asked = upstream.count()
        spec = pace.Spec(port=system.port, request=system.request(is_sdk=is_sdk), rate=RATE, seconds=seconds)
        told = run_load("pace", spec)
        assert told["sent"] == told["answered"], f"{system.name}: {told}"
        require_forwarded(system, told["sent"], upstream.count() - asked)
        kind = f"{RATE:,}/s" + (", SDK's headers" if is_sdk else "")
        return {f"p50 ms, {kind}": told["p50_ms"], f"p99 ms, {kind}": told["p99_ms"]}

    return measure


def measure_streams(upstream: StreamUpstream, scenario: Scenario) -> Measure:
    pattern = scenario.pattern

    def measure(system: System) -> Figures:
        asked, sent, before = upstream.count(), upstream.deltas(), cpu_us(system.pid)
        spec = streams.Spec(
            port=system.port,
            request=system.request(pattern),
            streams=scenario.streams,
            rate=scenario.rate,
            deltas=pattern.deltas,
            period_ms=pattern.period_ms,
        )
        with watch_memory(system.pid) as peak:
            told = run_load("streams", spec)
        used = cpu_us(system.pid) - before
        require_forwarded(system, scenario.streams, upstream.count() - asked)
        require_forwarded(system, told["deltas"], upstream.deltas() - sent, open_at_end=told["lost"])
        figures = {
            CHUNK_CPU: used / told["deltas"],
            CHUNKS_PER_CORE: 1_000_000 * told["deltas"] / used,
            STALLED: told["stalls"],
            LOST: told["lost"],
            STREAM_KB: max(0, peak.kb - system.rest_kb) / scenario.streams,
            FIRST_P50: told["first_ms_p50"],
            FIRST_P99: told["first_ms_p99"],
        }
        return {f"{scenario.name}: {name}": figures[name] for name in scenario.shown}

    return measure


def require_forwarded(system: System, answered: int, reached: int, *, open_at_end: int = 0) -> None:
    """By the provider's own count. wrk ends with a request under way on every connection."""
    most = answered + open_at_end + system.strays
    assert answered <= reached <= most, f"{system.name}: {answered} answered, {reached} arrived"


def run_load(module: str, spec: msgspec.Struct) -> dict[str, Any]:
    command = [sys.executable, "-m", f"tests.bench.{module}", msgspec.json.encode(spec).decode()]
    done = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told
