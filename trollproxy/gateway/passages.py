"""Choosing the way between a client's format and its model's provider, and the memory that some ways need.

A provider that speaks the client's format is spoken to in it, and the bytes pass. Otherwise the conversation is
translated into the first format that the provider has. Words are replaced and reasoning is left out around either.
"""

from trollproxy.chat import FormatName
from trollproxy.gateway.exchange import Exchange
from trollproxy.gateway.stops import NO_EDITS, Stop
from trollproxy.policy.vault import Vault
from trollproxy.records import Provider
from trollproxy.wire import FORMATS
from trollproxy.wire.edited import Edited, plain
from trollproxy.wire.format import Entry, Format
from trollproxy.wire.passage import Passage, Passthrough
from trollproxy.wire.thoughts import Memory
from trollproxy.wire.translation import Told, Translation


class Passages:
    """Opens the way of each exchange."""

    def __init__(self, vault: Vault[Memory]) -> None:
        self._vault = vault

    def lead(self, exchange: Exchange, stop: Stop) -> None:
        """Turn the exchange to one of its model's suppliers, who may know the model by another name and format."""
        assert exchange.ask is not None
        exchange.turn(stop.supplier, stop.target(exchange.ask.model).model, self.open(exchange, stop))

    def open(self, exchange: Exchange, stop: Stop) -> Passage:
        request, edits = exchange.request, stop.edits
        spoken = spoken_format(stop.provider, request.format)
        # A count that is not asked of the provider shows it no words.
        if edits is not NO_EDITS and (exchange.generates or spoken == request.format.name):
            inner = self._open_plain(exchange, spoken, plain(request.entry))
            return Edited(inner, request.format, edits, entry=request.entry)
        return self._open_plain(exchange, spoken, request.entry)

    def _open_plain(self, exchange: Exchange, spoken: FormatName, entry: Entry) -> Passage:
        request, ask = exchange.request, exchange.ask
        assert ask is not None
        if spoken == request.format.name:
            return Passthrough(request.format, ask, entry)
        told = Told(request_id=exchange.request_id, now_s=int(exchange.started_at_s), model=ask.model, entry=entry)
        recollection = _Recollection(self._vault, _tenant(exchange))
        return Translation(request.format, FORMATS[spoken], told=told, recollection=recollection)


def spoken_format(provider: Provider, client: Format) -> FormatName:
    """The client's own if the provider speaks it, else the provider's first."""
    return client.name if client.name in provider.endpoints else next(iter(provider.endpoints))


class _Recollection:
    """The vault as one tenant sees it."""

    __slots__ = ("_tenant", "_vault")

    def __init__(self, vault: Vault[Memory], tenant: str) -> None:
        self._vault = vault
        self._tenant = tenant

    def recall(self, call_id: str) -> Memory | None:
        return self._vault.recall(self._tenant, call_id)

    def keep(self, call_id: str, memory: Memory) -> None:
        self._vault.keep(self._tenant, call_id, memory)


def _tenant(exchange: Exchange) -> str:
    """Who may see it again: the account with all its keys, or the one friend. The prefixes keep the names apart."""
    caller = exchange.caller
    assert caller is not None
    if caller.friend is not None:
        return f"friend:{caller.friend.key_id}"
    return f"user:{caller.account.user.username}" if caller.account is not None else "environment"
