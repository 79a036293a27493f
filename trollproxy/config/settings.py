"""The settings as frozen structs: their names, defaults and bounds. The file knows them in camelCase, without units.

A value is read by its own type (units.py), so a setting that exists here is one that makes sense by itself; what must
hold between settings is checked in rules.py. Struct and file name differ by a rule only: `connect_s` is `connect`.
Must not know: files, the environment, the records that catalog.py makes of this.
"""

import ipaddress
from typing import Annotated, Literal, get_args

import msgspec

from trollproxy.chat import Feature
from trollproxy.config.units import (
    BaseUrl,
    ByteSize,
    Cidr,
    HeaderValue,
    LongSecret,
    ModelId,
    MongoUri,
    Multiplier,
    ProxyUrl,
    Seconds,
    SecondsOrOff,
    Secret,
    UrlPath,
    Usd,
)
from trollproxy.policy.filters import MAX_PATTERN, MAX_REPLACEMENT
from trollproxy.records import FilterRule, KeyHeader, SpendPeriod, Wallet

WireType = Literal["openai", "responses", "anthropic", "gemini"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

Text = Annotated[str, msgspec.Meta(min_length=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]  # 0: any free port, which tests want
Count = Annotated[
    int, msgspec.Meta(ge=1, le=10_000_000)
]  # the top is far above any real limit; it catches typing errors

DEFAULT_PORT = 8080
DEMO = "demo"
OPENHANDS = "openhands"
MAIN = "main"
ALIASES = {"troll": OPENHANDS}  # the seeds' two names for one upstream, so it stays one pool of keys

_UNIT_SUFFIXES = ("_s", "_nusd", "_micro")


def file_name(field: str) -> str:
    """What the file calls a field: without its unit, in camelCase."""
    for suffix in _UNIT_SUFFIXES:
        field = field.removesuffix(suffix)
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=file_name):
    """A mapping of the file. A field it does not have is an error, since a misspelt limit is no limit."""


class Listener(Section, frozen=True, kw_only=True):
    """A port and the wallet that its requests spend. Nothing else decides the wallet but a model's own."""

    port: Port
    wallet: Wallet


class Pricing(Section, frozen=True, kw_only=True):
    """US dollars per million tokens; `tool_request_nusd` per single request. None: as the bucket it falls back to."""

    input_nusd: Usd
    output_nusd: Usd
    cache_write_nusd: Usd | None = None
    cache_hit_nusd: Usd | None = None
    cache_write_30m_nusd: Usd | None = None
    cache_write_1h_nusd: Usd | None = None
    cache_write_12h_nusd: Usd | None = None
    reasoning_nusd: Usd | None = None
    tool_request_nusd: Usd = Usd(0)


class FallbackSettings(Section, frozen=True, kw_only=True):
    """Another upstream that serves a model where its own fails: under its own name, and at its own price to us."""

    upstream: Text
    upstream_model: Text | None = None
    upstream_pricing: Pricing | None = None


class ModelSettings(Section, frozen=True, kw_only=True):
    """A name that clients ask for. `type`, where given, is a claim that its upstream must be able to keep."""

    id: ModelId
    pricing: Pricing
    type: WireType | None = None
    upstream: Text | None = None
    upstream_model: Text | None = None
    billing_multiplier_micro: Multiplier = Multiplier(1_000_000)
    upstream_pricing: Pricing | None = None
    fallbacks: tuple[FallbackSettings, ...] = ()
    race: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    race_head_start_s: SecondsOrOff = SecondsOrOff(0)
    wallet: Wallet | None = None
    max_output_tokens: Count | None = None
    size: Literal["SMALL", "BIG"] | None = None
    drop_thinking: bool | None = None


class KeySettings(Section, frozen=True, kw_only=True):
    """One of an upstream's keys. `id` is its public name; without one it is the upstream's name and its place."""

    key: Secret
    id: Text | None = None
    backup: bool = False
    max_in_flight: Count | None = None
    proxy: Text | None = None
    spend_limit_nusd: Usd | None = None
    spend_period: SpendPeriod = "total"


class TimeoutSettings(Section, frozen=True, kw_only=True):
    """Deadlines towards an upstream. The first byte may take long because reasoning models think before they speak."""

    connect_s: Seconds = Seconds(10)
    first_byte_s: Seconds = Seconds(300)
    idle_s: Seconds = Seconds(120)


class ThrottleSettings(Section, frozen=True, kw_only=True):
    """How much an upstream is sent. Beyond it requests wait in a queue, first come first served."""

    per_minute: Count | None = None
    per_hour: Count | None = None
    per_day: Count | None = None
    max_in_flight: Count | None = None
    max_queue: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 100
    queue_timeout_s: Seconds = Seconds(10)


class PathSettings(Section, frozen=True, kw_only=True):
    """Complete paths on the host, for an upstream that does not follow the custom."""

    openai: UrlPath | None = None
    responses: UrlPath | None = None
    anthropic: UrlPath | None = None
    gemini: UrlPath | None = None

    def by_wire(self) -> dict[WireType, UrlPath | None]:
        return {wire: getattr(self, wire) for wire in get_args(WireType)}


class UpstreamSettings(Section, frozen=True, kw_only=True):
    """A provider: where it is, what it speaks, which keys we spend there."""

    base_url: BaseUrl
    type: WireType | None = None
    formats: tuple[WireType, ...] | None = None
    api_key: Secret | None = None
    keys: tuple[KeySettings, ...] = ()
    headers: dict[str, HeaderValue] = {}
    paths: PathSettings = PathSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    proxies: tuple[Text, ...] = ()
    throttle: ThrottleSettings | None = None
    drop_thinking: bool = False
    spend_endpoint: UrlPath | None = None
    key_header: KeyHeader | None = None
    cannot: tuple[Feature, ...] = ()

    @property
    def spoken(self) -> tuple[WireType, ...]:
        if self.type is not None:
            return (self.type,)
        return self.formats or ()

    @property
    def key_entries(self) -> tuple[KeySettings, ...]:
        return self.keys or (() if self.api_key is None else (KeySettings(key=self.api_key),))

    def named_keys(self, upstream: str) -> tuple[tuple[str, Secret], ...]:
        """The keys with their public ids, which never derive from the secret."""
        named = enumerate(self.key_entries, start=1)
        return tuple((entry.id or f"{upstream}-{place}", entry.key) for place, entry in named)


class FilterSettings(Section, frozen=True, kw_only=True):
    """Words to be replaced. No `upstreams` means all of them. (`on` would be nicer, but YAML takes it for true.)"""

    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PATTERN)]
    replacement: Annotated[str, msgspec.Meta(max_length=MAX_REPLACEMENT)]
    where: Annotated[tuple[Literal["request", "response"], ...], msgspec.Meta(min_length=1)] = ("request", "response")
    ignore_case: bool = False
    whole_word: bool = False
    upstreams: tuple[Text, ...] = ()

    @property
    def rule(self) -> FilterRule:
        return FilterRule(
            pattern=self.pattern,
            replacement=self.replacement,
            ignore_case=self.ignore_case,
            whole_word=self.whole_word,
            in_requests="request" in self.where,
            in_responses="response" in self.where,
        )


