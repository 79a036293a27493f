"""trollproxy as a process of its own: started, asked, signalled, ended; its log and books can be read all the while.

Readiness is what the process itself prints, never a fixed wait. Every process is ended by its own id, and leaving a
`with` block ends it whatever happened inside: by SIGTERM with exit code 0 after a test that passed, by SIGKILL
otherwise.
"""

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import yaml

from tests.e2e.books import Books
from tests.e2e.talk import Answer, ask
from trollproxy.records import Charge

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("PROGRAM", ROOT))  # where the package is that the processes run: `make test` compiles it
READY_WITHIN_S = 20.0
ENDED_WITHIN_S = 20.0
SETTLED_WITHIN_S = 15.0
POLL_S = 0.01
QUICK = {"billing": {"flushInterval": "20ms"}}  # for tests that read the books of a gateway that goes on running


def wait_until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Ask again and again until the condition holds; AssertionError at the deadline."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s} s")
        time.sleep(POLL_S)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trollproxy", *arguments]


def clean_environment(**more: str) -> dict[str, str]:
    """Nothing of the caller's own settings (PORT, MONGODB_URI, …) reaches the process."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(PROGRAM), **more}


def copy_program(folder: Path) -> None:
    """So that it stays what it is while somebody works on it."""
    folder.mkdir()
    for part in PROGRAM.glob("trollproxy*"):
        if part.is_dir():
            shutil.copytree(part, folder / part.name)
        else:
            shutil.copy(part, folder)


def run_command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=READY_WITHIN_S,
        check=False,
    )


class Program:
    """A trollproxy command that prints where it listens and runs until a signal."""

    running: ClassVar[set["Program"]] = set()
    announcement = re.compile(r"(?!)")

    def __init__(self, folder: Path, arguments: tuple[str, ...], environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.output = ""
        self.port = 0
        self._arguments = arguments
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that was written to stderr, over every start in this folder."""
        return (self.folder / "stderr.log").read_text()

    def start(self) -> Self:
        with (self.folder / "stderr.log").open("ab") as log:
            self._process = subprocess.Popen(
                command(*self._arguments),
                cwd=self.folder,
                env=clean_environment(**self._environment),
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.running.add(self)
        try:
            self.port = int(self._read_announcement()[1])
        except BaseException:
            self.kill()
            raise
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, *, within_s: float = ENDED_WITHIN_S) -> int:
        """The exit code of a process that is ending."""
        assert self._process is not None
        code = self._process.wait(within_s)
        self._forget()
        return code

    def stop(self) -> None:
        """End it as systemd does, and insist on a clean end."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"exit code {code}\n{self.log[-4000:]}"
        assert "Traceback" not in self.log, self.log[-4000:]

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if self._process is not None and kind is None:
                self.stop()
        finally:
            self.kill()

    def _read_announcement(self) -> re.Match[str]:
        assert self._process is not None
        assert self._process.stdout is not None
        self.output = ""
        deadline = time.monotonic() + READY_WITHIN_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not (found := self.announcement.search(self.output)):
                left_s = deadline - time.monotonic()
                assert left_s > 0, f"not ready within {READY_WITHIN_S} s\n{self.log}"
                assert not selector.select(left_s) or self._read_more(), f"ended at its start\n{self.log}"
        return found

    def _read_more(self) -> bool:
        assert self._process is not None
        assert self._process.stdout is not None
        piece = os.read(self._process.stdout.fileno(), 65_536)
        self.output += piece.decode()
        return bool(piece)

    def _forget(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as rest:
            self.output += rest.read().decode()
        self._process = None
        self.running.discard(self)


class ScriptedProvider(Program):
    """`trollproxy mock`: an upstream that the gateway reaches by its configuration, with deadlines of the test's."""

    announcement = re.compile(r"answers on http://127\.0\.0\.1:(\d+)/v1 .*\n")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ("mock", "--port", "0"))


class GatewayProcess(Program):
    """`trollproxy serve` on a free port, with a data directory of its own in `folder`."""

    announcement = re.compile(r"trollproxy listens on 127\.0\.0\.1:(\d+).*\n")

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, Any] | None = None,
        arguments: tuple[str, ...] = ("--port", "0"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.config_path = folder / "config.yaml"  # found by itself in the working directory
        super().__init__(folder, ("serve", "--host", "127.0.0.1", *arguments), environment)
        if config is not None:
            self.write_config(config)
        self.password = ""
        self.key = ""

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def books(self) -> Books:
        return Books(self.data_dir / "trollproxy.sqlite")

    def write_config(self, config: Mapping[str, Any]) -> None:
        self.config_path.write_text(yaml.safe_dump(dict(config)))

    def start(self) -> Self:
        super().start()
        told = re.search(r"admin login +admin / (\S+)\n +client key +(\S+)\n", self.output)
        if told is not None:
            self.password, self.key = told.groups()
        return self

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """A plain HTTP request with the greeting's key. Underscores in header names stand for dashes."""
        named = {"authorization": f"Bearer {self.key}"} | {n.replace("_", "-"): v for n, v in headers.items()}
        return ask(self.port, method, path, body=body, headers=named)

    def command(self, *arguments: str) -> str:
        """A command of the administrator on this gateway's configuration and data; what it printed."""
        done = run_command(self.folder, *arguments, **self._environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def metrics(self) -> dict[str, float]:
        """Every series by its full name, labels included."""
        answer = ask(self.port, "GET", "/metrics")
        assert answer.status == 200, answer.body
        lines = (line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def settle(self) -> None:
        """Wait until no request runs and every charge is on the books; then nothing may be held."""

        def is_quiet() -> bool:
            metrics = self.metrics()
            return metrics["trollproxy_requests_in_flight"] == metrics["trollproxy_writer_queued_charges"] == 0

        wait_until(is_quiet, within_s=SETTLED_WITHIN_S, what="every charge on the books")
        assert self.metrics()["trollproxy_held_usd"] == 0

    @contextlib.contextmanager
    def bill(self) -> Iterator[list[Charge]]:
        """The charges that what is inside leaves on the books, checked against ledger and balances."""
        self.settle()
        before = self.books.read()
        made: list[Charge] = []
        yield made
        self.settle()
        after = self.books.read()
        made += [charge for name, charge in after.charges.items() if name not in before.charges]
        posted = {name: entry for name, entry in after.ledger.items() if name not in before.ledger}
        billed = {charge.request_id: -charge.cost_nusd for charge in made if charge.username}
        assert {name: entry.amount_nusd for name, entry in posted.items()} == billed
        for username, balance in before.balances.items():
            spent = sum(charge.cost_nusd for charge in made if charge.username == username)
            assert after.balances[username] == balance - spent, username
