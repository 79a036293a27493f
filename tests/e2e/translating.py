"""A gateway before all four vendors at once: the model `on-<vendor>` is served by that vendor's format."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.native import VENDORS, Tokens, Vendor
from tests.e2e.process import GatewayProcess
from tests.e2e.vendors import Vendors

PRICES = {"input": 3.0, "output": 15.0, "cacheHit": 0.3, "cacheWrite": 3.75, "reasoning": 20.0}


@contextmanager
def translating_gateway(folder: Path, vendors: Vendors, **settings: Any) -> Iterator[GatewayProcess]:
    upstreams = {name: {"baseUrl": vendors.url, "type": name, "apiKey": f"secret-of-{name}"} for name in VENDORS}
    models = [
        {"id": model_on(name), "upstream": name, "upstreamModel": "real-model", "pricing": PRICES} for name in VENDORS
    ]
    config = {"upstreams": upstreams, "models": models, "billing": {"flushInterval": "20ms"}, "demo": False, **settings}
    with GatewayProcess(folder, config=config) as running:
        yield running


def model_on(vendor: Vendor) -> str:
    return f"on-{vendor}"


def cost_nusd(tokens: Tokens) -> int:
    """What the tokens cost by PRICES: a dollar a million is a thousand nano-dollars each."""
    return tokens.uncached * 3000 + tokens.read * 300 + tokens.out_text * 15_000 + tokens.out_reasoning * 20_000
