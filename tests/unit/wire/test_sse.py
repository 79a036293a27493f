"""The splitter: any chunking gives the same events, no byte is lost, and what is held back is bounded."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.errors import UpstreamBroken
from trollproxy.wire.sse import EventSplitter, event_data

fragments = st.sampled_from(
    [b"data: {}", b"event: ping", b": note", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r", b"x", b""]
)
streams = st.lists(fragments, max_size=30).map(b"".join)
TERMINATORS = (b"\n\n", b"\n\r\n")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


@settings(deadline=None)
@given(streams, st.lists(st.integers(0, 10_000), max_size=40))
def test_any_chunking_gives_the_same_events_and_keeps_every_byte(data: bytes, places: list[int]) -> None:
    whole, pieces = EventSplitter(), EventSplitter()
    expected = whole.feed(data)
    events = [event for piece in cut(data, places) for event in pieces.feed(piece)]
    assert events == expected
    assert b"".join(events) + pieces.held == data
    assert pieces.held == whole.held


@settings(deadline=None)
@given(streams)
def test_an_event_ends_with_the_first_blank_line(data: bytes) -> None:
    for event in EventSplitter().feed(data):
        assert event.endswith(TERMINATORS)
        assert not any(end in event[:-1] for end in TERMINATORS)


@settings(deadline=None)
@given(streams)
def test_events_end_where_the_specification_says(data: bytes) -> None:
    ends = [0, *(match.end() for match in re.finditer(rb"\r?\n\r?\n", data))]
    splitter = EventSplitter()
    assert splitter.feed(data) == [data[a:b] for a, b in pairwise(ends)]
    assert splitter.held == data[ends[-1] :]


def test_byte_by_byte() -> None:
    splitter = EventSplitter()
    data = b"data: 1\n\n: c\r\n\r\nevent: x\ndata: 2\n\ndata: rest"
    events = [event for n in range(len(data)) for event in splitter.feed(data[n : n + 1])]
    assert events == [b"data: 1\n\n", b": c\r\n\r\n", b"event: x\ndata: 2\n\n"]
    assert splitter.held == b"data: rest"


def test_what_is_held_is_bounded() -> None:
    splitter = EventSplitter(limit=10)
    assert splitter.feed(b"x" * 10) == []
    with pytest.raises(UpstreamBroken):
        splitter.feed(b"x")


@settings(deadline=None)
@given(st.lists(st.binary(max_size=8), max_size=20))
def test_the_bound_holds_for_any_chunks(chunks: list[bytes]) -> None:
    splitter = EventSplitter(limit=16)
    for chunk in chunks:
        try:
            splitter.feed(chunk)
        except UpstreamBroken:
            assert len(splitter.held) > 16
            return
        assert len(splitter.held) <= 16


def test_a_large_event_that_is_complete_is_no_trouble() -> None:
    event = b"data: " + b"x" * 100 + b"\n\n"
    assert EventSplitter(limit=10).feed(event) == [event]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data: {}\r\n\r\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"event: x\ndata: {}\n\n", b"{}"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata: b\r\n\r\n", b"a\nb"),
        (b"id: 7\r\nevent: x\r\ndata:a\r\nretry: 3\r\n\r\n", b"a"),
        (b": data: no\n\n", b""),
        (b"\n\n", b""),
        (b"event: ping\n\n", b""),
        (b"database: x\n\n", b""),
        (b"data: \n\n", b""),
    ],
)
def test_data_is_read_as_the_specification_says(event: bytes, data: bytes) -> None:
    assert event_data(event) == data
