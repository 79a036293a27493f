"""Same dialect on both sides: nothing is lost. A conversation that changes its vendor takes no foreign seals along."""

import base64
import json
from typing import Any

import anthropic
import pytest
from google.genai import types

from tests.e2e.clients import (
    CONVERSATIONS,
    Conversation,
    GenerateContent,
    Messages,
    Responses,
    Result,
    Tool,
    Wants,
)
from tests.e2e.grid import both_ways, by_every_sdk, on_every_vendor, played
from tests.e2e.native import VENDORS, Call, Said, Vendor, answer, stream
from tests.e2e.process import GatewayProcess
from tests.e2e.talk import ask
from tests.e2e.translating import cost_nusd, model_on
from tests.e2e.vendors import Vendors, streamed, whole

TOOL = Tool("look", "Looks.", {"type": "object", "properties": {}})
SIGNATURE = base64.b64encode(bytes([251, 239, 190, 255]) * 9).decode()


def bytes_sent(conversation: Conversation) -> bytes:
    """What the SDK sent last, with the vendor's name of the model in it."""
    return conversation.sent[-1].content.replace(conversation.model.encode(), b"real-model")


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
@pytest.mark.parametrize("style", ["x-api-key", "bearer"])
def test_both_generations_of_anthropic_clients(
    bridge: GatewayProcess, upstream: Vendors, version: str, *, style: str
) -> None:
    """Version and betas go on as they came, and the client's key stays here."""
    upstream.play(answer("anthropic", Said("Yes.")), stream("anthropic", Said("Yes.")))
    secret = {"x-api-key": bridge.key} if style == "x-api-key" else {"authorization": f"Bearer {bridge.key}"}
    other = "authorization" if style == "x-api-key" else "x-api-key"
    headers: Any = {
        "anthropic-version": version,
        "anthropic-beta": "one-2026-01-01,two-2026-02-02",
        **secret,
        other: anthropic.Omit(),
    }
    with bridge.bill() as bill, Messages(bridge.url, "", model_on("anthropic")) as conversation:
        conversation.wants.more = {"extra_headers": headers, "extra_body": {"temperature": 0.5}}
        conversation.say("Hello")
        assert conversation.ask(stream=False).text == "Yes."
        conversation.say("Hello")
        assert conversation.ask(stream=True).text == "Yes."
    assert all(other not in request.headers for request in conversation.sent)
    for seen in upstream.seen:
        assert seen.headers["anthropic-version"] == version
        assert seen.headers["anthropic-beta"] == "one-2026-01-01,two-2026-02-02"
        assert seen.headers["x-api-key"] == "secret-of-anthropic"
        assert "authorization" not in seen.headers
        assert bridge.key not in str(seen)
    assert upstream.seen[-1].raw == bytes_sent(conversation)
    assert len(bill) == 2


def test_anthropic_betas_pass(bridge: GatewayProcess, upstream: Vendors) -> None:
    """`?beta=true`, members and blocks that the gateway has never heard of."""
    message = json.loads(answer("anthropic", Said("Yes.")).pieces[0])
    message["content"].append({"type": "new_block", "new": [1]})
    message["new_member"] = {"b": 1, "a": 2}
    upstream.play(whole(message))
    with Messages(bridge.url, bridge.key, model_on("anthropic")) as conversation:
        reply: Any = conversation.sdk.beta.messages.create(
            model=conversation.model,
            max_tokens=100,
            messages=[{"role": "user", "content": "Hi"}],
            betas=["new-2026-11-01"],
            extra_query={"beta": "true"},
            extra_body={"new_wish": {"z": 1, "a": 12345678901234567890}},
        )
    (seen,) = upstream.seen
    assert seen.path == "/v1/messages?beta=true"
    assert seen.headers["anthropic-beta"] == "new-2026-11-01"
    assert seen.raw == bytes_sent(conversation)
    assert reply.content[1].type == "new_block"
    assert reply.model_extra["new_member"] == {"b": 1, "a": 2}


