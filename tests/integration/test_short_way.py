"""What goes the short way is answered as aiohttp's way would, and what differs by a byte does not go it."""

from pathlib import Path

import pytest

from tests.integration.live_gateway import Live
from tests.integration.odd_requests import CORPUS, TWICE, Odd
from tests.integration.short_way import Seen, Ways, exchange, play


async def all_seen(there: Live, ways: Ways) -> dict[str, tuple[Seen, int]]:
    """What came of everything, and how much of it went the short way."""
    seen = {}
    again = {f"{name}, again": CORPUS[name] for name in TWICE}
    for name, (make, _) in (CORPUS | again).items():
        found = await exchange(there, ways, make(Odd(there)))
        seen[name] = found, ways.short
    return seen


def test_both_ways_end_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways, seen = Ways(monkeypatch), list[dict[str, tuple[Seen, int]]]()

    async def scene(there: Live) -> None:
        seen.append(await all_seen(there, ways))

    for way in ("short", "long"):
        if way == "long":
            ways.close()
        place = tmp_path / way
        place.mkdir()
        play(place, scene)
    short, long = seen
    assert {name: (short[name][0], long[name][0]) for name in short if short[name][0] != long[name][0]} == {}
    expected = {name: count for name, (_, count) in CORPUS.items()}
    expected |= {f"{name}, again": int(is_remembered) for name, is_remembered in TWICE.items()}
    assert {name: count for name, (_, count) in short.items() if expected[name] not in {count, None}} == {}
    assert {count for _, count in long.values()} == {0}


def test_a_request_split_at_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = Ways(monkeypatch)

    async def scene(there: Live) -> None:
        data = there.request(max_tokens=3)
        whole = await exchange(there, ways, [data])
        assert ways.short == 1
        for place in range(1, len(data)):
            reads = ways.reads
            assert await exchange(there, ways, [data[:place], data[place:]]) == whole, place
            assert ways.short == 0
            assert ways.reads - reads >= 3 + 3  # to warm it, and two pieces and the probe

    play(tmp_path, scene)
