"""Several suppliers at a time: the first answer counts and is paid, the others are called off at our own cost."""

import asyncio
import json
from collections.abc import Callable

import msgspec
import pytest

from tests.fakes import FakeReply, make_price, streamed
from tests.unit.gateway.house import ANSWER, COST, COUNT, DELTA, DONE, FINISH, STREAMED, House, ask, play, stream, whole
from tests.unit.gateway.test_fallback import OVERLOADED, ROLE, OtherFormat, TwoProviders, refusal
from trollproxy.errors import UpstreamBroken, UpstreamTimeout
from trollproxy.gateway.snapshot import Snapshot
from trollproxy.money.entries import Settled, Unsettled
from trollproxy.policy.retrying import RetryPolicy
from trollproxy.records import Charge, Pace
from trollproxy.wire import ANTHROPIC

OTHER_COST = COST + 50 * 3_000  # the same usage at the fallback's price
LATE_S = 60.0


class Held(FakeReply):
    """An answer of which nothing comes before `go` is set."""

    def __init__(self, *pieces: bytes | Exception, is_stream: bool = True) -> None:
        kind = "text/event-stream" if is_stream else "application/json"
        super().__init__(*pieces, headers={"content-type": kind})
        self.go = asyncio.Event()

    async def read(self) -> bytes:
        await self.go.wait()
        return await super().read()


def held() -> Held:
    return Held(DELTA, FINISH, COUNT + DONE)


class Track(TwoProviders):
    """Both are asked; how much later the second is, the test may say."""

    head_start_s = 0.0

    def show(self) -> None:
        self.model = msgspec.structs.replace(self.model, race=2, race_head_start_s=self.head_start_s)
        super().show()


class Patient(Track):
    head_start_s = LATE_S


async def served(house: House) -> None:
    client = await house.serve(STREAMED)
    assert (client.status, client.body) == (200, DELTA + FINISH + COUNT + DONE)


def only_charge(house: House) -> Charge:
    """One charge, and nothing is lent any more."""
    [charge] = house.sink.charges
    for pool in house.live.snapshot.keys.values():
        assert all(key.leases == 0 for key in pool.status(house.clock.now_s))
    return charge


