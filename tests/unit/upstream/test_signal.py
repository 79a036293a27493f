"""The signal, awaited by tasks and by errands: each fires, or is cancelled, once and for all."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.aio import LOOPS, run
from tests.unit.gateway.rides import begin, outside, settle
from trollproxy.upstream.signal import Signal

pytestmark = pytest.mark.parametrize("loop_name", LOOPS)


class Waiting:
    """A coroutine that awaits a signal, and what it told."""

    def __init__(self, deadline_s: float | None = None) -> None:
        self.signal = Signal(asyncio.get_running_loop())
        self.told: list[str] = []
        self._deadline_s = deadline_s

    async def work(self) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                await self.signal
        except TimeoutError:
            self.told.append("late")
        except asyncio.CancelledError:
            self.told.append("cancelled")
            raise
        else:
            self.told.append("fired")


def play(loop_name: str, scene: Callable[[], Awaitable[None]]) -> None:
    async def life() -> None:
        await scene()

    run(life(), new_loop=LOOPS[loop_name])


def test_a_task_is_woken_by_the_loop(loop_name: str) -> None:
    async def scene() -> None:
        waiting = Waiting()
        task = asyncio.create_task(waiting.work())
        await settle()
        assert not waiting.signal.is_fired
        await outside(waiting.signal.fire)
        await task
        assert waiting.told == ["fired"]

    play(loop_name, scene)


def test_an_errand_goes_on_before_fire_returns(loop_name: str) -> None:
    async def scene() -> None:
        waiting = Waiting()
        ride = await begin(waiting.work())

        def fire() -> tuple[list[str], int]:
            waiting.signal.fire()
            return waiting.told, ride.ends

        assert await outside(fire) == (["fired"], 1)

    play(loop_name, scene)


def test_an_errand_fired_from_within_a_task_goes_on_after_it(loop_name: str) -> None:
    async def scene() -> None:
        waiting = Waiting()
        ride = await begin(waiting.work())
        waiting.signal.fire()
        assert waiting.told == []
        await settle()
        assert (waiting.told, ride.ends) == (["fired"], 1)

    play(loop_name, scene)


def test_fired_before_it_is_awaited_there_is_no_wait(loop_name: str) -> None:
    async def scene() -> None:
        waiting = Waiting()
        waiting.signal.fire()
        coroutine = waiting.work()
        with pytest.raises(StopIteration):
            coroutine.send(None)
        for _ in "twice":
            await waiting.signal
        assert waiting.told == ["fired"]

    play(loop_name, scene)


def test_fired_twice_it_wakes_once(loop_name: str) -> None:
    async def scene() -> None:
        for is_task in (True, False):
            waiting = Waiting()
            later = Signal(asyncio.get_running_loop())

            async def work(waiting: Waiting, later: Signal) -> None:
                await waiting.work()
                await later
                waiting.told.append("later")

            coroutine = work(waiting, later)
            kept = asyncio.create_task(coroutine) if is_task else await begin(coroutine)
            await settle()
            for _ in "twice":
                await outside(waiting.signal.fire)
            await settle()
            assert waiting.told == ["fired"]
            await outside(later.fire)
            await settle()
            assert waiting.told == ["fired", "later"]
            assert kept is not None

    play(loop_name, scene)


def test_a_cancelled_task_does_not_go_on_and_a_late_fire_is_nothing(loop_name: str) -> None:
    async def scene() -> None:
        waiting = Waiting()
        task = asyncio.create_task(waiting.work())
        await settle()
        task.cancel()
        await outside(waiting.signal.fire)
        await settle()
        assert task.cancelled()
        assert waiting.told == ["cancelled"]
        with pytest.raises(asyncio.CancelledError):
            await waiting.signal

    play(loop_name, scene)


def test_a_cancelled_errand_is_told_by_the_loop_and_once(loop_name: str) -> None:
    async def scene() -> None:
        waiting = Waiting()
        ride = await begin(waiting.work())

        def end() -> list[str]:
            ride.errand.cancel()
            waiting.signal.fire()
            return [*waiting.told]

        assert await outside(end) == []
        await settle()
        assert (waiting.told, ride.ends) == (["cancelled"], 1)

    play(loop_name, scene)


def test_cancelled_after_it_has_fired_it_stays_fired(loop_name: str) -> None:
    async def scene() -> None:
        waiting = Waiting()
        waiting.signal.fire()
        assert not waiting.signal.cancel()
        await waiting.work()
        assert waiting.told == ["fired"]

    play(loop_name, scene)


def test_a_task_cancelled_when_the_signal_has_just_fired_is_cancelled(loop_name: str) -> None:
    async def scene() -> None:
        waiting = Waiting()
        task = asyncio.create_task(waiting.work())
        await settle()
        waiting.signal.fire()
        task.cancel()
        await settle()
        assert task.cancelled()
        assert waiting.told == ["cancelled"]

    play(loop_name, scene)


def test_cancelled_before_it_is_awaited(loop_name: str) -> None:
    async def scene() -> None:
        signal = Signal(asyncio.get_running_loop())
        assert signal.cancel()
        assert not signal.cancel()
        for _ in "twice":
            with pytest.raises(asyncio.CancelledError):
                await signal
        with pytest.raises(asyncio.CancelledError):
            signal.result()

    play(loop_name, scene)


@pytest.mark.parametrize("is_task", [True, False])
def test_deadlines_around_it(loop_name: str, is_task: bool) -> None:
    async def scene() -> None:
        late, early = Waiting(0), Waiting(60)
        for waiting in (late, early):
            coroutine = waiting.work()
            kept = asyncio.create_task(coroutine) if is_task else await begin(coroutine)
            await settle()
            await outside(waiting.signal.fire)
            await settle()
            assert kept is not None
        assert (late.told, early.told) == (["late"], ["fired"])

    play(loop_name, scene)


def test_two_cannot_wait_for_one_signal(loop_name: str) -> None:
    async def scene() -> None:
        waiting = Waiting()
        first = await begin(waiting.work())
        second = await begin(waiting.work())
        assert (first.ends, second.ends, len(second.failures)) == (0, 1, 1)
        await outside(waiting.signal.fire)
        assert first.ends == 1

    play(loop_name, scene)
