"""Handshakes with proxies: what is said, every split of what is answered, every refusal. No sockets."""

import base64
from contextlib import suppress
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.errors import GatewayError, ProxyFailed, UpstreamUnavailable
from trollproxy.records import OutboundProxy
from trollproxy.upstream.tunnel import MAX_HANDSHAKE_BYTES, Handshake

HOST, PORT = "api.example.com", 443
NAMED = b"\x05\x01\x00\x03\x0fapi.example.com\x01\xbb"
GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"
CANARY = "CANARY"


def proxy(kind: Literal["http", "socks5"], username: str | None = None, password: str | None = None) -> OutboundProxy:
    return OutboundProxy(proxy_id="p", kind=kind, host="proxy.example", port=1080, username=username, password=password)


def play(handshake: Handshake, turns: list[tuple[bytes, bytes]], pieces: int | list[int] = 0) -> None:
    """Each turn is what must be said, and what the proxy answers: whole, byte by byte (1), or cut at places."""
    said = handshake.start()
    for number, (expected, answer) in enumerate(turns):
        assert said == expected, number
        assert not handshake.is_done
        said = b""
        for piece in cut(answer, pieces):
            assert said == b""  # nothing is said before the answer is whole
            said = handshake.feed(piece)
    assert said == b""


def cut(data: bytes, pieces: int | list[int]) -> list[bytes]:
    if pieces == 1:
        return [bytes([byte]) for byte in data]
    places = sorted({place for place in pieces if 0 < place < len(data)}) if isinstance(pieces, list) else []
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def feed_all(handshake: Handshake, pieces: list[bytes]) -> None:
    for piece in pieces:
        if not handshake.is_done:
            handshake.feed(piece)


def refusal(kind: Literal["http", "socks5"], *answers: bytes, **credentials: str) -> GatewayError:
    """What becomes of these answers, the same in whatever pieces they come."""
    errors = []
    for pieces in (0, 1):
        handshake = Handshake(proxy(kind, **credentials), HOST, PORT)
        handshake.start()
        with pytest.raises(GatewayError) as caught:
            feed_all(handshake, [piece for answer in answers for piece in cut(answer, pieces)])
        assert not handshake.is_done
        assert CANARY not in caught.value.message
        errors.append(caught.value)
    assert (type(errors[0]), errors[0].message) == (type(errors[1]), errors[1].message)
    return errors[0]


# HTTP


def connect(*, host: str = HOST, port: int = PORT, login: str | None = None) -> bytes:
    lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
    if login is not None:
        lines.append("Proxy-Authorization: Basic " + base64.b64encode(login.encode()).decode())
    return "\r\n".join([*lines, "", ""]).encode()


CONNECT_ANSWERS = [
    b"HTTP/1.1 200 Connection established\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n",
    b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 \r\ncontent-length: 10\r\n\r\n",  # RFC 9110, 9.3.6: lengths in a 2xx to CONNECT mean nothing
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nvia: 1.1 x\r\n\r\n",
]


@pytest.mark.parametrize("answer", CONNECT_ANSWERS)
@pytest.mark.parametrize("pieces", [0, 1])
def test_connect_opens(answer, pieces):
    handshake = Handshake(proxy("http"), HOST, PORT)
    play(handshake, [(connect(), answer)], pieces)
    assert handshake.is_done


@given(st.sampled_from(CONNECT_ANSWERS), st.lists(st.integers(1, 120)))
def test_connect_opens_however_the_answer_is_cut(answer, places):
    handshake = Handshake(proxy("http"), HOST, PORT)
    play(handshake, [(connect(), answer)], places)
    assert handshake.is_done


@pytest.mark.parametrize(
    ("host", "written"), [("api.example.com", "api.example.com"), ("10.0.0.1", "10.0.0.1"), ("::1", "[::1]")]
)
def test_connect_always_names_the_port(host, written):
    assert Handshake(proxy("http"), host, 80).start() == connect(host=written, port=80)


