"""The client's side of an exchange: it remembers what it was sent, and hangs up when told."""

from collections.abc import Callable, Sequence

from tests.fakes import Checkpoints


class FakeClientStream:
    """The client's side: what it was sent. It hangs up by `hang_up`, or by itself after so many pieces."""

    def __init__(self, *, checkpoints: Checkpoints | None = None, gone_after: int | None = None) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.is_started = False
        self.is_ended = False
        self.is_gone = False
        self.is_full = True  # one that takes slowly: whoever writes waits after each piece
        self._checkpoints = checkpoints or Checkpoints()
        self._gone_after = gone_after
        self._when_gone: Callable[[], object] | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def hang_up(self) -> None:
        self.is_gone = True
        if self._when_gone is not None:
            self._when_gone()

    def when_gone(self, call: Callable[[], object] | None) -> None:
        self._when_gone = call
        if call is not None and self.is_gone:
            call()

    def send(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        self.start(status, headers)
        self.write(body)
        self.is_ended = True

    def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        assert not self.is_started
        self.is_started = True
        self.status = status
        self.headers = dict(headers)

    def write(self, data: bytes) -> None:
        assert self.is_started
        assert not self.is_ended
        if not self.is_gone:
            self.pieces.append(data)

    async def drain(self) -> None:
        await self._checkpoints("client drain")
        if self._gone_after is not None and len(self.pieces) >= self._gone_after and not self.is_gone:
            self.hang_up()

    def end(self) -> None:
        assert self.is_started
        assert not self.is_ended
        self.is_ended = True
