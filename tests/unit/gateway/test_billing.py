"""The money side: what is held for which request, what is put down before it is sent, and the one charge after."""

import asyncio

import msgspec
import pytest

from tests.fakes import make_price, streamed
from tests.unit.gateway.house import (
    BALANCE,
    COST,
    COUNT,
    DELTA,
    DONE,
    ENVIRONMENT_KEY,
    FINISH,
    FRIEND_KEY,
    STREAMED,
    House,
    ask,
    changed,
    play,
    stream,
    whole,
)
from trollproxy.chat import Usage
from trollproxy.errors import InsufficientCredits
from trollproxy.gateway.billing import PROGRESS_S, Billing, HoldPolicy
from trollproxy.gateway.callers import Caller
from trollproxy.gateway.exchange import Exchange
from trollproxy.records import Charge, Intent, Progress
from trollproxy.wire import ANTHROPIC, OPENAI_CHAT
from trollproxy.wire.format import Entry

MILLION_BYTES = 3_000_000  # a million tokens at three bytes each


def exchange_of(house: House, body: bytes, input_bytes: int = 0) -> Exchange:
    exchange = Exchange(house.request(), "req_1", house.clock.clock)
    exchange.caller = Caller(None, house.accounts.put(house.store.users["ann"]))
    exchange.ask = OPENAI_CHAT.read_ask(body, Entry())
    exchange.model, exchange.upstream_model = house.model, "real-m"
    exchange.input_bytes = input_bytes
    return exchange


@pytest.mark.parametrize(
    ("members", "limit", "held_tokens"),
    [
        ({"max_tokens": 100}, None, 100),
        ({"max_tokens": 100}, 50, 100),
        ({"max_tokens": None}, 50, 50),
        ({"max_tokens": None}, None, 4096),
        ({"max_tokens": 100, "n": 3}, None, 300),
    ],
)
def test_output_is_held_to_its_limit(members: dict[str, int], limit: int | None, held_tokens: int) -> None:
    async def scene(house: House) -> None:
        house.model = msgspec.structs.replace(house.model, max_output_tokens=limit)
        exchange = exchange_of(house, ask(**members))
        billing = Billing(house.sink, HoldPolicy())
        billing.hold(exchange)
        assert exchange.hold is not None
        assert exchange.hold.amount_nusd == held_tokens * 1_000
        billing.settle(exchange)

    assert play(House, scene).sink.charges == []


def test_input_is_held_by_its_size() -> None:
    async def scene(house: House) -> None:
        house.model = msgspec.structs.replace(house.model, price=make_price(out_text=0, out_reasoning=0))
        exchange = exchange_of(house, ask(), MILLION_BYTES)
        billing = Billing(house.sink, HoldPolicy())
        billing.hold(exchange)
        assert house.accounts.held_nusd() == 1_000_000_000
        billing.settle(exchange)
        billing.settle(exchange)

    play(House, scene)


def test_the_models_wallet_comes_before_the_listeners() -> None:
    async def scene(house: House) -> None:
        house.model = msgspec.structs.replace(house.model, wallet="new")
        house.show()
        assert (await house.serve()).status == 402
        house.accounts.put(msgspec.structs.replace(house.store.users["ann"], credits_new_nusd=BALANCE))
        house.store.users["ann"] = msgspec.structs.replace(house.store.users["ann"], credits_new_nusd=BALANCE)
        await house.callers.refresh(house.clock.now_s)
        assert (await house.serve()).status == 200

    [charge] = play(lambda: House(whole()), scene).sink.charges
    assert charge.wallet == "new"


def test_expired_credit_is_none() -> None:
    async def scene(house: House) -> None:
        house.change_user(credits_expire_at_s=house.clock.wall_s)
        assert (await house.serve()).status == 402

    play(House, scene)


