"""Handshakes with outbound proxies, bytes in and bytes out: HTTP CONNECT (RFC 9110, 9.3.6) and SOCKS5 (RFC 1928, 1929).

Owns: what is said to a proxy until the way to the provider is open, and what its refusals mean.
Invariants:
- The proxy is told the provider's name and resolves it; no name of a provider is looked up on this side.
- All that a proxy may say in a handshake is bounded, and taken exactly: what comes unasked is a failure, since behind
  an open tunnel the provider does not speak first either.
- Nothing that a proxy says, and no credential, is part of an error.
Must not know: sockets, deadlines, TLS, pools.
"""

import base64
import ipaddress
import re
from collections.abc import Generator
from typing import Final

from trollproxy.errors import Failure, GatewayError, ProxyFailed, UpstreamUnavailable
from trollproxy.records import OutboundProxy

MAX_HANDSHAKE_BYTES: Final = (
    16 * 1024
)  # refusals come with a page of HTML at times; an open tunnel says 40 to 300 bytes

_HOST = re.compile(r"[0-9A-Za-z._:-]{1,255}")  # the length is SOCKS' own; a name of DNS has 253
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?\r\n")
_PROTOCOL: Final = b"HTTP/1."
_END: Final = b"\r\n\r\n"
_REFUSED: Final[dict[int, Failure]] = {402: "budget", 429: "rate"}  # what vendors of proxies answer when they mean it
_UNAUTHORIZED: Final = frozenset({401, 407})  # 407 by RFC 9110, 15.5.8; wrong passwords are 401 to tinyproxy 1.11
_HTTP_NOT_REACHED: Final = frozenset({500, 502, 503, 504})  # tinyproxy says 500, squid 503

_SOCKS: Final = 5
_NO_AUTH, _PASSWORD, _NO_METHOD = 0, 2, 255  # RFC 1928, 3
_IPV4, _NAME, _IPV6 = 1, 3, 4  # RFC 1928, 5
_BAD_RULE: Final = 2
# network, host, refused, TTL (RFC 1928, 6); 1 is the proxy's own failure
_SOCKS_NOT_REACHED: Final = frozenset({3, 4, 5, 6})

Script = Generator[bytes, None, None]  # yields what to say next, b"" for nothing, and goes on when more was received


