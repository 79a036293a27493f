"""Whom a process talks to, as the kernel tells it: /proc/<pid>/fd names its sockets, /proc/<pid>/net/tcp their ends."""

import asyncio
import re
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

LOOK_S = 0.01
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_REMOTE, _INODE = 2, 9  # columns


def remote_ends(pid: int) -> set[tuple[str, int]]:
    """The far ends of all its TCP sockets over IPv4, also of those that are only just connecting."""
    mine = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found = _SOCKET.fullmatch(str(entry.readlink()))
            mine.add(found[1] if found else "")
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {_address(row[_REMOTE]) for row in rows if row[_INODE] in mine}


def _address(written: str) -> tuple[str, int]:
    host, port = written.split(":")
    return str(IPv4Address(int.from_bytes(bytes.fromhex(host), "little"))), int(port, 16)


class Watch:
    """Looks at a process's sockets again and again."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.looks = 0
        self.seen: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.seen |= remote_ends(self._pid)
            self.looks += 1
            await asyncio.sleep(LOOK_S)
