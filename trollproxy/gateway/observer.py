"""What an ended exchange leaves in metrics and log: one count, one line, both made from the exchange alone."""

from trollproxy.gateway.access_log import AccessLog
from trollproxy.gateway.exchange import Exchange
from trollproxy.policy.echoes import Echoes, Source
from trollproxy.telemetry.metrics import OTHER, Metrics


class Observer:
    """Watches exchanges end. Without an access log they are only counted."""

    def __init__(self, metrics: Metrics, access_log: AccessLog | None = None) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self._echoes = Echoes()

    def cached_answers(self) -> dict[tuple[str, ...], float]:
        """How many answers came from a provider's cache, by provider, model and how that was seen."""
        return self._echoes.counts

    def ended(self, exchange: Exchange) -> None:
        now_s = exchange.clock.monotonic()
        duration_s = now_s - exchange.started_s
        if exchange.error is None and exchange.generates:  # what broke off says nothing
            exchange.cached = self._heard(exchange, now_s)
        self._count(exchange, duration_s)
        if self._access_log is not None:
            self._access_log.tell(exchange, duration_s)

    def _count(self, exchange: Exchange, duration_s: float) -> None:
        model, ask, first_s = exchange.model, exchange.ask, exchange.first_token_s
        ending = (
            exchange.code,
            model.model_id if model is not None else OTHER,
            exchange.request.format.name,
            exchange.status // 100,
            ask is not None and ask.stream,
        )
        self._metrics.exchange_done(
            ending,
            usage=exchange.charged,
            cost_nusd=exchange.cost_nusd,
            duration_s=duration_s,
            first_token_s=first_s - exchange.started_s if first_s is not None else None,
        )
        for attempt in exchange.attempts:
            self._metrics.attempt_done(attempt.provider, attempt.outcome)

    def _heard(self, exchange: Exchange, now_s: float) -> Source | None:
        """How it was seen that the provider had this complete answer in a cache."""
        if exchange.model is None:
            return None
        crc = exchange.meter.text_crc if exchange.meter is not None else exchange.text_crc
        asked = (exchange.provider, exchange.model.model_id, exchange.body_hash)
        read_tokens = exchange.usage.read if exchange.usage is not None else 0
        return self._echoes.hear(asked, (exchange.output_bytes, crc), read_tokens=read_tokens, now_s=now_s)