def test_connect_with_credentials():
    assert Handshake(proxy("http", "us er", "p:ä"), HOST, PORT).start() == connect(login="us er:p:ä")
    assert Handshake(proxy("http", "user"), HOST, PORT).start() == connect(login="user:")


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("host", ["", "a b", "a\r\nb", "a/b", "é", "a" * 256])
def test_a_host_that_cannot_be_written_is_our_bug(kind, host):
    with pytest.raises(AssertionError):
        play(Handshake(proxy(kind), host, PORT), [(b"\x05\x01\x00", b"\x05\x00")])


@pytest.mark.parametrize(
    ("status", "code", "failure"),
    [
        (407, "proxy_auth", "auth"),
        (401, "proxy_auth", "auth"),
        (402, "proxy_unavailable", "budget"),
        (429, "proxy_unavailable", "rate"),
        *((status, "proxy_unavailable", "network") for status in (101, 301, 400, 403, 404, 405, 501, 511)),
    ],
)
def test_refusals_of_an_http_proxy(status, code, failure):
    answer = b"HTTP/1.1 %d CANARY\r\nproxy-authenticate: Basic realm=CANARY\r\n\r\n<p>CANARY" % status
    error = refusal("http", answer, username=CANARY, password=CANARY)
    assert isinstance(error, ProxyFailed)
    assert (error.code, error.failure, error.origin, error.retry) == (code, failure, "proxy", "other_proxy")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_provider_that_an_http_proxy_cannot_reach(status):
    error = refusal("http", b"HTTP/1.1 %d No\r\n\r\n" % status)
    assert isinstance(error, UpstreamUnavailable)
    assert (error.code, error.origin, error.retry) == ("upstream_unavailable", "upstream", "other_proxy")


@pytest.mark.parametrize(
    "answer",
    [
        b"\x05\x00",
        b"SSH-2.0-x\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 0200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 200 OK\nx: y\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nx",
        b"HTTP/1.1 100 Continue\r\n\r\nx",
    ],
)
def test_what_is_not_an_answer_to_connect(answer):
    handshake = Handshake(proxy("http"), HOST, PORT)
    handshake.start()
    with pytest.raises(ProxyFailed) as caught:
        handshake.feed(answer)
    assert caught.value.code == "proxy_unavailable"


@pytest.mark.parametrize(
    "piece", [b"x-filler: CANARY\r\n", b"\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n"]
)
@pytest.mark.parametrize("size", [1, 1000, MAX_HANDSHAKE_BYTES])
def test_an_endless_answer_is_cut_off(piece, size):
    handshake = Handshake(proxy("http"), HOST, PORT)
    handshake.start()
    endless = b"HTTP/1.1 100 Continue\r\n" + piece * (MAX_HANDSHAKE_BYTES // len(piece) + 1)
    with pytest.raises(ProxyFailed, match="more than a handshake needs"):
        feed_all(handshake, [endless[start : start + size] for start in range(0, len(endless), size)])


# SOCKS5

BOTH_METHODS = b"\x05\x02\x00\x02"
LOGIN = b"\x01\x04user\x03pw!"
SOCKS_TALKS = {
    "open": (proxy("socks5"), [(b"\x05\x01\x00", b"\x05\x00"), (NAMED, GRANTED)]),
    "with a password": (
        proxy("socks5", "user", "pw!"),
        [(BOTH_METHODS, b"\x05\x02"), (LOGIN, b"\x01\x00"), (NAMED, GRANTED)],
    ),
    "password not asked for": (proxy("socks5", "user", "pw!"), [(BOTH_METHODS, b"\x05\x00"), (NAMED, GRANTED)]),
    "bound to a name": (
        proxy("socks5"),
        [(b"\x05\x01\x00", b"\x05\x00"), (NAMED, b"\x05\x00\x00\x03\x04exit\x00\x50")],
    ),
    "bound to an empty name": (
        proxy("socks5"),
        [(b"\x05\x01\x00", b"\x05\x00"), (NAMED, b"\x05\x00\x00\x03\x00\x00\x50")],
    ),
    "bound to IPv6": (
        proxy("socks5"),
        [(b"\x05\x01\x00", b"\x05\x00"), (NAMED, b"\x05\x00\x00\x04" + bytes(16) + b"\x00\x50")],
    ),
    "another version of the login": (
        proxy("socks5", "user", "pw!"),
        [(BOTH_METHODS, b"\x05\x02"), (LOGIN, b"\x05\x00"), (NAMED, GRANTED)],
    ),
}


@pytest.mark.parametrize("talk", SOCKS_TALKS)
@pytest.mark.parametrize("pieces", [0, 1])
def test_socks_opens(talk, pieces):
    spoken_to, turns = SOCKS_TALKS[talk]
    handshake = Handshake(spoken_to, HOST, PORT)
    play(handshake, turns, pieces)
    assert handshake.is_done


@given(st.sampled_from(sorted(SOCKS_TALKS)), st.lists(st.integers(1, 22)))
def test_socks_opens_however_the_answers_are_cut(talk, places):
    spoken_to, turns = SOCKS_TALKS[talk]
    handshake = Handshake(spoken_to, HOST, PORT)
    play(handshake, turns, places)
    assert handshake.is_done


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("api.example.com", b"\x03\x0fapi.example.com"),
        ("10.1.2.3", b"\x01\x0a\x01\x02\x03"),
        ("::1", b"\x04" + bytes(15) + b"\x01"),
        ("a" * 255, b"\x03\xff" + b"a" * 255),
    ],
)
def test_names_are_left_to_the_socks_proxy(host, address):
    handshake = Handshake(proxy("socks5"), host, 8080)
    handshake.start()
    assert handshake.feed(b"\x05\x00") == b"\x05\x01\x00" + address + b"\x1f\x90"


