"""A reply's pieces handed on in the moment they arrive: none lost, none doubled, whoever stops, fails or gives up."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.aio import run
from tests.unit.gateway.rides import begin, outside, settle
from trollproxy.errors import GatewayError, UpstreamBroken
from trollproxy.upstream.reply import Reply


class FakeSource:
    def __init__(self) -> None:
        self.resumed = 0
        self.is_dropped = False
        self.is_reading_paused = True

    def resume(self) -> None:
        self.resumed += 1

    def drop(self) -> None:
        self.is_dropped = True


class Scene:
    """A reply, what arrives of it, and a reader that takes as it is told to: anything once its answers have run out."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.source = FakeSource()
        self.reply = Reply(self.source)
        self.reply.begin(200, {})
        self.taken: list[bytes] = []
        self.told: list[object] = []
        self.before_it_takes: Callable[[], object] = lambda: None
        self._answers = list(answers)

    def take(self, piece: bytes) -> bool:
        self.before_it_takes()
        self.taken.append(piece)
        answer = self._answers.pop(0) if self._answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def read(self) -> None:
        """Until the end, however often it stops on the way."""
        try:
            while not await self.reply.each(self.take):
                self.told.append("stopped")
                await asyncio.sleep(0)
            self.told.append("end")
        except (GatewayError, ValueError) as error:
            self.told.append(error)
        except asyncio.CancelledError:
            self.told.append("cancelled")
            raise

    async def arrive(self, *pieces: bytes) -> None:
        """All of them in one segment, seen by nobody but the reply's reader."""

        def come() -> None:
            for piece in pieces:
                self.reply.push(piece)
            self.reply.wake()

        await outside(come)

    async def end(self, error: GatewayError | None = None) -> None:
        await outside(lambda: self.reply.finish(error))


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(scene())


def test_a_piece_is_taken_before_the_connection_goes_on() -> None:
    async def life() -> None:
        scene = Scene()
        await begin(scene.read())

        def come() -> list[bytes]:
            scene.reply.push(b"a")
            scene.reply.wake()
            return [*scene.taken]

        assert await outside(come) == [b"a"]
        assert scene.source.resumed == 1  # what was taken makes room
        await scene.arrive(b"b", b"c")
        assert scene.taken == [b"a", b"bc"]
        assert scene.told == []
        await scene.end()
        assert scene.told == ["end"]

    play(life)


def test_what_had_come_before_is_taken_at_once() -> None:
    async def life() -> None:
        scene = Scene()
        await scene.arrive(b"a")
        await scene.arrive(b"b")
        await scene.end()
        assert await scene.reply.each(scene.take)
        assert scene.taken == [b"ab"]
        assert await scene.reply.each(scene.take)  # at the end there is no more
        assert scene.taken == [b"ab"]

    play(life)


def test_it_stops_where_it_is_told_to_and_goes_on_later() -> None:
    async def life() -> None:
        scene = Scene(True, False, False)
        await scene.arrive(b"a")
        reading = asyncio.create_task(scene.reply.each(scene.take))
        await settle()

        def come() -> None:
            for piece in (b"b", b"c"):  # the second has to wait for a reader
                scene.reply.push(piece)
                scene.reply.wake()

        await outside(come)
        assert not await reading
        assert scene.taken == [b"a", b"b"]
        assert await scene.reply.read() == b"c"
        await scene.arrive(b"d")
        await scene.end()
        assert not await scene.reply.each(scene.take)  # told so, though that was the last
        assert await scene.reply.each(scene.take)
        assert scene.taken == [b"a", b"b", b"d"]

    play(life)


def test_the_takers_error_is_the_readers_and_the_reply_can_be_read_on() -> None:
    async def life() -> None:
        for is_late in (False, True):
            error = ValueError("x")
            scene = Scene(error)
            if not is_late:
                await scene.arrive(b"a")
            await begin(scene.read())
            if is_late:
                await scene.arrive(b"a")
            assert scene.told == [error]
            await scene.arrive(b"b")
            assert scene.taken == [b"a"]
            assert await scene.reply.read() == b"b"

    play(life)


