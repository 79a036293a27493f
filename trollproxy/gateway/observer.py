"""What an ended exchange leaves in metrics and log: one count, one line, both made from the exchange alone."""

import logging

from trollproxy.gateway.exchange import Attempt, Exchange
from trollproxy.policy.echoes import Answer, Echoes, Source
from trollproxy.policy.pricing import usd
from trollproxy.telemetry.metrics import Metrics

log = logging.getLogger("trollproxy.access")


class Observer:
    """Watches exchanges end."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._echoes = Echoes()

    def cached_answers(self) -> dict[tuple[str, ...], float]:
        """How many answers came from a provider's cache, by provider, model and how that was seen."""
        return self._echoes.counts

    def ended(self, exchange: Exchange) -> None:
        duration_s = exchange.clock.monotonic() - exchange.started_s
        first_ms = exchange.first_token_ms()
        exchange.cached = self._heard(exchange)
        self._metrics.exchange_done(
            code=exchange.code,
            model=exchange.model.model_id if exchange.model is not None else "",
            format=exchange.request.format.name,
            status=exchange.status,
            stream=exchange.ask is not None and exchange.ask.stream,
            usage=exchange.charged,
            cost_nusd=exchange.cost_nusd,
            duration_s=duration_s,
            first_token_s=first_ms / 1000 if first_ms is not None else None,
        )
        for attempt in exchange.attempts:
            self._metrics.attempt_done(attempt.provider, attempt.outcome)
        if log.isEnabledFor(logging.INFO):
            log.info("exchange", extra={"fields": _fields(exchange, duration_s)})

    def _heard(self, exchange: Exchange) -> Source | None:
        """Only of answers that came to their end: what broke off says nothing."""
        if exchange.error is not None or exchange.model is None or not exchange.generates:
            return None
        crc = exchange.meter.text_crc if exchange.meter is not None else exchange.text_crc
        asked = (exchange.provider, exchange.model.model_id, exchange.body_hash)
        read_tokens = exchange.usage.read if exchange.usage is not None else 0
        answer = Answer(exchange.output_bytes, crc)
        return self._echoes.hear(asked, answer, read_tokens=read_tokens, now_s=exchange.clock.monotonic())


def _fields(exchange: Exchange, duration_s: float) -> dict[str, object]:
    caller, model, usage = exchange.caller, exchange.model, exchange.charged
    return {
        "request_id": exchange.request_id,
        "peer": exchange.request.peer,
        "user": caller.account.user.username if caller is not None and caller.account is not None else None,
        "key": caller.key_id if caller is not None else None,
        "format": exchange.request.format.name,
        "model": model.model_id if model is not None else None,
        "provider": exchange.provider or None,
        "upstream_key": exchange.upstream_key.key_id if exchange.upstream_key is not None else None,
        "status": exchange.status,
        "code": exchange.code,
        "input_tokens": usage.input_tokens if usage is not None else None,
        "output_tokens": usage.output_tokens if usage is not None else None,
        "cached": exchange.cached,
        "cost": usd(exchange.cost_nusd),
        "duration_ms": round(duration_s * 1000, 1),
        "attempts": " ".join(map(_told, exchange.attempts)) if len(exchange.attempts) > 1 else None,
        "retries": exchange.request.headers.get("x-stainless-retry-count"),
    }


def _told(attempt: Attempt) -> str:
    way = "/".join(filter(None, (attempt.provider, attempt.key_id, attempt.proxy_id)))
    return f"{way}:{attempt.code}:{attempt.duration_ms:.0f}ms"
