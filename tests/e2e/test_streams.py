"""Streams that end well and badly: a charge for each by the table of money/settle.py, and nothing held afterwards."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import msgspec
import openai
import pytest

from tests.aio import run
from tests.e2e.books import demo_cost_nusd
from tests.e2e.process import GatewayProcess, ScriptedProvider, wait_until
from tests.e2e.talk import ANTHROPIC, DIALECTS, OPENAI, Answer, Dialect, RawStream, ask
from trollproxy.records import Charge, EndedBy

PARALLEL = 200
BILLING = {"flushInterval": "20ms", "drainAfterDisconnect": "300ms"}  # most of what is left ends far later
PRICING = {"input": 1.0, "output": 4.0, "cacheWrite": 1.25, "cacheHit": 0.1}
# A throttled key rests, and a model that fails too often is given a rest: what does so has a model of its own.
FAILING = tuple(f"{kind}-{dialect.name}" for kind in ("throttled", "streams", "wholes") for dialect in DIALECTS)
MODELS = ("scripted", *FAILING)
DEADLINES = {"connect": "2s", "firstByte": "300ms", "idle": "300ms"}
WORDS = (" The", " troll", " guards", " the", " bridge")  # what the provider says to tokens=5


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose upstream is a scripted provider in a process of its own."""
    folder = tmp_path_factory.mktemp("streams")
    with ScriptedProvider(folder / "provider") as provider:
        upstream = {"baseUrl": provider.url, "formats": ["openai", "anthropic"], "apiKey": "k", "timeouts": DEADLINES}
        models = [{"id": name, "upstream": name, "pricing": PRICING, "upstreamModel": "demo"} for name in MODELS]
        served = {"upstreams": dict.fromkeys(MODELS, upstream), "models": models, "retry": {"tries": 1}}
        config = {"billing": BILLING, **served}
        with GatewayProcess(folder / "gateway", config=config) as running:
            yield running


async def stream_to_the_end(gateway: GatewayProcess, dialect: Dialect) -> str:
    stream = await RawStream.open(gateway.port, dialect, gateway.key, "#demo tokens=20 delay_ms=10", max_tokens=600)
    try:
        assert stream.status == 200
        body = await stream.read_all()
        assert (b"[DONE]" if dialect is OPENAI else b"message_stop") in body
        return stream.headers[dialect.request_id]
    finally:
        await stream.close()


async def stream_and_leave(gateway: GatewayProcess, dialect: Dialect, events: int) -> str:
    stream = await RawStream.open(gateway.port, dialect, gateway.key, "#demo tokens=500 delay_ms=20", max_tokens=600)
    try:
        await stream.read_events(events)
        return stream.headers[dialect.request_id]
    finally:
        await stream.close()


