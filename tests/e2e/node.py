"""One Node process with the official JavaScript SDKs, as `make` installs them in .cache/sdks; what is missing fails.

The scripts in `js/` run beside the installed packages, so they import them as anybody does. A job is a line of JSON
in, and so is what the SDK saw.
"""

import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.process import ROOT

SCRIPTS = Path(__file__).parent / "js"
SDKS = ROOT / ".cache" / "sdks" / "node_modules"
NODE = Path(sys.executable).parent / "node"
PACKAGES = ("openai", "@anthropic-ai/sdk", "@google/genai")
WITHIN_S = 20.0


class Node:
    """Ended by its own id when the block is left, whatever happened inside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "js"
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Self:
        assert NODE.exists(), f"{NODE} is missing: make .venv/.dev"
        missing = [name for name in PACKAGES if not (SDKS / name / "package.json").exists()]
        assert not missing, f"{missing} not in {SDKS}: make .cache/sdks/.done"
        shutil.copytree(SCRIPTS, self._folder)
        (self._folder / "node_modules").symlink_to(SDKS)
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [NODE, self._folder / "run.mjs"],
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process is not None
        with self._process as process:
            process.kill()

    def run(self, **job: Any) -> Any:
        """What the SDK saw."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._read_line())

    @property
    def _errors(self) -> Path:
        return self._folder / "stderr.log"

    def _read_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + WITHIN_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                left_s = deadline - time.monotonic()
                assert left_s > 0, f"no answer within {WITHIN_S} s\n{self._errors.read_text()}"
                if selector.select(left_s):
                    piece = os.read(self._process.stdout.fileno(), 65_536)
                    assert piece, f"Node ended\n{self._errors.read_text()}"
                    self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line
