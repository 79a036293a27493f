"""Counts of what the gateway did, in plain integers, turned into Prometheus text only when somebody scrapes.

Owns every `trollproxy_` metric, its labels and the bound on their number. Invariants: counting never fails, never
allocates more than a bounded number of label sets, and money stays an exact integer until the scrape divides it.
A client cannot choose a label value: unknown models, codes and formats are counted as `other`.

It must not know HTTP, the pipeline or where a gauge's value comes from: whoever owns a value registers how to read it.
Not thread-safe: the event loop counts and scrapes.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, islice
from typing import get_args

from msgspec.structs import astuple
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from trollproxy import errors
from trollproxy.chat import BUCKETS, FormatName, Usage
from trollproxy.records import NUSD_PER_USD

CONTENT_TYPE = CONTENT_TYPE_LATEST
PREFIX = "trollproxy_"
OTHER = "other"

# A model costs about 45 series (two histograms, tokens by bucket), each about 100 bytes of every scrape: 256 models
# are about 1 MB, which a Prometheus server takes every 15 s without complaint.
MAX_MODELS = 256
# Code x model x format x status x stream could reach 100,000; real traffic fails in few ways. Past this the model of a
# new one becomes `other`.
MAX_REQUEST_SETS = 4_096
# By configured provider and one of eight outcomes.
MAX_ATTEMPT_SETS = 1_024
# The largest pool that we promise to carry has 1,000 upstream keys.
MAX_GAUGE_SETS = 1_024

# A cached answer takes 50 ms, a chat answer seconds, a reasoning agent up to ten minutes.
DURATION_BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# Providers speak first after 0.2 to 3 s; reasoning models think for up to the first-byte deadline of 300 s.
FIRST_TOKEN_BOUNDS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

FORMATS = frozenset(get_args(FormatName))
STREAM = {False: "false", True: "true"}
STATUS = {hundreds: f"{hundreds}xx" for hundreds in range(1, 6)}

# Codes that an instance sharpens its class to, wherever it is raised; a test searches the package for missing ones.
_SHARPENED = (
    "account_disabled", "already_exists", "bad_configuration", "billing_drift", "context_length_exceeded",
    "friend_limit_exceeded", "gateway_crashed", "invalid_framing", "invalid_json",
    "key_expired", "key_revoked", "ledger_conflict", "migration_required", "missing_key", "model_not_allowed",
    "model_not_found", "no_upstream_key", "not_translatable", "price_conflict", "proxy_auth", "schema_too_new",
    "too_many_failures", "unsupported_encoding", "upstream_breaker_open", "upstream_failed", "upstream_overloaded",
    "upstream_throttled",
)  # fmt: skip


def _taxonomy(root: type[errors.GatewayError]) -> Iterator[str]:
    yield root.code
    for child in root.__subclasses__():
        yield from _taxonomy(child)


CODES = frozenset(("ok", *_taxonomy(errors.GatewayError), *_SHARPENED))

Reading = float | Mapping[tuple[str, ...], float]


# How a request ended: its code, its model's configured name (not what the client wrote), its format, the hundreds of
# its status, and whether its answer was streamed.
Ending = tuple[str, str, str, int, bool]


class Histogram:
    """Counts by bucket; the last one is everything above the highest bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulated(self) -> list[tuple[str, float]]:
        names = (*map(str, self.bounds), "+Inf")
        return list(zip(names, accumulate(self.counts), strict=True))


class _ModelTally:
    """Everything that is counted by model alone, so that an exchange looks its model up once."""

    __slots__ = ("cost_nusd", "duration", "first_token", "tokens")

    def __init__(self) -> None:
        self.tokens = [0] * len(BUCKETS)
        self.cost_nusd = 0
        self.duration = Histogram(DURATION_BOUNDS_S)
        self.first_token = Histogram(FIRST_TOKEN_BOUNDS_S)

    def add_usage(self, usage: Usage) -> None:
        for place, tokens in enumerate(astuple(usage)):
            if tokens:
                self.tokens[place] += tokens