def input_cost(house: House, place: int) -> int:
    """What the call at this place costs us if only its prompt is counted, at a dollar a million."""
    return -(-len(house.upstream.calls[place].body) // 4) * 1_000


def outcomes(house: House) -> set[str]:
    lines = house.metrics.render().decode().splitlines()
    return {line.split('outcome="')[1] for line in lines if line.startswith("trollproxy_upstream_attempts_total")}


def test_the_first_wins() -> None:
    late = held()
    house = play(lambda: Track(stream(), late), served)
    charge = only_charge(house)
    assert (charge.provider, charge.upstream_key_id, charge.cost_nusd) == ("acme", "uk-1", COST)
    assert (charge.upstream_cost_nusd, charge.lost_cost_nusd) == (COST, input_cost(house, 1))
    assert late.is_closed
    assert outcomes(house) == {'ok",provider="acme"} 1.0', 'lost",provider="other"} 1.0'}


def test_the_second_wins() -> None:
    slow = held()
    house = play(lambda: Track(slow, stream()), served)
    charge = only_charge(house)
    assert (charge.provider, charge.upstream_model, charge.upstream_key_id) == ("other", "other-m", "ok-1")
    assert (charge.cost_nusd, charge.upstream_cost_nusd) == (COST, OTHER_COST)
    assert charge.lost_cost_nusd == input_cost(house, 0)
    assert slow.is_closed
    assert house.asked == ["acme", "other"]
    assert [(intent.provider, intent.lost_cost_nusd) for intent in house.sink.intents] == [
        ("acme", 0),
        ("other", input_cost(house, 0)),
    ]


def test_the_journal_names_the_winner_before_the_client_has_anything() -> None:
    async def scene(house: House) -> None:
        start = house.client.start
        named: list[str] = []

        def noting(status: int, headers: object) -> None:
            named.extend(intent.provider for intent in house.sink.intents)
            start(status, headers)  # type: ignore[arg-type]

        house.client.start = noting  # type: ignore[method-assign]
        await house.begin(STREAMED)
        assert named == ["acme", "other"]

    play(lambda: Track(held(), stream()), scene)


def test_the_first_intent_of_a_race_is_put_down_at_once() -> None:
    """Each is asked by a task of its own, so none in this turn of the loop."""
    house = play(lambda: Track(stream(), held()), served)
    assert house.sink.at_once[0]
    house = play(lambda: TwoProviders(stream()), served)
    assert house.sink.at_once == [False]


def test_wherever_the_gateway_dies_there_is_one_charge_for_who_was_relayed() -> None:
    house = play(lambda: Track(held(), stream()), served)
    entries = house.sink.entries
    assert [type(entry).__name__ for entry in entries] == ["Intent", "Intent", "Progress", "Charge"]
    for length in range(1, len(entries) + 1):
        found = Unsettled()
        for number, entry in enumerate(entries[:length]):
            found.take(number, Settled(entry) if isinstance(entry, Charge) else entry)
        charges = [*found.crashed(), *house.sink.charges][:1] if length < len(entries) else house.sink.charges
        assert len(found) == (length < len(entries))
        expected = ("acme", 0) if length == 1 else ("other", input_cost(house, 0))
        assert [(charge.provider, charge.lost_cost_nusd) for charge in charges] == [expected]


def test_in_a_dead_heat_the_first_in_line_wins_and_the_others_count_is_known() -> None:
    async def scene(house: House) -> None:
        gate = asyncio.Event()
        for answer in house.answers:
            assert isinstance(answer, Held)
            answer.go = gate
        task = house.begin(ask())
        while len(house.asked) < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate.set()
        await task
        assert house.client.body == ANSWER

    house = play(lambda: Track(Held(ANSWER, is_stream=False), Held(ANSWER, is_stream=False)), scene)
    charge = only_charge(house)
    assert (charge.provider, charge.lost_cost_nusd) == ("acme", OTHER_COST)


def test_what_a_loser_has_begun_to_say_counts() -> None:
    class Halfway(Held):
        async def read(self) -> bytes:
            return await (super().read() if len(self._pieces) == 1 else FakeReply.read(self))

    begun = b'data: {"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":0}}\n\n'
    winner, loser = held(), Halfway(begun, DELTA)

    async def scene(house: House) -> None:
        task = await asked_both(house)
        while len(loser._pieces) > 1:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        winner.go.set()
        await task

    assert only_charge(play(lambda: Track(winner, loser), scene)).lost_cost_nusd == 1_000_000


def test_with_a_head_start_that_suffices_nobody_else_is_asked() -> None:
    house = play(lambda: Patient(stream(), stream()), served)
    assert house.asked == ["acme"]
    assert len(house.sink.intents) == 1
    assert only_charge(house).lost_cost_nusd == 0


@pytest.mark.parametrize(
    "failing",
    [
        lambda: refusal(500),
        lambda: refusal(429),
        lambda: refusal(400),
        lambda: UpstreamBroken("x"),
        lambda: streamed(ROLE, OVERLOADED),
    ],
)
def test_one_that_fails_has_its_head_start_no_more(failing: Callable[[], FakeReply | Exception]) -> None:
    house = play(lambda: Patient(failing(), stream()), served)
    assert house.asked == ["acme", "other"]
    charge = only_charge(house)
    assert (charge.provider, charge.lost_cost_nusd) == ("other", 0)


def test_one_that_let_its_deadline_pass_costs_us_its_prompt() -> None:
    house = play(lambda: Track(UpstreamTimeout("x"), stream()), served)
    assert only_charge(house).lost_cost_nusd == input_cost(house, 0)


def test_when_both_fail_the_tries_go_on_one_after_the_other() -> None:
    house = play(lambda: Track(refusal(500), refusal(500), stream()), served)
    assert house.asked == ["acme", "other", "acme"]
    assert only_charge(house).provider == "acme"


def test_another_key_of_the_last_one_is_tried_as_ever() -> None:
    house = play(lambda: Track(refusal(500), refusal(429), refusal(500), refusal(500), stream()), served)
    assert house.asked[:3] == ["acme", "other", "acme"]  # the other has one key, which rests


def test_a_race_that_nobody_wins_is_told_by_what_was_wrong_with_the_request() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve(STREAMED)).status == 413

    house = play(lambda: Track(refusal(413), refusal(500)), scene)
    charge = only_charge(house)
    assert (charge.provider, charge.upstream_key_id, charge.cost_nusd) == ("acme", "uk-1", 0)


def test_a_race_that_fails_for_good_leaves_one_charge_of_nothing() -> None:
    async def scene(house: House) -> None:
        house.retries = RetryPolicy(max_tries=2)
        assert (await house.serve(STREAMED)).status == 504

    house = play(lambda: Track(UpstreamTimeout("x"), UpstreamTimeout("x")), scene)
    charge = only_charge(house)
    assert (charge.ended_by, charge.cost_nusd) == ("timeout_before_token", 0)
    assert charge.lost_cost_nusd == input_cost(house, 0) + input_cost(house, 1)


def test_tries_after_the_first_cost_us_what_they_said_also_without_a_race() -> None:
    begun = b'data: {"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":0}}\n\n'
    house = play(lambda: TwoProviders(streamed(begun, OVERLOADED), stream()), served)
    charge = only_charge(house)
    assert (charge.lost_cost_nusd, charge.upstream_cost_nusd) == (1_000_000, OTHER_COST)
    assert house.sink.intents[-1].lost_cost_nusd == 1_000_000


def test_a_price_that_is_unknown_costs_nothing_that_could_be_recorded() -> None:
    class Unpriced(Track):
        def show(self) -> None:
            super().show()
            [fallback] = self.model.fallbacks
            fallbacks = (msgspec.structs.replace(fallback, upstream_price=None),)
            self.model = msgspec.structs.replace(self.model, fallbacks=fallbacks)
            self.live.snapshot = Snapshot([self.model], self.live.snapshot.providers, self.live.snapshot)

    house = play(lambda: Unpriced(stream(), held()), served)
    assert only_charge(house).lost_cost_nusd == 0


