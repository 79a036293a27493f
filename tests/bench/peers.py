"""Other gateways before the same provider, in the same run as nginx and trollproxy.

    make bench-peers    or    python -m tests.bench.peers [--rounds 3] [--seconds 5] [--write]

Each is installed from its lock in peers/ into .cache/peers, runs with its defaults, one process, on the core that all
systems under test take in turn, and only passes on: no keys of its own to check but the one that LiteLLM insists on.
One that cannot be installed, or does not answer, has its row with the reason.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tests.bench import charts, page
from tests.bench.asked import Pattern
from tests.bench.machine import GATEWAY_CORE, LOAD_CORE
from tests.bench.measures import (
    CHUNK_CPU,
    CPU,
    LOST,
    PER_CORE,
    Measure,
    Scenario,
    Taken,
    alternate,
    measure_load,
    measure_streams,
)
from tests.bench.options import read_options
from tests.bench.page import Goal, at_least
from tests.bench.processes import READY_WITHIN_S, Started, free_port
from tests.bench.systems import System, Trollproxy, ask_once
from tests.bench.upstreams import ROOT, JsonUpstream, StreamUpstream, Upstream, nginx_proxy

LOCKS = Path(__file__).with_name("peers")
INSTALLED = ROOT / ".cache" / "peers"
INSTALL_WITHIN_S = 900.0
RETRY_S = 0.05
STRAYS = 20  # requests that a router makes of its own meanwhile: is the provider well, what does it serve
MASTER_KEY = f"sk-{hashlib.sha256(b'bench').hexdigest()}"  # LiteLLM does not start with a weaker one
STREAMED = Scenario("64 streams, 100 ms", 64, 64, Pattern(30, 100), (CHUNK_CPU, LOST))  # what LiteLLM can carry
START_S, REST_MB = "s to first answer", "MB at rest"
COLUMNS = (CPU, PER_CORE, f"{STREAMED.name}: {CHUNK_CPU}", f"{STREAMED.name}: {LOST}", REST_MB, START_S)


class Peer(msgspec.Struct, frozen=True):
    """Another gateway. `command` takes a folder, a port and the provider's URL; `headers` the URL."""

    name: str
    folder: str
    lock: str
    version: str  # a pattern that finds it in the lock
    command: Callable[[Path, int, str], list[str]]
    headers: Callable[[str], dict[str, str]]
    at_least: float  # the goal: how many times our CPU time a request it takes
    environment: Mapping[str, str] = {}

    @property
    def title(self) -> str:
        found = re.search(self.version, (LOCKS / self.lock).read_text())
        assert found is not None, self.lock
        return f"{self.name} {found[1]}"


class Unavailable(Exception):
    """Why a peer is not measured."""


def litellm_command(folder: Path, port: int, url: str) -> list[str]:
    settings = {"model": "openai/m", "api_base": f"{url}/v1", "api_key": "k"}
    models = [{"model_name": "m", "litellm_params": settings}]
    path = folder / f"litellm-{port}.yaml"
    path.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": MASTER_KEY}}))
    program = INSTALLED / "litellm" / "bin" / "litellm"
    return [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]


def portkey_command(folder: Path, port: int, url: str) -> list[str]:
    script = INSTALLED / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return [program("node"), str(script), f"--port={port}", "--headless"]


def sglang_command(folder: Path, port: int, url: str) -> list[str]:
    python = INSTALLED / "sglang" / "bin" / "python"
    where = ["--worker-urls", url, "--host", "127.0.0.1", "--port", str(port)]
    return [str(python), "-m", "sglang_router.launch_router", *where, "--prometheus-port", str(free_port())]


def portkey_headers(url: str) -> dict[str, str]:
    return {"authorization": "Bearer k", "x-portkey-provider": "openai", "x-portkey-custom-host": f"{url}/v1"}


def program(name: str) -> str:
    """Beside this Python: Node comes with the development packages."""
    return str(Path(sys.executable).with_name(name))


PEERS = (
    Peer(
        name="sglang-router",
        folder="sglang",
        lock="sglang.lock",
        version=r"sglang-router==(\S+)",
        command=sglang_command,
        headers=lambda _: {},
        at_least=3.5,
    ),
    Peer(
        name="Portkey",
        folder="portkey",
        lock="portkey/package.json",
        version=r'@portkey-ai/gateway": "(\S+)"',
        command=portkey_command,
        headers=portkey_headers,
        at_least=35,
    ),
    Peer(
        name="LiteLLM",
        folder="litellm",
        lock="litellm.lock",
        version=r"litellm==(\S+)",
        command=litellm_command,
        headers=lambda _: {"authorization": f"Bearer {MASTER_KEY}"},
        at_least=300,
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # else it asks the Internet for one at its start
    ),
)


def install(peer: Peer) -> None:
    """Unless it is there from this very lock."""
    lock, folder = LOCKS / peer.lock, INSTALLED / peer.folder
    files = [lock, lock.with_name("package-lock.json")] if lock.suffix == ".json" else [lock]
    digest, done = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest(), folder / ".done"
    if done.is_file() and done.read_text() == digest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if lock.suffix == ".json":
        for file in files:
            (folder / file.name).write_bytes(file.read_bytes())
        run([program("npm"), "ci", "--no-audit", "--no-fund", "--loglevel=error"], folder)
    else:
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "--no-deps", "--require-hashes", "-r", str(lock)], folder)
    done.write_text(digest)


