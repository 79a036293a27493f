"""Heads found again: what differs from what was kept by more than the length is not found."""

import asyncio
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trollproxy.gateway.exchange import ClientRequest
from trollproxy.web import heads
from trollproxy.web.heads import MAX_DIGITS, MAX_HEAD_BYTES, Heads, shape_of
from trollproxy.wire import OPENAI_CHAT
from trollproxy.wire.format import Entry

PEER = "192.0.2.1"
BODY = b'{"model":"m"}'
LIMIT = 1_000


def asked(credential: str = "k") -> ClientRequest:
    return ClientRequest(OPENAI_CHAT, Entry(), {}, credential=credential, peer=PEER, wallet="legacy")


def request(length: object = len(BODY), body: bytes = BODY, *, more: str = "", name: str = "content-length") -> bytes:
    return f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{name}: {length}\r\n{more}\r\n".encode() + body


def keeping(*datas: bytes, limit: int = LIMIT) -> Heads:
    """Heads that know those of `datas`, each as a request of its own."""
    known = Heads(limit)
    for n, data in enumerate(datas):
        shape = shape_of(data)
        assert shape is not None
        known.keep(PEER, shape, request=asked(str(n)))
    return known


def found(known: Heads, data: bytes, peer: str = PEER) -> tuple[str | None, bytes] | None:
    """Whose request it is, and its body."""
    head = known.find(peer, data)
    body = head.body_in(data) if head is not None else None
    return None if head is None or body is None else (head.request.credential, body)


@pytest.mark.parametrize("name", ["content-length", "Content-Length"])
def test_the_same_is_found(name: str) -> None:
    assert found(keeping(request(name=name)), request(name=name)) == ("0", BODY)


@pytest.mark.parametrize("length", [1, 9, 10, 99, 100, 999, LIMIT])
def test_another_length_is_found(length: int) -> None:
    known = keeping(request())
    body = b"x" * length
    assert found(known, request(length, body)) == ("0", body)
    assert found(known, request()) == ("0", BODY)


@pytest.mark.parametrize(
    "body", [b"\r\n\r\n" * 5, b"\r\ncontent-length: 5\r\n\r\n", request(), b"\x00" * 9, b"\r", b"\n"]
)
def test_a_body_may_be_anything(body: bytes) -> None:
    assert found(keeping(request()), request(len(body), body)) == ("0", body)


def test_nothing_is_known_at_first() -> None:
    assert found(Heads(LIMIT), request()) is None


def test_another_peer_is_not_believed() -> None:
    assert found(keeping(request()), request(), peer="192.0.2.2") is None


def test_each_head_is_its_own_request() -> None:
    known = keeping(request(more="x-a: 1\r\n"), request(more="x-a: 2\r\n"), request(name="Content-Length"))
    assert len(known) == 3
    assert found(known, request(more="x-a: 1\r\n")) == ("0", BODY)
    assert found(known, request(more="x-a: 2\r\n")) == ("1", BODY)
    assert found(known, request(name="Content-Length")) == ("2", BODY)
    assert found(known, request(more="x-a: 3\r\n")) is None


def test_what_is_kept_again_is_the_newer() -> None:
    known = keeping(request(), request(5, b"12345"))
    assert len(known) == 1
    assert found(known, request()) == ("1", BODY)


@pytest.mark.parametrize("place", range(len(request())))
def test_a_part_is_not_found(place: int) -> None:
    known = keeping(request())
    assert found(known, request()[:place]) is None
    assert place == 0 or found(known, request()[place:]) is None


def test_more_than_one_request_is_not_found() -> None:
    known = keeping(request())
    for behind in (request(), b"\r\n", b"\x00", b"x", b"GET / HTTP/1.1\r\n\r\n"):
        assert found(known, request() + behind) is None
        assert found(known, behind + request()) is None


def test_a_body_of_another_length_than_said_is_not_found() -> None:
    known = keeping(request())
    for length in (1, len(BODY) - 1, len(BODY) + 1, 9_999):
        assert found(known, request(length)) is None