class Spending(Section, frozen=True, kw_only=True):
    """How the spending of upstream keys is watched."""

    check_interval_s: Seconds = Seconds(60)
    margin_percent: Annotated[int, msgspec.Meta(ge=0, le=50)] = 5  # for what is under way when a key is rested


class Limits(Section, frozen=True, kw_only=True):
    """What one caller, one address and the whole gateway may take."""

    dev_rpm: Count = 300
    pro_rpm: Count = 1000
    max_body_bytes: ByteSize = ByteSize(32 * 2**20)  # the largest body that providers take, images included
    max_in_flight: Count = 10_000
    max_connections: Count = 20_000  # twice the requests in flight: idle keep-alive connections need room too
    max_connections_per_ip: Count = 1000  # trusted proxies are exempt: behind nginx all come from one address
    header_timeout_s: Seconds = Seconds(15)
    body_timeout_s: Seconds = Seconds(60)
    keep_alive_s: Seconds = Seconds(75)  # nginx's own; aiohttp's hour would let idle clients hold every slot
    failed_auth_per_minute_per_ip: Count = 60
    stream_ping_s: Seconds = Seconds(15)  # below the shortest idle timeout that is common between here and a client
    thought_memory_bytes: ByteSize = ByteSize(64 * 2**20)  # some ten thousand turns of thinking models