class _Count:
    """How many requests ended in one way."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.requests = 0


class _Gauge:
    """A value that somebody else keeps; `kind` is what Prometheus is told of it."""

    __slots__ = ("help", "kind", "labels", "name", "read")

    def __init__(self, name: str, explanation: str, read: Callable[[], Reading], *, labels: tuple[str, ...]) -> None:
        self.name, self.help, self.read, self.labels = name, explanation, read, labels
        self.kind: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily

    def family(self) -> Metric:
        family = self.kind(self.name, self.help, labels=self.labels)
        reading = self.read()
        sets = reading if isinstance(reading, Mapping) else {(): reading}
        for labels, value in islice(sets.items(), MAX_GAUGE_SETS):
            if len(labels) != len(self.labels):
                raise ValueError(f"{self.name} has labels {self.labels}, its reading has {labels}")
            family.add_metric(labels, value)
        return family


class Metrics(Collector):
    """One per process, on its own registry: two in one test do not meet."""

    def __init__(self) -> None:
        self._models: frozenset[str] = frozenset()
        self._tallies: dict[str, _ModelTally] = {}
        self._known: dict[Ending, tuple[_Count, _ModelTally]] = {}  # what an exchange looks up, and all it looks up
        self._attempts: dict[tuple[str, str], int] = {}
        self._gauges: dict[str, _Gauge] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def set_models(self, models: Iterable[str]) -> None:
        """Name the models that may be a label from now on. What was counted before stays, so no counter goes back."""
        self._models = frozenset(models)

    def exchange_done(
        self,
        ending: Ending,
        *,
        usage: Usage | None,
        cost_nusd: int,
        duration_s: float,
        first_token_s: float | None,
    ) -> None:
        """Count one finished request."""
        known = self._known.get(ending)
        count, tally = known if known is not None else self._find(ending)
        count.requests += 1
        if usage is not None:
            tally.add_usage(usage)
        tally.cost_nusd += cost_nusd
        tally.duration.observe(duration_s)
        if first_token_s is not None:
            tally.first_token.observe(first_token_s)

    def attempt_done(self, provider: str, outcome: str) -> None:
        """Count one try at a provider; both words are ours."""
        labels = (provider, outcome)
        if labels not in self._attempts:
            labels = labels if len(self._attempts) < MAX_ATTEMPT_SETS else (OTHER, outcome)
            self._attempts.setdefault(labels, 0)
        self._attempts[labels] += 1

    def gauge(self, name: str, help: str, read: Callable[[], Reading], *, labels: Iterable[str] = ()) -> None:  # noqa: A002 - Prometheus' own word
        """Register a value that is read at each scrape. `read` must be quick, and may give one value per label set."""
        full = PREFIX + name.removeprefix(PREFIX)
        if full in self._gauges:
            raise ValueError(f"the gauge {full} is registered twice")
        self._gauges[full] = _Gauge(full, help, read, labels=tuple(labels))

    def counter(self, name: str, help: str, read: Callable[[], Reading], *, labels: Iterable[str] = ()) -> None:  # noqa: A002 - Prometheus' own word
        """Register a count that somebody else keeps, and that only grows; it is shown as `<name>_total`."""
        self.gauge(name, help, read, labels=labels)
        self._gauges[PREFIX + name.removeprefix(PREFIX)].kind = CounterMetricFamily

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for at a scrape."""
        yield self._request_family()
        yield self._response_family()
        yield self._attempt_family()
        yield from self._model_families()
        for gauge in self._gauges.values():
            yield gauge.family()

    def _tally(self, model: str) -> tuple[_ModelTally, str]:
        tally = self._tallies.get(model)
        if tally is not None:
            return tally, model
        if model not in self._models or len(self._tallies) >= MAX_MODELS:
            model = OTHER
        return self._tallies.setdefault(model, _ModelTally()), model

    def _find(self, ending: Ending) -> tuple[_Count, _ModelTally]:
        """Where to count an ending that is new, or names what must not become a label."""
        code, model, format_name, hundreds, is_stream = ending
        tally, model = self._tally(model)
        code = code if code in CODES else OTHER
        format_name = format_name if format_name in FORMATS else OTHER
        hundreds = hundreds if hundreds in STATUS else 0
        ending = (code, model, format_name, hundreds, is_stream)
        if ending not in self._known and len(self._known) >= MAX_REQUEST_SETS:
            ending = (code, OTHER, format_name, hundreds, is_stream)
            return self._known.setdefault(ending, (_Count(), self._tally(OTHER)[0]))[0], tally
        return self._known.setdefault(ending, (_Count(), tally))

    def _request_family(self) -> Metric:
        family = CounterMetricFamily(
            PREFIX + "requests", "Finished requests by how they ended.", labels=("code", "model", "format")
        )
        counts: Counter[tuple[str, str, str]] = Counter()
        for (code, model, format_name, _, _), (count, _) in self._known.items():
            counts[code, model, format_name] += count.requests
        for labels, requests in counts.items():
            family.add_metric(labels, requests)
        return family

    def _response_family(self) -> Metric:
        family = CounterMetricFamily(
            PREFIX + "responses", "Answers to finished requests by class of HTTP status.", labels=("status", "stream")
        )
        counts: Counter[tuple[str, str]] = Counter()
        for (_, _, _, hundreds, is_stream), (count, _) in self._known.items():
            counts[STATUS.get(hundreds, OTHER), STREAM[is_stream]] += count.requests
        for labels, requests in counts.items():
            family.add_metric(labels, requests)
        return family

    def _attempt_family(self) -> Metric:
        family = CounterMetricFamily(
            PREFIX + "upstream_attempts", "Tries at providers by how they ended.", labels=("provider", "outcome")
        )
        for labels, count in self._attempts.items():
            family.add_metric(labels, count)
        return family

    def _model_families(self) -> Iterator[Metric]:
        tokens = CounterMetricFamily(PREFIX + "tokens", "Tokens by price bucket.", labels=("model", "bucket"))
        cost = CounterMetricFamily(PREFIX + "cost_usd", "US dollars charged to clients.", labels=("model",))
        duration = HistogramMetricFamily(
            PREFIX + "request_duration_seconds", "From the request's head to the answer's end.", labels=("model",)
        )
        first = HistogramMetricFamily(
            PREFIX + "time_to_first_token_seconds", "From the request's head to the first token.", labels=("model",)
        )
        for model, tally in self._tallies.items():
            for bucket, count in zip(BUCKETS, tally.tokens, strict=True):
                tokens.add_metric((model, bucket), count)
            cost.add_metric((model,), tally.cost_nusd / NUSD_PER_USD)
            duration.add_metric((model,), tally.duration.cumulated(), tally.duration.total)
            first.add_metric((model,), tally.first_token.cumulated(), tally.first_token.total)
        yield from (tokens, cost, duration, first)
