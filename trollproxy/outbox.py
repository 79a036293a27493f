"""What goes out to clients and providers behind the records that must be put down before it.

The records of one turn of the loop are put down together at its end, by one write, and what was to be sent behind them
goes out then, in the order in which it was given. While no record waits, what is given goes out at once: a stream's
chunks are not held up. Must not know: what the records say, what is sent, and to whom.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from trollproxy.errors import GatewayError

MAX_HELD: Final = 64  # a few milliseconds of work; who waits first should not wait for all that a turn brings

Refuse = Callable[[GatewayError], object]
Later = Callable[[Callable[[], object]], object]
_Held = tuple[asyncio.WriteTransport, bytes, Refuse | None]


class Outbox:
    """One loop's."""

    __slots__ = ("_held", "_is_waiting", "_later", "put_down")

    def __init__(self, later: Later | None = None) -> None:
        """`later` calls at the end of the turn; without it nothing is put off."""
        self.put_down: Callable[[], object] = _nothing  # all that waits; a GatewayError where it cannot be
        self._later = later
        self._is_waiting = False
        self._held: list[_Held] = []

    def wait(self) -> None:
        """A record waits to be put down. Without `later` it is put down, and a GatewayError says that it cannot be."""
        if self._is_waiting:
            return
        self._is_waiting = True
        if self._later is not None:
            self._later(self.flush)
        elif (error := self.flush()) is not None:
            raise error

    def send(self, transport: asyncio.WriteTransport, data: bytes, refuse: Refuse | None = None) -> None:
        """Behind all records that wait. What may not go out without them is not sent if they cannot be put down:
        `refuse` is told why instead.
        """
        if not self._is_waiting:
            transport.write(data)
            return
        self._held.append((transport, data, refuse))
        if len(self._held) >= MAX_HELD:
            self.flush()

    def flush(self) -> GatewayError | None:
        """Put down and send what waits, now; why it could not be put down."""
        if not self._is_waiting:
            return None
        self._is_waiting = False
        held, self._held = self._held, []
        try:
            self.put_down()
        except GatewayError as error:
            _let_go(held, error)
            return error
        except Exception:  # a bug of ours: nobody shall wait for what it kept
            _let_go(held, GatewayError("The gateway's books failed."))
            raise
        _let_go(held, None)
        return None


def _let_go(held: list[_Held], error: GatewayError | None) -> None:
    for transport, data, refuse in held:
        if error is not None and refuse is not None:
            refuse(error)
        elif not transport.is_closing():
            transport.write(data)


def _nothing() -> None:
    """No record has ever to be put down."""
