"""Whoever goes away, and whenever: one charge by the published table, and a receipt that names its row.

The real gateway on loopback, in the test's own event loop, with a provider that is scripted frame by frame: it stops
where the script says and goes on when the test lets it, so each phase is met exactly and nothing waits for a time.
"""

import asyncio
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from tests.e2e.books import demo_cost_nusd
from tests.e2e.talk import ANTHROPIC, DIALECTS, Dialect, RawStream
from tests.faults.scripted_house import (
    FAILED,
    LAST_CHUNK,
    OUT_TOKENS,
    PROMPT_TOKENS,
    SPEAKS,
    WHOLE_NUSD,
    WORDS,
    House,
    Step,
    body_of,
    chunk,
    play,
    poll,
    request_of,
    steps_of,
)
from trollproxy.money.settle import POLICY
from trollproxy.records import Charge, EndedBy

# The client goes


async def leave(house: House, stream: RawStream) -> None:
    """Hang up, and see that the gateway knows."""
    server = house.gateway._listening[0].server
    stream._writer.transport.abort()
    await poll(lambda: not server._open)


async def read_rest(stream: RawStream) -> bytes:
    """To the end of the HTTP message, or of the connection."""
    with suppress(ConnectionError):
        while not stream.body.endswith(b"0\r\n\r\n") and (piece := await stream._reader.read(65_536)):
            stream.body += piece
    return stream.body


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """`sent`: of the answer's steps before the client leaves; `tokens` are among them."""

    name: str
    sent: int
    tokens: int


PHASES = (
    Phase(name="before-head", sent=0, tokens=0),
    Phase(name="before-first-token", sent=2, tokens=0),
    Phase(name="mid-stream", sent=4, tokens=2),
    Phase(name="after-last-token", sent=2 + OUT_TOKENS, tokens=OUT_TOKENS),
)


async def ask_and_leave(house: House, dialect: Dialect, phase: Phase) -> RawStream:
    """Read what was sent up to the phase, then leave."""
    steps = steps_of(dialect)
    house.provider.script = [*steps[: phase.sent], "wait", *steps[phase.sent :]]
    stream = RawStream(*await asyncio.open_connection("127.0.0.1", house.port))
    stream._writer.write(request_of(house, dialect))
    await house.provider.waits.wait()
    if phase.sent:
        await stream._read_head()
        marks = [b"word%d" % (phase.tokens - 1)] if phase.tokens else [b"message_start", b'"role":"assistant"']
        while not any(mark in stream.body for mark in marks):
            stream.body += await stream._reader.read(65_536)
    await leave(house, stream)
    return stream


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_client_that_leaves_and_a_provider_that_ends(tmp_path: Path, dialect: Dialect, phase: Phase) -> None:
    """Within the drain the provider's own count still comes, and is the bill."""

    async def scene(house: House) -> None:
        stream = await ask_and_leave(house, dialect, phase)
        house.provider.goes_on.set()
        charge = await house.only_charge()
        assert (charge.ended_by, charge.is_estimated, charge.cost_nusd) == ("client_disconnected", False, WHOLE_NUSD)
        await house.check_header(stream, charge)

    play(tmp_path, scene)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_client_that_leaves_and_a_provider_that_does_not_end(tmp_path: Path, dialect: Dialect, phase: Phase) -> None:
    async def scene(house: House) -> None:
        stream = await ask_and_leave(house, dialect, phase)
        charge = await house.only_charge()
        assert charge.ended_by == "client_disconnected"
        check_counted(charge, dialect, phase.tokens, has_start=phase.sent > 0)
        await house.check_header(stream, charge)

    play(tmp_path, scene, drain="50ms")


