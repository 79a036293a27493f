"""Who waits goes out behind the record that it waits for, in order; and what may not go without it does not."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from trollproxy.errors import GatewayError, Overloaded
from trollproxy.outbox import MAX_HELD, Outbox


class Desk:
    """An outbox with all that is around it. `happened` is what anybody outside could see, in order."""

    def __init__(self, *, has_later: bool = True) -> None:
        self.happened: list[str] = []
        self.turn: list[Callable[[], object]] = []  # what is called at its end
        self.error: GatewayError | None = None
        self.while_put_down: Callable[[], object] = lambda: None
        self.outbox = Outbox(self.turn.append if has_later else None)
        self.outbox.put_down = self.put_down

    def put_down(self) -> None:
        self.happened.append("put down" if self.error is None else "not put down")
        self.while_put_down()
        if self.error is not None:
            raise self.error

    def end_turn(self) -> None:
        calls = self.turn[:]
        self.turn.clear()
        for call in calls:
            call()

    def answer(self, text: str, transport: "Transport | None" = None) -> None:
        """What goes out in any case."""
        self.outbox.send(cast("asyncio.WriteTransport", transport or Transport(self)), text.encode())

    def ask(self, text: str, refuse: Callable[[GatewayError], object] | None = None) -> None:
        """What may not go out without its record."""

        def refused(error: GatewayError) -> None:
            self.happened.append(f"{text} refused")
            assert error is self.error

        self.outbox.send(cast("asyncio.WriteTransport", Transport(self)), text.encode(), refuse or refused)


class Transport:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self._desk.happened.append(data.decode())

    def is_closing(self) -> bool:
        return self.is_closed


def test_while_nothing_waits_all_goes_out_at_once() -> None:
    desk = Desk()
    desk.answer("chunk")
    desk.ask("question")
    assert desk.happened == ["chunk", "question"]
    assert desk.turn == []
    assert desk.outbox.flush() is None
    assert desk.happened == ["chunk", "question"]


def test_what_is_given_while_a_record_waits_goes_out_behind_it_in_order() -> None:
    desk = Desk()
    desk.answer("before")
    desk.outbox.wait()
    desk.ask("first")
    desk.answer("second")
    desk.outbox.wait()
    desk.ask("third")
    assert desk.happened == ["before"]
    assert len(desk.turn) == 1
    desk.end_turn()
    assert desk.happened == ["before", "put down", "first", "second", "third"]
    desk.answer("after")
    assert desk.happened[-1] == "after"


def test_every_turn_is_put_down_by_itself() -> None:
    desk = Desk()
    for name in ("one", "two"):
        desk.outbox.wait()
        desk.answer(name)
        desk.end_turn()
    assert desk.happened == ["put down", "one", "put down", "two"]


def test_who_cannot_wait_for_the_end_of_the_turn_flushes_for_all() -> None:
    desk = Desk()
    desk.outbox.wait()
    desk.answer("answer")
    assert desk.outbox.flush() is None
    assert desk.happened == ["put down", "answer"]
    desk.end_turn()
    assert desk.happened == ["put down", "answer"]


def test_what_may_not_go_out_without_its_record_is_refused_and_all_else_is_sent() -> None:
    desk = Desk()
    desk.error = Overloaded("The disk takes nothing.")
    desk.outbox.wait()
    desk.ask("question")
    desk.answer("answer")
    desk.ask("other question")
    assert desk.outbox.flush() is desk.error
    assert desk.happened == ["not put down", "question refused", "answer", "other question refused"]
    desk.error = None
    desk.outbox.wait()
    desk.ask("question")
    desk.end_turn()
    assert desk.happened[4:] == ["put down", "question"]


def test_who_has_closed_meanwhile_is_passed_over() -> None:
    desk = Desk()
    gone = Transport(desk)
    desk.outbox.wait()
    desk.answer("to nobody", gone)
    desk.answer("answer")
    gone.is_closed = True
    desk.end_turn()
    assert desk.happened == ["put down", "answer"]


def test_who_waits_first_does_not_wait_for_all_that_a_turn_brings() -> None:
    desk = Desk()
    desk.outbox.wait()
    names = [f"answer {number}" for number in range(MAX_HELD)]
    for name in names[:-1]:
        desk.answer(name)
    assert desk.happened == []
    desk.answer(names[-1])
    assert desk.happened == ["put down", *names]
    desk.end_turn()
    assert desk.happened == ["put down", *names]


def test_without_an_end_of_the_turn_nothing_is_put_off() -> None:
    desk = Desk(has_later=False)
    desk.outbox.wait()
    desk.answer("answer")
    assert desk.happened == ["put down", "answer"]
    desk.error = Overloaded("The disk takes nothing.")
    with pytest.raises(Overloaded) as caught:
        desk.outbox.wait()
    assert caught.value is desk.error
    desk.answer("sorry")
    assert desk.happened[2:] == ["not put down", "sorry"]


def test_what_comes_of_a_refusal_waits_for_the_next_turn() -> None:
    """Who is refused puts a charge down, and is told behind it."""
    desk = Desk()
    desk.error = Overloaded("The disk takes nothing.")

    def refused(_: GatewayError) -> None:
        desk.outbox.wait()
        desk.answer("sorry")

    desk.outbox.wait()
    desk.ask("question", refused)
    desk.answer("answer")
    desk.end_turn()
    assert desk.happened == ["not put down", "answer"]
    desk.error = None
    desk.end_turn()
    assert desk.happened == ["not put down", "answer", "put down", "sorry"]


def test_what_waits_while_others_are_put_down_is_not_taken_for_down() -> None:
    desk = Desk()
    desk.outbox.wait()
    desk.answer("first")

    def more() -> None:
        desk.while_put_down = lambda: None
        desk.outbox.wait()
        desk.ask("second")

    desk.while_put_down = more
    desk.end_turn()
    assert desk.happened == ["put down", "first"]
    desk.end_turn()
    assert desk.happened == ["put down", "first", "put down", "second"]


def test_a_refusal_may_flush_what_came_of_it() -> None:
    """As a connection does that is to be closed behind its answer."""
    desk = Desk()
    desk.error = Overloaded("The disk takes nothing.")

    def refused(_: GatewayError) -> None:
        desk.outbox.wait()
        desk.answer("sorry")
        desk.outbox.flush()

    desk.outbox.wait()
    desk.ask("question", refused)
    desk.answer("answer")
    desk.end_turn()
    assert desk.happened == ["not put down", "not put down", "sorry", "answer"]
    desk.end_turn()
    assert desk.happened.count("sorry") == desk.happened.count("answer") == 1


def test_a_bug_in_putting_down_keeps_nobody_waiting() -> None:
    desk, refused = Desk(), list[GatewayError]()
    desk.outbox.wait()
    desk.ask("question", refused.append)
    desk.answer("answer")
    desk.while_put_down = lambda: dict[str, str]()["bug"]
    with pytest.raises(KeyError):
        desk.end_turn()
    assert [error.code for error in refused] == ["internal_error"]
    assert desk.happened == ["put down", "answer"]
