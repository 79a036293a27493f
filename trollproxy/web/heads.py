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


# A head without the digits of its length, what they say, and where the body begins. A bare tuple: one is made with
# every request.
Shape = tuple[bytes, int, int]


class Heads:
    """The heads of one listener. The oldest is forgotten where there are too many."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._known: dict[tuple[str, bytes], ClientRequest] = {}  # by the peer as well: it decides who is believed

    def __len__(self) -> int:
        return len(self._known)

    def find(self, peer: str, data: bytes) -> tuple[ClientRequest, bytes] | None:
        """The request that `data` is and its body, if it is exactly one, of a head that this peer has sent before."""
        shape = shape_of(data)
        if shape is None:
            return None
        key, length, body_at = shape
        request = self._known.get((peer, key))
        if request is None or length != len(data) - body_at or length > self._max_body_bytes:
            return None
        return request, data[body_at:]

    def keep(self, peer: str, shape: Shape, *, request: ClientRequest) -> None:
        """Know this head again: aiohttp made the request of it, and its length is framed by nothing but the digits."""
        key = shape[0]
        if len(self._known) >= MAX_HEADS and (peer, key) not in self._known:
            del self._known[next(iter(self._known))]
        self._known[peer, key] = request


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
    digits = data[at:digits_end]
    if end < 0 or not digits.isdigit() or digits[0] == _ZERO or len(digits) > MAX_DIGITS:
        return None
    body_at = end + len(END)
    return data[:at] + data[digits_end:body_at], int(digits), body_at
