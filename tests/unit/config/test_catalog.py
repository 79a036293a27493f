"""Prices, paths and providers as they come out of settings."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.chat import BUCKETS
from trollproxy.config.catalog import build_catalog, build_endpoint, build_price
from trollproxy.config.loading import load
from trollproxy.config.settings import Pricing
from trollproxy.config.units import BaseUrl, Multiplier, Usd
from trollproxy.records import Endpoint, Pace, Timeouts

ENV = {"MAIN_TARGET_SERVER": "https://api.example.com/", "MAIN_UPSTREAM_KEY": "sk-main", "TROLL_API_KEY": "sk-troll"}


@pytest.fixture
def build(tmp_path):
    def build_text(text, env=None, demo_endpoint=None):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return build_catalog(load(str(path), env or {}, {}), demo_endpoint=demo_endpoint)

    return build_text


def pricing(**usd: object) -> Pricing:
    return Pricing(**{f"{name}_nusd": Usd.parse(price) for name, price in usd.items()})


@pytest.mark.parametrize(
    ("url", "wire", "path"),
    [
        ("https://h", "openai", "/v1/chat/completions"),
        ("https://h", "anthropic", "/v1/messages"),
        ("https://h/", "anthropic", "/v1/messages"),
        ("https://h/v1", "openai", "/v1/chat/completions"),
        ("https://h/v1/", "anthropic", "/v1/messages"),
        ("https://h/api/v1", "openai", "/api/v1/chat/completions"),
        ("https://h/v1beta", "openai", "/v1beta/chat/completions"),
        ("https://h/v1beta/openai", "openai", "/v1beta/openai/chat/completions"),
        ("https://h/api/paas/v4", "openai", "/api/paas/v4/chat/completions"),
        ("https://h/api", "openai", "/api/v1/chat/completions"),
        ("https://h/dev1", "openai", "/dev1/v1/chat/completions"),
        ("https://h/myopenai", "openai", "/myopenai/v1/chat/completions"),
    ],
)
def test_paths_are_joined(url, wire, path):
    assert build_endpoint(BaseUrl.parse(url), wire) == Endpoint(host="h", port=443, tls=True, path=path)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("http://h", "h", 80, False),
        ("https://h:8443", "h", 8443, True),
        ("HTTP://H.Example:1", "h.example", 1, False),
        ("http://[::1]:9/v1", "::1", 9, False),
    ],
)
def test_hosts_and_ports(url, host, port, tls):
    found = build_endpoint(BaseUrl.parse(url), "openai")
    assert (found.host, found.port, found.tls) == (host, port, tls)


def test_a_full_price():
    price = build_price(
        pricing(
            input=3,
            output=15,
            cache_write="3.75",
            cache_hit="0.30",
            cache_write_30m=4,
            cache_write_1h=6,
            cache_write_12h=9,
            reasoning=20,
            tool_request="0.01",
        ),
        Multiplier.parse("1.05"),
    )
    assert price.per_mtok_nusd == {
        "uncached": 3_000_000_000,
        "write_5m": 3_750_000_000,
        "write_30m": 4_000_000_000,
        "write_1h": 6_000_000_000,
        "write_12h": 9_000_000_000,
        "read": 300_000_000,
        "out_text": 15_000_000_000,
        "out_reasoning": 20_000_000_000,
        "tool_requests": 10_000_000 * 1_000_000,
    }
    assert price.multiplier_micro == 1_050_000


@pytest.mark.parametrize(
    ("given_usd", "expected"),
    [
        ({}, {"write_5m": 3, "write_1h": 3, "write_30m": 3, "write_12h": 3, "read": 3, "out_reasoning": 15}),
        ({"cache_write": 4}, {"write_5m": 4, "write_1h": 4, "write_30m": 4, "write_12h": 4}),
        ({"cache_write": 4, "cache_write_1h": 6}, {"write_5m": 4, "write_1h": 6, "write_30m": 4}),
        ({"cache_write_1h": 6}, {"write_5m": 3, "write_1h": 6, "write_12h": 3}),
        ({"cache_hit": 0, "reasoning": 0, "cache_write": 0}, {"read": 0, "out_reasoning": 0, "write_1h": 0}),
    ],
)
def test_what_is_left_out_falls_back_and_zero_is_zero(given_usd, expected):
    found = build_price(pricing(input=3, output=15, **given_usd)).per_mtok_nusd
    assert {bucket: found[bucket] for bucket in expected} == {k: v * 10**9 for k, v in expected.items()}
    assert found["tool_requests"] == 0


def test_a_version_is_its_content():
    one = build_price(pricing(input="3.0", output=15))
    assert one == build_price(pricing(input=3, output="15.00", cache_hit=3))
    content = json.dumps([one.per_mtok_nusd, one.multiplier_micro], sort_keys=True, separators=(",", ":"))
    assert one.version == hashlib.sha256(content.encode()).hexdigest()[:12]
    assert one.version != build_price(pricing(input=3, output=16)).version
    assert one.version != build_price(pricing(input=3, output=15), Multiplier.parse("1.000001")).version


@given(st.integers(0, 10**15), st.integers(1, 10**9))
def test_prices_hold_every_bucket_as_plain_integers(nusd, micro):
    price = build_price(Pricing(input_nusd=Usd(nusd), output_nusd=Usd(nusd)), Multiplier(micro))
    assert tuple(price.per_mtok_nusd) == BUCKETS
    assert {type(amount) for amount in price.per_mtok_nusd.values()} == {int}
    assert type(price.multiplier_micro) is int


def test_models_become_records(build):
    text = """
    models:
      - {id: "claude-*", upstream: main, upstreamModel: opus, pricing: {input: 3, output: 15}, wallet: new,
         billingMultiplier: 1.05, upstreamPricing: {input: 2, output: 10}, maxOutputTokens: 100, size: BIG}
      - {id: gpt, upstream: troll, pricing: {input: 1, output: 2}}
    """
    claude, gpt = build(text, ENV).models
    assert (claude.model_id, claude.provider, claude.upstream_model, claude.wallet) == (
        "claude-*",
        "main",
        "opus",
        "new",
    )
    assert (claude.max_output_tokens, claude.size) == (100, "BIG")
    assert claude.upstream_price.per_mtok_nusd["uncached"] == 2 * 10**9
    assert claude.upstream_price.multiplier_micro == 1_000_000
    assert (gpt.provider, gpt.upstream_price, gpt.upstream_model, gpt.wallet) == ("openhands", None, None, None)


def test_fallbacks_become_suppliers_in_their_order(build):
    text = """
    models:
      - {id: m, upstream: main, pricing: {input: 3, output: 15},
         fallbacks: [troll, {upstream: demo, upstreamModel: n, upstreamPricing: {input: 2, output: 10}}]}
    """
    catalog = build(text, ENV)
    [model] = catalog.models
    assert [each.provider for each in model.suppliers] == ["main", "openhands"]  # the demo does not run
    [model] = build(text, ENV, demo_endpoint=("h", 1)).models[:1]
    assert [(each.provider, each.upstream_model) for each in model.suppliers] == [
        ("main", None),
        ("openhands", None),
        ("demo", "n"),
    ]
    assert model.fallbacks[1].upstream_price.per_mtok_nusd["uncached"] == 2 * 10**9
    assert list(catalog.prices()) == [model.price, None, None]


def test_a_key_may_be_a_backup_and_bounded(build):
    text = "upstreams: {a: {baseUrl: 'http://h', type: openai, keys: [k, {key: l, backup: true, maxInFlight: 3}]}}"
    first, second = build(text).providers["a"].keys
    assert (first.is_backup, first.max_in_flight) == (False, None)
    assert (second.is_backup, second.max_in_flight) == (True, 3)


def test_suppliers_may_race(build):
    text = "models: [{id: m, upstream: main, pricing: {input: 3, output: 15}, fallbacks: [troll], %s}]"
    model = build(text % "race: 2, raceHeadStart: 500ms", ENV).models[0]
    assert (model.race, model.race_head_start_s) == (2, 0.5)
    model = build(text % "raceHeadStart: 0", ENV).models[0]
    assert (model.race, model.race_head_start_s) == (1, 0.0)


def test_an_upstream_may_be_sent_only_so_much(build):
    text = "upstreams: {a: {baseUrl: 'http://h', type: openai, apiKey: k, throttle: %s}}"
    limits = "{perMinute: 60, perHour: 500, perDay: 9000, maxInFlight: 8, maxQueue: 0, queueTimeout: 3s}"
    assert build(text % limits).providers["a"].pace == Pace(
        per_minute=60, per_hour=500, per_day=9000, max_in_flight=8, max_queue=0, queue_timeout_s=3.0
    )
    assert build(text % "{perDay: 5}").providers["a"].pace == Pace(per_day=5)
    assert build(text % "null").providers["a"].pace is None


def test_built_in_providers(build):
    found = build("", ENV).providers
    assert set(found) == {"main", "openhands"}
    assert {name: point.path for name, point in found["main"].endpoints.items()} == {
        "openai_chat": "/v1/chat/completions",
        "anthropic": "/v1/messages",
    }
    assert [(key.key_id, key.secret) for key in found["main"].keys] == [("main-1", "sk-main")]
    assert found["openhands"].endpoints["openai_chat"].host == "llm-proxy.app.all-hands.dev"
    assert "sk-" not in repr(found)


def test_a_provider_in_full(build):
    text = """
    upstreams:
      azure:
        baseUrl: http://h:8/x
        type: openai
        keys: [k1, {id: second, key: k2}]
        headers: {X-A: b c}
        paths: {openai: '/y?api-version=1'}
        timeouts: {connect: 1, idle: 500ms}
    """
    found = build(text).providers["azure"]
    assert found.endpoints == {"openai_chat": Endpoint(host="h", port=8, tls=False, path="/y?api-version=1")}
    assert [(key.key_id, key.secret) for key in found.keys] == [("azure-1", "k1"), ("second", "k2")]
    assert found.headers == (("X-A", "b c"),)
    assert found.timeouts == Timeouts(connect_s=1.0, first_byte_s=300.0, idle_s=0.5)


def test_the_demo(build):
    found = build("", demo_endpoint=("127.0.0.1", 7))
    (model,) = found.models
    assert (model.model_id, model.provider) == ("demo", "demo")
    demo = model.price.per_mtok_nusd
    assert (demo["uncached"], demo["out_text"], demo["write_5m"], demo["read"]) == (
        10**9,
        4 * 10**9,
        125 * 10**7,
        10**8,
    )
    assert found.providers["demo"].endpoints["anthropic"] == Endpoint(
        host="127.0.0.1", port=7, tls=False, path="/v1/messages"
    )


@pytest.mark.parametrize(("text", "endpoint"), [("demo: false", ("h", 1)), ("", None)])
def test_without_the_demo(build, text, endpoint):
    found = build(text, demo_endpoint=endpoint)
    assert (found.models, found.providers) == ((), {})


def test_a_file_may_price_the_demo_itself(build):
    text = "models: [{id: demo, upstream: demo, pricing: {input: 9, output: 9}}]"
    (model,) = build(text, demo_endpoint=("h", 1)).models
    assert model.price.per_mtok_nusd["uncached"] == 9 * 10**9


def test_what_a_compatible_server_wants_otherwise(build):
    text = (
        "{upstreams: {a: {baseUrl: 'https://a.test/openai/v1', type: openai, keyHeader: api-key, cannot: [logprobs]}}}"
    )
    found = build(text).providers["a"]
    assert (found.key_header, found.cannot) == ("api-key", frozenset({"logprobs"}))
    assert found.endpoints["openai_chat"].path == "/openai/v1/chat/completions"
