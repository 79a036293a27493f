"""What a provider is asked."""

from collections.abc import Callable
from typing import Literal

import msgspec

from trollproxy.records import Endpoint, OutboundProxy, Timeouts


def _nobody() -> None:
    """Nobody wants to know."""


class UpstreamCall(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One request to a provider, ready to be written. Headers are complete but for Host and Content-Length."""

    endpoint: Endpoint
    headers: tuple[tuple[str, str], ...]
    body: bytes
    timeouts: Timeouts
    method: Literal["POST", "GET"] = "POST"
    proxy: OutboundProxy | None = None  # the only way that this call may take; None: straight to the endpoint
    when_sent: Callable[[], object] = _nobody  # told once the request is on its way and the provider may act on it
