"""Parts of the benchmark as processes: each on its core, ended by its own id, its words in a file."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.machine import pinned
from tests.e2e.process import clean_environment

READY_WITHIN_S = 60.0  # LiteLLM takes seven seconds of an idle machine


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


class Started:
    """A process on a core, stopped with the block."""

    port: int

    def __init__(self, folder: Path, core: int, *command: str, environment: Mapping[str, str] | None = None) -> None:
        self.log = folder / f"{Path(command[0]).name}-{core}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                pinned(core, command),
                stdout=log,
                stderr=log,
                env=clean_environment(**(environment or {})),
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # its whole group: some programs are a wrapper that would leave the real one behind
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGTERM)
        try:
            self.process.wait(READY_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()


class Nginx(Started):
    """nginx with a configuration of ours."""

    def __init__(self, folder: Path, core: int, *, port: int, config: str) -> None:
        path = folder / f"nginx-{port}.conf"
        path.write_text(config)
        self.port = port
        super().__init__(folder, core, "nginx", "-c", str(path))
        wait_for_port(port)
