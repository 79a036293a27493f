"""The records that every request reads, as one immutable view that is swapped whole.

A request takes the view once and keeps it, so a reload in its midst changes nothing for it. Key pools carry the health
of their keys and live on across a reload as long as the provider's keys stay the same.
"""

from collections.abc import Iterable, Mapping

from trollproxy.policy.pool import Pool
from trollproxy.policy.routing import Routes
from trollproxy.records import Model, Provider, UpstreamKey


class Snapshot:
    """What can be asked for and who serves it."""

    __slots__ = ("keys", "providers", "routes")

    def __init__(
        self, models: Iterable[Model], providers: Mapping[str, Provider], previous: "Snapshot | None" = None
    ) -> None:
        self.routes = Routes(models)
        self.providers = dict(providers)
        self.keys = {name: _pool(provider, previous) for name, provider in providers.items()}


class Live:
    """The place where the current view stands. Reading it is one attribute; swapping it is one assignment."""

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


def _pool(provider: Provider, previous: Snapshot | None) -> Pool[UpstreamKey]:
    before = previous.providers.get(provider.name) if previous is not None else None
    if previous is not None and before is not None and before.keys == provider.keys:
        return previous.keys[provider.name]
    return Pool(provider.keys)
