"""Every failure of a provider in every phase: what the client sees, who was asked with which key, and what it cost.

Each failure has providers of its own in one gateway, twice: *alone*, with two keys and nobody else to ask, and *backed*
by a provider of another format. The scripted providers' own record says who was asked; the books say what was charged.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.aio import run
from tests.e2e.native import Vendor, answer
from tests.integration.failing_upstream import (
    END,
    SAID,
    SSE,
    FailingUpstreams,
    clogged_port,
    closed_port,
    complete,
    head,
    whole,
)
from tests.integration.failures import SPOKEN_BY, Failure, Then, failures
from tests.integration.live_gateway import Line, Live, live
from trollproxy.control.first_start import DEMO_CREDIT_NUSD
from trollproxy.gateway.snapshot import KEY_RESTS
from trollproxy.records import Charge

# Gateway and providers share a loop: who is held up for less must not look like failing. Below `peek.HOLD_S`.
DEADLINE = "600ms"
TIMEOUTS = {"connect": DEADLINE, "firstByte": DEADLINE, "idle": DEADLINE}
TRIES = 3
PRICES = {"input": 3.0, "output": 15.0, "cacheHit": 0.3}
FULL_NUSD = 100 * 3000 + 20 * 300 + 30 * 15_000  # of the tokens that the scripted answers report
BACKING: dict[Vendor, Vendor] = {"openai": "anthropic", "anthropic": "gemini", "gemini": "openai"}
KEYS = ("first", "second")
TABLE = {str(failure): failure for failure in failures()}
ASKED_ALONE: dict[Then, list[str]] = {
    "never": ["first"],
    "key": ["first", "second"],
    "rate": ["first", "second", "first"],
    "provider": ["first", "second", "first"],
    "silent": ["first"],
    "late": ["first"],
}
AT_ONCE = 8  # few, so that a deadline of theirs is not missed for want of a processor
WITHIN_S = 10
LIMIT = 200_000  # bytes of a whole answer, and of an event


@dataclass(frozen=True)
class Seen:
    """What a client got. `code`: of the error, also of one inside a stream; `ok` where it came to its end."""

    status: int
    code: str
    headers: dict[str, str]
    body: bytes


class Played(NamedTuple):
    """One request from all sides."""

    seen: Seen
    asked: list[str]
    charge: Charge


class House:
    """A gateway before all the failing providers."""

    def __init__(self, there: Live, upstreams: FailingUpstreams) -> None:
        self.there = there
        self.upstreams = upstreams

    async def ask(self, model: str, *, stream: bool) -> Seen:
        self.upstreams.relayed[model] = asyncio.Event()
        async with self.there.line() as line:
            await line.send(self.there.request(model=model, stream=stream, max_tokens=50))
            return await self._read(line, model)

    def asked(self, model: str) -> list[str]:
        """Who was asked: by the key's name, or by the provider's where it is the backing one."""
        mine = [asked for asked in self.upstreams.asked if asked.model == model]
        return [asked.key if asked.provider == model else asked.provider for asked in mine]

    async def _read(self, line: Line, model: str) -> Seen:
        text = (await line.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(field.lower().split(": ", 1) for field in text[1:] if field)
        if "content-length" in headers:
            body = await line.reader.readexactly(int(headers["content-length"]))
            return Seen(int(text[0].split()[1]), _code(body), headers, body)
        body = b""
        while not body.endswith(END) and (piece := await line.reader.read(1 << 16)):
            body += piece
            if b"Hello" in body:
                self.upstreams.relayed[model].set()
        return Seen(int(text[0].split()[1]), _code(body), headers, body)


def _code(body: bytes) -> str:
    for line in body.split(b"\n"):
        with suppress(ValueError):
            told = json.loads(line.strip().removeprefix(b"data: "))
            if isinstance(told, dict) and "error" in told:
                return str(told["error"]["code"])
    return "ok" if b"data: [DONE]" in body or b'"usage"' in body else "cut"


def _config(upstreams: FailingUpstreams, ports: dict[str, int]) -> dict[str, Any]:
    configured: dict[str, Any] = {}
    models: list[dict[str, Any]] = []
    for vendor in SPOKEN_BY:
        for stream in (False, True):
            name = _backing(vendor, stream=stream)
            upstreams.scripts[name] = good_acts(vendor, stream=stream)
            configured[name] = {"baseUrl": upstreams.url(name), "type": vendor, "apiKey": "any", "timeouts": TIMEOUTS}
    for failure in TABLE.values():
        for name, backing in (_names(failure)["alone"], None), (_names(failure)["backed"], BACKING[failure.vendor]):
            upstreams.scripts[name] = failure.acts
            keys = [{"id": f"{name}-{key}", "key": key} for key in KEYS]
            url = upstreams.url(name) if failure.port == "open" else f"http://127.0.0.1:{ports[failure.port]}"
            configured[name] = {"baseUrl": url, "type": failure.vendor, "keys": keys, "timeouts": TIMEOUTS}
            others = [] if backing is None else [{"upstream": _backing(backing, stream=failure.stream)}]
            models.append({"id": name, "upstream": name, "fallbacks": others, "pricing": PRICES})
    return {"upstreams": configured, "models": models}


def _names(failure: Failure) -> dict[str, str]:
    place = list(TABLE).index(str(failure))
    return {"alone": f"alone-{place}", "backed": f"backed-{place}"}


def _backing(vendor: Vendor, *, stream: bool) -> str:
    return f"good-{vendor}-{'stream' if stream else 'whole'}"


def good_acts(vendor: Vendor, *, stream: bool) -> list[Any]:
    if stream:
        return [head(kind=SSE), *complete(vendor), END]
    return [whole(json.loads(answer(vendor, SAID).pieces[0]))]


@asynccontextmanager
async def _open(folder: Path) -> AsyncIterator[House]:
    upstreams = FailingUpstreams()
    await upstreams.open()
    with ExitStack() as stack:
        ports = {"closed": stack.enter_context(closed_port()), "clogged": stack.enter_context(clogged_port())}
        more = {"limits": {"devRpm": 100_000, "proRpm": 100_000}, "retry": {"tries": TRIES}}
        async with live(folder, **_config(upstreams, ports), **more) as there:
            yield House(there, upstreams)
    await upstreams.close()


async def _play_all(folder: Path) -> dict[str, Played]:
    """Each failure alone and backed, a few at a time. All requests together leave exactly one charge each."""
    at_once = asyncio.Semaphore(AT_ONCE)
    async with _open(folder) as house:
        seen: dict[str, Seen] = {}

        async def play(name: str, failure: Failure) -> None:
            async with at_once, asyncio.timeout(WITHIN_S):
                seen[name] = await house.ask(name, stream=failure.stream)

        async with asyncio.TaskGroup() as group:
            for failure in TABLE.values():
                for name in _names(failure).values():
                    group.create_task(play(name, failure))
        charges, left = await house.there.books()
        by_model = {charge.model: charge for charge in charges}
        assert len(charges) == len(by_model) == len(seen)
        assert left == DEMO_CREDIT_NUSD - sum(charge.cost_nusd for charge in charges)
        return {name: Played(seen[name], house.asked(name), by_model[name]) for name in seen}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trollproxy.gateway.peek.MAX_REPLY_BODY", LIMIT)
        patch.setattr("trollproxy.wire.sse.EventSplitter.__init__.__defaults__", (LIMIT,))
        return run(_play_all(tmp_path_factory.mktemp("failures")), timeout_s=120)


@pytest.mark.parametrize("name", TABLE)
def test_alone(played: dict[str, Played], name: str) -> None:
    """Nobody else can be asked: the client is told what happened, and pays for what it got."""
    failure = TABLE[name]
    seen, asked, charge = played[_names(failure)["alone"]]
    assert (charge.provider, charge.code) == (_names(failure)["alone"], seen.code)
    assert seen.headers["x-request-id"] == charge.request_id
    if failure.then == "fine":
        assert (seen.status, seen.code, asked) == (200, "ok", ["first"])
        assert (charge.ended_by, charge.cost_nusd) == ("completed", FULL_NUSD)
        return
    assert (seen.status, seen.code) == (failure.status, failure.code)
    assert seen.headers.get("retry-after") == failure.retry_after
    assert asked == (ASKED_ALONE[failure.then] if failure.port == "open" else [])
    phase = "mid_stream" if failure.then == "late" else "before_token"
    assert charge.ended_by == f"{_row(failure)}_{phase}"
    assert bool(charge.cost_nusd) == (failure.then == "late")
    assert charge.cost_nusd <= FULL_NUSD
    assert charge.upstream_key_id.endswith(asked[-1] if asked else KEYS)


@pytest.mark.parametrize("name", TABLE)
def test_backed(played: dict[str, Played], name: str) -> None:
    """Another provider of another format is there: the client notices nothing, if anybody could help it."""
    failure = TABLE[name]
    backing = _backing(BACKING[failure.vendor], stream=failure.stream)
    seen, asked, charge = played[_names(failure)["backed"]]
    if failure.then in {"never", "late", "fine"}:
        assert (seen.status, asked) == (200 if failure.then == "fine" else failure.status, ["first"])
        assert charge.provider == _names(failure)["backed"]
        return
    assert (seen.status, seen.code) == (200, "ok")
    assert b"Hello" in seen.body
    tried = KEYS if failure.then in {"key", "rate"} else KEYS[:1]
    assert asked == [*(tried if failure.port == "open" else ()), backing]
    assert (charge.provider, charge.ended_by, charge.cost_nusd) == (backing, "completed", FULL_NUSD)


def _row(failure: Failure) -> str:
    return "timeout" if failure.code == "upstream_timeout" else "provider_error"


@pytest.mark.parametrize("vendor", SPOKEN_BY)
def test_what_is_charged_for_a_part(played: dict[str, Played], vendor: Vendor) -> None:
    """The provider's usage as far as it gave any, else input and what was relayed, at four bytes a token."""
    failure = TABLE[f"middle-reset-{vendor}-stream"]
    charge = played[_names(failure)["alone"]].charge
    relayed = -(-len("Hello from t") // 4)
    expected = {
        "openai": relayed * 15_000 + charge.usage.uncached * 3000,
        "anthropic": 100 * 3000 + 20 * 300 + relayed * 15_000,
        "gemini": FULL_NUSD,  # its running count comes with each event
    }
    assert charge.is_estimated
    assert charge.cost_nusd == expected[vendor]


def test_who_has_nobody_to_ask_is_told_so_and_pays_nothing(tmp_path: Path) -> None:
    """Every key rests: nothing is sent, nothing is put on the books."""
    name = _names(TABLE["head-401-openai-whole"])["alone"]

    async def scene() -> None:
        async with _open(tmp_path) as house:
            first = await house.ask(name, stream=False)
            assert (first.code, house.asked(name)) == ("upstream_auth", list(KEYS))
            second = await house.ask(name, stream=False)
            assert (second.status, second.code) == (503, "no_upstream_key")
            assert int(second.headers["retry-after"]) <= KEY_RESTS["auth"].first_s
            assert house.asked(name) == list(KEYS)
            charges, left = await house.there.books()
        assert [charge.code for charge in charges] == ["upstream_auth"]
        assert left == DEMO_CREDIT_NUSD

    run(scene())


def test_a_kept_connection_that_was_dropped_is_one_try(tmp_path: Path) -> None:
    """A provider may close a connection that it kept, just when it is used again: that is no failure of its own."""
    name = _names(TABLE["head-400-openai-whole"])["alone"]

    async def scene() -> None:
        async with _open(tmp_path) as house:
            house.upstreams.scripts[name] = good_acts("openai", stream=False)
            assert (await house.ask(name, stream=False)).code == "ok"
            house.upstreams.scripts[name] = ["close"]
            house.upstreams.then[name] = good_acts("openai", stream=False)
            assert (await house.ask(name, stream=False)).code == "ok"
            assert house.asked(name) == ["first", "second", "second"]
            charges, _ = await house.there.books()
        assert [charge.cost_nusd for charge in charges] == [FULL_NUSD, FULL_NUSD]

    run(scene())
