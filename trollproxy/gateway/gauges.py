"""The state of the gateway's parts as gauges, read at each scrape."""

from collections.abc import Mapping
from typing import Any

from trollproxy.gateway.callers import Callers
from trollproxy.gateway.gate import Gate
from trollproxy.gateway.snapshot import Live
from trollproxy.money.accounts import Accounts
from trollproxy.money.journal import Journal
from trollproxy.money.recorder import Recorder
from trollproxy.money.writer import Writer
from trollproxy.policy.pool import Pool
from trollproxy.policy.status import MemberStatus
from trollproxy.records import NUSD_PER_USD
from trollproxy.telemetry.metrics import Metrics

KEY_STATES = ("healthy", "resting", "half_open", "lost", "standing_by")


def shown_state(member: MemberStatus) -> str:
    """One word for a key or a proxy."""
    if member.is_lost:
        return "lost"
    return "standing_by" if member.is_standing_by and member.state == "healthy" else member.state


def register_gauges(
    metrics: Metrics, *, gate: Gate, writer: Writer, accounts: Accounts, callers: Callers, live: Live
) -> None:
    metrics.gauge("requests_in_flight", "Requests being served now.", lambda: gate.in_flight)
    metrics.gauge("writer_queued_charges", "Charges that wait for the store.", lambda: writer.queued)
    metrics.gauge(
        "charges_set_aside", "Charges that the store refused for good; the log has each.", lambda: writer.set_aside
    )
    metrics.counter(
        "invariant_violations",
        "How often something was found that must never be so of money.",
        lambda: {(name,): count for name, count in writer.violations.counts.items()},
        labels=("invariant",),
    )
    metrics.gauge("writer_failures", "Flushes that failed and were tried again.", lambda: writer.failures)
    metrics.gauge("held_usd", "Credit held for running requests.", lambda: accounts.held_nusd() / NUSD_PER_USD)
    metrics.gauge("callers_in_memory", "Keys that are known without asking the store.", lambda: len(callers))
    _register_upstream_gauges(metrics, live, gate)


def _register_upstream_gauges(metrics: Metrics, live: Live, gate: Gate) -> None:
    metrics.gauge(
        "upstream_keys",
        "Keys of a provider by state.",
        lambda: _states(live.snapshot.keys, gate.clock.monotonic()),
        labels=("provider", "state"),
    )
    metrics.counter(
        "upstream_key_changes",
        "Changes of a key's state, by what caused them.",
        lambda: _changes(live.snapshot.keys),
        labels=("provider", "change", "cause"),
    )
    metrics.gauge(
        "outbound_proxies",
        "Proxies of a provider by state.",
        lambda: _states(live.snapshot.proxies, gate.clock.monotonic()),
        labels=("provider", "state"),
    )
    metrics.counter(
        "outbound_proxy_changes",
        "Changes of a proxy's state, by what caused them.",
        lambda: _changes(live.snapshot.proxies),
        labels=("provider", "change", "cause"),
    )
    metrics.gauge(
        "breakers_open",
        "Models of a provider that is not asked for them, or by one request at a time.",
        lambda: _breakers_open(live),
        labels=("provider",),
    )
    metrics.counter(
        "breaker_changes", "Changes of breakers' states.", lambda: _breaker_changes(live), labels=("provider", "state")
    )
    _register_throttle_gauges(metrics, live, gate)


def _register_throttle_gauges(metrics: Metrics, live: Live, gate: Gate) -> None:
    metrics.gauge(
        "throttle_waiting",
        "Requests that wait for their turn at a provider.",
        lambda: {(name,): each.throttle.waiting for name, each in live.snapshot.turnstiles.items()},
        labels=("provider",),
    )
    metrics.gauge(
        "throttle_share",
        "What is left of a provider's pace by what it refused; 1 is all of it.",
        lambda: {
            (name,): each.throttle.share(gate.clock.monotonic()) for name, each in live.snapshot.turnstiles.items()
        },
        labels=("provider",),
    )
    metrics.counter(
        "throttle_cuts",
        "How often a provider's pace was cut.",
        lambda: {(name,): each.throttle.cuts for name, each in live.snapshot.turnstiles.items()},
        labels=("provider",),
    )
    metrics.counter(
        "throttle_refused",
        "Requests that found the line full, or waited in vain.",
        lambda: {
            (name, cause): count
            for name, each in live.snapshot.turnstiles.items()
            for cause, count in each.refused.items()
        },
        labels=("provider", "cause"),
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


def _states(pools: Mapping[str, Pool[Any]], now_s: float) -> dict[tuple[str, ...], float]:
    states: dict[tuple[str, ...], float] = {}
    for name, pool in pools.items():
        states |= {(name, state): 0 for state in KEY_STATES}
        for member in pool.status(now_s):
            states[name, shown_state(member)] += 1
    return states


def _changes(pools: Mapping[str, Pool[Any]]) -> dict[tuple[str, ...], float]:
    return {(name, *labels): n for name, pool in pools.items() for labels, n in pool.changes.items()}


def _breakers_open(live: Live) -> dict[tuple[str, ...], float]:
    counts: dict[tuple[str, ...], float] = dict.fromkeys(((name,) for name in live.snapshot.providers), 0)
    for (name, _), breaker in live.snapshot.breakers.items():
        counts[name,] += breaker.state != "closed"
    return counts


def _breaker_changes(live: Live) -> dict[tuple[str, ...], float]:
    counts: dict[tuple[str, ...], float] = {}
    for (name, _), breaker in live.snapshot.breakers.items():
        for state, count in breaker.changes.items():
            counts[name, state] = counts.get((name, state), 0) + count
    return counts
