"""A provider that is only sent so much: who waits, for how long, and what becomes of those who give up."""

import asyncio
import itertools
from contextlib import suppress

import msgspec
import pytest

from tests.aio import run
from tests.fake_client import FakeClientStream
from tests.fakes import FakeClock, FakeReply
from tests.unit.gateway.house import ANSWER, ENVIRONMENT_KEY, KEY, House, ask, play, whole
from tests.unit.gateway.test_fallback import TwoProviders, refusal
from trollproxy.errors import Overloaded, UpstreamRateLimited, UpstreamTimeout, UpstreamUnavailable
from trollproxy.gateway.snapshot import Snapshot
from trollproxy.gateway.turnstile import Slot, Turnstile
from trollproxy.policy.retrying import RetryPolicy
from trollproxy.policy.throttle import CUT
from trollproxy.records import Pace


class Gated(FakeReply):
    """A whole answer that does not come before `go` is set."""

    def __init__(self) -> None:
        super().__init__(ANSWER)
        self.go = asyncio.Event()

    async def read(self) -> bytes:
        await self.go.wait()
        return await super().read()


class Paced(TwoProviders):
    """The first provider is sent one at a time; requests have ids of their own."""

    pace = Pace(max_in_flight=1, max_queue=2, queue_timeout_s=30.0)

    def __init__(self, *answers: FakeReply | Exception) -> None:
        super().__init__(*answers)
        numbers = itertools.count(1)
        self.gate._new_request_id = lambda: f"req_{next(numbers)}"

    def show(self) -> None:
        self.provider = msgspec.structs.replace(self.provider, pace=self.pace)
        super().show()
        self.model = msgspec.structs.replace(self.model, fallbacks=())
        self.live.snapshot = Snapshot([self.model], self.live.snapshot.providers, self.live.snapshot)

    @property
    def turnstile(self) -> Turnstile:
        return self.live.snapshot.turnstiles["acme"]

    def come(self, key: str = ENVIRONMENT_KEY) -> tuple[FakeClientStream, asyncio.Task[None]]:
        client = FakeClientStream(checkpoints=self.checkpoints)
        return client, asyncio.create_task(self.pipeline().serve(self.request(key), client, self.arriving(ask())))


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def ended(*tasks: asyncio.Task[None]) -> None:
    await asyncio.wait(tasks)


def of_paced(house: House) -> Paced:
    assert isinstance(house, Paced)
    return house


def test_by_default_there_is_none() -> None:
    async def scene(house: House) -> None:
        await house.serve()
        assert house.live.snapshot.turnstiles == {}

    play(lambda: House(whole()), scene)


def test_who_finds_no_room_waits_for_its_turn() -> None:
    answers = [Gated() for _ in range(3)]

    async def scene(house: House) -> None:
        paced = of_paced(house)
        came = [paced.come() for _ in range(3)]
        await turns()
        for number, answer in enumerate(answers, start=1):
            assert len(house.asked) == len(house.sink.intents) == number
            assert paced.turnstile.throttle.waiting == 3 - number
            answer.go.set()
            await turns()
        await ended(*(task for _, task in came))
        assert [client.body for client, _ in came] == [ANSWER] * 3
        assert [charge.request_id for charge in house.sink.charges] == ["req_1", "req_2", "req_3"]
        assert paced.turnstile.throttle.in_flight == 0

    play(lambda: Paced(*answers), scene)


@pytest.mark.parametrize("hangs_up", [True, False])
def test_who_gives_up_in_line_leaves_at_once_and_pays_nothing(hangs_up: bool) -> None:
    first = Gated()

    async def scene(house: House) -> None:
        paced = of_paced(house)
        _, ahead = paced.come()
        await turns()
        client, task = paced.come(KEY)
        _, behind = paced.come()
        await turns()
        assert house.accounts.held_nusd() > 0
        client.hang_up() if hangs_up else task.cancel()
        await ended(task)
        assert house.accounts.held_nusd() == 0
        assert paced.turnstile.throttle.waiting == 1
        first.go.set()
        await ended(ahead, behind)
        assert sorted(charge.request_id for charge in house.sink.charges) == ["req_1", "req_3"]
        assert len(house.sink.intents) == len(house.asked) == 2

    play(lambda: Paced(first, whole()), scene)