class Handshake:
    """One handshake: send what `start` and `feed` return until `is_done`. Whatever they raise is the end of it.

    ProxyFailed is the proxy's fault; UpstreamUnavailable says that the proxy works but could not reach the provider.
    """

    __slots__ = ("_received", "_script", "_total_bytes", "is_done")

    def __init__(self, proxy: OutboundProxy, host: str, port: int) -> None:
        self.is_done = False
        self._received = bytearray()
        self._total_bytes = 0
        self._script = (self._socks5 if proxy.kind == "socks5" else self._connect)(proxy, host, port)

    def start(self) -> bytes:
        return next(self._script)

    def feed(self, data: bytes) -> bytes:
        self._total_bytes += len(data)
        if self._total_bytes > MAX_HANDSHAKE_BYTES:
            raise ProxyFailed("The outbound proxy says more than a handshake needs.")
        self._received += data
        try:
            return next(self._script)
        except StopIteration:
            self._check_taken()
            self.is_done = True
            return b""

    # HTTP

    def _connect(self, proxy: OutboundProxy, host: str, port: int) -> Script:
        authority = f"{bracketed(host)}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if proxy.username is not None:
            pair = f"{proxy.username}:{proxy.password or ''}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}")
        yield from self._say("\r\n".join([*lines, "", ""]).encode("ascii"))
        status = 100
        while 100 <= status < 200 and status != 101:  # noqa: PLR2004 - RFC 9110, 15.2: interim answers may precede
            status = yield from self._read_status()
        if not 200 <= status < 300:  # noqa: PLR2004 - RFC 9110, 9.3.6: any 2xx opens the tunnel, and has no body
            raise _http_refusal(status)

    def _read_status(self) -> Generator[bytes, None, int]:
        while (end := self._received.find(_END)) < 0:
            self._check_protocol()
            yield b""
        self._check_protocol()
        found = _STATUS_LINE.match(self._received)
        if found is None:
            raise ProxyFailed("The outbound proxy's answer is not valid HTTP.")
        status = int(found[1])
        found = None  # a match holds the buffer, which could not shrink
        del self._received[: end + len(_END)]
        return status

    def _check_protocol(self) -> None:
        if not _PROTOCOL.startswith(self._received[: len(_PROTOCOL)]):
            raise ProxyFailed("The outbound proxy does not speak HTTP.")

    # SOCKS5

    def _socks5(self, proxy: OutboundProxy, host: str, port: int) -> Script:
        has_password = proxy.username is not None
        yield from self._say(bytes([_SOCKS, 2, _NO_AUTH, _PASSWORD] if has_password else [_SOCKS, 1, _NO_AUTH]))
        version, method = yield from self._read(2)
        _check_version(version)
        if method == _PASSWORD and has_password:
            yield from self._log_in(proxy)
        elif method == _NO_METHOD:
            raise _unauthorized()
        elif method != _NO_AUTH:
            raise ProxyFailed("The outbound proxy chose a method that was not offered.")
        yield from self._say(bytes([_SOCKS, 1, 0]) + _socks_address(host) + port.to_bytes(2, "big"))
        version, reply = yield from self._read(2)
        _check_version(version)
        if reply:  # a refusal may end here, whatever follows
            raise _socks_refusal(reply)
        _, kind = yield from self._read(2)
        if kind not in {_IPV4, _NAME, _IPV6}:
            raise ProxyFailed("The outbound proxy's answer is not valid SOCKS.")
        length = {_IPV4: 4, _IPV6: 16}.get(kind) or (yield from self._read(1))[0]
        yield from self._read(length + 2)

    def _log_in(self, proxy: OutboundProxy) -> Script:
        user, password = (proxy.username or "").encode(), (proxy.password or "").encode()
        if not (0 < len(user) <= 255 and len(password) <= 255):  # noqa: PLR2004 - RFC 1929, 2
            raise AssertionError("a credential cannot be sent")
        yield from self._say(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
        _, status = yield from self._read(2)  # there are servers that state 5 for the version of this, so it may be any
        if status:
            raise _unauthorized()

    # Both

    def _say(self, data: bytes) -> Script:
        self._check_taken()
        yield data

    def _read(self, count: int) -> Generator[bytes, None, bytes]:
        while len(self._received) < count:
            yield b""
        piece = bytes(self._received[:count])
        del self._received[:count]
        return piece

    def _check_taken(self) -> None:
        if self._received:
            raise ProxyFailed("The outbound proxy speaks without being asked.")


def bracketed(host: str) -> str:
    """A host as it stands before a port. One that cannot be written safely is our bug."""
    if not _HOST.fullmatch(host):
        raise AssertionError("a host holds what cannot be sent")
    return f"[{host}]" if ":" in host else host


def _socks_address(host: str) -> bytes:
    bracketed(host)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bytes([_NAME, len(host)]) + host.encode("ascii")
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed  # noqa: PLR2004 - the version of IP


def _check_version(version: int) -> None:
    if version != _SOCKS:
        raise ProxyFailed("The outbound proxy does not speak SOCKS5.")


def _http_refusal(status: int) -> GatewayError:
    if status in _UNAUTHORIZED:
        return _unauthorized()
    if status in _HTTP_NOT_REACHED:
        return UpstreamUnavailable("The outbound proxy could not reach the provider.").beyond_proxy()
    return ProxyFailed("The outbound proxy refused to open a way to the provider.", failure=_REFUSED.get(status))


def _socks_refusal(reply: int) -> GatewayError:
    if reply in _SOCKS_NOT_REACHED:
        return UpstreamUnavailable("The outbound proxy could not reach the provider.").beyond_proxy()
    if reply == _BAD_RULE:
        return ProxyFailed("The outbound proxy refused to open a way to the provider.")
    return ProxyFailed("The outbound proxy failed to open a way to the provider.")


def _unauthorized() -> ProxyFailed:
    return ProxyFailed("The outbound proxy refused our credentials.", code="proxy_auth", failure="auth")
