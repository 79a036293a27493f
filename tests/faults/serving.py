"""The gateway as a process that is killed: spawned, waited for, killed by its id, started anew in the same folder.

It is asyncio's, unlike e2e's, since clients and provider run beside it. Port 0 gives every life a port of its own, so
no client of one life can reach the next. All lives run one copy of the program, taken at the beginning: a run lasts
many minutes, and must not notice that the sources are being edited.
"""

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.process import clean_environment, command, copy_program
from tests.e2e.talk import ask
from trollproxy.app import CRASH_VARIABLE

READY_WITHIN_S = 60.0
ENDED_WITHIN_S = 30.0
QUIET_WITHIN_S = 60.0
POLL_S = 0.01
_ANNOUNCEMENT = re.compile(rb"trollproxy listens on 127\.0\.0\.1:(\d+)")


class Serving:
    """At most one process at a time."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None
        copy_program(folder / "program")
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(config)))

    @property
    def log(self) -> str:
        return (self.folder / "stderr.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def spawn(self, *, crash_at: str = "") -> None:
        assert self._process is None
        environment = clean_environment(PYTHONPATH=str(self.folder / "program"), **_crashing(crash_at))
        with (self.folder / "stderr.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command("serve", "--host", "127.0.0.1", "--port", "0"),
                cwd=self.folder,
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    async def wait_ready(self) -> bool:
        """Whether it came to listen; False: it ended before."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_WITHIN_S):
            async for line in self._process.stdout:
                if found := _ANNOUNCEMENT.search(line):
                    self.port = int(found[1])
                    return True
        return False

    async def start(self) -> None:
        await self.spawn()
        assert await self.wait_ready(), f"ended at its start\n{self.log[-3000:]}"

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def wait_ended(self) -> int:
        """The exit code; negative for a signal."""
        assert self._process is not None
        async with asyncio.timeout(ENDED_WITHIN_S):
            code = await self._process.wait()
        self._process = None
        return code

    async def end(self) -> None:
        """Whatever it is doing."""
        if self._process is not None:
            self.kill()
            await self.wait_ended()

    async def drain(self) -> None:
        """End it as systemd does, and insist on a clean end."""
        assert self._process is not None
        self._process.terminate()
        code = await self.wait_ended()
        assert code == os.EX_OK, f"exit code {code}\n{self.log[-3000:]}"

    def metrics(self) -> dict[str, float]:
        answer = ask(self.port, "GET", "/metrics")
        assert answer.status == 200, answer.body
        lines = (line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def wait_quiet(self) -> dict[str, float]:
        """Until no request runs and no charge waits; what the metrics say then."""
        async with asyncio.timeout(QUIET_WITHIN_S):
            while True:
                metrics = self.metrics()
                if not metrics["trollproxy_requests_in_flight"] and not metrics["trollproxy_writer_queued_charges"]:
                    return metrics
                await asyncio.sleep(POLL_S)


def _crashing(at: str) -> dict[str, str]:
    return {CRASH_VARIABLE: at} if at else {}