def test_a_place_that_comes_free_as_its_waiter_leaves_goes_to_the_next() -> None:
    first = Gated()

    async def scene(house: House) -> None:
        paced = of_paced(house)
        came = [paced.come() for _ in range(3)]
        await turns()
        throttle = paced.turnstile.throttle
        release, leaving = throttle.give_back, came[1][1]

        def give_back() -> None:
            release()
            leaving.cancel()  # before it can be told of its turn

        throttle.give_back = give_back  # type: ignore[method-assign]
        first.go.set()
        await ended(came[0][1], leaving, came[2][1])
        assert [charge.request_id for charge in house.sink.charges] == ["req_1", "req_3"]

    play(lambda: Paced(first, whole()), scene)


def test_who_waits_too_long_is_told_when_to_come_again() -> None:
    class Brief(Paced):
        pace = Pace(per_minute=1, queue_timeout_s=0.01)

    async def scene(house: House) -> None:
        await house.serve()
        client = await house.serve()
        assert (client.status, house.error_code) == (503, "upstream_throttled")
        assert 60 <= int(client.headers["retry-after"]) <= 61
        assert "x-trollproxy-receipt" not in client.headers
        assert of_paced(house).turnstile.refused == {"full": 0, "timeout": 1}

    house = play(lambda: Brief(whole()), scene)
    assert len(house.sink.charges) == len(house.sink.intents) == 1


def test_a_full_line_takes_nobody() -> None:
    first = Gated()

    async def scene(house: House) -> None:
        paced = of_paced(house)
        came = [paced.come() for _ in range(3)]
        await turns()
        client = await house.serve()
        assert (client.status, house.error_code, client.headers["retry-after"]) == (503, "upstream_throttled", "1")
        assert paced.turnstile.refused["full"] == 1
        first.go.set()
        await ended(*(task for _, task in came))

    play(lambda: Paced(first, whole(), whole()), scene)


def test_time_lets_in_the_next() -> None:
    class Minute(Paced):
        pace = Pace(per_minute=1)

    async def scene(house: House) -> None:
        paced = of_paced(house)
        await house.serve()
        client, task = paced.come()
        await turns()
        assert paced.turnstile.throttle.waiting == 1
        house.clock.advance(61.5)
        paced.turnstile.look(house.clock.clock.monotonic)
        await task
        assert client.body == ANSWER

    play(lambda: Minute(whole(), whole()), scene)


def test_where_another_has_room_nobody_waits() -> None:
    class Both(Paced):
        def show(self) -> None:
            self.provider = msgspec.structs.replace(self.provider, pace=self.pace)
            TwoProviders.show(self)

    first = Gated()

    async def scene(house: House) -> None:
        paced = of_paced(house)
        _, ahead = paced.come()
        await turns()
        assert (await house.serve()).status == 200
        assert house.asked == ["acme", "other"]
        first.go.set()
        await ended(ahead)

    play(lambda: Both(first, whole()), scene)


def test_a_retry_goes_before_those_who_have_not_gone_yet() -> None:
    first = Gated()

    async def scene(house: House) -> None:
        paced = of_paced(house)
        first._pieces.clear()  # it will turn out to be no answer
        came = [paced.come() for _ in range(2)]
        await turns()
        house.clock.advance(1)
        first.go.set()
        await ended(*(task for _, task in came))
        assert [client.body for client, _ in came] == [ANSWER] * 2

    house = play(lambda: Paced(first, whole(), whole()), scene)
    assert len(house.sink.charges) == 2


def test_a_retry_that_finds_no_room_ends_with_what_it_was_told_before() -> None:
    class Single(Paced):
        pace = Pace(per_minute=1, max_queue=1, queue_timeout_s=0.01)

    async def scene(house: House) -> None:
        assert (await house.serve()).status == 429
        assert house.error_code == "upstream_rate_limited"

    house = play(lambda: Single(refusal(429), whole()), scene)
    assert len(house.asked) == len(house.sink.charges) == 1


def test_what_a_provider_refuses_as_too_much_cuts_its_pace() -> None:
    class Minute(Paced):
        pace = Pace(per_minute=100)

    async def scene(house: House) -> None:
        house.retries = RetryPolicy(max_tries=1)
        await house.serve()
        throttle = of_paced(house).turnstile.throttle
        assert throttle.share(house.clock.now_s) == pytest.approx(CUT)
        assert (throttle.in_flight, throttle.status(house.clock.now_s).last_minute) == (0, 1)

    play(lambda: Minute(refusal(503)), scene)
    play(lambda: Minute(refusal(429)), scene)


