"""A real MongoDB server of one's own: one process on a free port of the loopback, with a folder that dies with it.

It is a single-member replica set, so majority write concern, sessions and failpoints are as in production. Readiness is
asked of the server itself; nothing here waits for a fixed time. A missing binary is a failure and never a skip.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "mongod"
BINARY = FOLDER / "mongod"
READY_WITHIN_S = 30.0
STOP_WITHIN_S = 20.0
POLL_MS = 500


class MongodMissing(AssertionError):
    """The server is not there to be tested against."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mongod:
    """A server process. `start` and `stop` are the whole life; `kill` and `restart` are for tests of what is lost."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="trollproxy-mongod-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs0"

    @property
    def direct_uri(self) -> str:
        """The server whatever its state in the set, for administration."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def client(self, *, within_s: float = READY_WITHIN_S) -> MongoClient[dict[str, Any]]:
        """A synchronous client for what tests do behind the store's back."""
        return MongoClient(self.uri, serverSelectionTimeoutMS=int(within_s * 1000))

    def start(self) -> Self:
        self._spawn()
        with MongoClient[dict[str, Any]](self.direct_uri) as client:
            members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        self._wait(self.uri)
        return self

    def restart(self) -> None:
        """Come back on the same port with the same data."""
        self._spawn()
        self._wait(self.uri)

    def kill(self) -> None:
        """As the kernel would: no goodbye, nothing flushed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_WITHIN_S)
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WITHIN_S)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _spawn(self) -> None:
        if not BINARY.exists():
            raise MongodMissing("There is no mongod to test against. Run `python scripts/get_mongod.py` once.")
        command = [str(BINARY), "--replSet", "rs0", "--bind_ip", "127.0.0.1", "--port", str(self.port)]
        command += ["--dbpath", str(self.folder), "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"]
        command += ["--setParameter", "enableTestCommands=1", "--setParameter", "ttlMonitorSleepSecs=1"]
        environment = {**os.environ, "LD_LIBRARY_PATH": str(FOLDER)}
        with (self.folder / "mongod.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._wait(self.direct_uri)

    def _wait(self, uri: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=POLL_MS) as client:
            while not self._answers(client):
                if time.monotonic() > deadline:
                    raise AssertionError(f"mongod was not ready within {READY_WITHIN_S} s:\n{self._last_words()}")

    def _answers(self, client: MongoClient[dict[str, Any]]) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"mongod ended while it was starting:\n{self._last_words()}")
        try:
            client.admin.command("ping")  # itself waits up to POLL_MS for a server
        except PyMongoError:
            return False
        return True

    def _last_words(self) -> str:
        return (self.folder / "mongod.log").read_text(errors="replace")[-2000:]
