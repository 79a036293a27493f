"""Invoices: exact to the token and the nano-dollar, whatever dialect asked and whichever vendor counted."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.clients import ChatCompletions, Conversation, GenerateContent, Messages, Responses
from tests.e2e.grid import both_ways, by_every_sdk, on_every_vendor, played
from tests.e2e.native import VENDORS, Said, Tokens, Vendor, answer, events
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import PRICES, cost_nusd, model_on, translating_gateway
from tests.e2e.vendors import Played, Vendors, streamed, whole
from trollproxy.chat import Usage

WRITES = {"cacheWrite": 3.75, "cacheWrite1h": 6.0, "cacheWrite30m": 3.9, "cacheWrite12h": 6.3}
NUSD: Mapping[str, int] = {
    "uncached": 3000,
    "write_5m": 3750,
    "write_1h": 6000,
    "write_30m": 3900,
    "write_12h": 6300,
    "read": 300,
    "out_text": 15_000,
    "out_reasoning": 20_000,
}
LONG = "words " * 2000


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with Vendors() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    models = [
        {"id": model_on(name), "upstream": name, "upstreamModel": "real-model", "pricing": PRICES | WRITES}
        for name in VENDORS
    ]
    with translating_gateway(tmp_path_factory.mktemp("usage"), vendors, models=models) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left(vendors: Vendors) -> None:
    vendors.reset()


def invoice(usage: Usage) -> int:
    return sum(getattr(usage, bucket) * price for bucket, price in NUSD.items())


def counted(said: Said, usage: dict[str, Any], *, stream: bool, late: dict[str, Any] | None = None) -> Played:
    """An answer of Anthropic's with these counts; a stream tells them at its start and totals at its end."""
    if not stream:
        message = json.loads(answer("anthropic", said).pieces[0])
        return whole({**message, "usage": usage})
    written = []
    for event in events("anthropic", said):
        name, _, data = event.decode().partition("data: ")
        body = json.loads(data)
        if body["type"] == "message_start":
            body["message"]["usage"] = {**usage, "output_tokens": 1}
        elif body["type"] == "message_delta":
            body["usage"] = late or usage
        written.append(f"{name}data: {json.dumps(body)}\n\n".encode())
    return streamed(*written)


WRITTEN = {
    "input_tokens": 11,
    "cache_creation_input_tokens": 3068,
    "cache_read_input_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 1068},
    "output_tokens": 5,
}
READ = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 3068,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 6,
}