async def asked_both(house: House) -> asyncio.Task[None]:
    task = house.begin(STREAMED)
    while len(house.asked) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


def test_a_client_that_goes_ends_the_race() -> None:
    answers = [held(), held()]

    async def scene(house: House) -> None:
        task = await asked_both(house)
        house.client.hang_up()
        await asyncio.wait([task])

    house = play(lambda: Track(*answers), scene)
    charge = only_charge(house)
    assert (charge.provider, charge.ended_by) == ("acme", "client_disconnected")
    assert charge.lost_cost_nusd == input_cost(house, 1)
    assert all(answer.is_closed for answer in answers)
    assert outcomes(house) == {'cancelled",provider="acme"} 1.0', 'lost",provider="other"} 1.0'}


def test_for_a_client_that_has_gone_nobody_enters() -> None:
    async def scene(house: House) -> None:
        house.policy = house.policy._replace(drain_s=LATE_S)
        task = house.begin(STREAMED)
        while not house.asked:
            await asyncio.sleep(0)
        house.client.hang_up()
        await task

    assert play(lambda: Patient(refusal(500), stream()), scene).asked == ["acme"]


def test_a_bug_ends_the_race() -> None:
    slow = held()

    async def scene(house: House) -> None:
        assert (await house.serve(STREAMED)).status == 500

    house = play(lambda: Track(slow, streamed(RuntimeError("bug"))), scene)
    assert only_charge(house).code == "internal_error"
    assert slow.is_closed


def test_a_winner_that_cannot_be_written_down_is_not_relayed() -> None:
    answer = stream()

    async def scene(house: House) -> None:
        slow = house.answers[0]
        assert isinstance(slow, Held)
        task = await asked_both(house)
        house.sink.is_full = True
        await task
        assert house.client.status == 503

    house = play(lambda: Track(held(), answer), scene)
    assert only_charge(house).provider == "acme"
    assert answer.is_closed


@pytest.mark.parametrize("hangs_up", [True, False])
def test_wherever_it_is_cut_there_is_one_charge_and_nothing_is_lent(hangs_up: bool) -> None:
    def answers() -> list[FakeReply]:
        return [streamed(ROLE, DELTA, FINISH + COUNT + DONE), streamed(ROLE, ROLE, DELTA, FINISH + COUNT + DONE)]

    async def last_await(house: House) -> None:
        await house.serve(STREAMED)

    names = play(lambda: Track(*answers()), last_await).checkpoints.passed

    async def scene(house: House) -> None:
        task = house.begin(STREAMED)
        await house.checkpoints.reached.wait()
        house.client.hang_up() if hangs_up else task.cancel()
        await asyncio.wait([task])
        for pool in house.live.snapshot.keys.values():
            assert all(key.leases == 0 for key in pool.status(house.clock.now_s))
        assert len(house.sink.charges) == min(1, len(house.upstream.calls))

    for place in range(1, len(names) + 1):
        play(lambda: Track(*answers(), stop_at=place), scene)  # noqa: B023 - called at once


def test_who_cannot_be_asked_now_does_not_enter() -> None:
    async def scene(house: House) -> None:
        pool = house.live.snapshot.keys["other"]
        lease = pool.pick(house.clock.now_s)
        assert lease is not None
        lease.report("rate", house.clock.now_s, 30.0)
        lease.release()
        await served(house)

    assert play(lambda: Track(stream()), scene).asked == ["acme"]


def test_a_rival_whose_turnstile_is_shut_does_not_enter() -> None:
    class Paced(Track):
        def show(self) -> None:
            super().show()
            providers = dict(self.live.snapshot.providers)
            providers["other"] = msgspec.structs.replace(providers["other"], pace=Pace(per_minute=1))
            self.live.snapshot = Snapshot([self.model], providers, self.live.snapshot)

    async def scene(house: House) -> None:
        await served(house)
        await served(house)

    assert play(lambda: Paced(stream(), held(), stream()), scene).asked == ["acme", "other", "acme"]


def test_a_rival_whose_format_cannot_say_it_does_not_enter() -> None:
    class Foreign(OtherFormat):
        def show(self) -> None:
            self.model = msgspec.structs.replace(self.model, race=2)
            super().show()

    async def scene(house: House) -> None:
        house.retries = RetryPolicy(max_rounds=1)
        await house.serve(ask(surprise=1), wire=ANTHROPIC)

    assert play(lambda: Foreign(refusal(500)), scene).asked == ["acme"]


def test_each_is_asked_in_its_own_words() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).body == ANSWER

    house = play(lambda: Track(Held(ANSWER, is_stream=False), whole()), scene)
    assert [json.loads(call.body)["model"] for call in house.upstream.calls] == ["real-m", "other-m"]
    assert house.upstream.secrets() == ["secret-1", "other-1"]
    assert make_price().version == only_charge(house).price_version
