"""The real gateway on loopback, in the test's own event loop, and a provider that is scripted frame by frame.

The provider stops where its script says and goes on when the test lets it, so each phase of an exchange is met exactly
and nothing waits for a time.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

from tests.aio import run
from tests.e2e.books import Books, demo_cost_nusd
from tests.e2e.talk import Dialect, RawStream, ask
from tests.mongod import free_port
from trollproxy.app import Gateway
from trollproxy.config import Settings, load
from trollproxy.money.settle import POLICY
from trollproxy.records import Charge
from trollproxy.web.demo_dialects import Answer, ChatCompletions, Counts, Frames, Messages

SOON_S = 10.0
GIVEN_NUSD = 5 * 10**9
PROMPT_TOKENS, OUT_TOKENS = 40, 5
WORDS = tuple(f" word{n}" for n in range(OUT_TOKENS))
WHOLE_NUSD = demo_cost_nusd(uncached=PROMPT_TOKENS, out=OUT_TOKENS)
PRICING = {"input": 1.0, "output": 4.0, "cacheWrite": 1.25, "cacheHit": 0.1}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
REFUSAL = b'{"error": {"message": "broken", "type": "server_error", "code": null}}'
FAILED = b"HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(REFUSAL),
    REFUSAL,
)

Step = bytes | Literal["wait", "hang", "cut"]
SPEAKS: dict[str, ChatCompletions | Messages] = {"openai_chat": ChatCompletions(), "anthropic": Messages()}


def frames_of(dialect: Dialect) -> Frames:
    counts = Counts(uncached=PROMPT_TOKENS, out=OUT_TOKENS)
    return SPEAKS[dialect.name].frames(Answer(model="m", reply_id="1", text=WORDS, counts=counts))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def steps_of(dialect: Dialect) -> list[Step]:
    """A whole answer: the head, what opens it, the tokens, what closes it, the end of the HTTP message."""
    frames = frames_of(dialect)
    return [HEAD, *map(chunk, (frames.opening, *frames.tokens, frames.closing)), LAST_CHUNK]


class Provider:
    """Performs one script, once a connection. `waits` is set where it stops for the test, which sets `goes_on`."""

    def __init__(self) -> None:
        self.script: list[Step] = []
        self.waits = asyncio.Event()
        self.goes_on = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
                await reader.readexactly(int(length[16:]))
                for step in self.script:
                    await self._perform(step, reader, writer)
        finally:
            writer.transport.abort()

    async def _perform(self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if step == "wait":
            self.waits.set()
            await self.goes_on.wait()
        elif step == "hang":
            await reader.read()
        elif step == "cut":
            writer.write_eof()
            await reader.read()
        else:
            writer.write(step)
            await writer.drain()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class House:
    """A gateway with the scripted provider behind it."""

    def __init__(self, folder: Path, gateway: Gateway, provider: Provider) -> None:
        self.gateway = gateway
        self.provider = provider
        self.key = ""
        self._books = Books(folder / "data" / "trollproxy.sqlite")

    @property
    def port(self) -> int:
        return self.gateway.ports[0]

    async def ask(self, dialect: Dialect, script: list[Step], *, model: str = "m") -> RawStream:
        self.provider.script = script
        return await RawStream.open(self.port, dialect, self.key, "hi", model=model)

    async def only_charge(self) -> Charge:
        """The one row that there is, and a receipt of it; all is settled and nothing held."""
        async with asyncio.timeout(SOON_S):
            await self.gateway.gate.wait_until_empty(SOON_S)
        await self.gateway.writer.flush(SOON_S)
        page = await asyncio.to_thread(self._books.read)
        (charge,) = page.charges.values()
        used = {name: entry for name, entry in page.ledger.items() if entry.kind == "usage"}
        assert {name: -entry.amount_nusd for name, entry in used.items()} == {charge.request_id: charge.cost_nusd}
        assert self.gateway.accounts.held_nusd() == 0
        await self._check_receipt(charge)
        return charge

    async def _check_receipt(self, charge: Charge, path: str | None = None) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        path = path or f"/v1/receipts/{charge.request_id}"
        answer = await asyncio.to_thread(ask, self.port, "GET", path, headers=headers)
        receipt = answer.json()
        told = (receipt["id"], receipt["ended_by"], receipt["charged_by"], receipt["is_estimated"])
        assert told == (charge.request_id, charge.ended_by, POLICY[charge.ended_by], charge.is_estimated)
        assert round(float(receipt["cost_usd"]) * 10**9) == charge.cost_nusd

    async def check_header(self, stream: RawStream, charge: Charge) -> None:
        """What the client had, if it stayed for the head."""
        if not stream.status:
            return
        assert stream.headers["x-trollproxy-receipt"] == f"/v1/receipts/{charge.request_id}"
        assert stream.headers["x-request-id" if "x-request-id" in stream.headers else "request-id"] == charge.request_id


def settings_of(folder: Path, port: int, drain: str) -> Settings:
    timeouts = {"connect": "2s", "firstByte": "300ms", "idle": "300ms"}
    ports = {"scripted": port, "closed": free_port()}
    patient = {**timeouts, "firstByte": "30s", "idle": "30s"}
    upstreams = {
        name: {
            "baseUrl": f"http://127.0.0.1:{ports['closed' if name == 'closed' else 'scripted']}",
            "formats": ["openai", "anthropic"],
            "apiKey": "k",
            "timeouts": timeouts if name == "hasty" else patient,
        }
        for name in ("patient", "hasty", "closed")
    }
    models = [{"id": "m" if name == "patient" else name, "upstream": name, "pricing": PRICING} for name in upstreams]
    models.append({"id": "covered", "upstream": "closed", "fallbacks": ["patient"], "pricing": PRICING})
    config = {
        "port": 0,
        "host": "127.0.0.1",
        "demo": False,
        "dataDir": str(folder / "data"),
        "upstreams": upstreams,
        "models": models,
        "billing": {"drainAfterDisconnect": drain},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return load(str(folder / "config.json"), {}, {})


@asynccontextmanager
async def living(folder: Path, *, drain: str = "30s") -> AsyncIterator[House]:
    provider = Provider()
    listening = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    settings = settings_of(folder, listening.sockets[0].getsockname()[1], drain)
    gateway = Gateway(settings, read_settings=lambda: settings)
    await gateway.open()
    try:
        house = House(folder, gateway, provider)
        office = gateway.office()
        await office.open_account("admin", role="admin")
        await office.credit("admin", GIVEN_NUSD, wallet="legacy", kind="purchase")
        house.key = (await office.issue_key("admin")).secret
        await gateway.listen()
        yield house
    finally:
        await provider.close()
        await gateway.drain()
        listening.close()
        await listening.wait_closed()


def play(folder: Path, scene: Callable[[House], Awaitable[None]], *, drain: str = "30s") -> None:
    async def life() -> None:
        async with living(folder, drain=drain) as house:
            await scene(house)

    run(life())


async def poll(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.001)


def body_of(dialect: Dialect) -> bytes:
    return json.dumps(dialect.ask("hi", stream=True, model="m")).encode()


def request_of(house: House, dialect: Dialect) -> bytes:
    body = body_of(dialect)
    headers = {"host": "gateway", "content-length": str(len(body)), **dialect.authorize(house.key)}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {dialect.path} HTTP/1.1\r\n{head}\r\n".encode() + body
