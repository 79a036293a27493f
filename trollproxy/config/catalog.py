"""The configuration as records: which models there are, what they cost, and which providers serve them.

Pure: the same settings give the same catalog. Prices are exact, and a price's version is derived from its content, so
equal content has an equal version on every machine and after every restart.
Must not know: how a provider is authenticated (wire formats build those headers), nor how models are looked up.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping

import msgspec

from trollproxy.chat import BUCKETS, FormatName
from trollproxy.config.settings import (
    DEMO,
    FallbackSettings,
    ModelSettings,
    Pricing,
    Settings,
    ThrottleSettings,
    TimeoutSettings,
    UpstreamSettings,
    WireType,
)
from trollproxy.config.units import BaseUrl, ModelId, Multiplier, ProxyUrl, Secret, Usd
from trollproxy.records import (
    Endpoint,
    Model,
    OutboundProxy,
    Pace,
    Price,
    Provider,
    Supplier,
    Timeouts,
    UpstreamKey,
)

_ONE = Multiplier(1_000_000)
_FORMATS: dict[WireType, FormatName] = {
    "openai": "openai_chat",
    "responses": "openai_responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
_PATHS: dict[WireType, str] = {
    "openai": "/chat/completions",
    "responses": "/responses",
    "anthropic": "/messages",
    "gemini": "/models",  # the model's name and the verb follow
}
_VERSION = "/v1"
_VERSIONS: dict[WireType, str] = {"gemini": "/v1beta"}
_DEMO_SPEAKS: tuple[WireType, ...] = ("openai", "anthropic")
_HAS_VERSION = re.compile(r".*/(?:v\d+(?:(?:alpha|beta)\d*)?|openai)")  # such a path is where the API itself begins
_DEMO_MODEL = ModelSettings(
    id=ModelId(DEMO),
    upstream=DEMO,
    pricing=Pricing(
        input_nusd=Usd.parse("1.0"),
        output_nusd=Usd.parse("4.0"),
        cache_write_nusd=Usd.parse("1.25"),
        cache_hit_nusd=Usd.parse("0.1"),
    ),
)
_DEMO_KEY = UpstreamKey(key_id="demo-1", secret=Secret("demo"))  # the demo accepts any; a provider without is not tried


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """Every model's `provider` is in `providers`. Models are in the file's order."""

    models: tuple[Model, ...]
    providers: dict[str, Provider]

    def prices(self) -> Iterator[Price | None]:
        """Every price that a charge may be made by; None where the configuration names none."""
        for model in self.models:
            yield model.price
            yield from (supplier.upstream_price for supplier in model.suppliers)


def build_catalog(settings: Settings, *, demo_endpoint: tuple[str, int] | None) -> Catalog:
    """`demo_endpoint` is where the demo listens; without it, the models that it would serve are left out."""
    proxies = {name: build_proxy(name, url) for name, url in settings.proxies.items()}
    providers = {name: _build_provider(name, upstream, proxies) for name, upstream in settings.upstreams.items()}
    if settings.demo and demo_endpoint is not None:
        providers[DEMO] = _build_demo(*demo_endpoint)
    if settings.filters:
        providers = {name: _with_filters(provider, settings) for name, provider in providers.items()}
    named = [(settings.upstream_of(model), model) for model in _list_models(settings)]
    models = tuple(
        _build_model(model, name, _list_fallbacks(model, settings, providers))
        for name, model in named
        if name != DEMO or DEMO in providers
    )
    assert all(model.provider in providers for model in models), "rules lets no model name an unknown upstream"
    return Catalog(models=models, providers=providers)


def build_price(pricing: Pricing, multiplier: Multiplier = _ONE) -> Price:
    per_mtok_nusd = _price_buckets(pricing)
    assert tuple(per_mtok_nusd) == BUCKETS
    content = msgspec.json.encode([per_mtok_nusd, int(multiplier)], order="sorted")
    version = hashlib.sha256(content).hexdigest()[:12]
    return Price(version=version, per_mtok_nusd=per_mtok_nusd, multiplier_micro=int(multiplier))


def build_endpoint(url: BaseUrl, wire: WireType, path: str | None = None) -> Endpoint:
    host, port, tls, prefix = url.parts()
    if path is None:
        version = "" if _HAS_VERSION.fullmatch(prefix) else _VERSIONS.get(wire, _VERSION)
        path = prefix + version + _PATHS[wire]
    return Endpoint(host=host, port=port, tls=tls, path=path)


def build_proxy(name: str, url: ProxyUrl) -> OutboundProxy:
    return OutboundProxy(proxy_id=name, **url.parts()._asdict())


def _with_filters(provider: Provider, settings: Settings) -> Provider:
    rules = tuple(
        entry.rule
        for entry in settings.filters
        if not entry.upstreams or provider.name in map(settings.resolve, entry.upstreams)
    )
    return msgspec.structs.replace(provider, filters=rules)


def _list_models(settings: Settings) -> tuple[ModelSettings, ...]:
    # A file that prices its own `demo` means that one.
    if not settings.demo or any(model.id == DEMO for model in settings.models):
        return settings.models
    return (*settings.models, _DEMO_MODEL)


def _list_fallbacks(
    model: ModelSettings, settings: Settings, providers: Mapping[str, Provider]
) -> tuple[Supplier, ...]:
    named = [(settings.resolve(fallback.upstream), fallback) for fallback in model.fallbacks]
    return tuple(_build_supplier(name, fallback) for name, fallback in named if name in providers)


def _build_supplier(provider: str, fallback: FallbackSettings) -> Supplier:
    return Supplier(
        provider=provider,
        upstream_price=_build_upstream_price(fallback.upstream_pricing),
        upstream_model=fallback.upstream_model,
    )


def _build_upstream_price(pricing: Pricing | None) -> Price | None:
    return None if pricing is None else build_price(pricing)


def _build_model(model: ModelSettings, provider: str | None, fallbacks: tuple[Supplier, ...]) -> Model:
    assert provider is not None
    return Model(
        model_id=str(model.id),
        provider=provider,
        price=build_price(model.pricing, model.billing_multiplier_micro),
        upstream_price=_build_upstream_price(model.upstream_pricing),
        upstream_model=model.upstream_model,
        wallet=model.wallet,
        max_output_tokens=model.max_output_tokens,
        size=model.size,
        drops_thinking=model.drop_thinking,
        fallbacks=fallbacks,
        race=model.race,
        race_head_start_s=float(model.race_head_start_s),
    )


def _price_buckets(pricing: Pricing) -> dict[str, int]:
    write = _first(pricing.cache_write_nusd, pricing.input_nusd)
    return {
        "uncached": int(pricing.input_nusd),
        "write_5m": write,
        "write_1h": _first(pricing.cache_write_1h_nusd, write),
        "write_30m": _first(pricing.cache_write_30m_nusd, write),
        "write_12h": _first(pricing.cache_write_12h_nusd, write),
        "read": _first(pricing.cache_hit_nusd, pricing.input_nusd),
        "out_text": int(pricing.output_nusd),
        "out_reasoning": _first(pricing.reasoning_nusd, pricing.output_nusd),
        "tool_requests": int(pricing.tool_request_nusd) * 1_000_000,  # priced singly, counted per million
    }


def _first(price: int | None, otherwise: int) -> int:
    return int(otherwise if price is None else price)


def _build_provider(name: str, upstream: UpstreamSettings, proxies: dict[str, OutboundProxy]) -> Provider:
    paths = upstream.paths.by_wire()
    return Provider(
        name=name,
        endpoints={_FORMATS[wire]: build_endpoint(upstream.base_url, wire, paths[wire]) for wire in upstream.spoken},
        keys=tuple(
            UpstreamKey(
                key_id=key_id,
                secret=secret,
                is_backup=entry.backup,
                max_in_flight=entry.max_in_flight,
                proxy_id=entry.proxy,
                spend_limit_nusd=int(entry.spend_limit_nusd) if entry.spend_limit_nusd is not None else None,
                spend_period=entry.spend_period,
            )
            for (key_id, secret), entry in zip(upstream.named_keys(name), upstream.key_entries, strict=True)
        ),
        headers=tuple(upstream.headers.items()),
        timeouts=_build_timeouts(upstream.timeouts),
        proxies=tuple(proxies[proxy] for proxy in upstream.proxies),
        drops_thinking=upstream.drop_thinking,
        spend_endpoint=_build_spend_endpoint(upstream),
        pace=_build_pace(upstream.throttle),
        key_header=upstream.key_header,
        cannot=frozenset(upstream.cannot),
    )


def _build_spend_endpoint(upstream: UpstreamSettings) -> Endpoint | None:
    if upstream.spend_endpoint is None:
        return None
    host, port, tls, _ = upstream.base_url.parts()
    return Endpoint(host=host, port=port, tls=tls, path=upstream.spend_endpoint)


def _build_timeouts(timeouts: TimeoutSettings) -> Timeouts:
    return Timeouts(
        connect_s=float(timeouts.connect_s),
        first_byte_s=float(timeouts.first_byte_s),
        idle_s=float(timeouts.idle_s),
    )


def _build_pace(throttle: ThrottleSettings | None) -> Pace | None:
    if throttle is None:
        return None
    return Pace(
        per_minute=throttle.per_minute,
        per_hour=throttle.per_hour,
        per_day=throttle.per_day,
        max_in_flight=throttle.max_in_flight,
        max_queue=throttle.max_queue,
        queue_timeout_s=float(throttle.queue_timeout_s),
    )


def _build_demo(host: str, port: int) -> Provider:
    endpoints = {
        _FORMATS[wire]: Endpoint(host=host, port=port, tls=False, path=_VERSION + _PATHS[wire]) for wire in _DEMO_SPEAKS
    }
    return Provider(name=DEMO, endpoints=endpoints, keys=(_DEMO_KEY,))
