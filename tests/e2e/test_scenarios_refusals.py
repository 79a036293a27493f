"""What cannot be carried is refused by its name and for free; how answers end is told in each SDK's own words."""

import json
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as genai_errors
from google.genai import types

from tests.e2e.clients import ChatCompletions, Conversation, GenerateContent, Messages, Responses, Wants
from tests.e2e.grid import both_ways, by_every_sdk, on_every_vendor
from tests.e2e.native import Said, Tokens, Vendor, answer, error, events
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import cost_nusd, model_on
from tests.e2e.vendors import Played, Vendors, streamed, whole

# SDK, members in its words, what the gateway calls the culprit, the vendors that cannot have it.
UNSAYABLE: list[tuple[type[Conversation], dict[str, Any], str, list[Vendor]]] = [
    (ChatCompletions, {"stop": ["END"]}, "stop", ["responses"]),
    (ChatCompletions, {"n": 2}, "n", ["responses", "anthropic"]),
    (ChatCompletions, {"seed": 7}, "seed", ["responses", "anthropic"]),
    (ChatCompletions, {"logit_bias": {"50256": -100}}, "logit_bias", ["responses", "anthropic", "gemini"]),
    (ChatCompletions, {"presence_penalty": 0.5}, "presence_penalty", ["responses", "anthropic"]),
    (ChatCompletions, {"logprobs": True}, "logprobs", ["anthropic"]),
    (ChatCompletions, {"web_search_options": {}}, "web_search_options", ["responses", "anthropic", "gemini"]),
    (ChatCompletions, {"extra_body": {"brand_new": 1}}, "brand_new", ["responses", "anthropic", "gemini"]),
    (Responses, {"previous_response_id": "resp_1"}, "previous_response_id", ["openai", "anthropic", "gemini"]),
    (Responses, {"background": True}, "background", ["openai", "anthropic", "gemini"]),
    (Responses, {"tools": [{"type": "web_search"}]}, "tools", ["openai", "anthropic", "gemini"]),
    (Responses, {"extra_body": {"brand_new": 1}}, "brand_new", ["openai", "anthropic", "gemini"]),
    (Messages, {"container": "container_1"}, "container", ["openai", "responses", "gemini"]),
    (Messages, {"stop_sequences": ["END"]}, "stop_sequences", ["responses"]),
    (
        Messages,
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools",
        ["openai", "responses", "gemini"],
    ),
    (Messages, {"extra_body": {"brand_new": 1}}, "brand_new", ["openai", "responses", "gemini"]),
    (GenerateContent, {"seed": 7}, "generationConfig.seed", ["responses", "anthropic"]),
    (GenerateContent, {"cached_content": "cachedContents/1"}, "cachedContent", ["openai", "responses", "anthropic"]),
    (
        GenerateContent,
        {"tools": [types.Tool(google_search=types.GoogleSearch())]},
        "tools",
        ["openai", "responses", "anthropic"],
    ),
    (GenerateContent, {"response_modalities": ["IMAGE"]}, "responseModalities", ["openai", "responses", "anthropic"]),
    (
        GenerateContent,
        {"http_options": types.HttpOptions(extra_body={"brandNew": 1})},
        "brandNew",
        ["openai", "responses", "anthropic"],
    ),
]
CELLS = [
    pytest.param(sdk, more, name, vendor, id=f"{sdk.own}-{name}-on-{vendor}")
    for sdk, more, name, vendors in UNSAYABLE
    for vendor in vendors
]


@pytest.mark.parametrize(("sdk", "more", "name", "vendor"), CELLS)
def test_what_cannot_be_said_is_refused_by_its_name(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, more: dict[str, Any], name: str, vendor: Any
) -> None:
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, model_on(vendor), Wants(more=more)) as conversation:
        conversation.say("Hello")
        with pytest.raises(Exception) as caught:
            conversation.ask(stream=False)
    error: Any = caught.value
    assert (error.code if isinstance(error, genai_errors.APIError) else error.status_code) == 400
    assert f"{name}" in str(error)
    if sdk.own in {"openai", "responses"}:
        assert error.code == ("invalid_request" if name == "background" else "not_translatable")  # nowhere there is one
        assert error.param.startswith(name)
    assert upstream.seen == []
    assert bill == []


@pytest.mark.parametrize(("sdk", "more", "name", "vendor"), [cell for cell in CELLS if "brand" in str(cell.id)][:3])
def test_at_home_the_same_is_the_vendors_to_judge(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, more: dict[str, Any], name: str, vendor: Any
) -> None:
    upstream.play(answer(sdk.own, Said("Yes.")))
    with sdk(bridge.url, bridge.key, model_on(sdk.own), Wants(more=more)) as conversation:
        conversation.say("Hello")
        assert conversation.ask(stream=False).text == "Yes."
    assert upstream.seen[0].body[name] == 1


