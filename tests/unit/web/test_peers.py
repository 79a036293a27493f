"""Whose address counts: the socket's, unless a trusted proxy says otherwise."""

import ipaddress

import pytest

from trollproxy.web.peers import TrustedNetworks

TRUSTED = TrustedNetworks([ipaddress.ip_network(n) for n in ("127.0.0.0/8", "10.0.0.0/8", "::1/128")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("1.2.3.4", None, "1.2.3.4"),
        ("1.2.3.4", "5.6.7.8", "1.2.3.4"),  # nobody we trust says so
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "5.6.7.8", "5.6.7.8"),
        ("127.0.0.1", "9.9.9.9, 5.6.7.8", "5.6.7.8"),  # what the client itself wrote stands to the left
        ("127.0.0.1", "5.6.7.8, 10.1.1.1", "5.6.7.8"),
        ("127.0.0.1", "10.2.2.2, 10.1.1.1", "127.0.0.1"),
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", " , ", "127.0.0.1"),
        ("127.0.0.1", "not an address", "not an address"),
        ("", "5.6.7.8", ""),
    ],
)
def test_the_last_that_is_not_ours(peer: str, forwarded: str | None, client: str) -> None:
    assert TRUSTED.client_of(peer, forwarded) == client


def test_what_is_written_there_is_bounded() -> None:
    assert len(TRUSTED.client_of("127.0.0.1", "x" * 10_000)) <= 45


@pytest.mark.parametrize(("address", "holds"), [("127.9.9.9", True), ("::1", True), ("11.0.0.1", False), ("x", False)])
def test_who_is_trusted(address: str, holds: bool) -> None:
    assert TRUSTED.holds(address) is holds


def test_a_v4_address_on_a_v6_socket_is_the_same_address() -> None:
    """A listener on `::` sees its IPv4 clients, nginx among them, so."""
    assert TRUSTED.holds("::ffff:127.0.0.1")
    assert TRUSTED.client_of("::ffff:127.0.0.1", "5.6.7.8") == "5.6.7.8"


def test_nobody_is_trusted_where_none_are_named() -> None:
    assert TrustedNetworks([]).client_of("127.0.0.1", "5.6.7.8") == "127.0.0.1"