ODD_LENGTHS = [
    "",
    " ",
    "0",
    "00",
    "-13",
    "+13",
    "013",
    "0013",
    " 13",
    "13 ",
    "\t13",
    "13\t",
    "1 3",
    "1_3",
    "0xd",
    "d",
    "13.0",
    "13,13",
    "13, 13",
    "13;",
    "13\x00",
    "\x0013",
    "13\n",
    "13\rx",
    "13\r\n 5",
    "\r\n 13",
    "१३",
    "¹³",
    "1e1",
    "9" * (MAX_DIGITS + 1),
    "9" * 5_000,
    str(2**32 + 13),
    str(2**64 + 13),
]


@pytest.mark.parametrize("length", ODD_LENGTHS, ids=ascii)
def test_an_odd_length_is_not_found(length: str) -> None:
    assert found(keeping(request()), request(length)) is None


@pytest.mark.parametrize(
    "name",
    ["CONTENT-LENGTH", "Content-length", "content-Length", "content-length ", " content-length", "x-content-length"],
)
def test_an_odd_name_is_left_to_the_parser(name: str) -> None:
    assert shape_of(request(name=name)) is None


@pytest.mark.parametrize("old", ["content-length: ", "\r\ncontent-length: "])
@pytest.mark.parametrize("new", ["content-length:", "content-length:  ", "content-length:\t", "\ncontent-length: "])
def test_odd_white_space_is_not_found(old: str, new: str) -> None:
    assert found(keeping(request()), request().replace(old.encode(), new.encode())) is None


@pytest.mark.parametrize(
    "more",
    [
        "transfer-encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "content-length: 13\r\n",
        "Content-Length: 13\r\n",
        "Content-Length: 5\r\n",
        "connection: close\r\n",
        "expect: 100-continue\r\n",
        " 5\r\n",
        "\t5\r\n",
        "x-a: content-length: 5\r\n",
        "x-a: b\r\n content-length: 5\r\n",
        "x-a: b\rcontent-length: 5\r\n",
    ],
)
def test_a_line_more_or_less_is_another_head(more: str) -> None:
    assert found(keeping(request()), request(more=more)) is None
    assert found(keeping(request(more=more)), request()) is None
    in_front = request().replace(b"host: x\r\n", b"host: x\r\n" + more.encode())
    assert found(keeping(request()), in_front) is None


def test_a_length_inside_another_value_is_that_value() -> None:
    data = request(more="x-a: content-length: 5\r\n")
    known = keeping(data)
    assert found(known, data) == ("0", BODY)
    assert found(known, request(more="x-a: content-length: 6\r\n")) is None
    assert found(known, request(7, b"1234567", more="x-a: content-length: 5\r\n")) == ("0", b"1234567")


def test_a_second_length_is_part_of_the_head() -> None:
    """The parser refuses such a head; were it kept, its first length alone could differ."""
    data = request(more="Content-Length: 5\r\n")
    shape = shape_of(data)
    assert shape is not None
    assert b"content-length: 13" in shape[0]
    assert shape[2] == 5


def test_a_length_in_the_body_is_none_of_the_head() -> None:
    data = b"POST / HTTP/1.1\r\nhost: x\r\n\r\n\r\ncontent-length: 5\r\n\r\n12345"
    assert shape_of(data) is None


def test_a_long_head_is_left_to_the_parser() -> None:
    rest = MAX_HEAD_BYTES - len(request(body=b"", more="x: \r\n"))
    fits, is_too_long = (request(more=f"x: {'y' * (rest + n)}\r\n") for n in (0, 1))
    assert found(keeping(fits), fits) == ("0", BODY)
    assert shape_of(is_too_long) is None


def test_a_body_over_the_limit_is_not_found() -> None:
    known = keeping(request(LIMIT + 1, b"x" * (LIMIT + 1)))
    assert found(known, request(LIMIT + 1, b"x" * (LIMIT + 1))) is None
    assert found(known, request(LIMIT, b"x" * LIMIT)) == ("0", b"x" * LIMIT)


