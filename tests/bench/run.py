"""Measure trollproxy against a plain nginx reverse proxy, side by side on one machine.

    make bench      or   python -m tests.bench.run [--rounds 7] [--write]

The provider and the load share one core; each system under test has the other one for itself, one at a time. Rounds
alternate between systems, so that a machine that slows down slows all alike; figures are medians over the rounds, with
the spread from the least to the greatest, and ratios are taken within a round. `--write` puts the tables into
docs/benchmarks.md.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts import translation_cost
from tests.bench import wrk
from tests.bench.machine import LOAD_CORE, cpu_us, pinned, rss_kb, version_of
from tests.bench.pace import BODY
from tests.bench.systems import StreamUpstream, System, Trollproxy, ask_once, json_upstream, nginx_proxy

CONNECTIONS = 64
RATE = 1_000
STREAM_COUNTS = (64, 1_000)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
MARKS = ("<!-- figures -->", "<!-- end of figures -->")

Figures = dict[str, float]
Measure = Callable[[System], Figures]


@contextmanager
def whole_systems(folder: Path) -> Iterator[list[System]]:
    """Everybody before the provider of whole answers."""
    with ExitStack() as stack:
        upstream = stack.enter_context(json_upstream(folder))
        proxy = stack.enter_context(nginx_proxy(folder, upstream=upstream.port))
        gateway = stack.enter_context(Trollproxy(folder / "whole", upstream=upstream.port))
        yield [System("nginx", proxy.port, proxy.process.pid), gateway.system]


@contextmanager
def stream_systems(folder: Path) -> Iterator[list[System]]:
    """Everybody before the source of streams."""
    with ExitStack() as stack:
        upstream = stack.enter_context(StreamUpstream(folder))
        proxy = stack.enter_context(nginx_proxy(folder, upstream=upstream.port))
        gateway = stack.enter_context(Trollproxy(folder / "streams", upstream=upstream.port))
        source = System("source itself", upstream.port, upstream.process.pid)
        yield [source, System("nginx", proxy.port, proxy.process.pid), gateway.system]


def measure_load(folder: Path, seconds: float) -> Measure:
    def measure(system: System) -> Figures:
        before = cpu_us(system.pid)
        counted = wrk.run(folder, system, connections=CONNECTIONS, seconds=seconds)
        assert not counted.bad, f"{system.name}: {counted.said}"
        per_request = (cpu_us(system.pid) - before) / counted.requests
        return {"CPU µs/request": per_request, "requests/s": counted.requests / seconds}

    return measure


def measure_alone(folder: Path, seconds: float) -> Measure:
    def measure(system: System) -> Figures:
        counted = wrk.run(folder, system, connections=1, seconds=seconds)
        return {"1 connection p50 ms": counted.p50_ms, "1 connection p99 ms": counted.p99_ms}

    return measure


def measure_pace(seconds: float) -> Measure:
    def measure(system: System) -> Figures:
        told = _load("pace", system, str(RATE), str(seconds))
        assert told["sent"] == told["answered"], f"{system.name}: {told}"
        return {f"{RATE}/s p50 ms": told["p50_ms"], f"{RATE}/s p99 ms": told["p99_ms"]}

    return measure


def measure_streams(count: int) -> Measure:
    def measure(system: System) -> Figures:
        before, at_rest_kb = cpu_us(system.pid), rss_kb(system.pid)
        told = _load("streams", system, str(count))
        used = cpu_us(system.pid) - before
        return {
            f"{count} streams: CPU µs/chunk": used / told["events"],
            f"{count} streams: stalls": told["stalls"],
            f"{count} streams: lost": count - told["whole"],
            f"{count} streams: first token p99 ms": told["first_ms_p99"],
            f"{count} streams: kB a stream": max(0, rss_kb(system.pid) - at_rest_kb) / count,
        }

    return measure


def _load(module: str, system: System, *arguments: str) -> dict[str, Any]:
    headers = json.dumps(dict(system.headers))
    command = [sys.executable, "-m", f"tests.bench.{module}", str(system.port), system.path, *arguments, headers]
    done = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def alternate(systems: list[System], measures: list[Measure], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Figures by system and name, one for each round."""
    taken: dict[str, dict[str, list[float]]] = {system.name: {} for system in systems}
    for _ in range(rounds):
        for measure in measures:
            for system in systems:
                for name, value in measure(system).items():
                    taken[system.name].setdefault(name, []).append(value)
    return taken


def table(taken: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    systems = list(taken)
    yield f"| | {' | '.join(systems)} | trollproxy / nginx |"
    yield "|---" * (len(systems) + 2) + "|"
    for name in taken[systems[0]]:
        cells = [_shown(taken[system][name]) for system in systems]
        pairs = zip(taken["trollproxy"][name], taken["nginx"][name], strict=True)
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        yield f"| {name} | {' | '.join(cells)} | {f'{statistics.median(ratios):.2f}' if ratios else ''} |"


def _shown(values: list[float]) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.4g}" if low == high else f"{middle:.4g} ({low:.4g} to {high:.4g})"


def measure_start(folder: Path, rounds: int) -> Figures:
    """From the start of the process to the first answer, and what it weighs then."""
    seconds, weights = [], []
    with json_upstream(folder) as upstream:
        for number in range(rounds):
            began = time.perf_counter()
            with Trollproxy(folder / f"start-{number}", upstream=upstream.port) as gateway:
                status, _ = ask_once(gateway.system, BODY)
                seconds.append(time.perf_counter() - began)
                weights.append(rss_kb(gateway.system.pid) / 1024)
            assert status == 200
    return {"start to first answer s": statistics.median(seconds), "MB at rest": statistics.median(weights)}


def report(folder: Path, rounds: int, seconds: float) -> Iterator[str]:
    yield f"Measured {datetime.now(UTC):%Y-%m-%d} by `make bench` ({rounds} rounds), Python {sys.version.split()[0]}, "
    yield f"{version_of('nginx', '-v')}."
    yield ""
    with whole_systems(folder) as systems:
        measures = [measure_load(folder, seconds), measure_alone(folder, seconds / 2), measure_pace(seconds)]
        yield from table(alternate(systems, measures, rounds))
    yield ""
    with stream_systems(folder) as systems:
        yield from table(alternate(systems, [measure_streams(count) for count in STREAM_COUNTS], max(3, rounds // 2)))
    yield ""
    for name, value in measure_start(folder, 3).items():
        yield f"- {name}: {value:.3g}"
    yield ""
    yield "What carrying costs between formats (`python -m scripts.translation_cost`):"
    yield ""
    yield from translation_cost.tables()


def write(lines: list[str]) -> None:
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text("\n".join([f"{before}{MARKS[0]}", *lines, f"{MARKS[1]}{after}"]))


def require(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        sys.exit(f"The benchmark needs {' and '.join(missing)}: apt-get install {' '.join(missing)}")


def main() -> None:
    require("nginx", "wrk")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for line in report(Path(folder), options.rounds, options.seconds):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            lines.append(line)
    if options.write:
        write(lines)


if __name__ == "__main__":
    main()