@pytest.mark.parametrize(
    ("answers", "credentials"),
    [
        ([b"\x05\xff"], {}),
        ([b"\x05\xff"], {"username": CANARY, "password": CANARY}),
        ([b"\x05\x02", b"\x01\x01"], {"username": CANARY, "password": CANARY}),
        ([b"\x05\x02", b"\x01\xff"], {"username": CANARY, "password": CANARY}),
    ],
)
def test_a_socks_proxy_that_does_not_know_us(answers, credentials):
    error = refusal("socks5", *answers, **credentials)
    assert isinstance(error, ProxyFailed)
    assert (error.code, error.failure, error.retry) == ("proxy_auth", "auth", "other_proxy")


@pytest.mark.parametrize("reply", range(1, 256))
def test_refusals_of_a_socks_proxy(reply):
    answer = bytes([5, reply])  # at once, with or without an address behind it
    for error in (refusal("socks5", b"\x05\x00", answer), refusal("socks5", b"\x05\x00", answer + GRANTED[2:])):
        assert error.retry == "other_proxy"
        assert error.origin == ("upstream" if 3 <= reply <= 6 else "proxy")
        assert error.code == ("upstream_unavailable" if 3 <= reply <= 6 else "proxy_unavailable")


@pytest.mark.parametrize(
    "answers",
    [
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"\x04\x00"],
        [b"\x05\x01"],  # GSSAPI, which was not offered
        [b"\x05\x02"],  # nor was a password
        [b"\x05\x00\x05"],
        [b"\x05\x00" + GRANTED],
        [b"\x05\x00", b"\x04\x00\x00\x01"],
        [b"\x05\x00", b"\x05\x00\x00\x02"],
        [b"\x05\x00", b"\x05\x00\x00\x00"],
        [b"\x05\x00", GRANTED + b"x"],
    ],
)
def test_what_is_not_socks(answers):
    handshake = Handshake(proxy("socks5"), HOST, PORT)
    handshake.start()
    with pytest.raises(ProxyFailed) as caught:
        feed_all(handshake, answers)
    assert caught.value.code == "proxy_unavailable"
    assert not handshake.is_done


def test_a_credential_that_does_not_fit_is_our_bug():
    for username, password in (("", "x"), ("a" * 256, "x"), ("a", "x" * 256), ("ä" * 128, "x")):
        handshake = Handshake(proxy("socks5", username, password), HOST, PORT)
        handshake.start()
        with pytest.raises(AssertionError):
            handshake.feed(b"\x05\x02")


@given(st.sampled_from(["http", "socks5"]), st.lists(st.binary(max_size=40), max_size=8))
def test_noise_ends_in_our_own_error_or_in_waiting_for_more(kind, noise):
    handshake = Handshake(proxy(kind, "user", "pw"), HOST, PORT)
    handshake.start()
    with suppress(ProxyFailed, UpstreamUnavailable):
        feed_all(handshake, noise)
