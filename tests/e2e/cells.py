"""A gateway with an upstream of its own for every cell of a table, so that what one cell does to keys, breakers and
prices stays there.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.native import VENDORS, Vendor
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import PRICES
from tests.e2e.vendors import Vendors


@contextmanager
def gateway_of_cells(folder: Path, vendors: Vendors, names: Iterable[str], **settings: Any) -> Iterator[GatewayProcess]:
    """The model of a cell is served by nobody else. The gateway itself tries once, so the SDK's own tries are seen."""
    cells = [(model_of(name, vendor), vendor) for name in names for vendor in VENDORS]
    config = {
        "upstreams": {model: {"baseUrl": vendors.url, "type": vendor, "apiKey": "secret"} for model, vendor in cells},
        "models": [
            {"id": model, "upstream": model, "upstreamModel": "real-model", "pricing": PRICES} for model, _ in cells
        ],
        "billing": {"flushInterval": "20ms"},
        "retry": {"tries": 1},
        "demo": False,
        **settings,
    }
    with GatewayProcess(folder, config=config) as running:
        yield running


def model_of(name: str, vendor: Vendor) -> str:
    return f"{name}-{vendor}"
