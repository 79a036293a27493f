"""The state of the gateway's parts as gauges, read at each scrape."""

from trollproxy.gateway.callers import Callers
from trollproxy.gateway.gate import Gate
from trollproxy.gateway.snapshot import Live
from trollproxy.money.accounts import Accounts
from trollproxy.money.journal import Journal
from trollproxy.money.recorder import Recorder
from trollproxy.money.writer import Writer
from trollproxy.records import NUSD_PER_USD
from trollproxy.telemetry.metrics import Metrics


def register_gauges(
    metrics: Metrics, *, gate: Gate, writer: Writer, accounts: Accounts, callers: Callers, live: Live
) -> None:
    metrics.gauge("requests_in_flight", "Requests being served now.", lambda: gate.in_flight)
    metrics.gauge("writer_queued_charges", "Charges that wait for the store.", lambda: writer.queued)
    metrics.gauge(
        "charges_set_aside", "Charges that the store refused for good; the log has each.", lambda: writer.set_aside
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


def register_journal_gauges(metrics: Metrics, journal: Journal, recorder: Recorder) -> None:
    metrics.gauge("journal_bytes", "Size of the journal on disk.", lambda: journal.bytes_on_disk)
    metrics.gauge(
        "journal_unacknowledged_bytes", "What the store does not have yet.", lambda: journal.unacknowledged_bytes
    )
    metrics.gauge(
        "journal_broken", "1 while the disk takes nothing; new requests are refused.", lambda: journal.is_broken
    )
    metrics.gauge("journal_quarantined", "Segments that were damaged and set aside.", lambda: journal.quarantined)
    metrics.gauge("charges_refused_by_disk", "Charges that wait in memory for the disk.", lambda: recorder.refused)


def _key_states(live: Live, now_s: float) -> dict[tuple[str, ...], float]:
    states: dict[tuple[str, ...], float] = {}
    for name, pool in live.snapshot.keys.items():
        resting = sum(rest_s > 0 for _, rest_s in pool.status(now_s))
        states[name, "healthy"] = len(pool) - resting
        states[name, "resting"] = resting
    return states
