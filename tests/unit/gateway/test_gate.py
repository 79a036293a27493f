"""The gate: bounded, closed while draining, and empty when the last has left."""

import asyncio

import pytest

from tests.aio import run
from tests.unit.gateway.house import House
from trollproxy.errors import Overloaded
from trollproxy.gateway.gate import Gate


def make_gate(house: House, room: int = 2) -> Gate:
    return Gate(clock=house.clock.clock, new_request_id=iter("abc").__next__, max_in_flight=room)


async def idle() -> None:
    await asyncio.Event().wait()


def test_each_has_an_id_and_the_times_of_its_arrival() -> None:
    async def scene() -> None:
        house = House()
        gate = make_gate(house)
        task = asyncio.create_task(idle())
        exchange = gate.enter(house.request(), task)
        assert (exchange.request_id, exchange.started_s) == ("a", house.clock.now_s)
        assert exchange.started_at_s == house.clock.wall_s
        task.cancel()

    run(scene())


def test_room_is_bounded() -> None:
    async def scene() -> None:
        house = House()
        gate = make_gate(house)
        tasks = [asyncio.create_task(idle()) for _ in range(3)]
        for task in tasks[:2]:
            gate.enter(house.request(), task)
            gate.check()
        gate.enter(house.request(), tasks[2])
        with pytest.raises(Overloaded) as caught:
            gate.check()
        assert (caught.value.status, caught.value.retry_after_s) == (503, 1)
        gate.leave(tasks[0])
        gate.check()
        for task in tasks:
            task.cancel()

    run(scene())


def test_draining_takes_nobody_new() -> None:
    async def scene() -> None:
        gate = make_gate(House())
        gate.is_draining = True
        with pytest.raises(Overloaded):
            gate.check()

    run(scene())


def test_the_wait_ends_when_the_last_has_left() -> None:
    async def scene() -> None:
        house = House()
        gate = make_gate(house)
        assert await gate.wait_until_empty(1)
        task = asyncio.create_task(idle())
        gate.enter(house.request(), task)
        assert not await gate.wait_until_empty(0)
        waiting = asyncio.create_task(gate.wait_until_empty(10))
        await asyncio.sleep(0)
        gate.leave(task)
        assert await waiting
        assert gate.in_flight == 0
        task.cancel()

    run(scene())


def test_cutting_ends_what_is_inside() -> None:
    async def scene() -> None:
        house = House()
        gate = make_gate(house)
        tasks = [asyncio.create_task(idle()) for _ in range(2)]
        for task in tasks:
            gate.enter(house.request(), task)
        gate.cut()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)

    run(scene())
