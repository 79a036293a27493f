"""However a request ends, it is settled once and nothing stays held: hang-ups, cancellations, bugs of ours."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from tests.fakes import FakeReply, streamed
from tests.unit.gateway.house import (
    COST,
    COUNT,
    DELTA,
    DONE,
    FINISH,
    STREAMED,
    House,
    ask,
    play,
    stream,
    whole,
)
from trollproxy.errors import (
    UpstreamBroken,
)


def test_a_stream_that_breaks_after_its_last_event_was_complete() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(STREAMED)
        assert (client.body, client.is_ended) == (DELTA + FINISH + COUNT + DONE, True)

    [charge] = play(lambda: House(streamed(DELTA + FINISH + COUNT + DONE, UpstreamBroken("cut"))), scene).sink.charges
    assert (charge.cost_nusd, charge.ended_by) == (COST, "completed")


@pytest.mark.parametrize("body", [ask(), STREAMED])
def test_the_charge_is_made_before_the_last_bytes(body: bytes) -> None:
    async def scene(house: House) -> None:
        charged_at: dict[bytes, int] = {}
        client = house.client
        write = client.write

        def noting(data: bytes) -> None:
            charged_at[data] = len(house.sink.charges)
            write(data)

        client.write = noting  # type: ignore[method-assign]
        await house.begin(body)
        assert charged_at[client.pieces[-1]] == 1
        assert body is not STREAMED or charged_at[DELTA] == 0

    play(lambda: House(stream() if body is STREAMED else whole()), scene)


def answer_to(body: bytes) -> FakeReply:
    return stream() if body is STREAMED else whole()


def awaits_of(body: bytes) -> list[str]:
    """The names of every await of a request that goes well."""

    async def scene(house: House) -> None:
        await house.begin(body)

    return play(lambda: House(answer_to(body)), scene).checkpoints.passed


@pytest.mark.parametrize("body", [ask(), STREAMED], ids=["whole", "stream"])
def test_a_cancellation_at_every_await_settles_once(body: bytes) -> None:
    async def cancelled(house: House) -> None:
        task = house.begin(body)
        await house.checkpoints.reached.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    names = awaits_of(body)
    assert {"find_client_key", "client body", "upstream send", "upstream read", "client drain"} <= set(names)
    for place, name in enumerate(names, start=1):
        reply = answer_to(body)
        house = play(lambda: House(reply, stop_at=place), cancelled)  # noqa: B023 - called at once
        assert len(house.sink.charges) == len(house.upstream.calls), name
        assert all(charge.ended_by in {"client_disconnected", "completed"} for charge in house.sink.charges)
        assert reply.is_closed or name not in {"upstream read", "client drain"}


@pytest.mark.parametrize("body", [ask(), STREAMED], ids=["whole", "stream"])
def test_a_hang_up_at_every_await_settles_once(body: bytes) -> None:
    async def hung_up(house: House) -> None:
        task = house.begin(body)
        await house.checkpoints.reached.wait()
        house.client.hang_up()
        with suppress(asyncio.CancelledError):
            await task

    for place, name in enumerate(awaits_of(body), start=1):
        house = play(lambda: House(answer_to(body), stop_at=place), hung_up)  # noqa: B023 - called at once
        assert len(house.sink.charges) == len(house.upstream.calls), name


def test_a_hang_up_waits_for_the_providers_own_count() -> None:
    async def scene(house: House) -> None:
        task = house.begin(STREAMED)
        while not house.client.pieces:
            await asyncio.sleep(0)
        house.client.hang_up()
        await task
        assert house.client.pieces == [DELTA]

    [charge] = play(lambda: House(streamed(DELTA, b": 1\n\n", b": 2\n\n", FINISH, COUNT, DONE)), scene).sink.charges
    assert (charge.ended_by, charge.cost_nusd, charge.is_estimated) == ("client_disconnected", COST, False)


BUGS: list[tuple[str, Any]] = [
    ("authenticate", RuntimeError("bug")),
    ("upstream", RuntimeError("bug")),
    ("read", streamed(RuntimeError("bug"))),
    ("mid_stream", streamed(DELTA, RuntimeError("bug"))),
]


@pytest.mark.parametrize(("where", "bug"), BUGS)
def test_a_bug_of_ours_is_a_500_and_releases(where: str, bug: Any) -> None:
    async def scene(house: House) -> None:
        if where == "authenticate":
            house.store.failing.append(bug)
        client = await house.serve(STREAMED)
        if where == "mid_stream":
            assert b"internal_error" in client.body
        else:
            assert (client.status, house.error_code) == (500, "internal_error")
        assert b"bug" not in client.body

    play(lambda: House(bug), scene)


@pytest.mark.parametrize("broken", ["intend", "progress", "record"])
@pytest.mark.parametrize("body", [ask(), STREAMED], ids=["whole", "stream"])
def test_a_bug_in_settling_still_ends_the_hold(broken: str, body: bytes) -> None:
    async def scene(house: House) -> None:
        with suppress(RuntimeError):
            await house.serve(body)
        assert house.accounts.held_nusd() == 0
        assert house.gate.in_flight == 0
        house.accounts._accounts.clear()

    play(lambda: House(answer_to(body), broken=broken), scene)
