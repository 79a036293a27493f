"""What a request costs when there is much of everything: client keys in the store, prices, keys at the provider.

    python -m tests.bench.scale [--rounds 5] [--seconds 2] [--write]

All gateways run at once and are loaded in turn, so the idle ones share the machine alike. Client keys are put into the
table in the store's own row shape; the load presents a thousand of them in turn (as many as there are, if fewer).
"""

import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

import msgspec

from tests.bench import charts, page, wrk
from tests.bench.measures import CPU, Figures, Taken, alternate, load_with
from tests.bench.options import read_options
from tests.bench.page import Goal, at_most
from tests.bench.systems import Size, System, Trollproxy
from tests.bench.upstreams import JsonUpstream
from trollproxy.policy.keys import CLIENT_PREFIX, ENTROPY_BYTES, mint, read_key
from trollproxy.records import ClientKey
from trollproxy.store.data_dir import DataDir
from trollproxy.store.names import CLIENT_KEYS
from trollproxy.store.sqlite_rows import client_key_to_row

MAX_USED = 1_000
FLAT = 1.1  # what still counts as flat: rounds of one and the same gateway differ by this much


class Point(msgspec.Struct, frozen=True):
    """One gateway, with how much of what."""

    curve: str
    client_keys: int = 1
    prices: int = 1
    upstream_keys: int = 1

    @property
    def count(self) -> int:
        return max(self.client_keys, self.prices, self.upstream_keys)

    @property
    def name(self) -> str:
        return f"{self.count:,} {self.curve}"


BASE = Point("of each")
CURVES = {
    "client keys": (Point("client keys", client_keys=1_000), Point("client keys", client_keys=1_000_000)),
    "prices": (Point("prices", prices=10_000),),
    "upstream keys": (Point("upstream keys", upstream_keys=1_000),),
}
POINTS = (BASE, *chain.from_iterable(CURVES.values()))


@contextmanager
def serving(folder: Path, point: Point, upstream: JsonUpstream) -> Iterator[tuple[System, Path]]:
    """The gateway with all that in it from its start, and the script of its load."""
    size = Size(models=point.prices, upstream_keys=point.upstream_keys)
    gateway = Trollproxy(folder, upstream=upstream, size=size)
    with gateway:
        pass  # makes the store, the pepper and the administrator
    used = fill(gateway.data_dir, point.client_keys)
    with gateway:
        system = System(point.name, gateway.port, gateway.pid, headers=gateway.system.headers)
        yield system, write_script(folder, system, used)


def fill(data: Path, count: int) -> list[str]:
    """So many client keys into the store; those that the load presents."""
    directory = DataDir(data, random_bytes=os.urandom)
    pepper = directory.pepper()
    used = [mint(CLIENT_PREFIX, number.to_bytes(ENTROPY_BYTES, "little")) for number in range(min(count, MAX_USED))]
    known = (read_key(key, pepper) for key in used)
    rows = chain(
        (row_of(key.key_id, key.key_hash) for key in known),
        (row_of(f"unused{number:010d}", b"x" * 32) for number in range(count - len(used))),
    )
    columns = row_of("", b"")
    places = ", ".join(f":{column}" for column in columns)
    with sqlite3.connect(directory.database) as store:
        store.executemany(f"INSERT INTO {CLIENT_KEYS} ({', '.join(columns)}) VALUES ({places})", rows)
    store.close()
    return used


def row_of(key_id: str, key_hash: bytes) -> dict[str, object]:
    return client_key_to_row(ClientKey(key_id=key_id, key_hash=key_hash, username="admin", tier="pro"))


def write_script(folder: Path, system: System, keys: list[str]) -> Path:
    """wrk asks with one key after the other."""
    script = wrk.write_script(folder, system)
    listed = ",".join(f'"{key}"' for key in keys)
    script.write_text(
        f"""{script.read_text()}
local keys, requests, last = {{{listed}}}, {{}}, 0
function init(args)
  for n, key in ipairs(keys) do
    wrk.headers["authorization"] = "Bearer " .. key
    requests[n] = wrk.format()
  end
end
function request()
  last = last % #requests + 1
  return requests[last]
end
"""
    )
    return script


def measure(folder: Path, *, rounds: int, seconds: float) -> Taken:
    with ExitStack() as stack:
        upstream = stack.enter_context(JsonUpstream(folder))
        served = [
            stack.enter_context(serving(folder / f"scale-{number}", point, upstream))
            for number, point in enumerate(POINTS)
        ]
        scripts = {system.name: script for system, script in served}

        def load(system: System) -> Figures:
            return load_with(scripts[system.name], system, upstream, seconds=seconds)

        systems = [system for system, _ in served]
        for system in systems:
            load(system)  # every key is looked up once, and once only
        return alternate(systems, [load], rounds)


def table(taken: Taken) -> Iterator[str]:
    yield from page.rows_by_system(taken, [CPU], BASE.name)
    yield ""
    yield "![CPU time a request by how much there is](scale.svg)"


def goal(taken: Taken) -> Goal:
    worst = max(taken.ratio(CPU, point.name, BASE.name) for point in POINTS)
    text = "5. cost flat with 1 M client keys, 10 k prices, 1 k upstream keys"
    return at_most(f"{text}: at most x {FLAT} of one of each", worst, FLAT)


def draw(taken: Taken) -> str:
    curves = {
        name: [(1, taken.median(BASE.name, CPU)), *((point.count, taken.median(point.name, CPU)) for point in points)]
        for name, points in CURVES.items()
    }
    return charts.curves("CPU µs a request by how much there is", curves)


def main() -> None:
    options = read_options(__doc__, rounds=5, seconds=2)
    with tempfile.TemporaryDirectory() as folder:
        taken = measure(Path(folder), rounds=options.rounds, seconds=options.seconds)
    lines = list(table(taken))
    sys.stdout.write("\n".join([*lines, ""]))
    if options.write:
        page.write("benchmarks.md", "scale", lines)
        (page.DOCS / "scale.svg").write_text(draw(taken))


if __name__ == "__main__":
    main()
