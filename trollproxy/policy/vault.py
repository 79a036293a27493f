"""Memories of answers, kept for the turn that follows: bounded by size, the least recently used go first.

Each belongs to a tenant and is found by nobody else. Losing one is no error: the next turn goes without it.
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

_OVERHEAD = 300  # bytes of the entry itself, so that many tiny memories are bounded as well


class Sized(Protocol):
    @property
    def size(self) -> int: ...


S = TypeVar("S", bound=Sized)


class Vault(Generic[S]):
    """What is kept, by tenant and name."""

    __slots__ = ("_kept", "_max_bytes", "held_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._kept: OrderedDict[tuple[str, str], S] = OrderedDict()
        self._max_bytes = max_bytes
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, tenant: str, name: str, memory: S) -> None:
        self._drop((tenant, name))
        self._kept[tenant, name] = memory
        self.held_bytes += _size(name, memory)
        while self.held_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def recall(self, tenant: str, name: str) -> S | None:
        memory = self._kept.get((tenant, name))
        if memory is not None:
            self._kept.move_to_end((tenant, name))
        return memory

    def _drop(self, key: tuple[str, str]) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self.held_bytes -= _size(key[1], dropped)


def _size(name: str, memory: Sized) -> int:
    return memory.size + len(name) + _OVERHEAD
