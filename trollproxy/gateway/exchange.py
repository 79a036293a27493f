"""Everything that is known of one request, from its arrival to its bill.

Metrics, the log line and the charge are all made from this one object when the exchange ends. It decides nothing but
how it ended, which follows from its own facts.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol

from trollproxy.chat import Ask, Usage
from trollproxy.errors import ClientGone, Failure, GatewayError, UpstreamTimeout
from trollproxy.gateway.callers import Caller
from trollproxy.gateway.request_ids import RequestIds
from trollproxy.money.holds import Hold
from trollproxy.policy.echoes import Source
from trollproxy.policy.limits import Verdict, utc_day
from trollproxy.records import EndedBy, Intent, Model, Supplier, UpstreamKey, Wallet
from trollproxy.wire.format import Entry, Format, StreamMeter
from trollproxy.wire.passage import Passage

new_request_id = RequestIds()


class Clock:
    """The two times there are: of day, for people and days; monotonic, for durations and deadlines."""

    __slots__ = ("monotonic", "wall")

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.wall = wall
        self.monotonic = monotonic


Body = bytes | Callable[[], Awaitable[bytes]]  # it has arrived, or this reads it
Outcome = Literal["ok", "lost", "cancelled", "gateway"] | Failure  # lost: a race; gateway: we had no room, or a bug


class Carrier(Protocol):
    """The task that carries an exchange to its end, as far as others touch it."""

    def cancel(self) -> bool: ...


class ClientRequest:
    """What a request's head says. Header names are looked up without regard to case. Many requests may share one."""

    __slots__ = ("credential", "entry", "format", "headers", "peer", "wallet")

    def __init__(
        self,
        wire: Format,
        entry: Entry,
        headers: Mapping[str, str],
        *,
        credential: str | None,
        peer: str,
        wallet: Wallet,
    ) -> None:
        self.format = wire
        self.entry = entry
        self.headers = headers
        self.credential = credential
        self.peer = peer
        self.wallet: Wallet = wallet


class Attempt:
    """One try at a provider, from its beginning to the first token or to what kept that from coming."""

    __slots__ = ("code", "duration_ms", "key_id", "outcome", "provider", "proxy_id", "started_s")

    def __init__(self, provider: str, key_id: str, proxy_id: str, *, started_s: float) -> None:
        self.provider = provider
        self.key_id = key_id
        self.proxy_id = proxy_id
        self.started_s = started_s
        self.duration_ms = 0.0
        self.code = "ok"
        self.outcome: Outcome = "ok"


class Exchange:
    """The facts of one request."""

    def __init__(self, request: ClientRequest, request_id: str, clock: Clock) -> None:
        self.request = request
        self.request_id = request_id
        self.clock = clock
        self.started_at_s = clock.wall()
        self.started_s = clock.monotonic()
        self.day = utc_day(self.started_at_s)  # what daily limits count against
        self.attempts: list[Attempt] = []  # as they ended; the policy bounds their number
        self.task: Carrier | None = None
        self.caller: Caller | None = None
        self.verdict: Verdict | None = None
        self.ask: Ask | None = None
        self.model: Model | None = None
        self.supplier: Supplier | None = None  # whom it goes to; another one where the first fails
        self.upstream_model = ""  # what that one calls it
        self.passage: Passage | None = None
        self.meter: StreamMeter | None = None  # of a streamed answer, from its first byte on
        self.hold: Hold | None = None
        self.upstream_key: UpstreamKey | None = None
        self.lost_cost_nusd = 0  # what tries cost us whose answer nobody got
        self.intent: Intent | None = None  # put down in the journal: from here on it leaves a charge
        self.progress_due_s = 0.0  # when to put down what has been relayed: first with the first token
        self.is_sent = False  # a provider may have seen it
        self.input_bytes = 0
        self.body_hash = 0  # by which the same request is known again
        self.text_crc = 0  # of a whole answer; a stream's meter has its own
        self.cached: Source | None = None  # how it was seen that the provider had the answer, or its prompt, in a cache
        self.output_bytes = 0
        self.usage: Usage | None = None
        self.is_usage_final = False
        self.is_empty = False
        self.first_token_s: float | None = None
        self.error: GatewayError | None = None
        self.is_settled = False
        self.charged: Usage | None = None
        self.cost_nusd = 0

    @property
    def code(self) -> str:
        return self.error.code if self.error is not None else "ok"

    @property
    def status(self) -> int:
        return self.error.status if self.error is not None else 200

    @property
    def generates(self) -> bool:
        """Whether it makes a model speak, which is what costs."""
        return self.request.entry.operation == "generate"

    @property
    def wallet(self) -> Wallet:
        """The model's wallet if it names one, else the listener's."""
        return (self.model.wallet if self.model is not None else None) or self.request.wallet

    @property
    def provider(self) -> str:
        return self.supplier.provider if self.supplier is not None else ""

    def turn(self, supplier: Supplier, upstream_model: str, passage: Passage) -> None:
        """It goes to this one, or it is this one's answer that counts."""
        self.supplier = supplier
        self.upstream_model = upstream_model
        self.passage = passage

    def mark_sent(self) -> None:
        self.is_sent = True

    def first_token_ms(self) -> float | None:
        return None if self.first_token_s is None else (self.first_token_s - self.started_s) * 1000

    def ended_by(self) -> EndedBy:
        """The row of the charge policy."""
        if self.error is None:
            return "empty_reply" if self.is_empty else "completed"
        if isinstance(self.error, ClientGone):
            return "client_disconnected" if self.is_sent else "client_disconnected_before_send"
        relayed = self.output_bytes > 0
        if isinstance(self.error, UpstreamTimeout):
            return "timeout_mid_stream" if relayed else "timeout_before_token"
        return "provider_error_mid_stream" if relayed else "provider_error_before_token"
