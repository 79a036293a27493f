"""Errands: how far they go at once, what they can wait for, how they end, and that all of it is as a Task has it."""

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress

import pytest

from tests.aio import LOOPS, run
from tests.unit.gateway.rides import Ride, begin, outside, settle
from trollproxy.gateway.errand import Errand
from trollproxy.upstream.signal import Signal

pytestmark = pytest.mark.parametrize("loop_name", LOOPS)

Scene = Callable[[], Awaitable[None]]


def play(loop_name: str, scene: Scene) -> None:
    async def life() -> None:
        await scene()

    run(life(), new_loop=LOOPS[loop_name])


class Wait:
    """Something to wait for, and how to end the wait."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.event = asyncio.Event()
        self.signal = Signal(self.loop)

    def end(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
        self.event.set()
        self.signal.fire()

    async def on_future(self) -> None:
        await self.future

    async def on_event(self) -> None:
        await self.event.wait()

    async def on_signal(self) -> None:
        await self.signal

    async def on_turns(self) -> None:
        while not self.future.done():
            await asyncio.sleep(0)

    async def on_shield(self) -> None:
        await asyncio.shield(self.future)

    async def on_task(self) -> None:
        await asyncio.create_task(self.on_event())

    async def on_many(self) -> None:
        await asyncio.gather(self.on_event(), self.on_shield())

    async def on_group(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.on_event())

    async def within_a_deadline(self) -> None:
        async with asyncio.timeout(60):
            await self.on_future()

    async def within_two_deadlines(self) -> None:
        async with asyncio.timeout(60), asyncio.timeout(30):
            await self.on_event()


WAITS: dict[str, Callable[[Wait], Awaitable[None]]] = {
    "future": Wait.on_future,
    "event": Wait.on_event,
    "signal": Wait.on_signal,
    "turns": Wait.on_turns,
    "shield": Wait.on_shield,
    "task": Wait.on_task,
    "gather": Wait.on_many,
    "group": Wait.on_group,
    "deadline": Wait.within_a_deadline,
    "deadlines": Wait.within_two_deadlines,
}
all_waits = pytest.mark.parametrize("name", WAITS)


# How far it goes


def test_what_need_not_wait_is_done_before_run_returns(loop_name: str) -> None:
    async def scene() -> None:
        done = asyncio.get_running_loop().create_future()
        done.set_result(7)
        seen: list[int] = []

        async def work() -> None:
            seen.append(await done)

        ride = Ride()

        def go() -> tuple[list[int], int]:
            ride.errand.run(work())
            return seen, ride.ends

        assert await outside(go) == ([7], 1)

    play(loop_name, scene)


def test_it_goes_as_far_as_it_can(loop_name: str) -> None:
    async def scene() -> None:
        steps: list[str] = []
        wait = Wait()

        async def work() -> None:
            steps.append("before")
            await wait.on_future()
            steps.append("after")

        ride = await begin(work())
        assert (steps, ride.ends) == (["before"], 0)
        wait.end()
        await settle()
        assert (steps, ride.ends) == (["before", "after"], 1)

    play(loop_name, scene)


def test_it_is_the_current_task_and_nobody_is_after_it(loop_name: str) -> None:
    async def scene() -> None:
        seen: list[object] = []

        async def work() -> None:
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())

        ride = await begin(work())
        assert await outside(asyncio.current_task) is None
        await settle()
        assert seen == [ride.errand, ride.errand]

    play(loop_name, scene)


# What it waits for


@all_waits
def test_a_wait_ends(loop_name: str, name: str) -> None:
    async def scene() -> None:
        wait = Wait()
        ride = await begin(WAITS[name](wait))  # type: ignore[arg-type]
        await settle()
        assert ride.ends == 0
        await outside(wait.end)
        await settle()
        assert (ride.ends, ride.failures) == (1, [])

    play(loop_name, scene)


def test_sleep_takes_its_time(loop_name: str) -> None:
    async def scene() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        began_s = loop.time()

        async def work() -> None:
            await asyncio.sleep(0.01)
            ended.set()

        await begin(work())
        await ended.wait()
        assert loop.time() - began_s > 0.008  # uvloop counts in milliseconds

    play(loop_name, scene)


def test_a_deadline_ends_the_wait_and_nothing_else(loop_name: str) -> None:
    async def scene() -> None:
        told: list[object] = []
        wait = Wait()

        async def work() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(0) as deadline:
                    await wait.on_event()
            task = asyncio.current_task()
            assert task is not None
            told.append((deadline.expired(), task.cancelling()))
            await wait.on_signal()
            told.append("after")

        ride = await begin(work())
        await settle()
        assert told == [(True, 0)]
        await outside(wait.end)
        assert (told[1:], ride.ends) == (["after"], 1)

    play(loop_name, scene)


def test_a_deadline_and_a_cancellation_at_one_moment_is_a_cancellation(loop_name: str) -> None:
    async def scene() -> None:
        told: list[str] = []

        async def work() -> None:
            try:
                async with asyncio.timeout(None) as deadline:
                    deadline.reschedule(0)
                    await Wait().on_event()
            except TimeoutError:
                told.append("late")
            except asyncio.CancelledError:
                told.append("cancelled")
                raise

        ride = Ride()

        def go() -> None:
            ride.errand.run(work())
            ride.errand.cancel()

        await outside(go)
        await settle()
        assert (told, ride.ends) == (["cancelled"], 1)

    play(loop_name, scene)


@pytest.mark.parametrize("error", [ValueError("x"), None])
def test_what_a_future_or_task_ends_with_arrives(loop_name: str, error: Exception | None) -> None:
    async def scene() -> None:
        seen: list[object] = []
        wait = Wait()

        async def child() -> str:
            await wait.on_event()
            if error is not None:
                raise error
            return "x"

        async def work() -> None:
            for awaited in (asyncio.create_task(child()), asyncio.shield(child())):
                try:
                    seen.append(await awaited)
                except ValueError as caught:
                    seen.append(caught)

        await begin(work())
        wait.end()
        await settle()
        assert seen == [error or "x"] * 2

    play(loop_name, scene)


# From within a task


def test_begun_within_a_task_it_goes_on_after_it(loop_name: str) -> None:
    async def scene() -> None:
        seen: list[object] = []

        async def work() -> None:
            seen.append(asyncio.current_task())

        ride, here = Ride(), asyncio.current_task()
        ride.errand.run(work())
        assert seen == []
        assert asyncio.current_task() is here
        await settle()
        assert (seen, ride.ends) == ([ride.errand], 1)

    play(loop_name, scene)


def test_woken_within_a_task_or_an_errand_it_goes_on_after_it(loop_name: str) -> None:
    async def scene() -> None:
        order: list[str] = []
        first, second = Wait(), Wait()

        async def sleeper(name: str, wait: Wait, next_one: Wait | None = None) -> None:
            await wait.on_signal()
            if next_one is not None:
                next_one.end()
            order.append(name)

        await begin(sleeper("second", second))
        await begin(sleeper("first", first, next_one=second))
        first.end()
        order.append("task")
        await settle()
        assert order == ["task", "first", "second"]

    play(loop_name, scene)


# Cancellation


def test_cancelled_before_it_has_begun(loop_name: str) -> None:
    async def scene() -> None:
        seen: list[str] = []

        async def work() -> None:
            seen.append("never")

        ride = Ride()
        assert not ride.errand.cancel()  # there is nothing yet
        ride.errand.run(work())  # it is put off, since this is a task
        assert ride.errand.cancel()
        await settle()
        assert (seen, ride.ends, ride.failures) == ([], 1, [])

    play(loop_name, scene)


@all_waits
@pytest.mark.parametrize("times", [1, 2])
def test_cancelled_while_it_waits(loop_name: str, name: str, times: int) -> None:
    async def scene() -> None:
        seen: list[str] = []

        async def work(wait: Wait) -> None:
            try:
                await WAITS[name](wait)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        wait = Wait()
        ride = await begin(work(wait))
        assert [ride.errand.cancel() for _ in range(times)] == [True] * times
        assert ride.errand.cancelling() == times
        assert seen == []  # not at once: who cancels may hold what the cancelled one will change
        await settle()
        assert (seen, ride.ends, ride.failures) == (["cancelled"], 1, [])
        assert wait.future.cancelled() == (name in {"future", "deadline"})
        assert not ride.errand.cancel()
        await outside(wait.end)
        await settle()
        assert ride.ends == 1

    play(loop_name, scene)


@all_waits
def test_cancelled_when_the_wait_is_just_over(loop_name: str, name: str) -> None:
    async def scene() -> None:
        seen: list[str] = []
        wait = Wait()

        async def work() -> None:
            try:
                await WAITS[name](wait)
                seen.append("went on")
                await Wait().on_event()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        ride = await begin(work())
        wait.end()
        ride.errand.cancel()
        await settle()
        assert (seen[-1], ride.ends) == ("cancelled", 1)

    play(loop_name, scene)


@all_waits
def test_it_may_clean_up_after_a_cancellation_and_be_cancelled_in_that(loop_name: str, name: str) -> None:
    async def scene() -> None:
        steps: list[str] = []
        wait, clean_up = Wait(), Wait()

        async def work() -> None:
            try:
                await WAITS[name](wait)
            finally:
                steps.append("begun")
                try:
                    await WAITS[name](clean_up)
                    steps.append("ended")
                except asyncio.CancelledError:
                    steps.append("cut")
                    raise

        for is_cut in (False, True):
            ride = await begin(work())
            ride.errand.cancel()
            await settle()
            assert ride.ends == 0
            ride.errand.cancel() if is_cut else await outside(clean_up.end)
            await settle()
            assert (steps, ride.ends) == (["begun", "cut" if is_cut else "ended"], 1)
            steps.clear()
            wait, clean_up = Wait(), Wait()

    play(loop_name, scene)


@all_waits
def test_cancelled_from_within_it_goes_on_to_the_next_wait(loop_name: str, name: str) -> None:
    async def scene() -> None:
        steps: list[str] = []

        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            steps.append("on")
            await WAITS[name](Wait())
            steps.append("never")

        ride = await begin(work())
        await settle()
        assert (steps, ride.ends) == (["on"], 1)

    play(loop_name, scene)


def test_a_cancellation_can_be_taken_back(loop_name: str) -> None:
    async def scene() -> None:
        counts: list[int] = []
        wait = Wait()

        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            with suppress(asyncio.CancelledError):
                await Wait().on_event()
            counts.extend([task.cancelling(), task.uncancel(), task.uncancel(), task.uncancel()])
            await wait.on_event()

        ride = await begin(work())
        ride.errand.cancel()
        ride.errand.cancel()
        await settle()
        assert (counts, ride.ends) == ([2, 1, 0, 0], 0)
        wait.end()
        await settle()
        assert ride.ends == 1

    play(loop_name, scene)


# Ends


def test_an_error_is_the_loops_to_tell_and_an_end(loop_name: str) -> None:
    async def scene() -> None:
        error = ValueError("x")

        async def work(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            raise error

        for turns in (0, 2):
            ride = await begin(work(turns))
            await settle()
            assert (ride.ends, ride.failures) == (1, [error])
            assert not ride.errand.cancel()

    play(loop_name, scene)


def test_what_ends_the_process_is_an_end_and_goes_on_to_the_loop(loop_name: str) -> None:
    async def scene() -> None:
        async def work() -> None:
            raise SystemExit(3)

        ride = Ride()

        def go() -> None:
            with pytest.raises(SystemExit):
                ride.errand.run(work())

        await outside(go)
        assert ride.ends == 1
        assert asyncio.current_task() is not None

    play(loop_name, scene)


def test_what_nobody_can_wait_for_is_an_error_and_an_end(loop_name: str) -> None:
    async def scene() -> None:
        steps: list[str] = []

        @types.coroutine
        def odd() -> Generator[int, None, None]:
            yield 1

        async def work() -> None:
            try:
                await odd()
            finally:
                steps.append("cleaned up")

        ride = await begin(work())
        assert (ride.ends, len(ride.failures), steps) == (1, 1, ["cleaned up"])

    play(loop_name, scene)


def test_at_the_end_it_is_the_current_task_no_more(loop_name: str) -> None:
    """Whoever is told of the end may begin the next one."""

    async def scene() -> None:
        order: list[str] = []

        async def work(name: str) -> None:
            order.append(name)

        second = Ride()

        def go_on() -> None:
            assert asyncio.current_task() is None
            second.errand.run(work("second"))
            order.append("told")

        first = Errand(go_on, second.loop)
        await outside(lambda: first.run(work("first")))
        assert order == ["first", "second", "told"]

    play(loop_name, scene)
