"""What a request meets on its way: its client, its provider, the books. Called for every request and every chunk.

Who fulfils one of these in compiled code says so by inheritance, and is called without a look-up by name; a fake in a
test need only look like it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from trollproxy.ports.call import UpstreamCall
from trollproxy.records import Charge, Endpoint, Intent, OutboundProxy, Progress, Timeouts


class UsageSink(Protocol):
    """Where the money side of an exchange is put down. Synchronous; after an intent the charge is always taken."""

    def intend(self, intent: Intent, *, at_once: bool = False) -> None:
        """Before the provider sees the request; Overloaded while nothing can be put down. It may be put down only at
        the end of the turn of the loop, with what is sent till then behind it; who sends later must have it `at_once`.
        """

    def progress(self, progress: Progress) -> None: ...

    def record(self, charge: Charge) -> None:
        """Before the client has the last bytes. Ends the intent."""


class UpstreamReply(Protocol):
    """A provider's answer whose head has arrived. Either read to the end or close: both free the connection."""

    status: int
    headers: Mapping[str, str]  # names in lower case; repeated fields joined by ", "

    async def read(self) -> bytes:
        """The next piece of the body as it arrived, b"" at the end; UpstreamBroken if it was cut short."""

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        """Give `take` the pieces of the body, each in the very moment that it arrives, until the end or until it says
        that it takes no more now; whether that was the end. Raises as `read` does, and what `take` raises.
        """

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body; UpstreamBroken if it is longer than `limit` bytes."""

    def close(self) -> None:
        """Give up: drop the connection unless the body was read to its end. May be called any number of times."""


class Upstream(Protocol):
    """Sends calls to providers. Failures are UpstreamUnavailable, UpstreamTimeout or UpstreamBroken, and ProxyFailed
    where the call's own proxy opened no way. What failed behind a proxy has `retry` "other_proxy" as well.
    """

    async def send(self, call: UpstreamCall) -> UpstreamReply: ...


class ProxyProbe(Protocol):
    """Asks whether a proxy is worth a call."""

    async def probe(self, proxy: OutboundProxy, endpoint: Endpoint, timeouts: Timeouts) -> None:
        """Go through the proxy as far as a request could be sent, and hang up. Raises as `Upstream.send` does."""


class ClientStream(Protocol):
    """The client's side of an exchange. Nothing can be taken back after `start`."""

    is_started: bool

    @property
    def is_gone(self) -> bool:
        """Whether the client hung up."""

    def send(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Answer in one piece."""

    def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Begin a streamed answer."""

    def write(self, data: bytes) -> None:
        """Send a piece; to a client that is gone, do nothing."""

    @property
    def is_full(self) -> bool:
        """Whether to `drain` before more is written."""

    def when_gone(self, call: Callable[[], object] | None) -> None:
        """Whom to tell when the client hangs up: at once if it has. One at a time; None: nobody."""

    async def drain(self) -> None:
        """Wait until the client has taken enough, or is gone."""

    def end(self) -> None:
        """End a streamed answer properly; without it the client sees a truncated one."""