def test_two_hundred_streams_and_half_of_them_left(gateway: GatewayProcess) -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        whole = [stream_to_the_end(gateway, DIALECTS[n % 2]) for n in range(PARALLEL // 2)]
        left = [stream_and_leave(gateway, DIALECTS[n % 2], 3 + n % 5) for n in range(PARALLEL // 2)]
        ids = await asyncio.gather(*whole, *left)
        return ids[: len(whole)], ids[len(whole) :]

    with gateway.bill() as bill:  # ledger rows, the balance and the holds are checked by it
        whole, left = run(scenario())
    charges = {charge.request_id: charge for charge in bill}
    assert len(bill) == len(charges) == PARALLEL
    assert charges.keys() == {*whole, *left}
    for request_id in whole:
        check_completed(charges[request_id])
    for request_id in left:
        check_left(charges[request_id])
    assert "every balance is what its ledger entries say" in gateway.command("audit")


def check_completed(charge: Charge) -> None:
    assert (charge.ended_by, charge.is_estimated) == ("completed", False)
    assert charge.usage.out_text == 20
    assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached, out=20)


def check_left(charge: Charge) -> None:
    """Charged for what was relayed, which is more than nothing and far less than the 500 tokens that were to come."""
    assert (charge.ended_by, charge.code, charge.status) == ("client_disconnected", "client_disconnected", 499)
    assert charge.is_estimated
    assert charge.usage.uncached > 0
    assert 0 < charge.usage.out_text < 400
    assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached, out=charge.usage.out_text)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_providers_count_is_waited_for_after_a_hangup(gateway: GatewayProcess, dialect: Dialect) -> None:
    """It comes within `drainAfterDisconnect`, so the bill is exact although the client never saw the end."""

    async def scenario() -> None:
        stream = await RawStream.open(gateway.port, dialect, gateway.key, "#demo tokens=10 delay_ms=10")
        await stream.read_events(3)
        await stream.close()

    with gateway.bill() as bill:
        run(scenario())
    (charge,) = bill
    assert (charge.ended_by, charge.is_estimated, charge.usage.out_text) == ("client_disconnected", False, 10)
    assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached, out=10)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_what_comes_after_a_hangup_was_not_relayed(gateway: GatewayProcess, dialect: Dialect) -> None:
    """docs/guarantees.md: without the provider's count, input and the output *relayed so far* are charged."""

    async def scenario() -> int:
        stream = await RawStream.open(
            gateway.port, dialect, gateway.key, "#demo tokens=1000 delay_ms=1", max_tokens=1000
        )
        await stream.read_events(6)
        sent = len(stream.body)
        await stream.close()
        return sent

    with gateway.bill() as bill:
        sent = run(scenario())
    (charge,) = bill
    assert (charge.ended_by, charge.is_estimated) == ("client_disconnected", True)
    # An event has more than 100 bytes; 40 may have been on their way. In the time of waiting came some 300 more.
    assert charge.usage.out_text < sent // 100 + 40


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider does; what the client gets; what is charged. `tokens`: streamed before the end, if it began."""

    words: str
    ended_by: EndedBy
    statuses: tuple[int, int]  # OpenAI's and Anthropic's
    code: str
    tokens: int | None = None
    only_stream: bool = False
    openai_code: str | None = None  # where that dialect has no word for it

    def code_in(self, dialect: Dialect) -> str:
        return self.openai_code if self.openai_code and dialect is OPENAI else self.code


BEFORE: EndedBy = "provider_error_before_token"
CASES = [
    Case(words="status=400", ended_by=BEFORE, statuses=(400, 400), code="upstream_rejected"),
    Case(words="status=500", ended_by=BEFORE, statuses=(502, 502), code="upstream_failed"),
    Case(words="status=529", ended_by=BEFORE, statuses=(503, 529), code="upstream_overloaded"),
    Case(words="status=503 retry_after_s=7", ended_by=BEFORE, statuses=(503, 529), code="upstream_overloaded"),
    Case(words="cut=head", ended_by=BEFORE, statuses=(502, 502), code="upstream_broken"),
    Case(words="cut=2", ended_by="provider_error_mid_stream", statuses=(200, 200), code="upstream_broken", tokens=2),
    Case(words="cut=4", ended_by="provider_error_mid_stream", statuses=(200, 200), code="upstream_broken", tokens=4),
    Case(words="cut=0", ended_by=BEFORE, statuses=(200, 200), code="upstream_broken", tokens=0),
    Case(
        words="error_event=0",
        ended_by=BEFORE,
        statuses=(502, 529),
        code="upstream_overloaded",
        openai_code="upstream_failed",
        only_stream=True,
    ),
    Case(
        words="error_event=2",
        ended_by="provider_error_mid_stream",
        statuses=(200, 200),
        code="upstream_overloaded",
        openai_code="upstream_failed",
        tokens=2,
        only_stream=True,
    ),
    Case(words="hang=head", ended_by="timeout_before_token", statuses=(504, 504), code="upstream_timeout"),
    Case(words="hang=2", ended_by="timeout_mid_stream", statuses=(200, 200), code="upstream_timeout", tokens=2),
    Case(words="garbage=1", ended_by=BEFORE, statuses=(502, 502), code="upstream_broken"),
]
TABLE = [(dialect, case) for dialect in DIALECTS for case in CASES]
WHOLE = [(dialect, case) for dialect, case in TABLE if not case.only_stream and case.tokens != 0]


def name_of(value: object) -> str:
    return value.name if isinstance(value, Dialect) else value.words if isinstance(value, Case) else ""


def user(words: str) -> Any:
    return [{"role": "user", "content": f"#demo tokens=5 delay_ms=0 {words}"}]


def listen_openai(stream: Any, said: list[str]) -> None:
    """Keep the text as it comes: what was heard before an exception counts."""
    with stream:
        for chunk in stream:
            said.extend(choice.delta.content for choice in chunk.choices if choice.delta.content)


def listen_anthropic(stream: Any, said: list[str]) -> None:
    with stream:
        for event in stream:
            said.extend([event.delta.text] if event.type == "content_block_delta" else [])


def consume_openai(gateway: GatewayProcess, model: str, words: str) -> tuple[list[str], openai.APIError]:
    """The text that came, and the SDK's exception at its end."""
    said: list[str] = []
    with (
        openai.OpenAI(api_key=gateway.key, base_url=f"{gateway.url}/v1", max_retries=0, timeout=20) as sdk,
        pytest.raises(openai.APIError) as caught,
    ):
        listen_openai(sdk.chat.completions.create(model=model, messages=user(words), stream=True), said)
    return said, caught.value


def consume_anthropic(gateway: GatewayProcess, model: str, words: str) -> tuple[list[str], anthropic.APIError]:
    said: list[str] = []
    with (
        anthropic.Anthropic(api_key=gateway.key, base_url=gateway.url, max_retries=0, timeout=20) as sdk,
        pytest.raises(anthropic.APIError) as caught,
    ):
        listen_anthropic(sdk.messages.create(model=model, max_tokens=50, messages=user(words), stream=True), said)
    return said, caught.value


Consume = Callable[[GatewayProcess, str, str], tuple[list[str], openai.APIError | anthropic.APIError]]
CONSUME: dict[str, Consume] = {"openai_chat": consume_openai, "anthropic": consume_anthropic}


@pytest.mark.parametrize(("dialect", "case"), TABLE, ids=name_of)
def test_broken_streams(gateway: GatewayProcess, dialect: Dialect, case: Case) -> None:
    with gateway.bill() as bill:
        said, caught = CONSUME[dialect.name](gateway, f"streams-{dialect.name}", case.words)
    assert tuple(said) == WORDS[: case.tokens or 0]
    (charge,) = bill
    assert (charge.ended_by, charge.code) == (case.ended_by, case.code_in(dialect))
    if case.tokens is None:
        assert getattr(caught, "status_code", None) == case.statuses[dialect is ANTHROPIC]
    check_partial(charge, "".join(said), dialect)


def check_partial(charge: Charge, relayed: str, dialect: Dialect) -> None:
    """Nothing before the first token; then the input, and the output by its size, since no final usage came."""
    if not relayed:
        assert (charge.cost_nusd, charge.usage.input_tokens, charge.usage.output_tokens) == (0, 0, 0)
        assert not charge.is_estimated
        return
    out = -(-len(relayed.encode()) // 4)
    assert (charge.is_estimated, charge.usage.out_text) == (True, out)
    assert charge.usage.uncached > 0
    assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached, out=out)


@pytest.mark.parametrize(("dialect", "case"), WHOLE, ids=name_of)
def test_broken_whole_answers(gateway: GatewayProcess, dialect: Dialect, case: Case) -> None:
    """An answer in one piece breaks before the client has any of it, so nothing is charged."""
    with gateway.bill() as bill:
        answer = post(gateway, dialect, case.words, model=f"wholes-{dialect.name}")
    ended_by = "timeout_before_token" if case.code == "upstream_timeout" else BEFORE
    status = {"upstream_broken": 502, "upstream_timeout": 504}.get(case.code, case.statuses[dialect is ANTHROPIC])
    assert answer.status == status
    assert answer.headers.get("retry-after") == ("7" if "retry_after" in case.words else None)
    (charge,) = bill
    assert charge.request_id == answer.headers[dialect.request_id]
    assert (charge.ended_by, charge.code, charge.cost_nusd) == (ended_by, case.code, 0)


def post(gateway: GatewayProcess, dialect: Dialect, words: str, *, model: str = "scripted", **more: Any) -> Answer:
    body = dialect.ask("", model=model, messages=user(words), **more)
    return ask(gateway.port, "POST", dialect.path, body=body, headers=dialect.authorize(gateway.key))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_throttled_provider(gateway: GatewayProcess, dialect: Dialect) -> None:
    """The provider's 429 is passed on with its time; until then its only key rests and nothing is sent."""
    model = f"throttled-{dialect.name}"
    with gateway.bill() as bill:
        _, caught = CONSUME[dialect.name](gateway, model, "status=429 retry_after_s=30")
        resting = post(gateway, dialect, "", model=model)
    assert isinstance(caught, openai.RateLimitError | anthropic.RateLimitError)
    assert caught.response.headers["retry-after"] == "30"
    assert resting.status == (503 if dialect is OPENAI else 529)
    assert 28 <= int(resting.headers["retry-after"]) <= 30
    (charge,) = bill
    assert (charge.ended_by, charge.code, charge.cost_nusd) == (BEFORE, "upstream_rate_limited", 0)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_is_left_out_is_estimated(gateway: GatewayProcess, dialect: Dialect, *, stream: bool) -> None:
    """By size at four bytes a token; of the answer only what was said counts, as a stream or in one piece."""
    with gateway.bill() as bill:
        answer = post(gateway, dialect, "nousage=1", stream=stream, max_tokens=50)
    assert answer.status == 200
    (charge,) = bill
    assert (charge.ended_by, charge.is_estimated) == ("completed", True)
    body = json.dumps(dialect.ask("", model="scripted", messages=user("nousage=1"), stream=stream, max_tokens=50))
    assert charge.usage.uncached == -(-len(body) // 4)
    assert charge.usage.out_text == -(-len("".join(WORDS)) // 4)
    assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached, out=charge.usage.out_text)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_answer_is_charged_by_its_usage(gateway: GatewayProcess, dialect: Dialect, *, stream: bool) -> None:
    with gateway.bill() as bill:
        answer = post(gateway, dialect, "empty=1", stream=stream)
    assert answer.status == 200
    (charge,) = bill
    assert (charge.ended_by, charge.is_estimated, charge.usage.output_tokens) == ("empty_reply", False, 0)
    assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached) > 0


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_client_that_leaves_before_the_first_token(gateway: GatewayProcess, dialect: Dialect) -> None:
    async def scenario() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = json.dumps(dialect.ask("#demo delay_ms=5000", stream=False)).encode()
        headers = {"host": "gateway", "content-length": str(len(body)), **dialect.authorize(gateway.key)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST {dialect.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await writer.drain()
        await asyncio.to_thread(
            wait_until, lambda: gateway.metrics()["trollproxy_held_usd"] > 0, within_s=5, what="held"
        )
        writer.close()
        await writer.wait_closed()

    with gateway.bill() as bill:
        run(scenario())
    (charge,) = bill
    assert (charge.ended_by, charge.is_estimated, charge.usage.out_text) == ("client_disconnected", True, 0)
    assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached) > 0
