"""Filters and the spend checker in the real gateway, before a provider on loopback that tells what its keys spent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.aio import run
from tests.integration.live_gateway import live

USAGE = {"prompt_tokens": 100_000, "completion_tokens": 0}  # $0.10 to us


class Provider:
    """Answers every request in two chunks that cut a word; `spent` is what it tells of each key, in dollars."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(fields["content-length"]))
                key = fields["authorization"].removeprefix("bearer ")
                self.asked.append((head.split(" ", 2)[0], key))
                answer, kind = self._info(key) if head.startswith("GET /key/info ") else self._answer(body)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, len(answer)))
                writer.write(answer)
        except asyncio.IncompleteReadError:
            writer.close()

    def _info(self, key: str) -> tuple[bytes, bytes]:
        return json.dumps(
            {"info": {"spend": self.spent.get(key, 0.0), "max_budget": 100.0}}
        ).encode(), b"application/json"

    def _answer(self, body: bytes) -> tuple[bytes, bytes]:
        self.bodies.append(json.loads(body))
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]},
            {"choices": [{"index": 0, "delta": {"content": "I am a Dro"}}]},
            {"choices": [{"index": 0, "delta": {"content": "id."}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": USAGE},
        ]
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return events.encode(), b"text/event-stream"


@asynccontextmanager
async def provider() -> AsyncIterator[tuple[Provider, dict[str, Any]]]:
    scripted = Provider()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    acme = {
        "baseUrl": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        "type": "openai",
        "dropThinking": True,
        "spendEndpoint": "/key/info",
        "keys": [{"key": "k1", "spendLimit": 0.2}, "k2", "k3"],
    }
    pricing = {"input": 1, "output": 1}
    yield (
        scripted,
        {
            "upstreams": {"acme": acme},
            "models": [{"id": "m", "upstream": "acme", "pricing": pricing, "upstreamPricing": pricing}],
            "filters": [{"pattern": "Droid", "replacement": "agent"}, {"pattern": "secret", "replacement": "thing"}],
            "spending": {"checkInterval": "50ms"},
        },
    )
    server.close()


def test_words_are_replaced_and_keys_rest_before_they_are_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with provider() as (scripted, config), live(tmp_path, **config) as there:
            messages = [{"role": "user", "content": "a secret"}]
            ask = there.request(model="m", stream=True, max_tokens=5, messages=messages)
            answers = [await there.ask(ask) for _ in range(6)]
            assert {answer.status for answer in answers} == {200}
            assert all(b"agent" in answer.body and b"Droid" not in answer.body for answer in answers)
            assert not any(b"hm" in answer.body for answer in answers)
            assert {body["messages"][0]["content"] for body in scripted.bodies} == {"a thing"}
            # k1 has spent its limit by our own count; now the provider tells that k2 has spent its own
            scripted.spent["k2"] = 99.0
            while not there.gateway.spend_checker.spendings.is_spent(("acme", "acme-2"), "2099-01-01"):
                await asyncio.sleep(0.01)
            await there.gateway.spend_checker.look()
            scripted.asked.clear()
            for _ in range(3):
                assert (await there.ask(ask)).status == 200
            assert {key for method, key in scripted.asked if method == "POST"} == {"k3"}
            status = await there.ask(ask.replace(b"POST /v1/chat/completions", b"GET /keys/status", 1))
            shown = json.loads(status.body)["providers"]["acme"]
            assert [(key["state"], key["cause"]) for key in shown] == [
                ("resting", "budget"),
                ("resting", "budget"),
                ("healthy", None),
            ]
            assert shown[0]["spend"]["own_usd"] == "0.20"
            charges, _ = await there.books()
            assert {charge.upstream_cost_nusd for charge in charges} == {100_000_000}

    run(scene())
