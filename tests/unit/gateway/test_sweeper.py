"""The sweeper beside gate, holds and accounts: quiet while all is well, and loud where it is not."""

import asyncio
import logging

import pytest

from tests.fakes import make_intent
from tests.unit.gateway.house import House, ask, play, stream, whole
from trollproxy.gateway.billing import Billing, HoldPolicy
from trollproxy.gateway.exchange import Exchange
from trollproxy.gateway.sweeper import Sweeper, longest_life_s
from trollproxy.money.holds import Holds, hold
from trollproxy.money.invariants import INVARIANTS, Violations
from trollproxy.records import Timeouts

LIFE_S = 100.0


class Watched:
    """A house under the sweeper's eyes."""

    def __init__(self, house: House) -> None:
        self.house, self.holds, self.violations = house, Holds(LIFE_S), Violations()
        self.sweeper = Sweeper(
            house.gate, self.holds, house.accounts, recorder=house.recorder, violations=self.violations
        )

    def look(self) -> dict[str, int]:
        self.sweeper.look()
        return {name: count for name, count in self.violations.counts.items() if count}

    def forget(self) -> Exchange:
        """What a bug would do: hold, and never end it."""
        exchange = Exchange(self.house.request(), "req_9", self.house.clock.clock)
        account = self.house.accounts.put(self.house.store.users["ann"])
        exchange.hold = hold(account, "legacy", 10, now_s=0.0)
        self.holds.watch(exchange.hold, exchange.request_id, now_s=self.house.clock.now_s)
        return exchange


def test_the_life_of_an_exchange_follows_the_configured_timeouts() -> None:
    short, long = Timeouts(connect_s=1, first_byte_s=2, idle_s=3), Timeouts(connect_s=10, first_byte_s=300, idle_s=120)
    assert longest_life_s([short, long], 5.0) == 60 + 2 * (10 + 10 + 300) + 120 + 5 + 60
    assert longest_life_s([short], 5.0) < longest_life_s([long], 5.0) < longest_life_s([long], 6.0)
    assert longest_life_s([], 5.0) == 65.0


def test_at_rest_and_at_work_all_is_well() -> None:
    async def last_await(house: House) -> None:
        await house.begin(ask(stream=True))

    async def scene(house: House) -> None:
        watched = Watched(house)
        assert watched.look() == {}
        task = house.begin(ask(stream=True))
        await house.checkpoints.reached.wait()
        house.clock.advance(LIFE_S * 100)
        assert watched.look() == {}
        task.cancel()
        await asyncio.wait([task])
        assert watched.look() == {}

    passed = play(lambda: House(stream()), last_await).checkpoints.passed
    for place in range(passed.index("upstream send"), len(passed)):
        play(lambda: House(stream(), stop_at=place + 1), scene)  # noqa: B023 - played at once


def test_every_hold_of_the_pipeline_is_watched_and_ends() -> None:
    async def scene(house: House) -> None:
        holds, opened = Holds(LIFE_S), list[str]()
        watch = holds.watch
        holds.watch = lambda *args, **more: (opened.append(args[1]), watch(*args, **more))[1]  # type: ignore[method-assign,func-returns-value]
        pipeline = house.pipeline()
        pipeline._billing = Billing(house.sink, HoldPolicy(), holds)
        await asyncio.create_task(pipeline.serve(house.request(), house.client, ask()))
        assert (opened, len(holds)) == (["req_1"], 0)

    play(lambda: House(whole()), scene)


def test_a_phantom_is_seen_at_once_and_released_at_its_time(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(house: House) -> None:
        watched = Watched(house)
        watched.forget()
        assert watched.look() == {"held_at_rest": 1}
        house.clock.advance(LIFE_S)
        assert watched.look() == {"held_at_rest": 2, "hold_swept": 1}
        assert house.accounts.held_nusd() == 0
        assert watched.look() == {"held_at_rest": 2, "hold_swept": 1}

    play(House, scene)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    fields = [record.fields for record in errors]  # type: ignore[attr-defined]
    assert {"invariant": "hold_swept", "count": 1, "request_ids": ["req_9"]} in fields


def test_while_somebody_is_inside_what_is_held_may_be_theirs() -> None:
    async def scene(house: House) -> None:
        watched = Watched(house)
        exchange = watched.forget()
        task = asyncio.create_task(asyncio.Event().wait())
        inside = house.gate.enter(house.request(), task)
        assert inside.request_id != exchange.request_id
        house.clock.advance(LIFE_S - 1)
        assert watched.look() == {}
        house.clock.advance(1)
        assert watched.look() == {"hold_swept": 1}
        house.gate.leave(task)
        task.cancel()

    play(House, scene)


def test_an_intent_that_nobody_will_end_is_a_violation() -> None:
    async def scene(house: House) -> None:
        watched = Watched(house)
        house.recorder.intend(make_intent(1))
        assert watched.look() == {"intent_at_rest": 1}

    play(House, scene)


def test_less_than_nothing_held_is_a_violation() -> None:
    async def scene(house: House) -> None:
        watched = Watched(house)
        account = house.accounts.put(house.store.users["ann"])
        account.held["new"], account.held["legacy"] = -1, 1
        assert watched.look() == {"held_below_zero": 1}
        account.held["new"] = account.held["legacy"] = 0

    play(House, scene)


def test_the_names_are_a_closed_set() -> None:
    violations = Violations()
    assert tuple(violations.counts) == INVARIANTS
    assert set(violations.counts.values()) == {0}
