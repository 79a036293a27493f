"""The money side of an exchange: hold before, settle after. Synchronous from end to end.

The order is hold, intend, progress, settle. `settle` may be called any number of times and acts once: an exchange
without an intent leaves no charge, one with an intent leaves exactly one, by the charge policy.
"""

from typing import NamedTuple

from trollproxy.gateway.exchange import Exchange
from trollproxy.money.holds import FriendSpend, Hold, Holds, check_friend, hold
from trollproxy.money.settle import Ending, Seen, charge_for
from trollproxy.policy.pricing import HoldRate, estimate_tokens
from trollproxy.ports import UsageSink
from trollproxy.records import Charge, FriendKey, Intent, Price, Progress

MAX_RATES = 10_000  # prices in use; reckoned again where there are more
PROGRESS_S = 1.0  # what a crash may leave unbilled of a stream is what is relayed in this time


class HoldPolicy(NamedTuple):
    """How a hold is reckoned. Fewer bytes a token hold more; 3 covers code and most languages from above."""

    bytes_per_token: int = 3
    default_max_output_tokens: int = 4096
    drain_s: float = 5.0  # how long to wait for the provider's count after a hang-up; the provider bills on meanwhile


class Billing:
    """Holds and settles exchanges against the accounts in memory; charges go to the sink."""

    def __init__(self, sink: UsageSink, policy: HoldPolicy, holds: Holds | None = None) -> None:
        """`holds` is where the sweeper finds what is open; without one, nobody looks."""
        self._sink = sink
        self._holds = holds if holds is not None else Holds(0.0)
        self._policy = policy
        self._rates: dict[str, HoldRate] = {}  # by the price's version
        self.drain_s = policy.drain_s

    def hold(self, exchange: Exchange) -> None:
        """Hold what the exchange may cost, or refuse it. Friend limits and the wallet are looked at in one go."""
        caller = exchange.caller
        assert caller is not None
        if not exchange.generates:
            return
        amount, wallet, spend = self._amount(exchange), exchange.wallet, caller.spend
        if caller.account is None:
            exchange.hold = Hold(None, wallet, amount)
            return
        if spend is not None and caller.friend is not None:
            self._check_friend(exchange, caller.friend, spend, amount_nusd=amount)
        exchange.hold = held = hold(caller.account, wallet, amount, now_s=exchange.started_at_s)
        self._holds.watch(held, exchange.request_id, now_s=exchange.clock.monotonic())
        if spend is not None:
            held.bind(spend, _model_id(exchange))

    def intend(self, exchange: Exchange, *, at_once: bool = False) -> None:
        """Put down that the request is about to be forwarded; Overloaded if that cannot be put down. `at_once`: it is
        not forwarded in this turn of the loop.

        Again before it goes to another provider: the last intent is the one that counts, also after a crash.
        """
        if exchange.hold is not None:
            intent = _intent(exchange, exchange.hold)
            self._sink.intend(intent, at_once=at_once)
            exchange.intent = intent

    def progress(self, exchange: Exchange, now_s: float) -> None:
        """Put down what has been relayed: at the first token, then about once a second."""
        if now_s < exchange.progress_due_s or exchange.intent is None:
            return
        exchange.progress_due_s = now_s + PROGRESS_S
        self._sink.progress(
            Progress(
                request_id=exchange.request_id,
                usage=exchange.usage,
                is_usage_final=exchange.is_usage_final,
                output_bytes=exchange.output_bytes,
            )
        )

    def settle(self, exchange: Exchange) -> None:
        """End the hold, and if the request was to be forwarded, charge by how the exchange ended."""
        if exchange.is_settled:
            return
        exchange.is_settled = True
        held, intent = exchange.hold, exchange.intent
        if held is None:
            return
        if intent is None:
            held.release()
            return
        try:
            charge = _charge(intent, exchange)
            exchange.cost_nusd, exchange.charged = charge.cost_nusd, charge.usage
            held.settle(charge.cost_nusd)
            self._sink.record(charge)
        finally:
            held.release()  # also where a bug of ours kept the charge from being made

    def _amount(self, exchange: Exchange) -> int:
        assert exchange.ask is not None
        assert exchange.model is not None
        limit = exchange.ask.max_output_tokens
        if limit is None:
            limit = exchange.model.max_output_tokens or self._policy.default_max_output_tokens
        input_tokens = estimate_tokens(exchange.input_bytes, self._policy.bytes_per_token)
        return self._rate(exchange.model.price).nusd(input_tokens, limit * exchange.ask.choices)

    def _rate(self, price: Price) -> HoldRate:
        rate = self._rates.get(price.version)
        if rate is None:
            if len(self._rates) >= MAX_RATES:
                self._rates.clear()
            rate = self._rates[price.version] = HoldRate(price)
        return rate

    def _check_friend(self, exchange: Exchange, key: FriendKey, spend: FriendSpend, *, amount_nusd: int) -> None:
        spend.roll(exchange.day)
        exchange.day = spend.day
        model_id = _model_id(exchange)
        check_friend(spend, model_id, key.model_limits.get(model_id), amount_nusd=amount_nusd)


def _model_id(exchange: Exchange) -> str:
    """The model's name in the price list; limits of friend keys are set by it."""
    assert exchange.model is not None
    return exchange.model.model_id


def _intent(exchange: Exchange, held: Hold) -> Intent:
    caller, ask, model, supplier = exchange.caller, exchange.ask, exchange.model, exchange.supplier
    assert caller is not None
    assert ask is not None
    assert model is not None
    assert supplier is not None
    friend = caller.friend
    return Intent(
        request_id=exchange.request_id,
        username=caller.account.user.username if caller.account is not None else "",
        key_id=caller.key_id,
        friend_key_id=friend.key_id if friend is not None else None,
        wallet=held.wallet,
        format=exchange.request.format.name,
        model=model.model_id,
        upstream_model=exchange.upstream_model,
        provider=supplier.provider,
        stream=ask.stream,
        price=model.price,
        upstream_price=supplier.upstream_price,
        input_bytes=exchange.input_bytes,
        hold_nusd=held.amount_nusd,
        day=exchange.day,
        started_at_s=exchange.started_at_s,
        lost_cost_nusd=exchange.lost_cost_nusd,
    )


def _charge(intent: Intent, exchange: Exchange) -> Charge:
    seen = Seen(
        usage=exchange.usage,
        is_final=exchange.is_usage_final,
        input_bytes=exchange.input_bytes,
        output_bytes=exchange.output_bytes,
    )
    ending = Ending(exchange.ended_by(), exchange.status, exchange.code)
    ending.upstream_key_id = exchange.upstream_key.key_id if exchange.upstream_key is not None else ""
    ending.lost_cost_nusd = exchange.lost_cost_nusd
    ending.first_token_ms = exchange.first_token_ms()
    ending.duration_ms = (exchange.clock.monotonic() - exchange.started_s) * 1000
    return charge_for(intent, seen, ending)
