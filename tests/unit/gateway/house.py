"""The pipeline with everything real but the outside: store, provider, client and clock are the fakes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import copy
from typing import Any

import msgspec

from tests.aio import run
from tests.fake_client import FakeClientStream
from tests.fake_journal import MemoryJournal
from tests.fakes import (
    Checkpoints,
    FakeClock,
    FakeReply,
    FakeStore,
    FakeUpstream,
    make_price,
    streamed,
)
from trollproxy.errors import Overloaded
from trollproxy.gateway.access_log import AccessLog
from trollproxy.gateway.attempt import Attempts
from trollproxy.gateway.billing import Billing, HoldPolicy
from trollproxy.gateway.callers import CallerPolicy, Callers
from trollproxy.gateway.exchange import ClientRequest
from trollproxy.gateway.gate import Gate
from trollproxy.gateway.observer import Observer
from trollproxy.gateway.passages import Passages
from trollproxy.gateway.pipeline import Carriers, Pipeline
from trollproxy.gateway.snapshot import Live, Snapshot
from trollproxy.money.accounts import Accounts
from trollproxy.money.recorder import Recorder
from trollproxy.money.writer import Writer, WriterPolicy
from trollproxy.policy.keys import CLIENT_PREFIX, FRIEND_PREFIX, mint, read_key
from trollproxy.policy.retrying import RetryPolicy
from trollproxy.policy.vault import Vault
from trollproxy.records import (
    Charge,
    ClientKey,
    Endpoint,
    FriendKey,
    Intent,
    Model,
    ModelLimit,
    Progress,
    Provider,
    UpstreamKey,
    User,
)
from trollproxy.telemetry.metrics import Metrics
from trollproxy.wire import OPENAI_CHAT
from trollproxy.wire.format import Entry, Format
from trollproxy.wire.thoughts import Memory

PEPPER = b"pepper"
KEY = mint(CLIENT_PREFIX, bytes(range(30)))
FRIEND_KEY = mint(FRIEND_PREFIX, bytes(range(30, 60)))
ENVIRONMENT_KEY = "sk-environment-0123456789"
BALANCE = 5_000_000_000

USAGE = {"prompt_tokens": 100, "completion_tokens": 50}
COST = 150_000  # 150 tokens at a dollar a million
ANSWER = json.dumps({"choices": [{"message": {"content": "Hello"}}], "usage": USAGE}).encode()
DELTA = b'data: {"choices":[{"delta":{"content":"Hello wo"}}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
COUNT = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
DONE = b"data: [DONE]\n\n"


def ask(**members: object) -> bytes:
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
    return json.dumps(request | members).encode()


STREAMED = ask(stream=True, stream_options={"include_usage": True})


class FakeSink:
    """What is put down, in order. `broken` names the step that raises; one that `is_full` refuses intents."""

    def __init__(self, broken: str = "") -> None:
        self.entries: list[Intent | Progress | Charge] = []
        self.is_full = False
        self.at_once: list[bool] = []  # of each intent, whether it could not wait for the end of the turn
        self._broken = broken

    @property
    def intents(self) -> list[Intent]:
        return [entry for entry in self.entries if isinstance(entry, Intent)]

    @property
    def progresses(self) -> list[Progress]:
        return [entry for entry in self.entries if isinstance(entry, Progress)]

    @property
    def charges(self) -> list[Charge]:
        return [entry for entry in self.entries if isinstance(entry, Charge)]

    def intend(self, intent: Intent, *, at_once: bool = False) -> None:
        if self.is_full:
            raise Overloaded("Full.")
        self.at_once.append(at_once)
        self._take("intend", intent)

    def progress(self, progress: Progress) -> None:
        self._take("progress", progress)

    def record(self, charge: Charge) -> None:
        self._take("record", charge)

    def _take(self, step: str, entry: Intent | Progress | Charge) -> None:
        if step == self._broken:
            raise RuntimeError("a bug")
        self.entries.append(entry)


def changed(request: ClientRequest, **members: Any) -> ClientRequest:
    """The same request but for these."""
    other = copy(request)
    for name, value in members.items():
        setattr(other, name, value)
    return other


class House:
    """One user, one model, one provider with two keys."""

    def __init__(self, *answers: FakeReply | Exception, stop_at: int | None = None, broken: str = "") -> None:
        self.checkpoints = Checkpoints(stop_at)
        self.clock = FakeClock()
        self.store = FakeStore(self.checkpoints)
        self.answers = answers
        self.upstream = FakeUpstream(*answers, checkpoints=self.checkpoints)
        self.client = FakeClientStream(checkpoints=self.checkpoints)
        self.sink = FakeSink(broken)
        self.accounts = Accounts()
        self.metrics = Metrics()
        self.lines: list[str] = []  # of the access log
        self.observer = Observer(self.metrics, AccessLog("json", self.lines.append))
        self.policy = HoldPolicy(drain_s=0.01)
        self.journal = MemoryJournal()
        self.recorder = Recorder(self.journal)
        policy = WriterPolicy(interval_s=0.0, jitter=lambda: 0.0)
        self.writer = Writer(self.store, self.accounts, self.recorder, journal=self.journal, policy=policy)
        self.gate = Gate(clock=self.clock.clock, new_request_id=lambda: "req_1", max_in_flight=10)
        self.callers = Callers(self.store, self.writer, self.accounts, policy=_caller_policy())
        self.model = Model(model_id="m", provider="acme", price=make_price(), upstream_model="real-m")
        endpoint = Endpoint(host="acme.test", port=443, tls=True, path="/v1/chat/completions")
        keys = tuple(UpstreamKey(key_id=f"uk-{n}", secret=f"secret-{n}") for n in (1, 2))
        self.provider = Provider(name="acme", endpoints={"openai_chat": endpoint}, keys=keys)
        self.live = Live(Snapshot((), {}))
        self.vault: Vault[Memory] = Vault(1_000_000)
        self.ping_s = 60.0
        self.retries = RetryPolicy(max_rounds=1, patience_s=0.0)  # each provider once, and nobody waits
        self.show()
        self._fill_store()

    def show(self) -> None:
        """Serve the model and the provider as they are now."""
        self.metrics.set_models([self.model.model_id])
        self.live.snapshot = Snapshot([self.model], {"acme": self.provider}, previous=self.live.snapshot)

    def change_user(self, **changes: object) -> None:
        self.store.users["ann"] = msgspec.structs.replace(self.store.users["ann"], **changes)

    def pipeline(self) -> Pipeline:
        return Pipeline(
            gate=self.gate,
            callers=self.callers,
            live=self.live,
            billing=Billing(self.sink, self.policy),
            carriers=self._carriers(),
            observer=self.observer,
        )

    def _carriers(self) -> Carriers:
        passages = Passages(self.vault)
        attempts = Attempts(self.upstream, passages, policy=self.retries, chance=lambda: 0.0, sleep=self._sleep)
        return Carriers(passages=passages, attempts=attempts, ping_s=self.ping_s)

    async def _sleep(self, seconds: float) -> None:
        await self.checkpoints("retry wait")
        self.clock.advance(seconds)

    def request(self, key: str | None = KEY, wire: Format = OPENAI_CHAT) -> ClientRequest:
        return ClientRequest(wire, Entry(), {}, credential=key, peer="1.1.1.1", wallet="legacy")

    def arriving(self, body: bytes) -> Callable[[], Awaitable[bytes]]:
        async def read_body() -> bytes:
            await self.checkpoints("client body")
            return body

        return read_body

    async def serve(
        self, body: bytes | None = None, key: str | None = KEY, wire: Format = OPENAI_CHAT
    ) -> FakeClientStream:
        """Serve one request to a client of its own."""
        client = self.client = FakeClientStream(checkpoints=self.checkpoints)
        arriving = self.arriving(body if body is not None else ask())
        await asyncio.create_task(self.pipeline().serve(self.request(key, wire), client, arriving))
        return client

    def begin(self, body: bytes) -> asyncio.Task[None]:
        return asyncio.create_task(self.pipeline().serve(self.request(), self.client, self.arriving(body)))

    @property
    def asked(self) -> list[str]:
        """The providers that were asked, in order, by the first part of their hosts' names."""
        return [call.endpoint.host.removesuffix(".test") for call in self.upstream.calls]

    @property
    def told(self) -> list[dict[str, Any]]:
        """What the access log says."""
        return [json.loads(line) for line in self.lines]

    @property
    def error_code(self) -> str:
        code: str = json.loads(self.client.body)["error"]["code"]
        return code

    def assert_nothing_is_held(self) -> None:
        account = self.accounts.get("ann")
        assert self.accounts.held_nusd() == 0
        assert self.gate.in_flight == 0
        if account is not None:
            mine = [(c.wallet, c.cost_nusd) for c in self.sink.charges if c.username == "ann"]
            assert account.unflushed == {name: sum(c for w, c in mine if w == name) for name in account.unflushed}

    def _fill_store(self) -> None:
        own, friend = read_key(KEY, PEPPER), read_key(FRIEND_KEY, PEPPER)
        self.store.users["ann"] = User(username="ann", credits_nusd=BALANCE)
        self.store.client_keys[own.key_id] = ClientKey(key_id=own.key_id, key_hash=own.key_hash, username="ann")
        self.store.friend_keys[friend.key_id] = FriendKey(
            key_id=friend.key_id,
            key_hash=friend.key_hash,
            owner="ann",
            model_limits={"m": ModelLimit(daily_limit_nusd=BALANCE)},
        )


def whole() -> FakeReply:
    return FakeReply(ANSWER)


def stream() -> FakeReply:
    return streamed(DELTA, FINISH, COUNT + DONE)


def play(house: Callable[[], House], scene: Callable[[House], Awaitable[None]]) -> House:
    """Build the house inside a loop, run the scene, and see that nothing stays held."""

    async def life() -> House:
        built = house()
        with suppress(asyncio.CancelledError):
            await scene(built)
        built.assert_nothing_is_held()
        return built

    return run(life())


def _caller_policy() -> CallerPolicy:
    return CallerPolicy(pepper=PEPPER, environment_key=ENVIRONMENT_KEY, dev_rpm=3, pro_rpm=10, failed_per_minute=100)
