"""The vendor's own client reads what is written for it, and what it replays is read again."""

import json
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types

from tests.unit.wire.gemini.lines import TONGUE, asked, write_stream
from trollproxy.chat import (
    Choice,
    Counted,
    Ended,
    Finished,
    PartEnded,
    PartGrew,
    PartSigned,
    PartStarted,
    Reply,
    Started,
    State,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    events_of,
)
from trollproxy.errors import Overloaded
from trollproxy.wire.format import Entry
from trollproxy.wire.gemini import Gemini

OFF = types.HarmBlockThreshold.BLOCK_NONE
ANSWER = Reply(
    reply_id="msg_1",
    model="theirs",
    choices=(
        Choice(
            parts=(
                Thinking(text="I look it up.", state=State("anthropic", "c2lnbmVk+/==")),
                Text(text="One moment."),
                ToolCall(call_id="toolu_1", name="f", arguments='{"city":"Łódź"}'),
                ToolCall(call_id="toolu_2", name="f", arguments='{"city":"Paris"}'),
            ),
            finish="tool_calls",
        ),
    ),
    usage=Usage(uncached=10, out_text=5, out_reasoning=2),
)


class Stub:
    """Answers every request with the same bytes, and keeps what was asked."""

    def __init__(self, body: bytes, *, status: int = 200, content_type: str = "text/event-stream") -> None:
        self.requests: list[httpx.Request] = []
        self._reply = (status, {"content-type": content_type}, body)

    def client(self) -> genai.Client:
        def answer(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            status, headers, body = self._reply
            return httpx.Response(status, headers=headers, content=body)

        transport = httpx.Client(transport=httpx.MockTransport(answer))
        return genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=transport))


def stream(body: bytes) -> Any:
    return list(Stub(body).client().models.generate_content_stream(model="some-model", contents="hi"))


def test_a_stream_is_understood():
    chunks = stream(write_stream(events_of(ANSWER)))
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert [part.function_call.args for part in parts if part.function_call] == [{"city": "Łódź"}, {"city": "Paris"}]
    assert parts[0].thought
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.total_token_count == 17


def test_keep_alives_are_not_seen():
    body = write_stream(events_of(ANSWER)).replace(b"\n\n", b"\n\n" + Gemini().keep_alive * 3)
    assert len(stream(Gemini().keep_alive + body)) == len(stream(write_stream(events_of(ANSWER))))


def test_a_whole_answer_is_understood():
    stub = Stub(TONGUE.write_reply(ANSWER, asked()), content_type="application/json")
    answer: Any = stub.client().models.generate_content(model="some-model", contents="hi")
    assert [call.name for call in answer.function_calls] == ["f", "f"]
    assert answer.model_version == "some-model"


def test_an_error_in_a_stream_is_raised():
    writer = TONGUE.stream_writer(asked())
    body = writer.write(PartStarted(index=0, part=Text(text="a"))) + writer.fail(Overloaded("Full."))
    with pytest.raises(errors.ServerError) as caught:
        stream(body)
    assert caught.value.status == "UNAVAILABLE"


def test_a_refusal_is_raised():
    status, body = Gemini().write_error(Overloaded("Full."), "r")
    with pytest.raises(errors.ServerError) as caught:
        Stub(body, status=status, content_type="application/json").client().models.generate_content(
            model="some-model", contents="hi"
        )
    assert caught.value.message == "Full."


def test_a_chat_replays_what_streamed_in():
    """The client keeps every chunk as a content of its own and writes signatures in the other base64."""
    said: list[StreamEvent] = [
        Started(),
        PartStarted(index=0, part=Thinking()),
        PartGrew(index=0, text="I look "),
        PartGrew(index=0, text="it up."),
        PartSigned(index=0, state=State("anthropic", "c2ln+/~?>>")),
        PartEnded(index=0),
        PartStarted(index=1, part=ToolCall(call_id="toolu_1", name="f")),
        PartGrew(index=1, text='{"n":1}'),
        PartEnded(index=1),
        Finished(finish="tool_calls"),
        Counted(usage=Usage(uncached=1), is_final=True),
        Ended(),
    ]
    stub = Stub(write_stream(said))
    chat = stub.client().chats.create(model="some-model")
    list(chat.send_message_stream("hi"))
    result = types.Part.from_function_response(name="f", response={"output": "42"})
    list(chat.send_message_stream([result]))
    request = TONGUE.read_request(stub.requests[-1].content, Entry(model="some-model", stream=True))
    assert request.turns[1].parts == (
        Thinking(text="I look it up.", state=State("anthropic", "c2ln+/~?>>")),
        ToolCall(call_id="toolu_1", name="f", arguments='{"n": 1}'),
    )
    assert request.turns[2].parts == (ToolResult(call_id="toolu_1", name="f", parts=(Text(text="42"),)),)


def test_its_requests_are_read():
    def weather(city: str, days: int = 1) -> str:
        """Look at the sky."""
        return city * days

    stub = Stub(write_stream(events_of(ANSWER)))
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        temperature=0.5,
        max_output_tokens=99,
        stop_sequences=["END"],
        tools=[weather],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
        ),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        thinking_config=types.ThinkingConfig(thinking_budget=512, include_thoughts=True),
        response_schema={"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
        response_mime_type="application/json",
        safety_settings=[
            types.SafetySetting(
                category=types.HarmCategory.HARM_CATEGORY_HARASSMENT, threshold=types.HarmBlockThreshold.BLOCK_NONE
            )
        ],
    )
    contents = ["hi", types.Part.from_bytes(data=b"\xff\xef\xfe", mime_type="image/png")]
    list(stub.client().models.generate_content_stream(model="some-model", contents=contents, config=config))
    (sent,) = stub.requests
    assert sent.url.path.endswith("/models/some-model:streamGenerateContent")
    request: Any = TONGUE.read_request(sent.content, Entry(model="some-model", stream=True))
    assert request.system == (Text(text="Be brief."),)
    assert request.turns[0].parts[1].data == "/+/+", "standard base64"
    assert json.loads(bytes(request.tools[0].parameters))["properties"]["city"] == {"type": "string"}
    assert request.output is not None
    assert request.max_output_tokens == Gemini().read_ask(sent.content, Entry(model="m")).max_output_tokens == 99
