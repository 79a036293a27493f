"""No process outlives the tests. Scenarios that leave no trace in a gateway share one."""

from collections.abc import Iterator

import pytest

from tests.e2e.process import GatewayProcess, Program
from tests.e2e.translating import translating_gateway
from tests.e2e.vendors import Vendors


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    left = list(Program.running)
    for program in left:
        program.kill()
    assert left == []


@pytest.fixture(scope="session")
def shared_vendors(nothing_is_left_running: None) -> Iterator[Vendors]:
    with Vendors() as running:
        yield running


@pytest.fixture(scope="session")
def bridge(shared_vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with a model `on-<vendor>` of every vendor."""
    with translating_gateway(tmp_path_factory.mktemp("bridge"), shared_vendors) as running:
        yield running


@pytest.fixture
def upstream(shared_vendors: Vendors) -> Iterator[Vendors]:
    """The vendors behind the bridge, with nothing to say yet."""
    shared_vendors.reset()
    yield shared_vendors
    shared_vendors.reset()
