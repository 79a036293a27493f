"""Telling the client no: once, in its dialect, with the headers that its SDK acts on."""

import json

import pytest

from tests.fake_client import FakeClientStream
from tests.unit.gateway.house import House
from trollproxy.chat import Ask
from trollproxy.errors import GatewayError, InsufficientCredits, InvalidRequest, RateLimited, Unauthenticated
from trollproxy.gateway.exchange import Exchange
from trollproxy.gateway.refusal import error_headers, refuse
from trollproxy.wire import ANTHROPIC, OPENAI_CHAT
from trollproxy.wire.format import Entry, Format

ASK = Ask(model="m", stream=True)


def refused(client: FakeClientStream, wire: Format = OPENAI_CHAT) -> FakeClientStream:
    house = House()
    exchange = Exchange(house.request(wire=wire), "r", house.clock.clock)
    exchange.meter = wire.meter(ASK, Entry()) if client.is_started else None
    refuse(client, InvalidRequest("No."), exchange=exchange, headers=[("x-one", "1")])
    return client


@pytest.mark.parametrize("wire", [OPENAI_CHAT, ANTHROPIC])
def test_an_answer_of_its_own(wire: Format) -> None:
    client = refused(FakeClientStream(), wire)
    assert (client.status, client.body) == wire.write_error(InvalidRequest("No."), "r")
    assert client.headers == {"content-type": "application/json", "x-one": "1"}
    assert client.is_ended


@pytest.mark.parametrize("wire", [OPENAI_CHAT, ANTHROPIC])
def test_the_end_of_a_stream_that_has_begun(wire: Format) -> None:
    client = FakeClientStream()
    client.start(200, [])
    refused(client, wire)
    assert client.pieces == [wire.meter(ASK, Entry()).write_error(InvalidRequest("No."), "r")]
    assert client.is_ended


def test_nobody_is_told_who_is_gone() -> None:
    client = FakeClientStream()
    client.hang_up()
    assert refused(client).pieces == []


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (InvalidRequest("x"), {}),
        (RateLimited("x", retry_after_s=2.0), {"retry-after": "2"}),
        (RateLimited("x", retry_after_s=2.1), {"retry-after": "3"}),
        (RateLimited("x", retry_after_s=0.0), {"retry-after": "0"}),
        (RateLimited("x", retry_after_s=60.0), {"retry-after": "60"}),
        (RateLimited("x", retry_after_s=61.0), {"retry-after": "61", "x-should-retry": "false"}),
        (Unauthenticated("x"), {"www-authenticate": 'Bearer realm="trollproxy"'}),
        (InsufficientCredits("x"), {"x-should-retry": "false"}),
        (InsufficientCredits("x", code="friend_limit_exceeded"), {"x-should-retry": "false"}),
    ],
)
def test_headers_that_clients_act_on(error: GatewayError, headers: dict[str, str]) -> None:
    assert dict(error_headers(error)) == headers


def test_the_words_are_for_people() -> None:
    assert json.loads(refused(FakeClientStream()).body)["error"]["message"] == "No."
