"""Streams that go wrong or fall silent, as every SDK sees them on every vendor.

An SDK must never take a broken answer for a whole one, and however it broke there is one charge, by the policy of
docs/guarantees.md.
"""

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as genai_errors

from tests.e2e.cells import gateway_of_cells, model_of
from tests.e2e.clients import CONVERSATIONS, Conversation
from tests.e2e.grid import by_every_sdk, on_every_vendor
from tests.e2e.native import Call, Said, Tokens, Vendor, error_event, events, stream
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import cost_nusd
from tests.e2e.vendors import Played, Vendors, streamed
from trollproxy.chat import Usage
from trollproxy.records import Charge

SAID = Said("One half of what is said, and then the other half.", tokens=Tokens(101, 23, 37))
HALF = SAID.text[: len(SAID.text) // 2]
HALF_TOKENS = 7  # 25 bytes at four each
BEFORE_HALF: dict[Vendor, int] = {"openai": 2, "responses": 5, "anthropic": 4, "gemini": 1}  # events up to the half
BREAKS = ("error", "eof", "reset")
RAISED = (openai.APIError, anthropic.APIError, genai_errors.APIError)
PING_S = 0.1
SILENCE_S = 0.5
KEEP_ALIVES: dict[Vendor, bytes] = {
    "openai": b": ping\n\n",
    "responses": b": ping\n\n",
    "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n',
    "gemini": b"\n",
}


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with Vendors() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    names = [f"{sdk.own}-{what}" for sdk in CONVERSATIONS for what in (*BREAKS, "early", "good", "gone", "left")]
    settings: Any = {
        "limits": {"streamPing": f"{int(PING_S * 1000)}ms"},
        "billing": {"flushInterval": "20ms", "drainAfterDisconnect": "1s"},
    }
    with gateway_of_cells(tmp_path_factory.mktemp("streams"), vendors, names, **settings) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left(vendors: Vendors) -> None:
    vendors.reset()


def opened(gateway: GatewayProcess, sdk: type[Conversation], what: str, vendor: Vendor) -> Conversation:
    return sdk(gateway.url, gateway.key, model_of(f"{sdk.own}-{what}", vendor))


def broken(vendor: Vendor, how: str) -> Played:
    begun = events(vendor, SAID)[: BEFORE_HALF[vendor]]
    if how == "error":
        return streamed(*begun, error_event(vendor))
    return streamed(*begun, is_cut=how == "reset")


def check_half_charged(charge: Charge, vendor: Vendor) -> None:
    """The provider's running figures as far as it gave some; else the sizes of what was asked and relayed."""
    usage = charge.usage
    if vendor == "anthropic":
        assert usage == Usage(uncached=101, read=23, out_text=HALF_TOKENS)
    elif vendor == "gemini":
        assert usage == Usage(uncached=101, read=23, out_text=37)
    else:
        assert usage == Usage(uncached=usage.uncached, out_text=HALF_TOKENS)
        assert 10 <= usage.uncached <= 100
    assert charge.is_estimated
    assert charge.cost_nusd == cost_nusd(Tokens(usage.uncached, usage.read, usage.out_text)) > 0


@pytest.mark.parametrize("how", BREAKS)
@on_every_vendor
@by_every_sdk
def test_a_stream_that_breaks_is_raised_and_charged_once(
    gateway: GatewayProcess, vendors: Vendors, sdk: type[Conversation], *, vendor: Vendor, how: str
) -> None:
    """Both by the SDK's own assembling and by plain listening, which has heard what there was."""
    words: list[str] = []
    with gateway.bill() as bill, opened(gateway, sdk, how, vendor) as conversation:
        conversation.say("Hello")
        vendors.play(broken(vendor, how), broken(vendor, how))
        with pytest.raises(RAISED):
            conversation.ask(stream=True)
        with pytest.raises(RAISED):
            words.extend(conversation.hear())
    assert "".join(words) == HALF
    assert len(vendors.seen) == len(bill) == 2
    for charge in bill:
        assert charge.ended_by == "provider_error_mid_stream"
        check_half_charged(charge, vendor)


@on_every_vendor
@by_every_sdk
def test_a_stream_that_begins_with_an_error_is_refused_as_a_whole_answer(
    gateway: GatewayProcess, vendors: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    with gateway.bill() as bill, opened(gateway, sdk, "early", vendor) as conversation:
        conversation.say("Hello")
        vendors.play(streamed(error_event(vendor)))
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError, genai_errors.ServerError)):
            list(conversation.hear())
    (charge,) = bill
    assert (charge.cost_nusd, charge.ended_by) == (0, "provider_error_before_token")


@on_every_vendor
@by_every_sdk
def test_a_silent_vendor_is_waited_for(
    gateway: GatewayProcess, vendors: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    """Silence before the first word, between words, and inside of a call's arguments."""
    said = Said(SAID.text, calls=(Call("call_1", "look", '{"at": "the sky"}'),))
    last = len(events(vendor, said)) - 1
    silences = {0: SILENCE_S, BEFORE_HALF[vendor]: SILENCE_S, max(last - 2, BEFORE_HALF[vendor] + 1): SILENCE_S}
    with gateway.bill() as bill, opened(gateway, sdk, "good", vendor) as conversation:
        conversation.say("Hello")
        vendors.play(stream(vendor, said, silences=silences))
        heard = conversation.ask(stream=True)
    assert (heard.text, [name for _, name, _ in heard.calls]) == (said.text, ["look"])
    assert conversation.raw.count(KEEP_ALIVES[sdk.own]) >= 3
    (charge,) = bill
    assert (charge.cost_nusd, charge.ended_by) == (cost_nusd(said.tokens), "completed")


@on_every_vendor
@by_every_sdk
def test_who_hangs_up_pays_what_the_vendor_counts_in_time(
    gateway: GatewayProcess, vendors: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    with gateway.bill() as bill, opened(gateway, sdk, "gone", vendor) as conversation:
        conversation.say("Hello")
        vendors.play(stream(vendor, SAID, silences={BEFORE_HALF[vendor]: 0.3}))
        assert next(iter(conversation.hear())) == HALF
    (charge,) = bill
    assert (charge.ended_by, charge.is_estimated) == ("client_disconnected", False)
    assert charge.cost_nusd == cost_nusd(SAID.tokens)


@on_every_vendor
@by_every_sdk
def test_who_hangs_up_on_a_slow_vendor_pays_what_was_relayed(
    gateway: GatewayProcess, vendors: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    with gateway.bill() as bill, opened(gateway, sdk, "left", vendor) as conversation:
        conversation.say("Hello")
        vendors.play(stream(vendor, SAID, silences={BEFORE_HALF[vendor]: 10}))
        assert next(iter(conversation.hear())) == HALF
    (charge,) = bill
    assert charge.ended_by == "client_disconnected"
    check_half_charged(charge, vendor)
