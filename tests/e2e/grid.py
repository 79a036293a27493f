"""The cells of the scenario tables: every SDK on every vendor, streamed and not."""

import pytest

from tests.e2e.clients import CONVERSATIONS
from tests.e2e.native import VENDORS, Said, Vendor, answer
from tests.e2e.native import stream as streaming
from tests.e2e.vendors import Played

by_every_sdk = pytest.mark.parametrize("sdk", CONVERSATIONS, ids=lambda sdk: sdk.own)
on_every_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: f"on-{vendor}")
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def played(vendor: Vendor, said: Said, *, stream: bool) -> Played:
    return streaming(vendor, said) if stream else answer(vendor, said)
