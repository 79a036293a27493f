"""Carrying the answer: what the client sees of which stream, and when it was its turn to wait."""

import asyncio
from contextlib import suppress

import pytest

from tests.fakes import FakeReply, streamed
from tests.unit.gateway.house import ANSWER, COST, COUNT, DELTA, DONE, FINISH, STREAMED, House, ask, play, stream
from trollproxy.records import Charge

WHOLE_STREAM = DELTA + FINISH + COUNT + DONE


def test_every_piece_is_drained_before_the_next_is_read() -> None:
    async def scene(house: House) -> None:
        await house.serve(STREAMED)
        names = [name for name in house.checkpoints.passed if name in {"upstream read", "client drain"}]
        assert names == ["upstream read", "client drain"] * 3 + ["upstream read"]

    play(lambda: House(streamed(DELTA, FINISH, COUNT + DONE)), scene)


def test_half_an_event_is_kept_until_it_is_whole() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(STREAMED)
        assert client.pieces == [DELTA, FINISH + COUNT + DONE]

    play(lambda: House(streamed(DELTA[:20], DELTA[20:], FINISH + COUNT + DONE)), scene)


def test_usage_that_was_not_asked_for_is_charged_and_not_shown() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(ask(stream=True))
        assert client.body == DELTA + FINISH + DONE
        assert b'"include_usage":true' in house.upstream.calls[0].body

    [charge] = play(lambda: House(stream()), scene).sink.charges
    assert charge.cost_nusd == COST


def test_a_stream_may_end_without_its_last_event() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(STREAMED)
        assert (client.body, client.is_ended) == (DELTA + FINISH + COUNT, True)

    [charge] = play(lambda: House(streamed(DELTA, FINISH, COUNT)), scene).sink.charges
    assert (charge.ended_by, charge.cost_nusd) == ("completed", COST)


def test_a_stream_that_ends_amid_its_words_says_so() -> None:
    async def scene(house: House) -> None:
        assert b"upstream_broken" in (await house.serve(STREAMED)).body

    [charge] = play(lambda: House(streamed(DELTA)), scene).sink.charges
    assert charge.ended_by == "provider_error_mid_stream"


@pytest.mark.parametrize("end", [FINISH + COUNT + DONE, FINISH + DONE])
def test_an_empty_reply_has_its_own_row(end: bytes) -> None:
    async def scene(house: House) -> None:
        assert (await house.serve(STREAMED)).is_ended

    [charge] = play(lambda: House(streamed(end)), scene).sink.charges
    assert charge.ended_by == "empty_reply"


def test_an_empty_whole_reply_has_its_own_row() -> None:
    async def scene(house: House) -> None:
        assert (await house.serve()).status == 200

    [charge] = play(lambda: House(FakeReply(b'{"choices":[],"usage":{"prompt_tokens":10}}')), scene).sink.charges
    assert (charge.ended_by, charge.cost_nusd) == ("empty_reply", 10_000)


def test_a_reply_without_usage_is_estimated() -> None:
    async def scene(house: House) -> None:
        await house.serve()

    [charge] = play(lambda: House(FakeReply(b'{"choices":[{"message":{"content":"Hello"}}]}')), scene).sink.charges
    assert charge.is_estimated
    assert charge.usage.input_tokens > 0
    assert charge.usage.output_tokens > 0


def test_the_first_token_is_timed() -> None:
    async def scene(house: House) -> None:
        task = house.begin(STREAMED)
        while not house.upstream.calls:
            await asyncio.sleep(0)
        house.clock.advance(2)
        await task

    [charge] = play(lambda: House(streamed(b": hi\n\n", WHOLE_STREAM)), scene).sink.charges
    assert (charge.first_token_ms, charge.duration_ms) == (2_000, 2_000)


class Endless(FakeReply):
    """Speaks once, then never again."""

    async def read(self) -> bytes:
        if not self._pieces:
            await asyncio.Event().wait()
        return await super().read()


def after_hang_up(reply: FakeReply, body: bytes) -> Charge:
    async def scene(house: House) -> None:
        task = house.begin(body)
        while "upstream read" not in house.checkpoints.passed or (body is STREAMED and not house.client.pieces):
            await asyncio.sleep(0)
        house.client.hang_up()
        with suppress(asyncio.CancelledError):
            await task

    [charge] = play(lambda: House(reply), scene).sink.charges
    assert reply.is_closed
    return charge


def test_after_a_hang_up_patience_ends() -> None:
    reply = Endless(DELTA, headers={"content-type": "text/event-stream"})
    charge = after_hang_up(reply, STREAMED)
    assert (charge.ended_by, charge.is_estimated, charge.usage.out_text) == ("client_disconnected", True, 2)


def test_what_comes_after_a_hang_up_was_not_relayed() -> None:
    """It is not part of our own count; the provider's count, if it comes, has it anyway."""
    reply = Endless(DELTA, DELTA, DELTA, headers={"content-type": "text/event-stream"})
    assert after_hang_up(reply, STREAMED).usage.out_text == 2


def test_after_a_hang_up_a_whole_answer_is_waited_for() -> None:
    charge = after_hang_up(FakeReply(ANSWER[:5], ANSWER[5:]), ask())
    assert (charge.ended_by, charge.cost_nusd, charge.is_estimated) == ("client_disconnected", COST, False)


def test_a_hang_up_before_the_provider_spoke_waits_too() -> None:
    """A whole answer's head comes with its end: cutting there would lose every bill of it."""

    async def scene(house: House) -> None:
        task = house.begin(ask())
        while not house.upstream.calls:
            await asyncio.sleep(0)
        house.client.hang_up()
        with suppress(asyncio.CancelledError):
            await task

    [charge] = play(lambda: House(FakeReply(ANSWER)), scene).sink.charges
    assert (charge.ended_by, charge.cost_nusd, charge.is_estimated) == ("client_disconnected", COST, False)
