"""Where the CPU time of the compiled gateway goes, in microseconds a request and a chunk.

    make profile    or    PROGRAM=$PWD/.cache/compiled python -m tests.bench.profile [--seconds 4] [--write]

perf samples the whole of a load (10 s at most), between two runs of it that nobody samples. A part's microseconds are
its share of the samples, of the CPU time that those two took: each sample costs time of its own, in which no other is
taken. Leaves flame graphs in .cache/profile/{json,streams}.svg; `--write` puts the tables into docs/performance.md.

Where perf is missing or may not sample, or the program is not compiled, `profile_source` takes its place.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.bench import page, profile_flame, profile_perf
from tests.bench.asked import Pattern
from tests.bench.machine import GATEWAY_CORE, LOAD_CORE
from tests.bench.measures import CHUNK_CPU, CPU, Measure, Scenario, measure_load, measure_streams
from tests.bench.options import read_options
from tests.bench.profile_stacks import Names, Tally, read, tally
from tests.bench.systems import System, Trollproxy
from tests.bench.upstreams import ROOT, JsonUpstream, StreamUpstream, Upstream, nginx_proxy
from tests.e2e.process import PROGRAM

FOLDER = ROOT / ".cache" / "profile"
MOST_SECONDS = 10.0  # a second under load is 40 MB of perf's
WARM_S = 1.0
SHOWN = 25


class Load(NamedTuple):
    """For so many seconds, and which of its figures is the CPU time."""

    name: str
    measure: Callable[[float], Measure]
    figure: str

    def cpu_us(self, system: System, seconds: float) -> float:
        return self.measure(seconds)(system)[self.figure]


class Profile(NamedTuple):
    """What one load costs, in µs of CPU for one thing asked for, and its samples."""

    tally: Tally
    us: float
    sampled_us: float
    nginx_us: float

    @property
    def samples(self) -> int:
        return self.tally.parts.total()

    def us_of(self, samples: int) -> float:
        return self.us * samples / self.samples


class Profiler:
    """Both loads, each with all that it needs around it."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._names = Names(compiled_modules())

    def whole(self) -> Profile:
        with JsonUpstream(self._folder) as upstream:

            def measure(seconds: float) -> Measure:
                return measure_load(self._folder, upstream, seconds=seconds, is_sdk=True)

            return self._profile(upstream, Load("json", measure, f"{CPU}, SDK's headers"))

    def streams(self) -> Profile:
        with StreamUpstream(self._folder) as upstream:

            def measure(seconds: float) -> Measure:
                return measure_streams(upstream, scenario(seconds))

            return self._profile(upstream, Load("streams", measure, f"{scenario(1).name}: {CHUNK_CPU}"))

    def _profile(self, upstream: Upstream, load: Load) -> Profile:
        data = self._folder / "perf.data"
        with ExitStack() as stack:
            gateway = stack.enter_context(Trollproxy(self._folder / load.name, upstream=upstream)).system
            proxy = stack.enter_context(nginx_proxy(self._folder, GATEWAY_CORE, upstream=upstream))
            nginx = System("nginx", proxy.port, proxy.pid, headers=gateway.headers)
            load.cpu_us(gateway, WARM_S)
            before_us = load.cpu_us(gateway, self._seconds)
            with profile_perf.sampling(gateway.pid, data):
                sampled_us = load.cpu_us(gateway, self._seconds)
            us = (before_us + load.cpu_us(gateway, self._seconds)) / 2
            threads = profile_perf.threads(gateway.pid)
            nginx_us = load.cpu_us(nginx, self._seconds)
        found = tally(read(profile_perf.stacks(data)), self._names, threads)
        data.unlink()
        FOLDER.mkdir(parents=True, exist_ok=True)
        drawn = profile_flame.draw(f"{load.name}: {us:.1f} µs of CPU", found.stacks, total_us=us)
        (FOLDER / f"{load.name}.svg").write_text(drawn)
        return Profile(found, us, sampled_us, nginx_us)


def scenario(seconds: float) -> Scenario:
    """500 streams, as fast as a model speaks."""
    return Scenario("profiled", 500, 1_000, Pattern(round(seconds * 25), 40), (CHUNK_CPU,))


def compiled_modules() -> list[str]:
    """By their names within the package."""
    package = PROGRAM / "trollproxy"
    return [".".join(path.relative_to(package).parts).partition(".cpython")[0] for path in package.rglob("*.so")]


def report(whole: Profile, streamed: Profile) -> Iterator[str]:
    yield f"Sampled {datetime.now(UTC):%Y-%m-%d} by `make profile` of the compiled program, with perf:"
    yield f"{whole.samples:,} samples of whole answers, {streamed.samples:,} of streams."
    yield from ("", *part_table(whole, streamed))
    for title, profile in (("a whole answer", whole), ("a chunk", streamed)):
        yield from ("", f"Our {SHOWN} dearest functions in {title}, each with what it calls that is not ours:", "")
        yield from function_table(profile)


def part_table(whole: Profile, streamed: Profile) -> Iterator[str]:
    both = (whole, streamed)
    yield "| part | a whole answer, µs | a chunk, µs |"
    yield "|---|---|---|"
    for part, _ in (whole.tally.parts + streamed.tally.parts).most_common():
        yield _row(part, [profile.us_of(profile.tally.parts[part]) for profile in both])
    yield _row("**all**", [profile.us for profile in both])
    yield _row("nginx, all of it", [profile.nginx_us for profile in both])
    yield _row("trollproxy, while it is sampled", [profile.sampled_us for profile in both])


def function_table(profile: Profile) -> Iterator[str]:
    found = profile.tally
    yield "| function | µs | of which kernel | of which interpreted Python |"
    yield "|---|---|---|---|"
    for name, samples in found.functions.most_common(SHOWN):
        counts = (samples, found.kernel[name], found.interpreted[name])
        yield _row(f"`{name}`", [profile.us_of(count) for count in counts])


def _row(name: str, values: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.2f}' if value else '' for value in values)} |"


def main() -> None:
    if not compiled_modules() or not profile_perf.may_sample():
        of_source = {name: value for name, value in os.environ.items() if name != "PROGRAM"}
        command = [sys.executable, "-m", "tests.bench.profile_source", *sys.argv[1:]]
        os.execve(sys.executable, command, of_source)
    options = read_options(__doc__, rounds=1, seconds=4)
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        profiler = Profiler(Path(folder), min(options.seconds, MOST_SECONDS))
        lines = list(report(profiler.whole(), profiler.streams()))
    sys.stdout.write("\n".join([*lines, f"Flame graphs: {FOLDER.relative_to(ROOT)}/json.svg, streams.svg", ""]))
    if options.write:
        page.write("performance.md", "shares", lines)


if __name__ == "__main__":
    main()
