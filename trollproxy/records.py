"""What is stored, as frozen structs. Amounts are integers of nano-dollars (`_nusd`); times are Unix seconds (`_at_s`).

These are the words that the stores, the money code and the control plane share. They hold no behaviour beyond what
follows from their own fields, and know nothing of how they are kept.
"""

from typing import Literal

import msgspec

from trollproxy.chat import Feature, FormatName, Usage

NUSD_PER_USD = 1_000_000_000

Wallet = Literal["legacy", "new"]  # legacy: credits, then refCredits. new: creditsNew
Tier = Literal["dev", "pro"]
Role = Literal["user", "admin"]
EndedBy = Literal[
    "completed",
    "client_disconnected",
    "client_disconnected_before_send",
    "provider_error_before_token",
    "provider_error_mid_stream",
    "timeout_before_token",
    "timeout_mid_stream",
    "empty_reply",
    "gateway_crashed_before_token",
    "gateway_crashed",
]
SpendPeriod = Literal["total", "day", "month"]  # of UTC's calendar
CreditKind = Literal["purchase", "refund", "promotional"]


class User(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An account: who pays. `is_migrated` is False where amounts of an imported account are not yet nano-dollars."""

    username: str
    role: Role = "user"
    is_active: bool = True
    is_migrated: bool = True
    password_hash: str | None = None
    credits_nusd: int = 0
    ref_credits_nusd: int = 0
    credits_new_nusd: int = 0
    credits_expire_at_s: float | None = None
    tokens_used: int = 0
    created_at_s: float = 0.0


class ClientKey(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A key that a client presents. `key_id` is public and is how it is found; the secret is kept as a keyed hash."""

    key_id: str
    key_hash: bytes
    username: str
    name: str = ""
    tier: Tier = "dev"
    is_active: bool = True
    expires_at_s: float | None = None
    last_used_at_s: float | None = None
    created_at_s: float = 0.0


class ModelLimit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a friend may do with one model. `daily_limit_nusd` None: as much as the owner's wallet bears."""

    enabled: bool = True
    daily_limit_nusd: int | None = None


class FriendKey(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A key lent to a friend: spends its owner's wallet within per-model limits. Unlisted models are closed."""

    key_id: str
    key_hash: bytes
    owner: str
    name: str = ""
    is_active: bool = True
    model_limits: dict[str, ModelLimit] = {}
    total_spent_nusd: int = 0
    last_used_at_s: float | None = None
    created_at_s: float = 0.0


class Price(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Nano-dollars per million tokens by usage bucket, and the multiplier in millionths (1.05 is 1_050_000).

    `version` names this exact content, so a bill can always be recomputed from what it says.
    """

    version: str
    per_mtok_nusd: dict[str, int]  # keyed by the bucket names of chat.Usage
    multiplier_micro: int = 1_000_000


class UpstreamKey(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A secret of a provider that we may spend. `key_id` is what logs and metrics call it."""

    key_id: str
    secret: str
    is_backup: bool = False  # spent only where the others are lost or rest
    max_in_flight: int | None = None  # requests at one time; None: any number
    proxy_id: str | None = None  # the only one of the provider's proxies it is used through; None: any of them
    spend_limit_nusd: int | None = None  # what it may cost us in a period; None: nobody watches
    spend_period: SpendPeriod = "total"


class OutboundProxy(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A way out of the house for calls to providers. `proxy_id` is what logs and metrics call it."""

    proxy_id: str
    kind: Literal["http", "socks5"]  # http: CONNECT
    host: str
    port: int
    username: str | None = None
    password: str | None = None


class Timeouts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Deadlines towards a provider. First byte is long because reasoning models think before they speak."""

    connect_s: float = 10.0
    first_byte_s: float = 300.0
    idle_s: float = 120.0


class Endpoint(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Where a provider speaks one format. `tls` decides the scheme; `path` is complete."""

    host: str
    port: int
    tls: bool
    path: str


class FilterRule(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Words that are replaced in what passes: a literal, and what stands there instead."""

    pattern: str
    replacement: str
    ignore_case: bool = False
    whole_word: bool = False
    in_requests: bool = True
    in_responses: bool = True


class Pace(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How much a provider is sent, and how many may wait for how long. None: any number."""

    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    max_in_flight: int | None = None
    max_queue: int = 100
    queue_timeout_s: float = 10.0


KeyHeader = Literal["authorization", "x-api-key", "x-goog-api-key", "api-key"]  # authorization: as a Bearer


class Provider(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An upstream service: where it is, which formats it speaks, with which keys and deadlines."""

    name: str
    endpoints: dict[FormatName, Endpoint]
    keys: tuple[UpstreamKey, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    timeouts: Timeouts = Timeouts()
    proxies: tuple[OutboundProxy, ...] = ()  # all calls go through one of them; none: straight
    pace: Pace | None = None  # None: as fast as requests come
    filters: tuple[FilterRule, ...] = ()
    drops_thinking: bool = False  # clients see no reasoning, unless the model says otherwise
    spend_endpoint: Endpoint | None = None  # where it tells what a key has spent; None: it does not
    key_header: KeyHeader | None = None  # where its key stands; None: where its format has it
    cannot: frozenset[Feature] = frozenset()  # what its format can say, and this server does not take


class Supplier(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One of the providers that serve a model: by which name it knows the model, and what it charges us."""

    provider: str
    upstream_price: Price | None = None  # None: unknown, cost is not recorded
    upstream_model: str | None = None  # None: the same name


class Model(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A name that clients ask for, what stands behind it and what it costs. `model_id` ending in `*` is a prefix."""

    model_id: str
    provider: str
    price: Price
    upstream_price: Price | None = None  # what the provider charges us; None: unknown, cost is not recorded
    upstream_model: str | None = None  # None: the provider knows it by the same name
    wallet: Wallet | None = None  # None: the listener decides
    max_output_tokens: int | None = None
    size: Literal["SMALL", "BIG"] | None = None
    fallbacks: tuple[Supplier, ...] = ()  # asked in this order where the provider fails
    race: int = 1  # how many suppliers are asked at a time, the first answer counting
    race_head_start_s: float = 0.0  # what each has over the next
    drops_thinking: bool | None = None  # None: the provider decides

    @property
    def suppliers(self) -> tuple[Supplier, ...]:
        """All who serve it, in the order in which they are asked."""
        first = Supplier(provider=self.provider, upstream_price=self.upstream_price, upstream_model=self.upstream_model)
        return (first, *self.fallbacks)


class Charge(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One exchange on the books: exactly one for every request that was to be forwarded, also at cost 0.

    `seq` grows within one writer; with the writer's id it makes every write idempotent. `username` is empty for the
    environment's key, which nobody is billed for.
    """

    request_id: str
    seq: int = 0  # given when it is journaled
    username: str
    key_id: str
    friend_key_id: str | None = None
    wallet: Wallet
    format: FormatName
    model: str
    upstream_model: str
    provider: str
    upstream_key_id: str
    stream: bool
    status: int
    code: str = "ok"
    ended_by: EndedBy
    usage: Usage
    is_estimated: bool = False
    price_version: str
    multiplier_micro: int
    cost_nusd: int
    upstream_cost_nusd: int | None = None
    lost_cost_nusd: int = 0  # what tries cost us whose answer nobody got: the customer pays nothing of it
    day: str  # UTC date of admission; friend-key limits count against it even when the charge lands after midnight
    started_at_s: float
    first_token_ms: float | None = None
    duration_ms: float


class Intent(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="intent"):
    """All that a charge needs to know of an exchange before it is known what it used."""

    request_id: str
    username: str
    key_id: str
    friend_key_id: str | None
    wallet: Wallet
    format: FormatName
    model: str
    upstream_model: str
    provider: str
    stream: bool
    price: Price
    upstream_price: Price | None
    input_bytes: int
    hold_nusd: int
    day: str
    started_at_s: float
    lost_cost_nusd: int = 0  # by tries before this one


class Progress(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="progress"):
    """What had been relayed at a moment."""

    request_id: str
    usage: Usage | None
    is_usage_final: bool
    output_bytes: int


class Credit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Money put into a wallet (or taken out, when negative). `entry_id` makes applying it twice a no-op."""

    entry_id: str
    username: str
    wallet: Wallet
    kind: CreditKind
    amount_nusd: int
    note: str = ""
    created_at_s: float


class Statement(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A user beside what the ledger's entries say of the wallets."""

    user: User
    ledger_nusd: dict[Wallet, int]


class Batch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one flush of the writer carries to the store. Charges are in order of `seq`."""

    writer: str
    charges: tuple[Charge, ...]
    last_used: dict[str, float] = {}  # key_id -> when it was last used


class ClientKeyMaterial(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A presented key in the two shapes a store can know it by: ours (id and hash), or the seeds' plain text."""

    key_id: str
    key_hash: bytes
    plain: str
