"""What people are shown of upstream keys, outbound proxies, breakers and throttles."""

from typing import Any

from trollproxy.gateway.gauges import shown_state
from trollproxy.gateway.snapshot import Live
from trollproxy.policy.pool import Pool
from trollproxy.policy.pricing import usd_decimal
from trollproxy.policy.spending import Spend, Spendings

Shown = dict[str, object]


class KeyStatus:
    """Reads it where it is kept, at the moment it is asked for."""

    def __init__(self, live: Live, spendings: Spendings) -> None:
        self._live = live
        self._spendings = spendings

    def shown(self, now_s: float) -> dict[str, object]:
        snapshot = self._live.snapshot
        breakers: dict[str, dict[str, str]] = {}
        for (name, model), breaker in snapshot.breakers.items():
            if breaker.state != "closed":
                breakers.setdefault(name, {})[model] = breaker.state
        return {
            "providers": {name: self._keys(name, pool, now_s) for name, pool in snapshot.keys.items()},
            "proxies": {name: _members(pool, "proxy", now_s) for name, pool in snapshot.proxies.items()},
            "breakers": breakers,
            "throttles": {name: each.throttle.status(now_s) for name, each in snapshot.turnstiles.items()},
        }

    def _keys(self, provider: str, pool: Pool[Any], now_s: float) -> list[Shown]:
        keys = _members(pool, "key", now_s)
        for key in keys:
            spend = self._spendings.get((provider, str(key["key"])))
            if spend is not None:
                key["spend"] = _spend(spend)
        return keys


def _members(pool: Pool[Any], kind: str, now_s: float) -> list[Shown]:
    return [
        {
            kind: member.id,
            "state": shown_state(member),
            "is_healthy": member.state == "healthy",
            "rests_for_s": round(member.rests_for_s, 1),
            "cause": member.failure,
            "in_flight": member.leases,
        }
        for member in pool.status(now_s)
    ]


def _spend(spend: Spend) -> Shown:
    return {
        "period": spend.limit.period,
        "since": spend.period or None,
        "own_usd": usd_decimal(spend.own_nusd),
        "limit_usd": _usd(spend.limit.nusd),
        "told_usd": _usd(spend.told_nusd),
        "told_limit_usd": _usd(spend.told_limit_nusd),
    }


def _usd(nusd: int | None) -> str | None:
    return None if nusd is None else usd_decimal(nusd)
