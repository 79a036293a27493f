"""What a request knew goes with it. A cycle would stay until the collector comes, which holds up all others."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.live_gateway import Live
from tests.integration.short_way import play
from trollproxy.gateway.exchange import Exchange


@contextmanager
def uncollected() -> Iterator[set[str]]:
    """Inside nothing is collected; the ids of the exchanges that were there before, of other tests."""
    gc.collect()
    gc.disable()
    try:
        yield exchanges()
    finally:
        gc.enable()


def exchanges() -> set[str]:
    return {each.request_id for each in gc.get_objects() if isinstance(each, Exchange)}


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_leaves_nothing_to_the_collector(tmp_path: Path, stream: bool) -> None:
    async def scene(there: Live) -> None:
        async with there.line() as line:
            with uncollected() as before:
                for _ in range(5):
                    await line.send(there.request(stream=stream))
                    assert (await line.answer()).status == 200
                while there.gateway.gate.in_flight:
                    await asyncio.sleep(0)
                assert exchanges() <= before

    play(tmp_path, scene)
