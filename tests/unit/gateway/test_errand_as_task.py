"""The same coroutine goes the same way as an errand and as a Task, whatever it waits for and whatever happens to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.aio import LOOPS, run
from tests.unit.gateway.rides import Ride, settle
from trollproxy.upstream.signal import Signal

Step = tuple[Any, ...]
Program = list[Step]

NUMBERS = st.integers(0, 2)
WAITS = st.sampled_from(["event", "future", "signal", "shield", "task"])
LEAVES = st.one_of(
    st.tuples(WAITS, NUMBERS),
    st.tuples(st.sampled_from(["turn", "cancel me", "uncancel", "raise"])),
)
STEPS = st.recursive(
    LEAVES,
    lambda steps: st.tuples(st.sampled_from(["catch", "finally", "deadline"]), st.lists(steps, min_size=1, max_size=3)),
    max_leaves=12,
)
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["set", "fail", "fire"]), NUMBERS),
    st.tuples(st.sampled_from(["cancel", "expire", "settle", "settle"])),
)


class Carried(Protocol):
    def cancel(self) -> bool: ...

    def cancelling(self) -> int: ...

    def uncancel(self) -> int: ...


class World:
    """What a program waits for, and what it told on its way."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.events = [asyncio.Event() for _ in range(3)]
        self.futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(3)]
        self.signals = [Signal(loop) for _ in range(3)]
        self.deadlines: list[asyncio.Timeout] = []
        self.trace: list[Step] = []
        self.carried: Carried | None = None

    async def perform(self, program: Program) -> None:
        """All of it, and how it ended."""
        try:
            await self._each(program)
        except BaseException as error:
            self.trace.append(("ended by", type(error)))
            raise
        self.trace.append(("ended",))

    async def _each(self, program: Program) -> None:
        for step in program:
            assert asyncio.current_task() is self.carried
            self.trace.append((step[0], self._me.cancelling()))
            await self._one(*step)

    @property
    def _me(self) -> Carried:
        assert self.carried is not None
        return self.carried

    async def _one(self, name: str, what: Any = None) -> None:
        if name in {"catch", "finally", "deadline"}:
            await self._nested(name, what)
        elif name in {"cancel me", "uncancel", "raise"}:
            self._act(name)
        else:
            await self._wait(name, what)

    def _act(self, name: str) -> None:
        if name == "raise":
            raise KeyError(name)
        self._me.cancel() if name == "cancel me" else self._me.uncancel()

    async def _wait(self, name: str, number: int) -> None:
        if name == "turn":
            await asyncio.sleep(0)
        elif name == "event":
            await self.events[number].wait()
        elif name == "future":
            self.trace.append(("got", await self.futures[number]))
        elif name == "signal":
            await self.signals[number]
        elif name == "shield":
            self.trace.append(("got", await asyncio.shield(self.futures[number])))
        else:
            await asyncio.create_task(self.events[number].wait())

    async def _nested(self, name: str, program: Program) -> None:
        if name == "catch":
            try:
                await self._each(program)
            except (asyncio.CancelledError, TimeoutError, ValueError, KeyError) as error:
                self.trace.append(("caught", type(error), self._me.cancelling()))
        elif name == "finally":
            try:
                await self._each(program[:1])
            finally:
                await self._each(program[1:])
        else:
            async with self._deadline():
                await self._each(program)

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as deadline:
            self.deadlines.append(deadline)
            try:
                yield
            finally:
                self.deadlines.remove(deadline)

    def happen(self, name: str, number: int = 0) -> None:
        if name == "set":
            self.events[number].set()
            self._resolve(number, None)
        elif name == "fail":
            self._resolve(number, ValueError(number))
        elif name == "fire":
            self.signals[number].fire()
        elif name == "expire":
            for deadline in self.deadlines[:1]:
                deadline.reschedule(0)
        else:
            self._me.cancel()

    def _resolve(self, number: int, error: Exception | None) -> None:
        future = self.futures[number]
        if not future.done():
            future.set_result(number) if error is None else future.set_exception(error)

    async def live(self, actions: list[Step]) -> None:
        for action in actions:
            if action == ("settle",):
                await settle()
            else:
                self.happen(*action)
        await settle()
        self.trace.append(("left to itself",))
        for number in range(3):
            self.happen("set", number)
            self.happen("fire", number)
        for _ in range(4):  # where everything has happened, each wait takes a few turns at most
            await settle()


async def as_errand(program: Program, actions: list[Step]) -> tuple[list[Step], str]:
    world, ride = World(), Ride()
    world.carried = ride.errand
    ride.errand.run(world.perform(program))
    await world.live(actions)
    assert ride.ends == 1
    assert len(ride.failures) <= 1
    return world.trace, "".join(map(repr, ride.failures))


async def as_task(program: Program, actions: list[Step]) -> tuple[list[Step], str]:
    world = World()
    task = world.carried = asyncio.create_task(world.perform(program))
    await world.live(actions)
    assert task.done()
    error = None if task.cancelled() else task.exception()
    return world.trace, repr(error) if error is not None else ""


@pytest.mark.parametrize("loop_name", LOOPS)
@given(st.lists(STEPS, min_size=1, max_size=6), st.lists(ACTIONS, max_size=12))
def test_an_errand_goes_the_way_of_a_task(loop_name: str, program: Program, actions: list[Step]) -> None:
    def told(how: Any) -> tuple[list[Step], str]:
        result: tuple[list[Step], str] = run(how(program, actions), new_loop=LOOPS[loop_name])
        return result

    assert told(as_errand) == told(as_task)