def test_the_connections_error_comes_after_the_pieces_before_it() -> None:
    async def life() -> None:
        for answers, told in (((True, True), 1), ((True, False), 2)):
            error = UpstreamBroken("cut")
            scene = Scene(*answers)
            await begin(scene.read())
            await scene.arrive(b"a")

            def cut(scene: Scene = scene, error: UpstreamBroken = error) -> None:
                scene.reply.push(b"b")
                scene.reply.finish(error)

            await outside(cut)
            await settle()
            assert scene.taken == [b"a", b"b"]
            assert (len(scene.told), scene.told[-1]) == (told, error)

    play(life)


@pytest.mark.parametrize("is_task", [True, False])
def test_who_is_cancelled_while_waiting_leaves_the_rest_to_others(is_task: bool) -> None:
    async def life() -> None:
        scene = Scene()
        reader = asyncio.create_task(scene.read()) if is_task else (await begin(scene.read())).errand
        await settle()
        await scene.arrive(b"a")
        reader.cancel()
        await settle()
        assert scene.told == ["cancelled"]
        await scene.arrive(b"b")
        await scene.end()
        assert scene.taken == [b"a"]
        assert await scene.reply.read_all(10) == b"b"

    play(life)


@pytest.mark.parametrize("is_task", [True, False])
def test_a_taker_may_close_the_reply(is_task: bool) -> None:
    async def life() -> None:
        scene = Scene()

        scene.before_it_takes = scene.reply.close
        kept = asyncio.create_task(scene.read()) if is_task else await begin(scene.read())
        await settle()
        await scene.arrive(b"a")
        await settle()
        assert [type(each) for each in scene.told] == [UpstreamBroken]
        assert scene.source.is_dropped
        assert kept is not None

    play(life)


def test_two_readers_are_our_bug() -> None:
    async def life() -> None:
        scene = Scene()
        await begin(scene.read())
        with pytest.raises(AssertionError):
            await scene.reply.each(scene.take)
        await scene.arrive(b"a")
        await scene.end()
        assert (scene.taken, scene.told) == ([b"a"], ["end"])

    play(life)


def test_an_errand_that_waits_for_the_head_takes_the_pieces_that_come_with_it() -> None:
    async def life() -> None:
        scene = Scene()
        scene.reply.has_head = False

        async def read() -> None:
            await scene.reply.wait_for_head()
            await scene.read()

        await begin(read())

        def come() -> None:
            scene.reply.begin(200, {})
            scene.reply.push(b"a")
            scene.reply.finish()

        await outside(come)
        assert (scene.taken, scene.told) == ([b"a"], ["end"])

    play(life)


SEGMENTS = st.lists(st.lists(st.binary(min_size=1, max_size=3), max_size=3), max_size=8)


@pytest.mark.parametrize("is_task", [True, False])
@given(SEGMENTS, st.lists(st.booleans(), max_size=8), st.booleans(), st.integers(0, 8), st.data())
def test_whatever_comes_and_wherever_it_stops_it_is_what_read_gives(
    is_task: bool, segments: list[list[bytes]], answers: list[bool], is_cut: bool, begins: int, data: st.DataObject
) -> None:
    error = UpstreamBroken("cut") if is_cut else None

    async def life() -> None:
        scene, plain = Scene(*answers), Scene()
        reading = asyncio.create_task(read_plainly(plain))
        kept: object = None
        for at, segment in enumerate([*segments, []]):
            if at == min(begins, len(segments)):
                kept = asyncio.create_task(scene.read()) if is_task else await begin(scene.read())
            for each in (scene, plain):
                await each.arrive(*segment)
            if data.draw(st.booleans()):
                await settle()
        for each in (scene, plain):
            await each.end(error)
        await reading
        await settle()
        while "stopped" in scene.told:
            scene.told.remove("stopped")
        assert b"".join(scene.taken) == b"".join(plain.taken) == b"".join(map(b"".join, segments))
        assert scene.told == plain.told == [error or "end"]
        assert kept is not None

    play(life)


async def read_plainly(scene: Scene) -> None:
    try:
        while piece := await scene.reply.read():
            scene.taken.append(piece)
        scene.told.append("end")
    except UpstreamBroken as error:
        scene.told.append(error)
