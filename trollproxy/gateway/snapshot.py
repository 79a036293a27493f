"""The records that every request reads, as one immutable view that is swapped whole.

A request takes the view once and keeps it, so a reload in its midst changes nothing for it. What is known of keys and
providers by experience (the health of keys, breakers, counts) lives on across a reload, for those that stay the same.
"""

from collections.abc import Iterable, Mapping

from trollproxy.errors import Failure
from trollproxy.gateway.stops import SentHeads, State, Stop
from trollproxy.gateway.turnstile import Turnstile
from trollproxy.policy.breaker import Breaker, BreakerPolicy
from trollproxy.policy.pool import Member, Pool, Rest
from trollproxy.policy.routing import Routes
from trollproxy.records import Model, OutboundProxy, Provider, UpstreamKey

# What rests a key, and for how long. That a provider is overloaded or out of reach says nothing of the key: the breaker
# looks after providers. docs/upstreams.md publishes this table.
KEY_RESTS: dict[Failure, Rest] = {
    "auth": Rest(10.0, 3600.0, is_lasting=True),
    "budget": Rest(60.0, 3600.0, is_lasting=True),
    "rate": Rest(1.0, 60.0),
}
# What rests an outbound proxy. It is judged by its own failures alone, not by those of the provider behind it.
PROXY_RESTS: dict[Failure, Rest] = {
    "auth": Rest(60.0, 3600.0, is_lasting=True),
    "network": Rest(5.0, 300.0),
}
BREAKER = BreakerPolicy()


class Snapshot:
    """What can be asked for and who serves it."""

    __slots__ = ("_stops", "breakers", "keys", "providers", "proxies", "routes", "sent_heads", "turnstiles")

    breakers: dict[tuple[str, str], Breaker]

    def __init__(
        self, models: Iterable[Model], providers: Mapping[str, Provider], previous: "Snapshot | None" = None
    ) -> None:
        models = tuple(models)
        self.routes = Routes(models)
        self.providers = dict(providers)
        self.keys = {name: _pool(provider, previous) for name, provider in providers.items()}
        self.proxies = {name: _proxies(provider, previous) for name, provider in providers.items() if provider.proxies}
        self.turnstiles = _turnstiles(providers, previous)
        before = previous.breakers if previous is not None else {}
        names = [(supplier.provider, model.model_id) for model in models for supplier in model.suppliers]
        self.breakers = {name: before.get(name) or Breaker(BREAKER) for name in names}
        self._stops: dict[str, tuple[Stop, ...]] = {}
        self.sent_heads: SentHeads = {}

    def stops(self, model: Model) -> tuple[Stop, ...]:
        """Where a request for the model may be sent, in the order in which they are asked. Made at its first request:
        most of ten thousand models are never asked for between two reloads.
        """
        stops = self._stops.get(model.model_id)
        if stops is None:
            places = range(len(model.suppliers))
            stops = self._stops[model.model_id] = tuple(self._stop(model, place) for place in places)
        return stops

    def _stop(self, model: Model, place: int) -> Stop:
        name = model.suppliers[place].provider
        state = State(
            self.breakers[name, model.model_id], self.keys[name], self.proxies.get(name), self.turnstiles.get(name)
        )
        return Stop(model, place, provider=self.providers[name], state=state)


class Live:
    """The place where the current view stands. Reading it is one attribute; swapping it is one assignment."""

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


def _pool(provider: Provider, previous: Snapshot | None) -> Pool[UpstreamKey]:
    before = previous.providers.get(provider.name) if previous is not None else None
    pool = previous.keys[provider.name] if previous is not None and before is not None else None
    if pool is not None and before is not None and before.keys == provider.keys:
        return pool
    return Pool(map(_member, provider.keys), KEY_RESTS, previous=pool)


def _member(key: UpstreamKey) -> Member[UpstreamKey]:
    return Member(id=key.key_id, value=key, identity=key.secret, is_backup=key.is_backup, max_leases=key.max_in_flight)


def _turnstiles(providers: Mapping[str, Provider], previous: Snapshot | None) -> dict[str, Turnstile]:
    """Of those that may only be sent so much. What was counted and who waits outlives a change of the pace."""
    found: dict[str, Turnstile] = {}
    before = previous.turnstiles if previous is not None else {}
    for name, provider in providers.items():
        if provider.pace is not None:
            found[name] = before.get(name) or Turnstile(provider.pace)
            found[name].adopt(provider.pace)
    return found


def _proxies(provider: Provider, previous: Snapshot | None) -> Pool[OutboundProxy]:
    """Each provider has its own view of a proxy's health: one may be let through to some and not to others."""
    before = previous.providers.get(provider.name) if previous is not None else None
    pool = previous.proxies.get(provider.name) if previous is not None else None
    if pool is not None and before is not None and before.proxies == provider.proxies:
        return pool
    members = [Member(id=proxy.proxy_id, value=proxy, identity=proxy) for proxy in provider.proxies]
    return Pool(members, PROXY_RESTS, previous=pool)
