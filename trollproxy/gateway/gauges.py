"""The state of the gateway's parts as gauges, read at each scrape."""

from trollproxy.gateway.callers import Callers
from trollproxy.gateway.gate import Gate
from trollproxy.gateway.snapshot import Live
from trollproxy.money.accounts import Accounts
from trollproxy.money.writer import Writer
from trollproxy.records import NUSD_PER_USD
from trollproxy.telemetry.metrics import Metrics


def register_gauges(
    metrics: Metrics, *, gate: Gate, writer: Writer, accounts: Accounts, callers: Callers, live: Live
) -> None:
    metrics.gauge("requests_in_flight", "Requests being served now.", lambda: gate.in_flight)
    metrics.gauge("writer_queued_charges", "Charges that wait for the store.", lambda: writer.queued)
    metrics.gauge(
        "writer_lag_seconds",
        "Age of the oldest charge that waits for the store.",
        lambda: writer.oldest_age_s(gate.clock.wall()),
    )
    metrics.gauge("writer_failures", "Flushes that failed and were tried again.", lambda: writer.failures)
    metrics.gauge("held_usd", "Credit held for running requests.", lambda: accounts.held_nusd() / NUSD_PER_USD)
    metrics.gauge("callers_in_memory", "Keys that are known without asking the store.", lambda: len(callers))
    metrics.gauge(
        "upstream_keys",
        "Keys of a provider by state.",
        lambda: _key_states(live, gate.clock.monotonic()),
        labels=("provider", "state"),
    )


def _key_states(live: Live, now_s: float) -> dict[tuple[str, ...], float]:
    states: dict[tuple[str, ...], float] = {}
    for name, pool in live.snapshot.keys.items():
        resting = sum(rest_s > 0 for _, rest_s in pool.status(now_s))
        states[name, "healthy"] = len(pool) - resting
        states[name, "resting"] = resting
    return states
