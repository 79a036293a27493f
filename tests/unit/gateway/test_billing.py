"""The money side: what is held for which request, and one charge for whoever reached a provider."""

import msgspec
import pytest

from tests.fakes import make_price
from tests.unit.gateway.house import BALANCE, COST, ENVIRONMENT_KEY, House, ask, play, whole
from trollproxy.errors import InsufficientCredits
from trollproxy.gateway.billing import Billing, HoldPolicy
from trollproxy.gateway.callers import Caller
from trollproxy.gateway.exchange import Exchange
from trollproxy.wire import ANTHROPIC, OPENAI_CHAT

MILLION_BYTES = 3_000_000  # a million tokens at three bytes each


def exchange_of(house: House, body: bytes, input_bytes: int = 0) -> Exchange:
    exchange = Exchange(house.request(body), "req_1", house.clock.clock)
    exchange.caller = Caller(None, house.accounts.put(house.store.users["ann"]))
    exchange.ask = OPENAI_CHAT.read_ask(body, "generate")
    exchange.model = house.model
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
        request = msgspec.structs.replace(
            house.request(ask(), wire=ANTHROPIC), operation="count_tokens", query="beta=true"
        )
        await house.pipeline().serve(request, house.client)
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
    assert (charge.seq, charge.request_id, charge.day) == (1, "req_1", "2025-10-09")


def test_many_requests_of_one_balance_do_not_overspend() -> None:
    async def scene(house: House) -> None:
        house.callers._policy = msgspec.structs.replace(house.callers._policy, dev_rpm=1_000)
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
