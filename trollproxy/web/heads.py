"""Request heads that aiohttp has parsed before, found again by their very bytes.

An SDK sends the same head with every request but for the digits of its Content-Length. Nothing is parsed here: a head
is known only after aiohttp's parser took the same bytes for one plain request, and only those digits may differ. So
what is found is what the parser would find; all else (other framing, odd spelling, several requests or half of one) is
not found, and goes to aiohttp. Must not know: sockets, what is done with a request.
"""

from trollproxy.gateway.exchange import ClientRequest

MAX_HEADS = 4096  # clients that call again and again; at 2 to 4 kB each some 12 MB
MAX_HEAD_BYTES = 8192  # an SDK's has 500 to 1,500; larger ones are rare, and parsed each time
MAX_DIGITS = 8  # bodies that arrive in one piece are far smaller
END = b"\r\n\r\n"
_LENGTHS = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")  # how clients spell it
_LENGTH_CHARS = len(_LENGTHS[0])
_ZERO = ord("0")  # leading ones are left to the parser


# A head without the digits of its length, where these stand, what they say, and where the body begins. A bare tuple:
# one is made with every request whose connection had another head before.
Shape = tuple[bytes, int, int, int]


class Head:
    """One that is known, and the request that aiohttp made of it."""

    __slots__ = ("_at", "_before", "_behind", "_max_body_bytes", "request")

    def __init__(self, shape: Shape, request: ClientRequest, max_body_bytes: int) -> None:
        text, at, _, _ = shape
        self._before, self._at, self._behind = text[:at], at, text[at:]
        self._max_body_bytes = max_body_bytes
        self.request = request

    def body_in(self, data: bytes) -> bytes | None:
        """The body, if `data` is this head and exactly the body that it announces."""
        at = self._at
        digits_end = data.find(b"\r", at, at + MAX_DIGITS + 1)
        if digits_end < 0 or not data.startswith(self._before) or not data.startswith(self._behind, digits_end):
            return None
        length = _length_of(data[at:digits_end])
        body_at = digits_end + len(self._behind)
        return data[body_at:] if length == len(data) - body_at and length <= self._max_body_bytes else None


class Heads:
    """The heads of one listener. The oldest is forgotten where there are too many."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._known: dict[tuple[str, bytes], Head] = {}  # by the peer as well: it decides who is believed

    def __len__(self) -> int:
        return len(self._known)

    def find(self, peer: str, data: bytes) -> Head | None:
        """The head that `data` begins with, if this peer has sent it before."""
        shape = shape_of(data)
        return None if shape is None else self._known.get((peer, shape[0]))

    def keep(self, peer: str, shape: Shape, *, request: ClientRequest) -> None:
        """Know this head again: aiohttp made the request of it, and its length is framed by nothing but the digits."""
        key = shape[0]
        if len(self._known) >= MAX_HEADS and (peer, key) not in self._known:
            del self._known[next(iter(self._known))]
        self._known[peer, key] = Head(shape, request, self._max_body_bytes)


def shape_of(data: bytes) -> Shape | None:
    """None: the head is not whole, is too long, or its length is not where and as it usually stands."""
    end = data.find(END, 0, MAX_HEAD_BYTES)
    at = data.find(_LENGTHS[0], 0, end)
    if at < 0:
        at = data.find(_LENGTHS[1], 0, end)
        if at < 0:
            return None
    at += _LENGTH_CHARS
    digits_end = data.find(b"\r", at)
    length = _length_of(data[at:digits_end])
    if end < 0 or length < 0:
        return None
    body_at = end + len(END)
    return data[:at] + data[digits_end:body_at], at, length, body_at


def _length_of(digits: bytes) -> int:
    """-1: it is not written as it usually is."""
    return int(digits) if digits.isdigit() and digits[0] != _ZERO and len(digits) <= MAX_DIGITS else -1
