"""Whose address a request comes from: the socket's, or what a trusted proxy in front of us says."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedNetworks:
    """The proxies whose X-Forwarded-For is believed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self.holds = lru_cache(maxsize=10_000)(self._holds)  # one entry a peer; parsing an address takes microseconds

    def client_of(self, peer: str, forwarded_for: str | None) -> str:
        """The last address in the chain that is not one of our proxies; the socket's where nobody is believed."""
        if forwarded_for is None or not self.holds(peer):
            return peer
        for hop in reversed(forwarded_for.split(",")):
            address = hop.strip()[:45]  # the longest textual IPv6 address
            if not self.holds(address):
                return address or peer
        return peer

    def _holds(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        if address.version == 6:  # noqa: PLR2004 - the IP versions
            address = address.ipv4_mapped or address  # how a v6 socket shows a v4 client
        return any(address in network for network in self._networks)