def test_counting_tokens_is_free_and_leaves_no_charge() -> None:
    async def scene(house: House) -> None:
        endpoint = msgspec.structs.replace(house.provider.endpoints["openai_chat"], path="/v1/messages")
        house.provider = msgspec.structs.replace(house.provider, endpoints={"anthropic": endpoint})
        house.show()
        house.change_user(credits_nusd=0)
        request = changed(house.request(wire=ANTHROPIC), entry=Entry(operation="count_tokens", is_beta=True))
        await house.pipeline().serve(request, house.client, ask())
        assert house.client.status == 200
        assert house.upstream.calls[0].endpoint.path == "/v1/messages/count_tokens?beta=true"

    assert play(lambda: House(whole()), scene).sink.charges == []


def test_what_the_provider_charges_us_is_noted() -> None:
    async def scene(house: House) -> None:
        house.model = msgspec.structs.replace(house.model, upstream_price=make_price(out_text=0))
        house.show()
        await house.serve()
        house.model = msgspec.structs.replace(house.model, upstream_price=None)
        house.show()
        await house.serve(key=ENVIRONMENT_KEY)

    known, unknown = play(lambda: House(whole(), whole()), scene).sink.charges
    assert (known.cost_nusd, known.upstream_cost_nusd) == (COST, 100_000)
    assert unknown.upstream_cost_nusd is None


def test_a_charge_says_how_it_was_reckoned() -> None:
    async def scene(house: House) -> None:
        price = msgspec.structs.replace(make_price(), version="v9", multiplier_micro=2_000_000)
        house.model = msgspec.structs.replace(house.model, price=price)
        house.show()
        await house.serve()

    [charge] = play(lambda: House(whole()), scene).sink.charges
    assert (charge.price_version, charge.multiplier_micro, charge.cost_nusd) == ("v9", 2_000_000, 2 * COST)
    assert (charge.seq, charge.request_id, charge.day) == (0, "req_1", "2025-10-09")  # numbered when put down


def test_many_requests_of_one_balance_do_not_overspend() -> None:
    async def scene(house: House) -> None:
        house.callers._policy = house.callers._policy._replace(dev_rpm=1_000)
        house.model = msgspec.structs.replace(house.model, price=make_price(uncached=0, out_text=1_000_000_000_000))
        house.show()
        account = house.accounts.put(house.store.users["ann"])
        billing, exchanges = Billing(house.sink, HoldPolicy()), list[Exchange]()
        for _ in range(1_000):
            exchange = exchange_of(house, ask(max_tokens=100))
            try:
                billing.hold(exchange)
            except InsufficientCredits:
                continue
            exchanges.append(exchange)
        assert len(exchanges) == 50
        assert account.available("legacy", house.clock.wall_s) >= 0
        for exchange in exchanges:
            billing.settle(exchange)

    play(House, scene)


def billed(house: House, **members: object) -> tuple[Billing, Exchange]:
    """An exchange that may be forwarded."""
    exchange, billing = exchange_of(house, ask(**members), 300), Billing(house.sink, HoldPolicy())
    assert exchange.model is not None
    exchange.supplier = exchange.model.suppliers[0]
    billing.hold(exchange)
    return billing, exchange


@pytest.mark.parametrize("body", [ask(), STREAMED], ids=["whole", "stream"])
def test_the_intent_is_put_down_before_the_provider_is_asked(body: bytes) -> None:
    async def scene(house: House) -> None:
        task = house.begin(body)
        await house.checkpoints.reached.wait()
        assert len(house.upstream.calls) == 1
        [intent] = house.sink.entries
        assert isinstance(intent, Intent)
        assert (intent.request_id, intent.username, intent.stream) == ("req_1", "ann", body is STREAMED)
        assert (intent.model, intent.upstream_model, intent.provider) == ("m", "real-m", "acme")
        assert (intent.price, intent.upstream_price) == (house.model.price, None)
        assert (intent.hold_nusd, intent.input_bytes) == (house.accounts.held_nusd(), len(body))
        task.cancel()
        await asyncio.wait([task])

    passed = play(
        lambda: House(stream() if body is STREAMED else whole()), lambda house: house.begin(body)
    ).checkpoints.passed
    place = passed.index("upstream send") + 1
    play(lambda: House(stop_at=place), scene)