def test_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "MAX_HEADS", 3)
    datas = [request(more=f"x-a: {n}\r\n") for n in range(5)]
    known = keeping(*datas)
    assert len(known) == 3
    assert [found(known, data) for data in datas] == [None, None, ("2", BODY), ("3", BODY), ("4", BODY)]
    shape = shape_of(datas[4])
    assert shape is not None
    known.keep(PEER, shape, request=asked("again"))  # known already: nobody must make room
    assert len(known) == 3
    assert found(known, datas[2]) == ("2", BODY)


# Whatever is found is what aiohttp's parser reads out of the same bytes


class Silent(asyncio.Transport):
    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def parsed(data: bytes) -> list[tuple[Any, bytes]] | None:
    """The requests that aiohttp reads in `data`, with what it has of their bodies; None: it refuses them."""
    loop = asyncio.new_event_loop()
    try:
        protocol = BaseProtocol(loop)
        protocol.transport = Silent()
        parser = HttpRequestParser(
            protocol, loop, 2**16, max_line_size=2**14, max_field_size=2**14, max_headers=100, auto_decompress=False
        )
        protocol._parser = parser
        messages, _, _ = parser.feed_data(data)
        return [(message, b"".join(getattr(body, "_buffer", ()))) for message, body in messages]
    except HttpProcessingError:
        return None
    finally:
        loop.close()


def is_plain(data: bytes) -> bool:
    """Whether this would be kept: aiohttp reads one request, of the length that the digits say."""
    shape, messages = shape_of(data), parsed(data)
    if shape is None or messages is None or len(messages) != 1:
        return False
    message = messages[0][0]
    return list(message.headers.getall("content-length", ())) == [str(shape[2])] and not message.chunked


NAMES = st.sampled_from(["x-a", "x-b", "accept", "x-content-length", "Content-Length", "transfer-encoding"])
VALUES = st.sampled_from(["x", "", "5", "13", "content-length: 5", "chunked", "a\r\n b", "a\rb", "é"])
LINES = st.lists(st.tuples(NAMES, VALUES).map(lambda line: f"{line[0]}: {line[1]}\r\n"), max_size=3).map("".join)
SCRAPS = st.sampled_from(
    [
        b"",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"0",
        b"5",
        b"13",
        b"+",
        b"-",
        b":",
        b"\x00",
        b"\r\n\r\n",
        b"\r\ncontent-length: 5",
    ]
)
SPOTS = st.one_of(st.integers(0, len(request()) + 20), st.integers(43, 70))  # the length stands there
CHANGES = st.lists(st.tuples(SPOTS, st.integers(0, 3), SCRAPS | st.binary(max_size=3)), max_size=3)
BODIES = st.binary(min_size=1, max_size=20) | st.just(request()) | st.just(b"\r\n\r\n")


def mutated(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, gone, new in changes:
        data = data[:place] + new + data[place + gone :]
    return data


@settings(max_examples=500)
@given(more=LINES, body=BODIES, changes=CHANGES)
@example(more="", body=BODY, changes=[])
@example(more="", body=BODY, changes=[(61, 2, b"14"), (80, 0, b" ")])
def test_what_is_found_is_what_the_parser_reads(more: str, body: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    data = request(more=more)
    if not is_plain(data):
        return
    known, changed = keeping(data), mutated(request(len(body), body, more=more), changes)
    head = known.find(PEER, data)  # as the connection has it that sent this head before
    assert head is not None
    taken = head.body_in(changed)
    assert found(known, changed) == (None if taken is None else ("0", taken))
    if taken is None:
        assert changes
        return
    [(before, _)] = parsed(data) or []
    [(message, read)] = parsed(changed) or []
    assert taken == read
    assert int(message.headers["content-length"]) == len(read)
    assert (message.method, message.path, message.version) == (before.method, before.path, before.version)
    others = [[each for each in one.raw_headers if each[0].lower() != b"content-length"] for one in (before, message)]
    assert others[0] == others[1]


@given(length=st.integers(1, LIMIT), spelt=st.text("0123456789+- ,x", min_size=1, max_size=10))
def test_the_digits_say_the_body(length: int, spelt: str) -> None:
    body = b"x" * length
    for digits in (str(length), spelt):
        result = found(keeping(request()), request(digits, body))
        assert (result is not None) == (digits == str(length))
        assert result is None or result[1] == body
