"""Getting one answer: whom to ask, with which key, and whom next where that fails, until something can be relayed.

Every refusal becomes our own error here, and every try a fact on its exchange. What a try says of its key and provider
is reported to the key's pool and to the breaker at once; the key is given back when its answer has been relayed. Once
an answer is handed on there is no other try. Whoever may be asked next is `policy.retrying`'s to say.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial

from trollproxy.errors import GatewayError, InvalidRequest, Overloaded, UpstreamTimeout
from trollproxy.gateway.calls import build_call
from trollproxy.gateway.exchange import Exchange
from trollproxy.gateway.journey import IN_LINE_S, Journey
from trollproxy.gateway.passages import Passages
from trollproxy.gateway.peek import Peeked, peek
from trollproxy.gateway.race import Race
from trollproxy.gateway.snapshot import Snapshot
from trollproxy.gateway.visit import Leg, Visit
from trollproxy.policy.retrying import Next, RetryBudget, RetryPolicy
from trollproxy.ports import ClientStream, Upstream
from trollproxy.wire.passage import Passage

log = logging.getLogger(__name__)

DEFAULT_BUDGET_SHARE = 1.2  # retries a request, on average over all: what it takes where every second call fails

Intend = Callable[[Exchange], None]


class Attempts:
    """Sends exchanges to providers."""

    def __init__(
        self,
        upstream: Upstream,
        passages: Passages,
        *,
        policy: RetryPolicy | None = None,
        budget_share: float = DEFAULT_BUDGET_SHARE,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstream = upstream
        self._passages = passages
        self._policy = policy or RetryPolicy()
        self._budget_share = budget_share
        self._budgets: dict[str, RetryBudget] = {}  # by the provider that is asked first
        self._chance = chance
        self._sleep = sleep

    def refused_retries(self) -> dict[tuple[str, ...], float]:
        """How often a provider's budget was spent."""
        return {(name,): budget.refused for name, budget in self._budgets.items()}

    def begin(self, exchange: Exchange, snapshot: Snapshot, body: bytes) -> Journey:
        """Choose whom to ask first and write down what to ask. What cannot be sent now is not worth an intent."""
        journey = Journey(exchange, snapshot, body, policy=self._policy)
        leg = self._leg(journey, 0, exchange.passage)
        if not journey.set_out(leg):
            self._turn(journey, journey.tries.first(journey.wait_s))
        return journey

    async def send(self, journey: Journey, intend: Intend, client: ClientStream) -> Peeked:
        """A provider's answer that can be relayed. `intend` is told before another provider sees the request; for a
        client that is gone nothing is tried again.
        """
        exchange = journey.exchange
        budget = self._budget(journey)
        budget.add()
        while True:
            visit = journey.take_ready()
            if visit is None:
                await self._wait(journey)
                assert journey.leg is not None
                visit = journey.visit(journey.leg)
            if visit is None:
                self._turn(journey, journey.tries.instead(journey.wait_s, self._chance()), intend)
                continue
            try:
                if journey.may_race:
                    return await self._race(journey, visit, intend=intend, client=client)
                return await self._try(journey, visit)
            except GatewayError as error:
                if client.is_gone:
                    raise
                journey.error = error
                now_s = exchange.clock.monotonic()
                wait, chance = journey.wait_s, self._chance()
                self._turn(journey, journey.tries.after(error, now_s, wait=wait, chance=chance, budget=budget), intend)
            fields = {"request_id": exchange.request_id, "provider": exchange.provider, "after": journey.error.code}
            log.info("trying again", extra={"fields": fields})

    async def _wait(self, journey: Journey) -> None:
        """Until the next try may be made, and where the provider is only sent so much, for a place there."""
        if journey.step.wait_s > IN_LINE_S:
            await self._sleep(journey.step.wait_s)
        if not journey.snapshot.turnstiles:
            return
        try:
            await journey.line_up()
        except Overloaded as error:
            raise journey.error or error from None

    async def _try(self, journey: Journey, visit: Visit) -> Peeked:
        """Once. However it ends, the visit knows."""
        try:
            call = build_call(journey.snapshot.sent_heads, journey.exchange, visit)
            reply = visit.reply = await self._upstream.send(call)
            peeked = await peek(reply, visit)
        except BaseException as error:
            visit.fail(error if isinstance(error, GatewayError) else None, chance=self._chance())
            raise
        visit.succeed(chance=self._chance())
        return peeked

    async def _race(self, journey: Journey, first: Visit, *, intend: Intend, client: ClientStream) -> Peeked:
        """Several at a time. The intent names the first; before anything is relayed, it names the winner, with what the
        others cost us.
        """
        exchange = journey.exchange
        assert exchange.model is not None
        race = Race(
            partial(self._try, journey),
            partial(self._rival, journey, client),
            width=exchange.model.race,
            head_start_s=exchange.model.race_head_start_s,
        )
        try:
            won = await race.win(first)
        finally:
            exchange.upstream_key = first.key  # that of the intent; each of them has put its own there
        if won is None:
            raise _telling(journey, race.errors)
        winner, reply = won
        if len(race.asked) > 1:
            exchange.turn(winner.leg.stop.supplier, winner.leg.target.model, winner.leg.passage)
            try:
                intend(exchange)
            except BaseException:
                winner.lose()
                raise
            exchange.upstream_key = winner.key
        return reply

    def _rival(self, journey: Journey, client: ClientStream) -> Visit | None:
        """Another supplier for the race, if one can be asked now and the client still waits."""
        if client.is_gone:
            return None
        for place in journey.rivals():
            try:
                visit = journey.visit(self._leg(journey, place))
            except InvalidRequest:
                journey.close(place)
                continue
            if visit is not None:
                journey.tries.also(place)
                return visit
        return None

    def _turn(self, journey: Journey, step: Next | None, intend: Intend | None = None) -> None:
        """Make ready for the next try; if there is none, that is the end. A supplier whose format has no words for the
        request is passed over, unless it is the first: then the client is told.
        """
        journey.give_back()
        while step is not None:
            try:
                self._write(journey, step.place, intend)
            except InvalidRequest:
                if not step.place:
                    raise
                journey.close(step.place)
                step = journey.tries.instead(journey.wait_s, self._chance())
            else:
                journey.step = step
                return
        raise journey.error or journey.nobody()

    def _write(self, journey: Journey, place: int, intend: Intend | None) -> None:
        exchange, leg = journey.exchange, journey.leg
        if leg is not None and leg.stop.place == place:
            return
        leg = journey.leg = self._leg(journey, place)
        exchange.turn(leg.stop.supplier, leg.target.model, leg.passage)
        if intend is not None:
            intend(exchange)

    def _leg(self, journey: Journey, place: int, passage: Passage | None = None) -> Leg:
        """What to ask the supplier at this place; InvalidRequest if that cannot be said in its format. `passage`: the
        way there, where it is open already.
        """
        stop, ask = journey.stops[place], journey.exchange.ask
        assert ask is not None
        target = stop.target(ask.model)
        passage = passage or self._passages.open(journey.exchange, stop)
        return Leg(stop, passage, target, body=passage.write_request(journey.body, target))

    def _budget(self, journey: Journey) -> RetryBudget:
        provider = journey.stops[0].provider.name
        budget = self._budgets.get(provider)
        if budget is None:
            budget = self._budgets[provider] = RetryBudget(self._budget_share)
        return budget


def _telling(journey: Journey, errors: dict[int, GatewayError]) -> GatewayError:
    """Of a race that nobody has won: what was wrong with the request itself, else what the last place said, which is
    where the tries go on from.
    """
    for place, error in errors.items():
        if isinstance(error, UpstreamTimeout):
            journey.tries.silence(place)
    final = [error for error in errors.values() if error.retry == "never"]
    return final[0] if final else errors[journey.tries.place]
