"""One supplier of one model with all that asking it takes, found once a reload and not once a request."""

from typing import NamedTuple

from trollproxy.gateway.turnstile import Turnstile
from trollproxy.policy.breaker import Breaker
from trollproxy.policy.filters import compile_filters
from trollproxy.policy.pool import Pool
from trollproxy.policy.routing import upstream_name
from trollproxy.records import Endpoint, Model, OutboundProxy, Provider, UpstreamKey
from trollproxy.wire.edited import Edits
from trollproxy.wire.format import Target

NO_EDITS = Edits()


class SentHead:
    """Where a request goes and under which headers."""

    __slots__ = ("endpoint", "headers")

    def __init__(self, endpoint: Endpoint, headers: tuple[tuple[str, str], ...]) -> None:
        self.endpoint = endpoint
        self.headers = headers


SentHeads = dict[tuple[object, ...], SentHead]  # by all that they are made of; `calls` bounds their number


class State(NamedTuple):
    """What is known by experience of a provider, or of it and one model; other requests and models share it."""

    breaker: Breaker
    keys: Pool[UpstreamKey]
    proxies: Pool[OutboundProxy] | None  # None: it is called straight
    turnstile: Turnstile | None  # None: it is sent all there is


class Stop:
    """Where a request for a model may be sent. `place` is its rank among the model's suppliers."""

    __slots__ = (
        "_target", "breaker", "edits", "keys", "model", "place", "provider", "proxies", "supplier", "turnstile",
    )  # fmt: skip

    def __init__(self, model: Model, place: int, *, provider: Provider, state: State) -> None:
        self.model = model
        self.place = place
        self.supplier = model.suppliers[place]
        self.provider = provider
        self.breaker = state.breaker
        self.keys = state.keys
        self.proxies = state.proxies
        self.turnstile = state.turnstile
        self.edits = _edits(model, provider)
        self._target = None if model.model_id.endswith("*") else self._target_of(model.model_id)

    def free_at_s(self, now_s: float) -> float:
        """When it can be asked, by its keys, proxies and breaker; now if it can."""
        free_at_s = max(self.keys.free_at_s(now_s), self.breaker.free_at_s(now_s))
        return free_at_s if self.proxies is None else max(free_at_s, self.proxies.free_at_s(now_s))

    def target(self, asked: str) -> Target:
        """Who it goes to, where the client asked for a model by this name."""
        return self._target if self._target is not None else self._target_of(asked)

    def _target_of(self, asked: str) -> Target:
        return Target(
            model=upstream_name(self.model, asked, self.supplier),
            max_output_tokens=self.model.max_output_tokens,
            cannot=self.provider.cannot,
        )


def _edits(model: Model, provider: Provider) -> Edits:
    drops = model.drops_thinking
    if drops is None:
        drops = provider.drops_thinking
    if not (drops or provider.filters):
        return NO_EDITS
    return Edits(
        request=compile_filters(tuple(rule for rule in provider.filters if rule.in_requests)),
        response=compile_filters(tuple(rule for rule in provider.filters if rule.in_responses)),
        drops_thinking=drops,
    )
