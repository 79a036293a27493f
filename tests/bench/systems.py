"""What is measured, started on its core and stopped by its process id: nginx as the yardstick, trollproxy, peers."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.machine import GATEWAY_CORE, LOAD_CORE, pinned
from tests.bench.upstreams import json_config, proxy_config
from tests.e2e.process import GatewayProcess, clean_environment

READY_WITHIN_S = 30.0
CREDIT_USD = 1_000_000  # nobody runs dry in a benchmark


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@dataclass
class System:
    """Something that takes requests on a port. `path` and `headers` are how it is asked."""

    name: str
    port: int
    pid: int
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str = "m"


class Started:
    """A process on a core, stopped with the block."""

    def __init__(self, folder: Path, core: int, *command: str) -> None:
        self._log = (folder / f"{Path(command[0]).name}-{core}.log").open("ab")
        self.process = subprocess.Popen(
            pinned(core, command), stdout=self._log, stderr=self._log, env=clean_environment(), cwd=folder
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait(READY_WITHIN_S)
        self._log.close()


class Nginx(Started):
    """nginx with a configuration of ours."""

    def __init__(self, folder: Path, core: int, *, port: int, config: str) -> None:
        path = folder / f"nginx-{port}.conf"
        path.write_text(config)
        self.port = port
        super().__init__(folder, core, "nginx", "-c", str(path))
        wait_for_port(port)


def json_upstream(folder: Path) -> Nginx:
    port = free_port()
    return Nginx(folder, LOAD_CORE, port=port, config=json_config(folder, port))


class StreamUpstream(Started):
    """The source of streams."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        super().__init__(folder, LOAD_CORE, sys.executable, "-m", "tests.bench.upstreams", str(self.port))
        wait_for_port(self.port)


def nginx_proxy(folder: Path, *, upstream: int) -> Nginx:
    port = free_port()
    return Nginx(folder, GATEWAY_CORE, port=port, config=proxy_config(folder, port, upstream=upstream))


class Trollproxy(GatewayProcess):
    """The gateway as it is by default: SQLite, journal, limits, holds, metrics and an access log."""

    def __init__(self, folder: Path, *, upstream: int, formats: tuple[str, ...] = ("openai",)) -> None:
        config: dict[str, Any] = {
            "limits": {"proRpm": 10_000_000, "devRpm": 10_000_000},
            "upstreams": {"u": {"baseUrl": f"http://127.0.0.1:{upstream}", "formats": list(formats), "apiKey": "k"}},
            "models": [{"id": "m", "upstream": "u", "pricing": {"input": 1, "output": 4}}],
            "demo": False,
        }
        super().__init__(folder, config=config)

    def start(self) -> Self:
        super().start()
        assert self._process is not None
        subprocess.run(pinned_pid(self._process.pid), check=True, stdout=subprocess.DEVNULL)
        self.command("user-credit", "admin", str(CREDIT_USD), "--wallet", "legacy")
        self.signal(signal.SIGHUP)  # it learns of the money at once
        self.system = System(
            "trollproxy", self.port, self._process.pid, headers={"authorization": f"Bearer {self.key}"}
        )
        return self


def pinned_pid(pid: int) -> list[str]:
    return ["taskset", "-a", "-c", "-p", str(GATEWAY_CORE), str(pid)]


def ask_once(system: System, body: bytes) -> tuple[int, bytes]:
    """One request, as the load will send them."""
    connection = HTTPConnection("127.0.0.1", system.port, timeout=READY_WITHIN_S)
    headers = {"content-type": "application/json", **system.headers}
    connection.request("POST", system.path, body, headers)
    response = connection.getresponse()
    answered = response.status, response.read()
    connection.close()
    return answered