@pytest.mark.parametrize("error", [UpstreamTimeout("x"), UpstreamUnavailable("x"), UpstreamUnavailable("x", code="y")])
def test_other_failures_do_not(error: Exception) -> None:
    async def scene(house: House) -> None:
        house.retries = RetryPolicy(max_tries=1)
        await house.serve()
        assert of_paced(house).turnstile.throttle.cuts == 0

    play(lambda: Paced(error), scene)


def test_what_was_lent_and_not_used_is_given_back() -> None:
    async def scene(house: House) -> None:
        house.sink.is_full = True
        assert (await house.serve()).status == 503
        throttle = of_paced(house).turnstile.throttle
        assert (throttle.in_flight, throttle.status(house.clock.now_s).last_minute) == (0, 0)
        house.sink.is_full = False
        assert (await house.serve()).status == 200

    play(lambda: Paced(whole()), scene)


def test_a_key_that_rests_by_then_leaves_no_place_taken() -> None:
    first = Gated()

    async def scene(house: House) -> None:
        paced = of_paced(house)
        _, ahead = paced.come()
        await turns()
        _, behind = paced.come()
        await turns()
        pool = house.live.snapshot.keys["acme"]
        for _ in range(2):
            lease = pool.pick(house.clock.now_s)
            assert lease is not None
            lease.report("rate", house.clock.now_s, 30.0)
            lease.release()
        first.go.set()
        await ended(ahead, behind)
        assert paced.turnstile.throttle.in_flight == 0
        assert house.asked == ["acme"]

    play(lambda: Paced(first), scene)


def test_a_reload_keeps_the_counts_and_those_who_wait() -> None:
    first = Gated()

    async def scene(house: House) -> None:
        paced = of_paced(house)
        came = [paced.come() for _ in range(2)]
        await turns()
        before = paced.turnstile
        paced.pace = Pace(max_in_flight=2)
        paced.show()
        assert paced.turnstile is before
        before.look(house.clock.clock.monotonic)  # as the timer does within a second
        await came[1][1]
        first.go.set()
        await came[0][1]

    play(lambda: Paced(first, whole()), scene)


def test_let_in_and_called_off_in_one_moment() -> None:
    async def scene() -> None:
        clock = FakeClock()
        now = clock.clock.monotonic
        turnstile = Turnstile(Pace(max_in_flight=1, per_minute=2))
        slot = turnstile.enter(now)
        assert slot is not None
        waiting = asyncio.create_task(turnstile.wait(now, is_retry=False))
        await turns()
        slot.release()  # grants it
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert (turnstile.throttle.in_flight, turnstile.throttle.status(now()).last_minute) == (0, 1)
        assert isinstance(turnstile.enter(now), Slot)

    run(scene())


def test_a_slot_ends_once() -> None:
    async def scene() -> None:
        now = FakeClock().clock.monotonic
        turnstile = Turnstile(Pace(max_in_flight=2))
        slot = turnstile.enter(now)
        assert slot is not None
        for _ in range(2):
            slot.release()
            slot.undo()
        assert turnstile.throttle.in_flight == 0

    run(scene())


def test_many_come_and_go_and_nobody_is_forgotten() -> None:
    """Everybody who is patient gets in, in order, and never two at a time."""

    async def scene() -> None:
        now = FakeClock().clock.monotonic
        turnstile = Turnstile(Pace(max_in_flight=1, max_queue=200))
        inside, order = 0, []

        async def visitor(number: int) -> None:
            nonlocal inside
            slot = turnstile.enter(now) or await turnstile.wait(now, is_retry=False)
            inside += 1
            assert inside == 1
            await turns(number % 3)
            order.append(number)
            inside -= 1
            slot.report(UpstreamRateLimited("x"))
            slot.release()

        tasks = [asyncio.create_task(visitor(number)) for number in range(150)]
        await turns(3)
        for task in tasks[5::7]:
            task.cancel()
        await asyncio.wait(tasks)
        left = {number for number, task in enumerate(tasks) if task.cancelled()}
        assert left
        assert order == [number for number in range(150) if number not in left]
        assert (turnstile.throttle.in_flight, turnstile.throttle.waiting, turnstile._waiting) == (0, 0, {})

    run(scene())


def test_the_line_is_refused_where_there_is_none() -> None:
    async def scene() -> None:
        now = FakeClock().clock.monotonic
        turnstile = Turnstile(Pace(max_in_flight=1, max_queue=0))
        assert turnstile.enter(now) is not None
        with pytest.raises(Overloaded) as caught:
            await turnstile.wait(now, is_retry=False)
        assert (caught.value.code, caught.value.retry_after_s) == ("upstream_throttled", 1.0)

    run(scene())