def marked(ttl: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": ttl}}]


@both_ways
def test_a_cache_is_written_and_read_at_its_prices(gateway: GatewayProcess, vendors: Vendors, *, stream: bool) -> None:
    said = Said("Done.")
    vendors.play(counted(said, WRITTEN, stream=stream), counted(said, READ, stream=stream))
    with gateway.bill() as bill, Messages(gateway.url, gateway.key, model_on("anthropic")) as conversation:
        conversation.wants.more = {"system": marked("1h") + marked("5m")}
        conversation.say("Hello")
        first = conversation.ask(stream=stream).usage
        conversation.say("Again")
        second = conversation.ask(stream=stream).usage
    assert [charge.usage for charge in bill] == [
        Usage(uncached=11, write_5m=2000, write_1h=1068, read=7, out_text=5),
        Usage(uncached=12, read=3068, out_text=6),
    ]
    assert [charge.cost_nusd for charge in bill] == [invoice(charge.usage) for charge in bill]
    assert bill[0].cost_nusd == 11 * 3000 + 2000 * 3750 + 1068 * 6000 + 7 * 300 + 5 * 15_000
    assert (first.cache_creation_input_tokens, second.cache_read_input_tokens) == (3068, 3068)


def test_a_later_total_counts(gateway: GatewayProcess, vendors: Vendors) -> None:
    """Recorded of the vendor: the last event tells a larger total, without the split by lifetime."""
    late = {"cache_creation_input_tokens": 3337, "output_tokens": 9}
    start = {**WRITTEN, "cache_creation": {"ephemeral_5m_input_tokens": 3068, "ephemeral_1h_input_tokens": 0}}
    vendors.play(counted(Said("Done."), start, stream=True, late=late))
    with gateway.bill() as bill, Messages(gateway.url, gateway.key, model_on("anthropic")) as conversation:
        conversation.say("Hello")
        conversation.ask(stream=True)
    assert bill[0].usage == Usage(uncached=11, write_5m=3337, read=7, out_text=9)
    assert bill[0].cost_nusd == invoice(bill[0].usage)


@both_ways
@pytest.mark.parametrize("sdk", [ChatCompletions, Responses, GenerateContent], ids=lambda sdk: sdk.own)
def test_other_sdks_are_told_of_the_cache(
    gateway: GatewayProcess, vendors: Vendors, sdk: type[Conversation], *, stream: bool
) -> None:
    """Their totals include what was written and read."""
    vendors.play(counted(Said("Done."), WRITTEN, stream=stream))
    with gateway.bill() as bill, sdk(gateway.url, gateway.key, model_on("anthropic")) as conversation:
        conversation.say("Hello")
        usage = conversation.ask(stream=stream).usage
    assert bill[0].usage == Usage(uncached=11, write_5m=2000, write_1h=1068, read=7, out_text=5)
    assert bill[0].cost_nusd == invoice(bill[0].usage)
    if sdk is ChatCompletions:
        assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (11 + 3068 + 7, 7)
        assert usage.prompt_tokens_details.cache_write_tokens == 3068
    elif sdk is Responses:
        assert (usage.input_tokens, usage.input_tokens_details.cached_tokens) == (11 + 3068 + 7, 7)
    else:
        assert (usage.prompt_token_count, usage.cached_content_token_count) == (11 + 3068 + 7, 7)


@on_every_vendor
def test_cache_marks_are_no_reason_to_refuse(gateway: GatewayProcess, vendors: Vendors, vendor: Vendor) -> None:
    """On every part that takes one, with more of them than any vendor takes."""
    tool = {"name": "look", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
    vendors.play(answer(vendor, Said("Done.")))
    with gateway.bill() as bill, Messages(gateway.url, gateway.key, model_on(vendor)) as conversation:
        conversation.wants.more = {"system": marked("1h") + marked("5m"), "tools": [tool]}
        conversation.messages.append({"role": "user", "content": marked("5m")})
        assert conversation.ask(stream=False).text == "Done."
    assert bill[0].cost_nusd == cost_nusd(Tokens())
    if vendor != "anthropic":
        assert b"cache_control" not in vendors.seen[0].raw
    assert vendors.seen[0].raw.count(LONG.strip().encode()) == 3


@both_ways
@by_every_sdk
@on_every_vendor
def test_thoughts_are_billed_as_thoughts(
    gateway: GatewayProcess, vendors: Vendors, sdk: type[Conversation], *, vendor: Vendor, stream: bool
) -> None:
    said = Said("Done.", "Hm.", tokens=Tokens(1001, 503, 307, 211))
    vendors.play(played(vendor, said, stream=stream))
    with gateway.bill() as bill, sdk(gateway.url, gateway.key, model_on(vendor)) as conversation:
        conversation.say("Hello")
        conversation.ask(stream=stream)
    assert bill[0].usage == Usage(uncached=1001, read=503, out_text=307, out_reasoning=211)
    assert bill[0].cost_nusd == cost_nusd(said.tokens) == invoice(bill[0].usage)


@pytest.mark.parametrize("is_asked", [False, True])
@on_every_vendor
def test_a_stream_tells_usage_exactly_if_asked(
    gateway: GatewayProcess, vendors: Vendors, vendor: Vendor, *, is_asked: bool
) -> None:
    vendors.play(played(vendor, Said("Done."), stream=True))
    with gateway.bill() as bill, ChatCompletions(gateway.url, gateway.key, model_on(vendor)) as conversation:
        conversation.say("Hello")
        if is_asked:
            conversation.wants.more = {"stream_options": {"include_usage": True}}
        assert "".join(conversation.hear()) == "Done."
    events = [line.removeprefix("data: ") for line in b"".join(conversation.raw).decode().split("\n\n") if line]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert [chunk["choices"] for chunk in chunks if chunk.get("usage")] == [[]] * is_asked
    assert len([chunk for chunk in chunks if not chunk["choices"]]) == is_asked
    assert bill[0].cost_nusd == cost_nusd(Tokens())
    if vendor == "openai":
        assert vendors.seen[0].body["stream_options"] == {"include_usage": True}


def hop(text: str, tokens: tuple[int, int], token: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    candidate["finishReason"] = "CONTINUATION" if token else "STOP"
    if token:
        candidate["continuationToken"] = token
    usage = {"promptTokenCount": tokens[0], "candidatesTokenCount": tokens[1], "totalTokenCount": sum(tokens)}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "real-model", "responseId": "g"}


@both_ways
def test_a_continued_answer_is_billed_hop_by_hop(gateway: GatewayProcess, vendors: Vendors, *, stream: bool) -> None:
    token = base64.b64encode(bytes(range(200, 240))).decode()
    hops = [hop("One half, ", (100, 10), token), hop("and the other.", (120, 20), None)]
    as_event = [streamed(b"data: " + json.dumps(body).encode() + b"\n\n") for body in hops]
    vendors.play(*(as_event if stream else map(whole, hops)))
    with gateway.bill() as bill, GenerateContent(gateway.url, gateway.key, model_on("gemini")) as conversation:
        models: Any = conversation.sdk.models
        if stream:
            chunks = list(models.generate_content_stream(model=conversation.model, contents="Go"))
            text = "".join(chunk.text or "" for chunk in chunks)
        else:
            reply = models.generate_content(model=conversation.model, contents="Go")
            text = reply.text
            assert reply.usage_metadata.total_token_count == 250
    assert text == "One half, and the other."
    told = base64.b64decode(vendors.seen[1].body["continuationToken"], altchars=b"-_")
    assert told == bytes(range(200, 240))
    assert [charge.usage for charge in bill] == [Usage(uncached=100, out_text=10), Usage(uncached=120, out_text=20)]
    assert sum(charge.cost_nusd for charge in bill) == 220 * 3000 + 30 * 15_000


def test_responses_tell_what_they_wrote_to_the_cache(gateway: GatewayProcess, vendors: Vendors) -> None:
    body = json.loads(answer("responses", Said("Done.")).pieces[0])
    details = {
        "cached_tokens": 40,
        "cache_write_tokens": 300,
        "cache_write_tokens_details": {"ttl_30m_tokens": 200, "ttl_12h_tokens": 100},
    }
    body["usage"] |= {"input_tokens": 500, "input_tokens_details": details, "total_tokens": 530}
    vendors.play(whole(body), whole(body))
    with gateway.bill() as bill:
        for sdk in (Responses, Messages):
            with sdk(gateway.url, gateway.key, model_on("responses")) as conversation:
                conversation.say("Hello")
                heard = conversation.ask(stream=False)
    wanted = Usage(uncached=160, write_30m=200, write_12h=100, read=40, out_text=30)
    assert [charge.usage for charge in bill] == [wanted, wanted]
    assert [charge.cost_nusd for charge in bill] == [invoice(wanted)] * 2
    assert (heard.usage.input_tokens, heard.usage.cache_creation_input_tokens) == (160, 300)
