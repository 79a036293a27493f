"""Measure trollproxy against a plain nginx reverse proxy, side by side on one machine.

    make bench      or   python -m tests.bench.run [--rounds 7] [--seconds 3] [--write]

The provider and the load share one core; each system under test has the other one for itself, one at a time. Rounds
alternate between systems, so that a machine that slows down slows all alike; figures are medians over the rounds, with
the spread from the least to the greatest, and ratios are taken within a round. `--write` puts the page into
docs/benchmarks.md and the curves into docs/scale.svg.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from scripts import translation_cost
from tests.bench import page, scale
from tests.bench.asked import Dialect, Pattern
from tests.bench.machine import GATEWAY_CORE, LOAD_CORE, rss_kb, version_of
from tests.bench.measures import (
    CHUNK_CPU,
    CHUNKS_PER_CORE,
    CPU,
    FIRST_P50,
    FIRST_P99,
    LOST,
    STALLED,
    STREAM_KB,
    Figures,
    Scenario,
    Taken,
    alternate,
    measure_alone,
    measure_load,
    measure_pace,
    measure_streams,
)
from tests.bench.options import read_options
from tests.bench.page import Goal, at_most
from tests.bench.systems import System, Trollproxy, ask_once
from tests.bench.upstreams import JsonUpstream, StreamUpstream, Upstream, nginx_proxy

# 1,000 streams 10 ms apart are 100,000 chunks a second, more than a core of nginx carries: that is the ceiling's row.
# 40 ms apart is how fast a model speaks, and leaves a core idle that keeps up with nginx.
EVERY = (CHUNK_CPU, CHUNKS_PER_CORE, STALLED, LOST, FIRST_P50, FIRST_P99)
FEW = Scenario("64 streams, 10 ms", 64, 64, Pattern(200, 10), EVERY)
MANY = Scenario("1,000 streams, 40 ms", 1_000, 500, Pattern(150, 40), (*EVERY, STREAM_KB))
CEILING = Scenario("1,000 streams, 10 ms", 1_000, 1_000, Pattern(200, 10), (CHUNKS_PER_CORE, LOST))
STARTS = Scenario("1,000 starts/s", 3_000, 1_000, Pattern(5, 10), (FIRST_P50, FIRST_P99, LOST))
TRANSLATED = Scenario("64 streams, 10 ms", 64, 64, Pattern(200, 10), (CHUNK_CPU, STALLED, LOST))
STREAM_ROUNDS_SHARE = 2  # streams take longer than requests, and their CPU time drifts less

PAIRS: dict[str, tuple[Dialect, str]] = {  # client to provider: in whose words, and the model that leads there
    "OpenAI to OpenAI": ("openai", "m"),
    "OpenAI to Anthropic": ("openai", "a"),
    "Anthropic to Anthropic": ("anthropic", "a"),
    "Anthropic to OpenAI": ("anthropic", "m"),
}
OWN = {"OpenAI to Anthropic": "OpenAI to OpenAI", "Anthropic to OpenAI": "Anthropic to Anthropic"}

ADDED_FIRST_P99 = f"added {STARTS.name}: {FIRST_P99}"
REST_MB, START_S = "MB at rest", "s from start to first answer"


class Results(msgspec.Struct):
    """All that was measured, by part."""

    whole: Taken
    tls: Taken
    streams: Taken
    json_pairs: Taken
    stream_pairs: Taken
    start: Taken
    scale: Taken


class Bench:
    """The measuring, part by part. Each part starts what it needs and ends it."""

    def __init__(self, folder: Path, *, rounds: int, seconds: float) -> None:
        self._folder = folder
        self._rounds = rounds
        self._stream_rounds = max(1, rounds // STREAM_ROUNDS_SHARE)
        self._seconds = seconds

    def run(self) -> Results:
        return Results(
            whole=self.whole(),
            tls=self.tls(),
            streams=self.streams(),
            json_pairs=self.json_pairs(),
            stream_pairs=self.stream_pairs(),
            start=self.start(),
            scale=scale.measure(self._folder, rounds=self._rounds, seconds=self._seconds),
        )

    def whole(self) -> Taken:
        with ExitStack() as stack:
            upstream = stack.enter_context(JsonUpstream(self._folder))
            direct, *systems = self._systems(stack, upstream, "whole")
            loads = [
                measure_load(self._folder, upstream, seconds=self._seconds, is_sdk=is_sdk) for is_sdk in (False, True)
            ]
            waits = [
                measure_alone(self._folder, upstream, seconds=self._seconds / 2),
                *(measure_pace(upstream, seconds=self._seconds, is_sdk=is_sdk) for is_sdk in (False, True)),
            ]
            taken = alternate(systems, loads, self._rounds)
            latencies = alternate([direct, *systems], waits, self._rounds)
        latencies.subtract(list(latencies.by_system[direct.name]), direct.name)
        return joined(taken, latencies)

    def tls(self) -> Taken:
        with ExitStack() as stack:
            upstream = stack.enter_context(JsonUpstream(self._folder, is_tls=True))
            _, *systems = self._systems(stack, upstream, "tls")
            return alternate(systems, [measure_load(self._folder, upstream, seconds=self._seconds)], self._rounds)

    def streams(self) -> Taken:
        with ExitStack() as stack:
            upstream = stack.enter_context(StreamUpstream(self._folder))
            direct, *systems = self._systems(stack, upstream, "streams")
            scenarios = [measure_streams(upstream, each) for each in (FEW, MANY, CEILING, STARTS)]
            taken = alternate([direct, *systems], scenarios, self._stream_rounds)
        firsts = [f"{each.name}: {name}" for each in (FEW, MANY, STARTS) for name in (FIRST_P50, FIRST_P99)]
        taken.subtract(firsts, direct.name)
        return taken

    def json_pairs(self) -> Taken:
        with ExitStack() as stack:
            upstream = stack.enter_context(JsonUpstream(self._folder))
            load = measure_load(self._folder, upstream, seconds=self._seconds)
            return alternate(self._pairs(stack, upstream), [load], self._rounds)

    def stream_pairs(self) -> Taken:
        with ExitStack() as stack:
            upstream = stack.enter_context(StreamUpstream(self._folder))
            systems = self._pairs(stack, upstream)
            return alternate(systems, [measure_streams(upstream, TRANSLATED)], self._stream_rounds)

    def start(self) -> Taken:
        """From the start of the process to the first answer, and what it weighs then."""
        taken = Taken(["trollproxy"])
        with JsonUpstream(self._folder) as upstream:
            for number in range(self._stream_rounds):
                taken.add("trollproxy", measure_start(self._folder / f"start-{number}", upstream))
        return taken

    def _systems(self, stack: ExitStack, upstream: Upstream, name: str) -> list[System]:
        """The provider itself, nginx, and the gateway."""
        gateway = stack.enter_context(Trollproxy(self._folder / name, upstream=upstream)).system
        proxy = stack.enter_context(nginx_proxy(self._folder, GATEWAY_CORE, upstream=upstream))
        systems = [
            System("provider itself", upstream.port, upstream.pid, headers=gateway.headers),
            System("nginx", proxy.port, proxy.pid, headers=gateway.headers),
            gateway,
        ]
        require_answers(systems[1:], upstream)
        return [system.rested() for system in systems]

    def _pairs(self, stack: ExitStack, upstream: Upstream) -> list[System]:
        name = f"pairs-{upstream.port}"
        gateway = stack.enter_context(Trollproxy(self._folder / name, upstream=upstream)).system
        systems = [gateway.speaking(dialect, model, name) for name, (dialect, model) in PAIRS.items()]
        require_answers(systems, upstream)
        return systems


def require_answers(systems: Sequence[System], upstream: Upstream) -> None:
    pattern = Pattern(1, 10) if isinstance(upstream, StreamUpstream) else None
    for system in systems:
        status, said = ask_once(system, pattern)
        assert status == 200, f"{system.name}: {said.decode()}"


def measure_start(folder: Path, upstream: JsonUpstream) -> Figures:
    gateway = Trollproxy(folder, upstream=upstream)
    with gateway:
        pass  # the very first start makes the administrator, whose password is meant to be slow to hash
    began = time.perf_counter()
    with gateway:
        status, _ = ask_once(gateway.system)
        figures = {START_S: time.perf_counter() - began, REST_MB: rss_kb(gateway.pid) / 1024}
        assert status == 200
    return figures


def joined(*parts: Taken) -> Taken:
    """The rows of several parts in one table."""
    whole = Taken(name for part in parts[::-1] for name in part.by_system)
    for part in parts:
        for name, rounds in part.by_system.items():
            whole.by_system[name] |= rounds
    return whole


def goals(results: Results) -> list[Goal]:
    """Those of the design that this run can show, in its order; `make bench-peers` shows the others."""
    both = "trollproxy", "nginx"
    chunk = max(results.streams.ratio(f"{each.name}: {CHUNK_CPU}", *both) for each in (FEW, MANY))
    broken = sum(sum(results.streams.by_system["trollproxy"][f"{MANY.name}: {name}"]) for name in (STALLED, LOST))
    first_ms = results.streams.median("trollproxy", ADDED_FIRST_P99)
    translated = max(results.json_pairs.ratio(CPU, pair, own) for pair, own in OWN.items())
    event_us = max(results.stream_pairs.median(pair, f"{TRANSLATED.name}: {CHUNK_CPU}") for pair in OWN)
    stream_kb = results.streams.median("trollproxy", f"{MANY.name}: {STREAM_KB}")
    whole = results.whole.ratio(CPU, *both)
    return [
        at_most("1. JSON passthrough, CPU a request: at most 2.5 x nginx at first", whole, 2.5),
        at_most("1. … then at most 1.5 x nginx", whole, 1.5),
        at_most("1. … with TLS to the provider: at most 1.75 x nginx", results.tls.ratio(CPU, *both), 1.75),
        at_most("2. SSE passthrough, CPU a chunk: at most 1.3 x nginx", chunk, 1.3),
        at_most("2. stalled and lost chunks of 1,000 streams, in all rounds: none", broken, 0),
        at_most("2. added time to first token at 1,000 starts/s, p99: under 1 ms", first_ms, 1, " ms"),
        at_most(
            "3. JSON translated (OpenAI and Anthropic, the dearer way): at most 2 x our passthrough", translated, 2
        ),
        at_most("3. SSE translated: at most 25 µs an event", event_us, 25, " µs"),
        at_most("4. memory at rest: at most 80 MB", results.start.median("trollproxy", REST_MB), 80, " MB"),
        at_most("4. an open stream: at most 20 kB", stream_kb, 20, " kB"),
        at_most("4. start to first answer: under 1 s", results.start.median("trollproxy", START_S), 1, " s"),
        scale.goal(results.scale),
    ]


def report(results: Results, rounds: int) -> Iterator[str]:
    yield f"Measured {datetime.now(UTC):%Y-%m-%d} by `make bench` ({rounds} rounds), Python {sys.version.split()[0]}, "
    yield f"{version_of('nginx', '-v')}."
    yield from ("", *page.goal_table(goals(results)))
    yield from ("", "### Whole answers", "", *page.table(results.whole, against="nginx"))
    yield from ("", "### Whole answers, TLS to the provider", "", *page.table(results.tls, against="nginx"))
    yield from ("", "### Streams", "", *page.table(results.streams, against="nginx"))
    yield from ("", "### Translated", "", *pair_table(results))
    yield from ("", "### At rest", "")
    for name in (REST_MB, START_S):
        yield f"- {name}: {page.spread(results.start.by_system['trollproxy'][name])}"
    yield ""
    yield "### What carrying costs between formats (`python -m scripts.translation_cost`)"
    yield from ("", *translation_cost.tables())


def pair_table(results: Results) -> Iterator[str]:
    chunk = f"{TRANSLATED.name}: {CHUNK_CPU}"
    yield f"| client to provider | {CPU} | x own passthrough | SSE {CHUNK_CPU} | x own passthrough |"
    yield "|---|---|---|---|---|"
    for pair in PAIRS:
        cells = []
        for taken, name in ((results.json_pairs, CPU), (results.stream_pairs, chunk)):
            ratio = f"{taken.ratio(name, pair, OWN[pair]):.2f}" if pair in OWN else ""
            cells += [page.spread(taken.by_system[pair][name]), ratio]
        yield f"| {pair} | {' | '.join(cells)} |"


def main() -> None:
    options = read_options(__doc__, rounds=7, seconds=3)
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        results = Bench(Path(folder), rounds=options.rounds, seconds=options.seconds).run()
    lines, scaled = list(report(results, options.rounds)), list(scale.table(results.scale))
    sys.stdout.write("\n".join([*lines, "", *scaled, ""]))
    if options.write:
        page.write("benchmarks.md", "figures", lines)
        page.write("benchmarks.md", "scale", scaled)
        (page.DOCS / "scale.svg").write_text(scale.draw(results.scale))


if __name__ == "__main__":
    main()