def run(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_WITHIN_S)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"cannot be installed: {first_lines(error.stderr)}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"cannot be installed: {first_lines(str(error))}") from error


def first_lines(words: str) -> str:
    """Where installers say what is wrong; advice follows."""
    return " ".join(words.split()).replace("|", "/")[:300] or "it did not say why"


def last_line(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1].replace("|", "/") if lines else "it did not say why"


class Tried:
    """What came of all peers: figures, times of start, and reasons."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self.starts: dict[str, dict[str, float]] = {}

    def begin(self, stack: ExitStack, folder: Path, peer: Peer, upstream: Upstream) -> System | None:
        """The peer before a provider; None, and the reason remembered, if it does not serve."""
        if peer.title in self.missing:
            return None
        try:
            install(peer)
            return self._start(stack, folder, peer, upstream)
        except Unavailable as error:
            self.missing[peer.title] = str(error)
            return None

    def bear(self, load: Measure, systems: Sequence[System]) -> list[System]:
        """Those that bear the load once, and are warm then; the reasons of the others remembered."""
        bearing = []
        for system in systems:
            try:
                load(system)
            except AssertionError as error:
                self.missing[system.name] = f"fails under load: {first_lines(str(error))}"
            else:
                bearing.append(system)
        return bearing

    def _start(self, stack: ExitStack, folder: Path, peer: Peer, upstream: Upstream) -> System:
        port, began = free_port(), time.monotonic()
        command = peer.command(folder, port, upstream.url)
        process = stack.enter_context(Started(folder, GATEWAY_CORE, *command, environment=peer.environment))
        system = System(peer.title, port, process.pid, headers=peer.headers(upstream.url), strays=STRAYS)
        pattern = Pattern(1, 10) if isinstance(upstream, StreamUpstream) else None
        said: object = "nothing"
        while time.monotonic() < began + READY_WITHIN_S and process.process.poll() is None:
            try:
                status, body = ask_once(system, pattern)
            except OSError as error:
                said = error
            else:
                said = f"{status} {body[:200].decode(errors='replace')}"
                if status == 200:
                    return self.ready(system, time.monotonic() - began)
            time.sleep(RETRY_S)
        raise Unavailable(
            f"does not answer: {first_lines(str(said))}; its log ends: "
            f"{last_line(process.log.read_text()).replace(str(ROOT), '.')}"  # the page is for all machines
        )

    def ready(self, system: System, seconds: float) -> System:
        rested = system.rested()
        self.starts.setdefault(system.name, {START_S: seconds, REST_MB: rested.rest_kb / 1024})
        return rested


def measure(folder: Path, *, rounds: int, seconds: float) -> tuple[Taken, Tried]:
    tried = Tried()
    with ExitStack() as stack:
        upstream = stack.enter_context(JsonUpstream(folder))
        load = measure_load(folder, upstream, seconds=seconds)
        systems = tried.bear(load, everybody(stack, folder / "whole", upstream, tried))
        taken = alternate(systems, [load], rounds)
    with ExitStack() as stack:
        source = stack.enter_context(StreamUpstream(folder))
        load = measure_streams(source, STREAMED)
        systems = tried.bear(load, everybody(stack, folder / "streams", source, tried))
        streamed = alternate(systems, [load], rounds)
    for name in taken.by_system:
        taken.by_system[name] |= streamed.by_system.get(name, {})
        taken.add(name, tried.starts[name])
    return taken, tried


def everybody(stack: ExitStack, folder: Path, upstream: Upstream, tried: Tried) -> list[System]:
    began = time.monotonic()
    folder.mkdir(exist_ok=True)
    proxy = stack.enter_context(nginx_proxy(folder, GATEWAY_CORE, upstream=upstream))
    systems = [tried.ready(System("nginx", proxy.port, proxy.pid), time.monotonic() - began)]
    began = time.monotonic()
    gateway = stack.enter_context(Trollproxy(folder / "trollproxy", upstream=upstream)).system
    systems.append(tried.ready(gateway, time.monotonic() - began))
    found = (tried.begin(stack, folder, peer, upstream) for peer in PEERS)
    return [*systems, *(system for system in found if system is not None)]


def goals(taken: Taken) -> Iterator[Goal]:
    for peer in PEERS:
        text = f"1. JSON passthrough: {peer.title} takes at least {peer.at_least:g} x our CPU time"
        if peer.title in taken.by_system:
            yield at_least(text, taken.ratio(CPU, peer.title, "trollproxy"), peer.at_least)
        else:
            yield Goal(text, "", None)


def report(taken: Taken, tried: Tried) -> Iterator[str]:
    yield from page.goal_table(list(goals(taken)))
    yield from ("", *page.rows_by_system(taken, COLUMNS, "trollproxy"))
    for title, reason in tried.missing.items():
        yield f"| {title} | {reason} |{' |' * len(COLUMNS)}"
    yield from ("", "![CPU time a JSON request, on a logarithmic scale](peers.svg)")


def draw(taken: Taken) -> str:
    return charts.bars(f"{CPU}, JSON passthrough", {name: taken.median(name, CPU) for name in taken.by_system})


def main() -> None:
    options = read_options(__doc__, rounds=3, seconds=5)
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        taken, tried = measure(Path(folder), rounds=options.rounds, seconds=options.seconds)
    lines = list(report(taken, tried))
    sys.stdout.write("\n".join([*lines, ""]))
    if options.write:
        page.write("benchmarks.md", "peers", lines)
        (page.DOCS / "peers.svg").write_text(draw(taken))


if __name__ == "__main__":
    main()