def test_an_intent_and_its_charge_tell_the_same() -> None:
    async def scene(house: House) -> None:
        await house.serve(key=FRIEND_KEY)

    sink = play(lambda: House(whole()), scene).sink
    [intent], [charge] = sink.intents, sink.charges
    shared = set(Intent.__struct_fields__) & set(Charge.__struct_fields__)
    assert {name: getattr(intent, name) for name in shared} == {name: getattr(charge, name) for name in shared}
    assert intent.friend_key_id == intent.key_id


def test_without_a_hold_there_is_no_intent() -> None:
    async def scene(house: House) -> None:
        house.change_user(credits_nusd=1)
        assert (await house.serve()).status == 402
        assert "x-trollproxy-receipt" not in house.client.headers

    house = play(House, scene)
    assert (house.sink.entries, house.upstream.calls) == ([], [])


def test_where_the_intent_is_refused_nothing_is_sent_and_nothing_charged() -> None:
    async def scene(house: House) -> None:
        house.sink.is_full = True
        client = await house.serve()
        assert (client.status, house.error_code) == (503, "gateway_overloaded")
        assert "x-trollproxy-receipt" not in client.headers

    house = play(House, scene)
    assert (house.sink.entries, house.upstream.calls) == ([], [])


def test_who_has_an_intent_is_told_where_the_receipt_is() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).headers["x-trollproxy-receipt"] == "/v1/receipts/req_1"

    play(lambda: House(whole()), scene)


def test_progress_is_put_down_at_the_first_token_and_then_once_a_second() -> None:
    async def scene(house: House) -> None:
        billing, exchange = billed(house)
        billing.intend(exchange)
        for output_bytes in range(10, 41, 10):
            exchange.output_bytes = output_bytes
            billing.progress(exchange, house.clock.clock.monotonic())
            house.clock.advance(PROGRESS_S / 2)
        exchange.usage, exchange.is_usage_final = Usage(uncached=7), True
        billing.progress(exchange, house.clock.clock.monotonic())
        billing.settle(exchange)
        assert [(p.output_bytes, p.usage, p.is_usage_final) for p in house.sink.progresses] == [
            (10, None, False),
            (30, None, False),
            (40, Usage(uncached=7), True),
        ]
        assert {p.request_id for p in house.sink.progresses} == {"req_1"}

    play(House, scene)


def test_a_stream_puts_its_first_token_down_before_the_client_has_it() -> None:
    async def scene(house: House) -> None:
        at_write: list[int] = []
        write = house.client.write

        def noting(data: bytes) -> None:
            at_write.append(len(house.sink.progresses))
            write(data)

        house.client.write = noting  # type: ignore[method-assign]
        await house.begin(STREAMED)
        assert at_write[0] == 1

    sink = play(lambda: House(streamed(b": hi\n\n" + DELTA, DELTA, FINISH, COUNT + DONE)), scene).sink
    assert [type(entry) for entry in sink.entries] == [Intent, Progress, Charge]
    assert sink.progresses[0].output_bytes == len("Hello wo")


def test_before_the_first_token_there_is_no_progress() -> None:
    async def scene(house: House) -> None:
        await house.serve(STREAMED)

    sink = play(lambda: House(streamed(b": hi\n\n", FINISH + COUNT + DONE)), scene).sink
    assert [type(entry) for entry in sink.entries] == [Intent, Charge]


def test_an_exchange_that_was_not_intended_makes_no_progress() -> None:
    async def scene(house: House) -> None:
        billing, exchange = billed(house)
        billing.progress(exchange, house.clock.clock.monotonic())
        billing.settle(exchange)
        assert house.sink.entries == []

    play(House, scene)


def test_settling_charges_once() -> None:
    async def scene(house: House) -> None:
        billing, exchange = billed(house)
        billing.intend(exchange)
        exchange.usage, exchange.is_usage_final = Usage(uncached=100, out_text=50), True
        for _ in range(3):
            billing.settle(exchange)
        [charge] = house.sink.charges
        assert (charge.cost_nusd, exchange.cost_nusd, exchange.charged) == (COST, COST, charge.usage)
        assert house.accounts.held_nusd() == 0

    play(House, scene)
