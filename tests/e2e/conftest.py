"""No process outlives the tests."""

from collections.abc import Iterator

import pytest

from tests.e2e.process import Program


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    left = list(Program.running)
    for program in left:
        program.kill()
    assert left == []
