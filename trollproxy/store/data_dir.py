"""What an instance keeps in its data directory besides the database: its lock, its journal, its pepper.

One process owns a data directory at a time. The pepper turns key secrets into the hashes that the store keeps: lose it
and no key opens any more, so it is made once and never replaced.
"""

import fcntl
import os
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

PEPPER_BYTES = 32
_PRIVATE = 0o600


class DataDirBusyError(RuntimeError):
    """Another process owns the data directory."""


class DamagedError(RuntimeError):
    """A file that must never change has changed."""


class DataDir:
    """A directory that exists and can be written to."""

    def __init__(self, path: str | Path, *, random_bytes: Callable[[int], bytes]) -> None:
        self.path = Path(path)
        self._random_bytes = random_bytes
        self._lock: int | None = None
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def database(self) -> Path:
        return self.path / "trollproxy.sqlite"

    def lock(self) -> None:
        """Own the directory until the process ends."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise DataDirBusyError(f"Another gateway is running on the data directory {self.path}.") from error
        self._lock = descriptor

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def retire_journal(self, journal_id: str) -> None:
        """Set a journal aside under its own name; the next one begins anew."""
        name = f"journal-retired-{journal_id}"
        names = chain([name], (f"{name}-{turn}" for turn in count(2)))  # a backup may be restored more than once
        self.journal.rename(next(path for path in map(self.path.joinpath, names) if not path.exists()))

    def pepper(self) -> bytes:
        return bytes.fromhex(self._once("pepper", PEPPER_BYTES))

    def _once(self, name: str, size: int) -> str:
        """The hex text in a file, made at random the first time and durable before it is used."""
        path = self.path / name
        if not path.exists():
            temporary = path.with_suffix(".new")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _PRIVATE)
            with os.fdopen(descriptor, "w") as file:
                file.write(self._random_bytes(size).hex())
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            self._sync()
        text = path.read_text().strip()
        if len(text) != 2 * size:
            raise DamagedError(f"{path} is damaged: restore it from a backup. A new one would open no existing key.")
        return text

    def _sync(self) -> None:
        """Make a new name in the directory durable."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