@on_every_vendor
@pytest.mark.parametrize("sdk", [ChatCompletions, Messages, GenerateContent], ids=lambda sdk: sdk.own)
def test_stop_strings_are_carried_where_there_are_some(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    if vendor == "responses":
        return
    members = {"openai": {"stop": ["END"]}}.get(sdk.own, {"stop_sequences": ["END"]})
    upstream.play(answer(vendor, Said("Yes.")))
    with sdk(bridge.url, bridge.key, model_on(vendor), Wants(more=members)) as conversation:
        conversation.say("Hello")
        assert conversation.ask(stream=False).text == "Yes."
    body = upstream.seen[0].body
    places = [body.get("stop"), body.get("stop_sequences"), body.get("generationConfig", {}).get("stopSequences")]
    assert [place for place in places if place is not None] == [["END"]]


def declined(vendor: Vendor, *, stream: bool) -> Played:
    """The vendor's own filter stops an answer that has begun."""
    said = Said("I think")
    if vendor == "gemini":
        body = json.loads(answer(vendor, said).pieces[0])
        body["candidates"][0]["finishReason"] = "SAFETY"
        return streamed(b"data: " + json.dumps(body).encode() + b"\n\n") if stream else whole(body)
    swaps: dict[Vendor, list[tuple[bytes, bytes]]] = {
        "openai": [(b'"finish_reason": "stop"', b'"finish_reason": "content_filter"')],
        "responses": [
            (b"event: response.completed", b"event: response.incomplete"),
            (b'"type": "response.completed"', b'"type": "response.incomplete"'),
            (b'"max_output_tokens"', b'"content_filter"'),
        ],
        "anthropic": [(b'"stop_reason": "end_turn"', b'"stop_reason": "refusal"')],
    }
    cut = Said("I think", stop="length") if vendor == "responses" else said
    pieces = events(vendor, cut) if stream else list(answer(vendor, cut).pieces)
    for old, new in swaps[vendor]:
        pieces = [piece.replace(old, new) for piece in pieces]
    return streamed(*pieces) if stream else Played(tuple(pieces))


@both_ways
@on_every_vendor
@by_every_sdk
def test_a_filtered_answer_says_so(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor, stream: bool
) -> None:
    upstream.play(declined(vendor, stream=stream))
    words: dict[Vendor, str] = {
        "openai": "content_filter",
        "responses": "content_filter",
        "anthropic": "refusal",
        "gemini": "SAFETY",
    }
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, model_on(vendor)) as conversation:
        conversation.say("Hello")
        if stream and sdk in {ChatCompletions, Responses}:
            # The SDK's assembling raises at such an end, as it does at the vendor itself; listening does not.
            assert "".join(conversation.hear()) == "I think"
            assert b"content_filter" in b"".join(conversation.raw)
        else:
            heard = conversation.ask(stream=stream)
            assert (heard.text, heard.stop) == ("I think", words[sdk.own])
    (charge,) = bill
    assert (charge.cost_nusd, charge.ended_by) == (cost_nusd(Tokens()), "completed")


@both_ways
@by_every_sdk
def test_a_prompt_that_gemini_blocks(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, stream: bool
) -> None:
    """No candidates at all: an answer all the same, and billed as it was counted."""
    usage = {"promptTokenCount": 100, "totalTokenCount": 100}
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}
    upstream.play(streamed(b"data: " + json.dumps(body).encode() + b"\n\n") if stream else whole(body))
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, model_on("gemini")) as conversation:
        conversation.say("Hello")
        if stream or sdk is GenerateContent:
            assert "".join(conversation.hear() if stream else ()) == ""
        else:
            assert conversation.ask(stream=False).stop in {"content_filter", "refusal"}
        if sdk is GenerateContent and not stream:
            conversation.ask(stream=False)
    (charge,) = bill
    assert charge.cost_nusd == 100 * 3000


@both_ways
@by_every_sdk
def test_a_malformed_call_is_no_answer(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, stream: bool
) -> None:
    """Gemini says that its model wrote nonsense. It must not pass for the end of an answer."""
    if sdk is GenerateContent:
        return
    body = json.loads(answer("gemini", Said("")).pieces[0])
    body["candidates"][0] |= {"finishReason": "MALFORMED_FUNCTION_CALL", "content": {"role": "model", "parts": []}}
    upstream.play(*[streamed(b"data: " + json.dumps(body).encode() + b"\n\n") if stream else whole(body)] * 8)
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, model_on("gemini")) as conversation:
        conversation.say("Hello")
        if sdk is Responses and not stream:
            assert conversation.ask(stream=False).stop == "failed"
        else:
            with pytest.raises((openai.APIError, anthropic.APIError, RuntimeError)):
                conversation.ask(stream=stream)
    (charge,) = bill
    # A whole answer that cannot be written in the client's dialect is refused, and so it is free.
    is_refused = not stream and sdk is not Responses
    assert charge.cost_nusd == (0 if is_refused else cost_nusd(Tokens()))


OVERFLOWS: dict[Vendor, str] = {
    "openai": "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens.",
    "responses": "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "anthropic": "prompt is too long: 250001 tokens > 200000 maximum",
    "gemini": "The input token count (1250001) exceeds the maximum number of tokens allowed (1048576).",
}


@on_every_vendor
@by_every_sdk
def test_too_long_a_prompt_is_told_in_words_that_agents_know(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    upstream.play(error(vendor, 400, OVERFLOWS[vendor]))
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, model_on(vendor)) as conversation:
        conversation.say("Hello")
        with pytest.raises(Exception) as caught:
            conversation.ask(stream=False)
    assert "context_length_exceeded" in str(caught.value).lower() or caught.value.code == "context_length_exceeded"  # type: ignore[attr-defined]
    assert OVERFLOWS[vendor] in str(caught.value)
    if sdk is Messages:
        assert "prompt is too long" in str(caught.value)
    assert [charge.cost_nusd for charge in bill] == [0]
