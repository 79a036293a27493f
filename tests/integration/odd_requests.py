"""Odd requests, for a connection on which plain ones have gone before."""

from collections.abc import Callable

from tests.integration.live_gateway import Live
from tests.integration.short_way import PROBE
from tests.integration.test_server_edge import chunked

BODY = b'{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}'
LENGTH = b"content-length: %d" % len(BODY)


class Odd:
    """One odd thing to send on a connection on which plain requests have gone before."""

    def __init__(self, there: Live) -> None:
        self.there = there
        self.data = there.request(max_tokens=3)
        assert self.data.endswith(b"\r\n\r\n" + BODY)
        self.head, self.end, self.body = self.data.partition(b"\r\n\r\n")
        self.longer = there.request(max_tokens=3, user="x" * 200)

    def framed(self, lines: str, body: bytes = BODY) -> bytes:
        return self.there.head(None, more=lines) + body

    def swapped(self, old: bytes, new: bytes) -> bytes:
        assert old in self.data
        return self.data.replace(old, new, 1)

    def lengthened(self, length: bytes) -> bytes:
        return self.data.replace(b"content-length: %d" % len(self.body), b"content-length: " + length, 1)


Make = Callable[[Odd], list[bytes]]

# What is sent, and how much of it goes the short way. None: it depends on whether the first is answered by then
CORPUS: dict[str, tuple[Make, int | None]] = {
    # what is found
    "the same again": (lambda o: [o.data], 1),
    "another length": (lambda o: [o.longer], 1),
    "a stream": (lambda o: [o.there.request(max_tokens=9, stream=True)], 1),
    "a body that is no JSON": (lambda o: [o.lengthened(b"3")[: -len(o.body)] + b"{{{"], 1),
    "a body of other JSON": (lambda o: [o.lengthened(b"2")[: -len(o.body)] + b"[]"], 1),
    "a body that is a request": (lambda o: [o.lengthened(b"%d" % len(PROBE))[: -len(o.body)] + PROBE], 1),
    "a body of zeros": (lambda o: [o.lengthened(b"50")[: -len(o.body)] + bytes(50)], 1),
    "a body of line breaks": (lambda o: [o.lengthened(b"50")[: -len(o.body)] + b"\r\n" * 25], 1),
    "an unknown model": (lambda o: [o.there.request(model="none")], 1),
    "a model of no use": (lambda o: [o.there.request(model=7)], 1),
    "no messages": (lambda o: [o.there.request(messages=[])], 1),
    "an odd wish": (lambda o: [o.there.request(max_tokens=-1)], 1),
    # several, parts, too much
    "two, one after the other": (lambda o: [o.data, o.longer], 2),
    "two in one piece": (lambda o: [o.data + o.longer], 0),
    "three in one piece": (lambda o: [o.data + o.data + o.longer], 0),
    "two in one piece, then one": (lambda o: [o.data + o.longer, o.data], 0),
    "one and a half, then the rest": (lambda o: [o.data + o.data[:90], o.data[90:]], 0),
    "one and a head, then the body": (lambda o: [o.data + o.head + o.end, o.body], 0),
    "head, then body": (lambda o: [o.head + o.end, o.body], 0),
    "head, then body, then whole": (lambda o: [o.head + o.end, o.body, o.longer], None),
    "head and half a body, then the rest and one more": (lambda o: [o.data[:-9], o.data[-9:] + o.longer], 0),
    "a line break after it": (lambda o: [o.data + b"\r\n"], 0),
    "a line break before it": (lambda o: [b"\r\n" + o.data], 0),
    "a line break alone, then it": (lambda o: [b"\r\n", o.data], 0),
    "two line breaks before it": (lambda o: [b"\r\n\r\n" + o.data], 0),
    "a line feed before it": (lambda o: [b"\n" + o.data], 0),
    "a space before it": (lambda o: [b" " + o.data], 0),
    "a null before it": (lambda o: [b"\x00" + o.data], 0),
    "garbage after it": (lambda o: [o.data + b"\x00garbage\r\n\r\n"], 0),
    "garbage in a piece of its own": (lambda o: [o.data, b"\x00garbage\r\n\r\n"], 1),
    "garbage, then it": (lambda o: [b"garbage\r\n\r\n", o.data], 0),
    "a body too short": (lambda o: [o.data[:-1]], 0),
    "a body too long": (lambda o: [o.data + b"}"], 0),
    "a head without an end": (lambda o: [o.head + b"\r\n"], 0),
    "no body at all": (lambda o: [o.head + o.end], 0),
    "a probe, then it": (lambda o: [b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n", o.data], 0),
    "an unread body, then it": (
        lambda o: [b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n123456789", o.data],
        None,
    ),
    "a body that comes after its refusal, then it": (
        lambda o: [b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1234", b"56789" + o.data],
        0,
    ),
    "a body like a request, then it": (
        lambda o: [b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(o.data), o.data],
        0,
    ),
    # lengths
    "length 0": (lambda o: [o.there.head(0)], 0),
    "length 0, then whole": (lambda o: [o.there.head(0), o.data], 0),
    "length 0 with a body": (lambda o: [o.lengthened(b"0")], 0),
    "length -1": (lambda o: [o.lengthened(b"-1")], 0),
    "length +": (lambda o: [o.lengthened(b"+%d" % len(o.body))], 0),
    "length in hex": (lambda o: [o.lengthened(b"0x4b")], 0),
    "length a with digits": (lambda o: [o.lengthened(b"4b")], 0),
    "length with a leading zero": (lambda o: [o.lengthened(b"0%d" % len(o.body))], 0),
    "length with a space before": (lambda o: [o.lengthened(b" %d" % len(o.body))], 0),
    "length with a space after": (lambda o: [o.lengthened(b"%d " % len(o.body))], 0),
    "length with a tab": (lambda o: [o.swapped(b"content-length: ", b"content-length:\t")], 0),
    "length with no space": (lambda o: [o.swapped(b"content-length: ", b"content-length:")], 0),
    "length in parts": (lambda o: [o.lengthened(b"7 5")], 0),
    "length list": (lambda o: [o.lengthened(b"%d, %d" % (len(o.body), len(o.body)))], 0),
    "length empty": (lambda o: [o.lengthened(b"")], 0),
    "length underscored": (lambda o: [o.lengthened(b"7_5")], 0),
    "length with a fraction": (lambda o: [o.lengthened(b"75.0")], 0),
    "length in Arabic digits": (lambda o: [o.lengthened(b"\xd9\xa7\xd9\xa5")], 0),
    "length superscript": (lambda o: [o.lengthened(b"\xb2\xb9")], 0),
    "length with a null": (lambda o: [o.lengthened(b"%d\x00" % len(o.body))], 0),
    "length of 20 digits": (lambda o: [o.lengthened(b"9" * 20)], 0),
    "length of 10,000 digits": (lambda o: [o.lengthened(b"9" * 10_000)], 0),
    "length of over 2 to the 64th": (lambda o: [o.lengthened(b"%d" % (2**64 + len(o.body)))], 0),
    "length over the limit": (lambda o: [o.lengthened(b"30000")[: -len(o.body)] + b" " * 30_000], 0),
    "length over the limit, body later": (lambda o: [o.lengthened(b"30000")], 0),
    "length broken off": (lambda o: [o.lengthened(b"%d\rx" % len(o.body))], 0),
    "length ended by a line feed": (lambda o: [o.swapped(LENGTH + b"\r\n", LENGTH + b"\n")], 0),
    "length folded": (lambda o: [o.lengthened(b"\r\n %d" % len(o.body))], 0),
    "length goes on": (lambda o: [o.lengthened(b"%d\r\n 5" % len(o.body))], 0),
    "length twice": (lambda o: [o.swapped(LENGTH, LENGTH + b"\r\n" + LENGTH)], 0),
    "length twice, otherwise spelt": (lambda o: [o.swapped(LENGTH, LENGTH + b"\r\n" + LENGTH.title())], 0),
    "two lengths": (lambda o: [o.swapped(LENGTH, LENGTH + b"\r\ncontent-length: 5")], 0),
    "two lengths, the other first": (lambda o: [o.swapped(LENGTH, b"content-length: 5\r\n" + LENGTH)], 0),
    "length in the target": (lambda o: [o.swapped(b"/completions", b"/completions?content-length: 5")], 0),
    "length in a value": (lambda o: [o.swapped(b"host: x", b"host: x\r\nx-a: content-length: 5")], 0),
    "length in a folded value": (lambda o: [o.swapped(b"host: x", b"host: x\r\nx-a: b\r\n content-length: 5")], 0),
    "length after a bare return": (lambda o: [o.swapped(b"host: x", b"host: x\rcontent-length: 5")], 0),
    "length by another name": (lambda o: [o.swapped(b"content-length", b"x-content-length")], 0),
    "length of no name": (lambda o: [o.swapped(b"content-length: ", b"content-length : ")], 0),
    # framing
    "chunked": (lambda o: [o.framed("transfer-encoding: chunked", b"".join(chunked(BODY, 9)))], 0),
    "chunked, then whole": (lambda o: [o.framed("transfer-encoding: chunked", b"".join(chunked(BODY, 9))), o.data], 0),
    "chunks one by one": (lambda o: [o.framed("transfer-encoding: chunked", b""), *chunked(BODY, 20)], 0),
    "chunked, and a length": (lambda o: [o.swapped(LENGTH, LENGTH + b"\r\ntransfer-encoding: chunked")], 0),
    "a length, and chunked": (lambda o: [o.swapped(LENGTH, b"transfer-encoding: chunked\r\n" + LENGTH)], 0),
    "identity, and a length": (lambda o: [o.swapped(LENGTH, b"transfer-encoding: identity\r\n" + LENGTH)], 0),
    "an unknown coding, and a length": (lambda o: [o.swapped(LENGTH, b"transfer-encoding: x\r\n" + LENGTH)], 0),
    "a wrong chunk": (lambda o: [o.framed("transfer-encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n")], 0),
    "a trailer": (
        lambda o: [o.framed("transfer-encoding: chunked", b"".join(chunked(BODY, 9))[:-2] + b"a: b\r\n\r\n")],
        0,
    ),
    # heads
    "expect": (lambda o: [o.swapped(b"host: x", b"host: x\r\nexpect: 100-continue")], 0),
    "expect something else": (lambda o: [o.swapped(b"host: x", b"host: x\r\nexpect: more")], 0),
    "upgrade": (lambda o: [o.swapped(b"host: x", b"host: x\r\nconnection: upgrade\r\nupgrade: websocket")], 0),
    "upgrade to HTTP/2": (
        lambda o: [o.swapped(b"host: x", b"host: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c")],
        0,
    ),
    "HTTP/2 at once": (lambda o: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 0),
    "connect": (lambda o: [b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n"], 0),
    "absolute form": (lambda o: [o.swapped(b"/v1", b"http://example.com/v1")], 0),
    "a query": (lambda o: [o.swapped(b"/completions", b"/completions?a=b")], 0),
    "a fragment": (lambda o: [o.swapped(b"/completions", b"/completions#a")], 0),
    "a percent": (lambda o: [o.swapped(b"/chat", b"/%63hat")], 0),
    "dots": (lambda o: [o.swapped(b"/chat", b"/../v1/chat")], 0),
    "HTTP/1.0": (lambda o: [o.swapped(b"HTTP/1.1", b"HTTP/1.0")], 0),
    "HTTP/1.0 that goes on": (lambda o: [o.swapped(b"HTTP/1.1\r\n", b"HTTP/1.0\r\nconnection: keep-alive\r\n")], 0),
    "HTTP/1.2": (lambda o: [o.swapped(b"HTTP/1.1", b"HTTP/1.2")], 0),
    "closing": (lambda o: [o.swapped(b"host: x", b"host: x\r\nconnection: close")], 0),
    "closing, then more": (lambda o: [o.swapped(b"host: x", b"host: x\r\nconnection: close"), o.data], 0),
    "keep-alive": (lambda o: [o.swapped(b"host: x", b"host: x\r\nconnection: keep-alive")], 0),
    "upper case": (lambda o: [o.swapped(LENGTH, LENGTH.upper())], 0),
    "title case": (lambda o: [o.swapped(LENGTH, LENGTH.title())], 0),
    "mixed case": (lambda o: [o.swapped(b"content-length", b"Content-length")], 0),
    "lower method": (lambda o: [o.swapped(b"POST", b"post")], 0),
    "another method": (lambda o: [o.swapped(b"POST", b"PUT")], 0),
    "an unknown method": (lambda o: [o.swapped(b"POST", b"BREW")], 0),
    "another path": (lambda o: [o.swapped(b"/chat", b"/chats")], 0),
    "another key": (lambda o: [o.there.request(key="sk-wrong")], 0),
    "a null": (lambda o: [o.swapped(b"host: x", b"host: x\x00")], 0),
    "a bare return": (lambda o: [o.swapped(b"host: x", b"host: x\ry: z")], 0),
    "a bare line feed": (lambda o: [o.swapped(b"host: x\r\n", b"host: x\n")], 0),
    "only line feeds": (lambda o: [o.head.replace(b"\r\n", b"\n") + b"\n\n" + o.body], 0),
    "line feeds around a second head": (
        lambda o: [o.head.replace(b"\r\n", b"\n") + b"\n\n" + b"a\r\n" + LENGTH + b"\r\n\r\n" + o.data],
        0,
    ),
    "a folded header": (lambda o: [o.swapped(b"host: x", b"host: x\r\nx-a: b\r\n c")], 0),
    "no host": (lambda o: [o.swapped(b"host: x\r\n", b"")], 0),
    "two hosts": (lambda o: [o.swapped(b"host: x", b"host: x\r\nhost: y")], 0),
    "a line without a colon": (lambda o: [o.swapped(b"host: x", b"host: x\r\nxyz")], 0),
    "an empty name": (lambda o: [o.swapped(b"host: x", b"host: x\r\n: y")], 0),
    "a long head": (lambda o: [o.swapped(b"host: x", b"host: x\r\nx-a: " + b"y" * 9_000)], 0),
    "too long a head": (lambda o: [o.swapped(b"host: x", b"host: x\r\nx-a: " + b"y" * 20_000)], 0),
    "too many headers": (lambda o: [o.swapped(b"host: x", b"host: x" + b"\r\nx: y" * 150)], 0),
    "coded gzip": (lambda o: [o.swapped(b"host: x", b"host: x\r\ncontent-encoding: gzip")], 0),
    "coded unknown": (lambda o: [o.swapped(b"host: x", b"host: x\r\ncontent-encoding: compress")], 0),
    "coded identity": (lambda o: [o.swapped(b"host: x", b"host: x\r\ncontent-encoding: identity")], 0),
    "tls": (lambda o: [b"\x16\x03\x01\x02\x00\x01\x00"], 0),
}

# What is sent again, and whether it is known by then
TWICE = {
    "upper case": False,
    "title case": True,
    "keep-alive": True,
    "a query": True,
    "absolute form": True,
    "no host": False,
    "another method": False,
    "another key": False,  # nobody is behind it
    "length twice": False,
    "chunked": False,
    "expect": False,
    "expect something else": False,
    "HTTP/1.0 that goes on": False,
    "closing": False,
    "a long head": False,
    "length in a value": True,
    "coded gzip": False,
    "coded unknown": False,
    "coded identity": False,
    "identity, and a length": False,
    "length with a leading zero": False,
    "length with a tab": False,
    "a line break before it": True,
    "a bare line feed": False,
    "a folded header": False,
}
