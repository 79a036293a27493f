"""Metrics: counts are exact, label sets are bounded, and docs/metrics.md names exactly what is rendered."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trollproxy import errors
from trollproxy.chat import BUCKETS, Usage
from trollproxy.telemetry import metrics as m
from trollproxy.telemetry.metrics import CODES, CONTENT_TYPE, Metrics

DOC = Path(__file__).parents[3] / "docs" / "metrics.md"


def done(metrics: Metrics, **changes: Any) -> None:
    """Count an exchange."""
    facts: dict[str, Any] = {
        "code": "ok",
        "model": "gpt-x",
        "format": "openai_chat",
        "hundreds": 2,
        "stream": False,
        "usage": Usage(uncached=10, out_text=5),
        "cost_nusd": 1_500_000_000,
        "duration_s": 1.0,
        "first_token_s": 0.3,
    } | changes
    ending = tuple(facts.pop(name) for name in ("code", "model", "format", "hundreds", "stream"))
    metrics.exchange_done(ending, **facts)


def counting(*models: str) -> Metrics:
    metrics = Metrics()
    metrics.set_models(models or ("gpt-x",))
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, Any], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)["trollproxy_" + name, tuple(sorted(labels.items()))]


def test_an_exchange_is_counted_everywhere() -> None:
    metrics = counting()
    done(metrics)
    done(metrics, stream=True, usage=Usage(read=7), cost_nusd=1)
    assert value(metrics, "requests_total", code="ok", model="gpt-x", format="openai_chat") == 2
    assert value(metrics, "responses_total", status="2xx", stream="true") == 1
    assert value(metrics, "tokens_total", model="gpt-x", bucket="uncached") == 10
    assert value(metrics, "tokens_total", model="gpt-x", bucket="read") == 7
    assert value(metrics, "cost_usd_total", model="gpt-x") == pytest.approx(1.500000001, abs=1e-12)
    assert value(metrics, "request_duration_seconds_count", model="gpt-x") == 2
    assert value(metrics, "time_to_first_token_seconds_sum", model="gpt-x") == pytest.approx(0.6)


def test_cost_is_exact_below_what_a_float_could_hold() -> None:
    metrics = counting()
    done(metrics, cost_nusd=10**18)
    for _ in range(3):
        done(metrics, cost_nusd=1)
    assert metrics._tallies["gpt-x"].cost_nusd == 10**18 + 3


def test_unknown_usage_and_no_first_token_count_nothing() -> None:
    metrics = counting()
    done(metrics, usage=None, first_token_s=None)
    assert value(metrics, "tokens_total", model="gpt-x", bucket="uncached") == 0
    assert value(metrics, "time_to_first_token_seconds_count", model="gpt-x") == 0


@pytest.mark.parametrize(
    ("seconds", "le", "below"), [(0.05, "0.05", 1), (0.0501, "0.05", 0), (0.0501, "0.1", 1), (9_999.0, "600.0", 0)]
)
def test_a_bound_belongs_to_its_bucket(seconds: float, le: str, below: int) -> None:
    metrics = counting()
    done(metrics, duration_s=seconds)
    assert value(metrics, "request_duration_seconds_bucket", model="gpt-x", le=le) == below
    assert value(metrics, "request_duration_seconds_bucket", model="gpt-x", le="+Inf") == 1


def test_a_client_cannot_create_series() -> None:
    metrics = counting()
    for i in range(1_000):
        done(metrics, model=f"made-up-{i}", code=f"c{i}", format=f"f{i}", hundreds=i * 10)
    assert value(metrics, "requests_total", code="other", model="other", format="other") == 1_000
    assert len(samples(metrics)) < 100


def test_models_are_bounded_and_those_counted_survive_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "MAX_MODELS", 20)
    metrics = counting(*(f"model-{i}" for i in range(m.MAX_MODELS + 50)))
    for i in range(m.MAX_MODELS + 50):
        done(metrics, model=f"model-{i}")
    assert value(metrics, "request_duration_seconds_count", model="other") == 50
    metrics.set_models(())
    done(metrics, model="model-0")
    assert value(metrics, "request_duration_seconds_count", model="model-0") == 2


def test_request_label_sets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "MAX_REQUEST_SETS", 2)
    metrics = counting("a", "b", "c")
    for model in "abca":
        done(metrics, model=model)
    assert value(metrics, "requests_total", code="ok", model="a", format="openai_chat") == 2
    assert value(metrics, "requests_total", code="ok", model="other", format="openai_chat") == 1


def test_gauges_are_read_at_each_scrape() -> None:
    metrics = counting()
    state: dict[tuple[str, ...], float] = {("up", "k1"): 1.0}
    metrics.gauge("store_up", "Whether the store answers.", lambda: 1.0)
    metrics.gauge("trollproxy_pool_keys", "Keys by state.", lambda: state, labels=("state", "key"))
    assert value(metrics, "store_up") == 1
    state["down", 'k"2\n'] = 2.0
    assert value(metrics, "pool_keys", state="down", key='k"2\n') == 2


def test_a_counter_that_somebody_else_keeps_is_shown_as_one() -> None:
    metrics = counting()
    counts: dict[tuple[str, ...], float] = {("a",): 1.0}
    metrics.counter("offences", "Offences.", lambda: counts, labels=("what",))
    assert value(metrics, "offences_total", what="a") == 1
    counts["a",] = 3
    assert value(metrics, "offences_total", what="a") == 3
    assert b"# TYPE trollproxy_offences_total counter" in metrics.render()


def test_a_gauge_is_registered_once_and_reads_its_own_labels() -> None:
    metrics = counting()
    metrics.gauge("lag", "Lag.", lambda: {("a", "b"): 1.0}, labels=("one",))
    with pytest.raises(ValueError, match="twice"):
        metrics.gauge("trollproxy_lag", "Lag.", lambda: 1.0)
    with pytest.raises(ValueError, match="labels"):
        metrics.render()


def test_gauge_label_sets_are_bounded() -> None:
    metrics = counting()
    metrics.gauge("many", "Many.", lambda: {(str(i),): 1.0 for i in range(5_000)}, labels=("i",))
    assert metrics.render().count(b"trollproxy_many{") == m.MAX_GAUGE_SETS


def test_two_in_one_process_do_not_meet() -> None:
    one, two = counting(), counting()
    done(one)
    assert b"gpt-x" not in two.render()
    assert CONTENT_TYPE.startswith("text/plain")


def test_every_code_that_errors_documents_is_a_label() -> None:
    text = Path(errors.__file__).read_text(encoding="utf-8")
    named = {code.strip() for found in re.findall(r"Codes: ([^.]+)\.", text) for code in found.split(",")}
    assert named
    assert named <= CODES
    assert "rate_limit_exceeded" in CODES


def test_every_code_that_is_raised_is_a_label() -> None:
    sources = Path(errors.__file__).parent.rglob("*.py")
    raised = {c for path in sources for c in re.findall(r"""\bcode="([a-z_]+)\"""", path.read_text(encoding="utf-8"))}
    assert raised - CODES == set(), "add these to _SHARPENED in telemetry/metrics.py, or they are counted as `other`"


def registered_gauges() -> set[str]:
    """The name in every `….gauge("name", …)` of the package, and of the counters that others keep."""
    sources = Path(errors.__file__).parent.rglob("*.py")
    texts = [path.read_text(encoding="utf-8") for path in sources]
    gauges = {n for text in texts for n in re.findall(r"""\.gauge\(\s*"(\w+)\"""", text)}
    counters = {n + "_total" for text in texts for n in re.findall(r"""\.counter\(\s*"(\w+)\"""", text)}
    return {m.PREFIX + name.removeprefix(m.PREFIX) for name in gauges | counters}


def test_the_doc_names_every_metric_and_bucket_and_no_other() -> None:
    metrics = counting()
    done(metrics)
    rendered = set(re.findall(r"^# TYPE (\S+)", metrics.render().decode(), re.MULTILINE))
    text = DOC.read_text(encoding="utf-8")
    assert "trollproxy_requests_in_flight" in registered_gauges()
    assert set(re.findall(r"^\| `(trollproxy_\w+)`", text, re.MULTILINE)) == rendered | registered_gauges()
    assert all(f"`{bucket}`" in text for bucket in BUCKETS)
