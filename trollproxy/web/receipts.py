"""GET /v1/receipts/{id}: what a request used, what it cost and by which row of the policy, for whoever paid."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from trollproxy.errors import GatewayError, NotFound
from trollproxy.gateway.callers import Caller, Callers
from trollproxy.gateway.gate import Gate
from trollproxy.money.settle import POLICY
from trollproxy.policy.pricing import usd_decimal
from trollproxy.ports import Store
from trollproxy.records import Charge
from trollproxy.web.llm import authenticate
from trollproxy.web.replies import error_reply, json_reply

PREFIX = "/v1/receipts/"
MAX_ID = 100  # our ids have 28 characters


class ReceiptRoutes:
    """Receipts of the caller's own requests; an administrator sees everybody's, with what the operator paid."""

    def __init__(self, *, store: Store, callers: Callers, gate: Gate, flush: Callable[[], Awaitable[None]]) -> None:
        """`flush` puts what is waiting on the books, within a bound."""
        self._store = store
        self._callers = callers
        self._gate = gate
        self._flush = flush

    async def retrieve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            caller = await authenticate(request, self._callers, self._gate)
            charge = await self._find(request.path.removeprefix(PREFIX)[:MAX_ID])
            if charge is None or not may_see(caller, charge):
                # the same answer for both: ids of others are nobody's business
                raise NotFound("There is no receipt of this id.")
        except GatewayError as error:
            return error_reply(error, request)
        return json_reply(write_receipt(charge, is_admin=caller.is_admin))

    async def _find(self, request_id: str) -> Charge | None:
        """The charge from the books; one that has just been made is put there first."""
        charge = await self._store.read_charge(request_id)
        if charge is None:
            await self._flush()
            charge = await self._store.read_charge(request_id)
        return charge


def may_see(caller: Caller, charge: Charge) -> bool:
    if caller.is_admin:
        return True
    if caller.friend is not None:
        return charge.friend_key_id == caller.key_id
    return caller.account is not None and charge.username == caller.account.user.username


def write_receipt(charge: Charge, *, is_admin: bool) -> dict[str, object]:
    receipt: dict[str, object] = {
        "id": charge.request_id,
        "object": "receipt",
        "model": charge.model,
        "format": charge.format,
        "stream": charge.stream,
        "started_at": charge.started_at_s,
        "duration_ms": round(charge.duration_ms, 1),
        "status": charge.status,
        "code": charge.code,
        "ended_by": charge.ended_by,
        "charged_by": POLICY[charge.ended_by],
        "usage": charge.usage,
        "is_estimated": charge.is_estimated,
        "price_version": charge.price_version,
        "multiplier": usd_decimal(charge.multiplier_micro * 1000),
        "cost_usd": usd_decimal(charge.cost_nusd),
        "wallet": charge.wallet,
        "friend_key_id": charge.friend_key_id,
    }
    if is_admin and charge.upstream_cost_nusd is not None:
        receipt["upstream_cost_usd"] = usd_decimal(charge.upstream_cost_nusd)
        receipt["profit_usd"] = usd_decimal(charge.cost_nusd - charge.upstream_cost_nusd - charge.lost_cost_nusd)
    if is_admin and charge.lost_cost_nusd:
        receipt["lost_cost_usd"] = usd_decimal(charge.lost_cost_nusd)
    return receipt