def check_counted(charge: Charge, dialect: Dialect, tokens: int, *, has_start: bool = True) -> None:
    """By size what was relayed; the input too, unless the stream's start has told it."""
    is_told = dialect is ANTHROPIC and has_start
    if is_told:
        assert charge.usage.uncached == PROMPT_TOKENS
    else:
        assert abs(charge.usage.uncached - len(body_of(dialect)) / 4) < 3  # models' names differ in length
    # Anthropic's start counts a first token before it is relayed.
    assert charge.usage.out_text == max(-(-len("".join(WORDS[:tokens])) // 4), int(is_told))
    assert charge.is_estimated
    assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached, out=charge.usage.out_text)


@pytest.mark.parametrize("drain", ["50ms", "30s"])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_client_that_leaves_before_the_end_of_the_message(tmp_path: Path, dialect: Dialect, drain: str) -> None:
    """It has the whole answer and was charged before that; what is left is HTTP's own end."""

    async def scene(house: House) -> None:
        steps = steps_of(dialect)
        stream = await house.ask(dialect, [*steps[:-1], "wait", steps[-1]])
        while not any(mark in stream.body for mark in (b"[DONE]", b"message_stop")):
            stream.body += await stream._reader.read(65_536)
        await leave(house, stream)
        house.provider.goes_on.set()
        charge = await house.only_charge()
        assert (charge.ended_by, charge.is_estimated, charge.cost_nusd) == ("completed", False, WHOLE_NUSD)
        await house.check_header(stream, charge)

    play(tmp_path, scene, drain=drain)


# The provider goes, or is silent


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """How the provider breaks. `sent`: steps of the answer before, None for a break that sends no head of ours."""

    name: str
    ended_by: EndedBy
    sent: int | None = None
    step: str = ""
    model: str = "m"
    tokens: int = 0


BREAKS = (
    Break(name="refused", ended_by="provider_error_before_token", model="closed"),
    Break(name="status", ended_by="provider_error_before_token", step="status"),
    Break(name="eof-before-head", ended_by="provider_error_before_token", step="cut"),
    Break(name="error-event-first", ended_by="provider_error_before_token", sent=1, step="event"),
    Break(name="error-event-before-token", ended_by="provider_error_before_token", sent=2, step="event"),
    Break(name="error-event-mid-stream", ended_by="provider_error_mid_stream", sent=4, step="event", tokens=2),
    Break(name="eof-before-token", ended_by="provider_error_before_token", sent=2, step="cut"),
    Break(name="eof-mid-stream", ended_by="provider_error_mid_stream", sent=4, step="cut", tokens=2),
    Break(name="eof-after-last-token", ended_by="provider_error_mid_stream", sent=7, step="cut", tokens=5),
    Break(name="ended-mid-stream", ended_by="provider_error_mid_stream", sent=4, step="end", tokens=2),
    Break(name="garbage-first", ended_by="provider_error_before_token", sent=1, step="garbage"),
    Break(name="garbage-mid-stream", ended_by="provider_error_mid_stream", sent=4, step="garbage", tokens=2),
    Break(name="garbage-for-http", ended_by="provider_error_before_token", step="noise"),
    Break(name="garbage-for-a-chunk", ended_by="provider_error_mid_stream", sent=4, step="noise", tokens=2),
    Break(name="silent-before-head", ended_by="timeout_before_token", step="hang", model="hasty"),
    Break(name="silent-before-token", ended_by="timeout_before_token", sent=2, step="hang", model="hasty"),
    Break(name="silent-mid-stream", ended_by="timeout_mid_stream", sent=4, step="hang", model="hasty", tokens=2),
)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_provider_that_is_not_there_and_another_that_is(tmp_path: Path, dialect: Dialect) -> None:
    """The one that answered is on the books, and the client knows of no other."""

    async def scene(house: House) -> None:
        stream = await house.ask(dialect, steps_of(dialect), model="covered")
        body = await read_rest(stream)
        assert all(b"word%d" % number in body for number in range(OUT_TOKENS))
        charge = await house.only_charge()
        assert (charge.provider, charge.upstream_key_id, charge.model) == ("patient", "patient-1", "covered")
        assert (charge.ended_by, charge.is_estimated, charge.cost_nusd) == ("completed", False, WHOLE_NUSD)
        await house.check_header(stream, charge)
        await stream.close()

    play(tmp_path, scene)


def script_of(dialect: Dialect, case: Break) -> list[Step]:
    speaks = SPEAKS[dialect.name]
    last: dict[str, list[Step]] = {
        "": [],
        "status": [FAILED],
        "cut": ["cut"],
        "hang": ["hang"],
        "event": [chunk(speaks.error_frame(529, "overloaded")), LAST_CHUNK],
        "end": [LAST_CHUNK],
        "garbage": [chunk(speaks.garbage_frame()), LAST_CHUNK],
        "noise": [b"\x00\xffnot HTTP at all\r\n\r\n", "cut"],
    }
    return [*steps_of(dialect)[: case.sent or 0], *last[case.step]]


@pytest.mark.parametrize("case", BREAKS, ids=lambda case: case.name)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_provider_that_breaks(tmp_path: Path, dialect: Dialect, case: Break) -> None:
    async def scene(house: House) -> None:
        stream = await house.ask(dialect, script_of(dialect, case), model=case.model)
        body = await read_rest(stream) if case.tokens else stream.body
        charge = await house.only_charge()
        assert charge.ended_by == case.ended_by
        assert all(b"word%d" % number in body for number in range(case.tokens))
        if POLICY[case.ended_by] == "nothing":
            assert (charge.cost_nusd, charge.usage.input_tokens + charge.usage.output_tokens) == (0, 0)
        else:
            check_counted(charge, dialect, case.tokens)
        await house.check_header(stream, charge)
        await stream.close()

    play(tmp_path, scene)
