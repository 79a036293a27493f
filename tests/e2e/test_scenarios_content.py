"""What conversations hold beside words: images, documents, schemas, system messages in odd places."""

import base64
import json
from typing import Any

import pytest
from google.genai import types
from pydantic import BaseModel, ConfigDict

from tests.e2e.clients import LIMIT, ChatCompletions, Conversation, GenerateContent, Messages, Responses, Tool, Wants
from tests.e2e.grid import both_ways, by_every_sdk, on_every_vendor, played
from tests.e2e.native import Said, Vendor
from tests.e2e.process import GatewayProcess
from tests.e2e.seen import schema_of, shown
from tests.e2e.translating import cost_nusd, model_on
from tests.e2e.vendors import Vendors, whole

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on, with \xff\xfe").decode()
PDF = base64.b64encode(b"%PDF-1.7 and so on, with \xfb\xef").decode()
PICTURE = "https://example.com/cat.png"
PAPER = "https://example.com/paper.pdf"
LOOK = Tool("look", "Looks.", {"type": "object", "properties": {}})


def say_media(conversation: Conversation) -> None:
    """A text, an image, the address of an image, a PDF: in each SDK's own words."""
    match conversation:
        case ChatCompletions():
            file = {"filename": "paper.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
            content: list[dict[str, Any]] = [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
                {"type": "image_url", "image_url": {"url": PICTURE}},
                {"type": "file", "file": file},
            ]
            conversation.messages.append({"role": "user", "content": content})
        case Responses():
            content = [
                {"type": "input_text", "text": "Look:"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "high"},
                {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
                {"type": "input_file", "filename": "paper.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
            ]
            conversation.items.append({"role": "user", "content": content})
        case Messages():
            content = [
                {"type": "text", "text": "Look:"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "image", "source": {"type": "url", "url": PICTURE}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
            ]
            conversation.messages.append({"role": "user", "content": content})
        case GenerateContent():
            conversation.next = [
                types.Part.from_text(text="Look:"),
                types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png"),
                types.Part.from_uri(file_uri=PICTURE, mime_type="image/png"),
                types.Part.from_bytes(data=base64.b64decode(PDF), mime_type="application/pdf"),
            ]


@both_ways
@on_every_vendor
@by_every_sdk
def test_media_arrive(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor, stream: bool
) -> None:
    upstream.play(played(vendor, Said("A cat."), stream=stream))
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, model_on(vendor)) as conversation:
        say_media(conversation)
        assert conversation.ask(stream=stream).text == "A cat."
    (seen,) = upstream.seen
    if sdk.own != vendor:
        assert shown(vendor, seen.body) == [
            ("user", "text", "Look:"),
            ("user", "image", "image/png", PNG),
            ("user", "image", PICTURE),
            ("user", "document", "application/pdf", PDF),
        ]
    assert len(bill) == 1


class Weather(BaseModel):
    """An answer with a shape."""

    model_config = ConfigDict(extra="forbid")
    city: str
    degrees: int
    words: list[str]


WEATHER = '{"city": "Tromsø", "degrees": -11, "words": ["cold"]}'


def parsed(conversation: Conversation) -> Any:
    """By each SDK's own way to structured answers."""
    match conversation:
        case ChatCompletions():
            completion = conversation.sdk.chat.completions.parse(**conversation.members(), response_format=Weather)
            return completion.choices[0].message.parsed
        case Responses():
            return conversation.sdk.responses.parse(**conversation.members(), text_format=Weather).output_parsed
        case Messages():
            return conversation.sdk.messages.parse(**conversation.members(), output_format=Weather).parsed_output
        case GenerateContent():
            config = conversation.config().model_copy(
                update={"response_mime_type": "application/json", "response_schema": Weather}
            )
            return conversation.sdk.models.generate_content(
                model=conversation.model, contents=conversation.next, config=config
            ).parsed
    raise AssertionError(conversation)


@on_every_vendor
@by_every_sdk
def test_a_schema_is_kept(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    upstream.play(played(vendor, Said(WEATHER), stream=False))
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, model_on(vendor)) as conversation:
        conversation.say("How is the weather?")
        assert parsed(conversation) == Weather.model_validate_json(WEATHER)
    (seen,) = upstream.seen
    if sdk.own != vendor:
        schema = schema_of(vendor, seen.body)
        assert list(schema["properties"]) == ["city", "degrees", "words"]
        types_of = {name: member["type"] for name, member in schema["properties"].items()}
        assert types_of == {"city": "string", "degrees": "integer", "words": "array"}
        assert schema["properties"]["words"]["items"]["type"] == "string"
        assert schema["required"] == ["city", "degrees", "words"]
    assert len(bill) == 1


@on_every_vendor
@both_ways
def test_a_picture_of_a_failed_tool_arrives(
    bridge: GatewayProcess, upstream: Vendors, *, vendor: Vendor, stream: bool
) -> None:
    """An Anthropic client's results hold images and failures; the vendor's model sees both, next to the call."""
    call: Any = [{"type": "tool_use", "id": "call_1", "name": "look", "input": {}}]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    content = [{"type": "text", "text": "It broke:"}, image]
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": content, "is_error": True}
    upstream.play(played(vendor, Said("I see."), stream=stream))
    with Messages(bridge.url, bridge.key, model_on(vendor), Wants(tools=[LOOK])) as conversation:
        conversation.say("Look.")
        turn = [result, {"type": "text", "text": "And now?"}]
        conversation.messages += [{"role": "assistant", "content": call}, {"role": "user", "content": turn}]
        assert conversation.ask(stream=stream).text == "I see."
    (seen,) = upstream.seen
    told = shown(vendor, seen.body)
    assert told[0] == ("user", "text", "Look.")
    assert told[-1] == ("user", "text", "And now?")
    texts = [part[2] for part in told if part[1] == "text"]
    assert any(text.endswith("It broke:") for text in texts)
    assert [part[2:] for part in told if part[1] == "image"] == [("image/png", PNG)]
    if vendor == "openai":  # whose tool messages hold text only: the image stands behind all of them
        assert [message["role"] for message in seen.body["messages"]] == ["user", "assistant", "tool", "user"]
    if vendor in {"anthropic", "gemini"}:
        assert "error" in seen.raw.decode()


@on_every_vendor
def test_tokens_are_counted_for_free(bridge: GatewayProcess, upstream: Vendors, vendor: Vendor) -> None:
    """The vendor that has the endpoint is asked; elsewhere our estimate is given, which errs high."""
    upstream.play(whole({"input_tokens": 321}))
    messages: Any = [{"role": "user", "content": "words and words " * 100}]
    with bridge.bill() as bill, Messages(bridge.url, bridge.key, model_on(vendor)) as conversation:
        counted = conversation.sdk.messages.count_tokens(model=model_on(vendor), messages=messages).input_tokens
    assert bill == []
    if vendor == "anthropic":
        assert counted == 321
        assert upstream.seen[0].path == "/v1/messages/count_tokens"
    else:
        assert 300 <= counted <= 600
        assert upstream.seen == []


@on_every_vendor
def test_gemini_counts_tokens_for_free(bridge: GatewayProcess, upstream: Vendors, vendor: Vendor) -> None:
    upstream.play(whole({"totalTokens": 321}))
    with bridge.bill() as bill, GenerateContent(bridge.url, bridge.key, model_on(vendor)) as conversation:
        counted = conversation.sdk.models.count_tokens(model=model_on(vendor), contents="words and words " * 100)
    assert bill == []
    assert counted.total_tokens is not None
    assert counted.total_tokens == 321 if vendor == "gemini" else 300 <= counted.total_tokens <= 600
    assert len(upstream.seen) == (vendor == "gemini")


def in_odd_places(conversation: Conversation) -> bool:
    """System words at the top, twice, and in the middle; False where the SDK has none in the middle."""
    match conversation:
        case ChatCompletions():
            conversation.messages += [
                {"role": "system", "content": "One."},
                {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": "Wait"},
                {"role": "developer", "content": "Three."},
                {"role": "user", "content": "Go on"},
            ]
        case Responses():
            conversation.items += [
                {"role": "system", "content": "One."},
                {"role": "developer", "content": [{"type": "input_text", "text": "Two."}]},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": "Wait"},
                {"role": "developer", "content": "Three."},
                {"role": "user", "content": "Go on"},
            ]
        case Messages():
            conversation.wants.more = {"system": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}
            conversation.messages += [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": "Wait"},
                {"role": "system", "content": "Three."},
                {"role": "user", "content": "Go on"},
            ]
        case _:
            return False
    return True


@on_every_vendor
@pytest.mark.parametrize("sdk", [ChatCompletions, Responses, Messages], ids=lambda sdk: sdk.own)
def test_system_words_keep_their_places(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    upstream.play(played(vendor, Said("Well."), stream=False))
    with sdk(bridge.url, bridge.key, model_on(vendor)) as conversation:
        assert in_odd_places(conversation)
        assert conversation.ask(stream=False).text == "Well."
    (seen,) = upstream.seen
    told = shown(vendor, seen.body)
    words = "\n".join(part[2] for part in told)
    order = ["One.", "Two.", "Hello", "Yes?", "Wait", "Three.", "Go on"]
    assert sorted(order, key=words.index) == order
    assert all(words.count(each) == 1 for each in order)
    assert {part[0] for part in told if "One." in part[2] or "Two." in part[2]} == {"system"}
    (third,) = [part for part in told if "Three." in part[2]]
    assert third[0] == "system" or "<system>\nThree.\n</system>" in third[2]


@both_ways
@on_every_vendor
@by_every_sdk
def test_an_answer_that_ran_into_the_limit_says_so(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor, stream: bool
) -> None:
    said = Said("It goes on and", stop="length")
    upstream.play(played(vendor, said, stream=stream))
    words: dict[Vendor, str] = {
        "openai": "length",
        "responses": "max_output_tokens",
        "anthropic": "max_tokens",
        "gemini": "MAX_TOKENS",
    }
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, model_on(vendor)) as conversation:
        conversation.say("Go on")
        if sdk is Responses and stream:
            # The SDK's own assembling wants `response.completed` and knows no other end, also at the vendor itself.
            with pytest.raises(RuntimeError):
                conversation.ask(stream=stream)
            assert b'"response.incomplete"' in b"".join(conversation.raw)
            assert b'"reason":"max_output_tokens"' in b"".join(conversation.raw).replace(b": ", b":")
        elif sdk is ChatCompletions and stream:
            assert "".join(conversation.hear()) == said.text
            assert b'"finish_reason":"length"' in b"".join(conversation.raw).replace(b": ", b":")
        else:
            heard = conversation.ask(stream=stream)
            assert (heard.text, heard.stop) == (said.text, words[sdk.own])
    (charge,) = bill
    assert charge.cost_nusd == cost_nusd(said.tokens)
    body = json.loads(upstream.seen[0].raw)
    limits = [
        body.get("generationConfig", {}).get("maxOutputTokens"),
        *(body.get(name) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens")),
    ]
    assert [limit for limit in limits if limit is not None] == [LIMIT]
