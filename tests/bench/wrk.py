"""wrk, and what it says."""

import re
import subprocess
from pathlib import Path

from tests.bench.machine import LOAD_CORE, pinned
from tests.bench.systems import System

_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Counted:
    """One run: requests, and latencies in milliseconds."""

    def __init__(self, said: str) -> None:
        self.said = said
        self.requests = int(self._find(r"(\d+) requests in"))
        self.seconds = self._time(self._find(r"requests in (\S+),")) / 1000
        self.bad = int(match[1]) if (match := re.search(r"Non-2xx or 3xx responses: (\d+)", said)) else 0
        self.p50_ms, self.p99_ms = self._latency("50%"), self._latency("99%")

    def _latency(self, percentile: str) -> float:
        found = re.search(rf"{re.escape(percentile)}\s+([\d.]+)(us|ms|s)\b", self.said)
        assert found is not None, self.said
        return self._time(found[1] + found[2])

    @staticmethod
    def _time(said: str) -> float:
        """In milliseconds."""
        value = said.rstrip("mus")
        return float(value) * _UNITS_MS[said[len(value) :]]

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self.said)
        assert found is not None, self.said
        return found[1]


def run(script: Path, system: System, *, connections: int, seconds: float) -> Counted:
    """With the script of `write_script` or of the caller's own."""
    url = f"http://127.0.0.1:{system.port}{system.path}"
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script), url]
    done = subprocess.run(pinned(LOAD_CORE, ["wrk", *options]), capture_output=True, text=True, check=True)
    return Counted(done.stdout)


def write_script(folder: Path, system: System, *, is_sdk: bool = False) -> Path:
    script = folder / f"{system.name.replace(' ', '-')}.lua"
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in system.named_headers(is_sdk=is_sdk).items()]
    script.write_text("\n".join(['wrk.method = "POST"', f"wrk.body = [[{system.body().decode()}]]", *lines]))
    return script