class Billing(Section, frozen=True, kw_only=True):
    """How charges are written and what is held before usage is known."""

    batching: bool = True
    flush_interval_s: Seconds = Seconds(1)
    default_max_output_tokens: Count = 4096
    drain_after_disconnect_s: Seconds = Seconds(
        5
    )  # most answers end within it, and then the bill is the provider's own
    audit_interval_s: SecondsOrOff = SecondsOrOff(3600)
    bytes_per_token: Annotated[int, msgspec.Meta(ge=1, le=16)] = 3  # below 4, English's average, so holds err high


class Retry(Section, frozen=True, kw_only=True):
    """What is done where an upstream fails, before the client has seen anything."""

    tries: Count = 8  # passes 99.6 % of requests where every second try fails
    deadline_s: Seconds = Seconds(60)
    budget_percent: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 120  # where every second try fails it takes 100


class Log(Section, frozen=True, kw_only=True):
    """What the log tells and in which shape."""

    level: LogLevel = "info"
    format: LogFormat = "text"


class Settings(Section, frozen=True, kw_only=True):
    """All of it. `listeners` is never empty after loading and is what counts; `port` is its shorthand."""

    host: Text = "0.0.0.0"  # noqa: S104  # a gateway is there to be reached; nginx and the firewall say by whom
    port: Port = DEFAULT_PORT
    listeners: tuple[Listener, ...] = (Listener(port=DEFAULT_PORT, wallet="legacy"),)
    debug: bool = False
    demo: bool = True
    data_dir: Text = "./data"
    mongodb_uri: MongoUri | None = None
    models: tuple[ModelSettings, ...] = ()
    upstreams: dict[str, UpstreamSettings] = {}
    proxies: dict[str, ProxyUrl] = {}
    fallback_upstream: Text | None = None
    limits: Limits = Limits()
    trusted_proxies: tuple[Cidr, ...] = (Cidr("127.0.0.0/8"), Cidr("::1/128"))
    billing: Billing = Billing()
    reload_interval_s: Seconds = Seconds(30)
    proxy_probe_interval_s: SecondsOrOff = SecondsOrOff(2)  # below a proxy's first rest, so that requests seldom probe
    drain_timeout_s: Seconds = Seconds(30)
    retry: Retry = Retry()
    filters: tuple[FilterSettings, ...] = ()
    spending: Spending = Spending()
    log: Log = Log()
    proxy_api_key: LongSecret | None = None
    pepper: LongSecret | None = None

    @property
    def log_level(self) -> LogLevel:
        return "debug" if self.debug else self.log.level

    @property
    def trusted_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        return tuple(ipaddress.ip_network(network) for network in self.trusted_proxies)

    def upstream_of(self, model: ModelSettings) -> str | None:
        """The name of the upstream that serves a model, aliases resolved. None: none is named, none to fall back to."""
        named = model.upstream or self.fallback_upstream
        if named is not None:
            return self.resolve(named)
        return next((name for name in (OPENHANDS, MAIN) if name in self.upstreams), None)

    def resolve(self, named: str) -> str:
        """The name of an upstream that may have been called by its alias."""
        return named if named in self.upstreams else ALIASES.get(named, named)

    def describe(self) -> dict[str, object]:
        """The settings in the file's words, with every secret masked."""
        described = _describe(self)
        assert isinstance(described, dict)
        return described


def _describe(value: object) -> object:
    if isinstance(value, Section):
        fields = msgspec.structs.fields(value)
        return {field.encode_name: _describe(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {key: _describe(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_describe(item) for item in value]
    if isinstance(value, Seconds | ByteSize | Usd | Multiplier | Secret):
        return value.shown()
    return str(value) if isinstance(value, str) else value