def test_responses_pass_whole(bridge: GatewayProcess, upstream: Vendors) -> None:
    """Phases, namespaces, custom tools and what else the dialect has, both ways."""
    patch = Call("call_1", "apply_patch", "*** Begin Patch\n*** End Patch", is_custom=True)
    upstream.play(stream("responses", Said("Let me.", "Hm.", SIGNATURE, (patch,))))
    upstream.play(answer("responses", Said("Done.", turn=2)))
    more: dict[str, Any] = {
        "tools": [
            {"type": "custom", "name": "apply_patch", "format": {"type": "text"}},
            {"type": "namespace", "name": "crm", "description": "CRM", "tools": []},
            {"type": "web_search"},
        ],
        "prompt_cache_key": "k",
        "extra_body": {"new_wish": {"z": 1, "a": 12345678901234567890}},
    }
    with bridge.bill() as bill, Responses(bridge.url, bridge.key, model_on("responses"), Wants(more=more)) as talk:
        talk.items.append({"role": "assistant", "content": "Earlier.", "phase": "commentary"})
        talk.say("Patch it")
        talk.ask(stream=True)
        assert upstream.seen[0].raw == bytes_sent(talk)
        assert [(item.type, item.input) for item in talk.items if getattr(item, "type", "") == "custom_tool_call"] == [
            ("custom_tool_call", patch.arguments)
        ]
        talk.items.append({"type": "custom_tool_call_output", "call_id": "call_1", "output": "ok"})
        assert talk.ask(stream=False).text == "Done."
    assert upstream.seen[1].raw == bytes_sent(talk)
    assert SIGNATURE in upstream.seen[1].raw.decode()
    assert [charge.cost_nusd for charge in bill] == [cost_nusd(Said().tokens)] * 2


@on_every_vendor
def test_gemini_without_sse_is_an_array(bridge: GatewayProcess, upstream: Vendors, vendor: Vendor) -> None:
    said = Said("One two.", "Hm.", calls=(Call("call_1", "look", '{"at": "sky"}'),))
    upstream.play(stream(vendor, said))
    path = f"/v1beta/models/{model_on(vendor)}:streamGenerateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    with bridge.bill() as bill:
        reply = ask(bridge.port, "POST", path, body=body, headers={"x-goog-api-key": bridge.key})
    assert reply.headers["content-type"].startswith("application/json")
    chunks = [types.GenerateContentResponse.model_validate(chunk) for chunk in reply.json()]
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]  # type: ignore[index,union-attr]
    assert "".join(part.text for part in parts if part.text and not part.thought) == said.text
    assert [part.function_call.args for part in parts if part.function_call] == [{"at": "sky"}]
    assert chunks[-1].candidates[0].finish_reason.name == "STOP"  # type: ignore[index,union-attr]
    assert chunks[-1].usage_metadata.total_token_count == 150  # type: ignore[union-attr]
    assert bill[0].cost_nusd == cost_nusd(said.tokens)


def test_gemini_without_sse_ends_with_its_error(bridge: GatewayProcess, upstream: Vendors) -> None:
    """An array whose last element is the error is still JSON."""
    upstream.play(streamed(*stream("anthropic", Said("One two.")).pieces[:4]))
    path = f"/v1beta/models/{model_on('anthropic')}:streamGenerateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    chunks = ask(bridge.port, "POST", path, body=body, headers={"x-goog-api-key": bridge.key}).json()
    assert [list(chunk)[0] for chunk in chunks] == ["candidates", "error"]  # noqa: RUF015 - the order is the point


@both_ways
@pytest.mark.parametrize("second", VENDORS, ids=lambda vendor: f"to-{vendor}")
@pytest.mark.parametrize("first", VENDORS, ids=lambda vendor: f"from-{vendor}")
@by_every_sdk
def test_no_vendor_sees_anothers_seal(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, first: Vendor, second: Vendor, stream: bool
) -> None:
    """A signature is for its maker alone. Others refuse it, and an envelope of ours as well."""
    if first == second:
        return
    call = Call("call_1", "look", "{}")
    upstream.play(played(first, Said("Let me.", "Hm.", SIGNATURE, (call,)), stream=stream))
    upstream.play(played(second, Said("Done.", turn=2), stream=stream))
    with sdk(bridge.url, bridge.key, model_on(first), Wants(tools=[TOOL], thinks=True)) as conversation:
        conversation.say("Look")
        heard = conversation.ask(stream=stream)
        conversation.give([Result(Call(heard.calls[0][0], "look", "{}"), "sky")])
        conversation.model = model_on(second)
        if isinstance(conversation, GenerateContent):
            conversation.chat._model = model_on(second)
        assert conversation.ask(stream=stream).text == "Done."
    body = upstream.seen[1].raw.decode()
    assert "sky" in body
    assert SIGNATURE not in body
    assert SIGNATURE.replace("+", "-").replace("/", "_") not in body
    assert "trollproxy" not in body
    assert base64.b64encode(b"trollprox").decode() not in body


@pytest.mark.parametrize("sdk", CONVERSATIONS, ids=lambda sdk: sdk.own)
def test_the_models_name_is_the_clients_own(bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation]) -> None:
    """A translated answer names the model that was asked for."""
    vendor: Vendor = "gemini" if sdk.own != "gemini" else "anthropic"
    upstream.play(answer(vendor, Said("Yes.")))
    with sdk(bridge.url, bridge.key, model_on(vendor)) as conversation:
        conversation.say("Hello")
        assert conversation.ask(stream=False).model == model_on(vendor)
