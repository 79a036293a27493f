"""The vendor's own client reads what is written for it, and what it replays is read again."""

import json
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.unit.wire.openai_responses.talk import ENTRY, REQUEST_ID, TONGUE, asked, write_stream
from trollproxy.chat import (
    Choice,
    Citation,
    Counted,
    Ended,
    Finished,
    Media,
    PartCited,
    PartEnded,
    PartGrew,
    PartSigned,
    PartStarted,
    Refusal,
    Reply,
    Request,
    Started,
    State,
    StreamEvent,
    Text,
    Thinking,
    Tool,
    ToolCall,
    Turn,
    Usage,
    events_of,
)
from trollproxy.errors import InsufficientCredits, UpstreamRateLimited, UpstreamRejected
from trollproxy.wire.openai_responses import OpenAIResponses

SIGNED = State("anthropic", "c2lnbmVk+/==")
CITED = Citation(url="https://example.com", title="T", start=0, end=4)
WOVEN: list[StreamEvent] = [
    Started(reply_id="msg_upstream", model="theirs"),
    PartStarted(index=0, part=Thinking()),
    PartGrew(index=0, text="I look "),
    PartGrew(index=0, text="it up."),
    PartSigned(index=0, state=SIGNED),
    PartEnded(index=0),
    PartStarted(index=1, part=Text(text="")),
    PartGrew(index=1, text="One "),
    PartCited(index=1, citation=CITED),
    PartGrew(index=1, text="moment."),
    PartEnded(index=1),
    PartStarted(index=2, part=Text(text="Two.")),
    PartEnded(index=2),
    PartStarted(index=3, part=ToolCall(call_id="call_a", name="f")),
    PartStarted(index=4, part=ToolCall(call_id="call_b", name="f")),
    PartGrew(index=3, text='{"city":'),
    PartGrew(index=4, text='{"city":"Paris"}'),
    PartGrew(index=3, text='"Łódź"}'),
    PartSigned(index=3, state=State("gemini", "c2ln")),
    PartEnded(index=3),
    PartEnded(index=4),
    PartStarted(index=5, part=ToolCall(call_id="call_c", name="patch", is_custom=True)),
    PartGrew(index=5, text="*** Begin"),
    PartEnded(index=5),
    PartStarted(index=6, part=ToolCall(call_id="call_d", name="none")),
    PartEnded(index=6),
    Finished(finish="tool_calls"),
    Counted(usage=Usage(uncached=10, read=3, out_text=5, out_reasoning=2), is_final=True),
    Ended(),
]


class Stub:
    """Answers every request with the same bytes, and keeps what was asked."""

    def __init__(self, body: bytes, *, status: int = 200, content_type: str = "text/event-stream") -> None:
        self.requests: list[Any] = []
        self._answer = (status, {"content-type": content_type}, body)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(json.loads(request.content))
        status, headers, body = self._answer
        return httpx.Response(status, headers=headers, content=body)

    def client(self) -> openai.OpenAI:
        http_client: Any = httpx.Client(transport=httpx.MockTransport(self))
        return openai.OpenAI(api_key="k", base_url="http://stub/v1", max_retries=0, http_client=http_client)


def whole(reply: Reply, **members: Any) -> Stub:
    return Stub(TONGUE.write_reply(reply, asked(**members)), content_type="application/json")


def streamed(events: list[StreamEvent], **members: Any) -> Any:
    with Stub(write_stream(events, **members)).client().responses.stream(model="m", input="hi") as stream:
        seen = list(stream)
        return seen, stream.get_final_response()


def test_a_stream_is_gathered() -> None:
    seen, final = streamed(WOVEN)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert final.id == "resp_msg_upstream"
    assert final.model == "named-by-client"
    assert final.status == "completed"
    assert final.output_text == "One moment.Two."
    kinds = [item.type for item in final.output]
    assert kinds == ["reasoning", "message", *["function_call"] * 2, "reasoning", "custom_tool_call", "function_call"]
    assert final.output[0].summary[0].text == "I look it up."
    assert [content.text for content in final.output[1].content] == ["One moment.", "Two."]
    assert final.output[1].content[0].annotations[0].url == "https://example.com"
    assert [json.loads(final.output[n].arguments) for n in (2, 3, 6)] == [{"city": "Łódź"}, {"city": "Paris"}, {}]
    assert final.output[5].input == "*** Begin"
    assert final.usage.input_tokens == 13
    assert final.usage.output_tokens_details.reasoning_tokens == 2
    assert final.usage.total_tokens == 20


def test_deltas_are_snapshots_to_the_client() -> None:
    seen, _ = streamed(WOVEN)
    texts = [event.snapshot for event in seen if event.type == "response.output_text.delta"]
    assert texts == ["One ", "One moment.", "Two."]
    first = [event.snapshot for event in seen if event.type == "response.function_call_arguments.delta"]
    assert first[:3] == ['{"city":', '{"city":"Paris"}', '{"city":"Łódź"}']


def test_what_the_client_replays_brings_every_signature_back() -> None:
    _, final = streamed(WOVEN)
    stub = Stub(TONGUE.write_reply(Reply(reply_id="", model="m", choices=()), asked()), content_type="application/json")
    results: list[Any] = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "ok"}
        for item in final.output
        if item.type == "function_call"
    ]
    history: Any = [{"role": "user", "content": "hi"}, *final.output, *results]
    stub.client().responses.create(model="m", input=history)
    request = TONGUE.read_request(json.dumps(stub.requests[0]).encode(), ENTRY)
    said = request.turns[1].parts
    assert said[0] == Thinking(text="I look it up.", state=SIGNED)
    assert said[1] == Text(text="One moment.", citations=(CITED,))
    assert said[3] == ToolCall(call_id="call_a", name="f", arguments='{"city":"Łódź"}', state=State("gemini", "c2ln"))
    assert said[5] == ToolCall(call_id="call_c", name="patch", arguments="*** Begin", is_custom=True)
    assert len(said) == 7
    assert [part.call_id for part in request.turns[2].parts] == ["call_a", "call_b", "call_d"]  # type: ignore[union-attr]


def test_a_streaming_agent_replays_items_as_they_are_done() -> None:
    """Codex keeps them in the order of their ends, and drops the ids."""
    seen, _ = streamed(WOVEN)
    done = [event.item.to_dict() for event in seen if event.type == "response.output_item.done"]
    items = [{name: value for name, value in item.items() if name != "id"} for item in done]
    request = TONGUE.read_request(json.dumps({"model": "m", "input": items}).encode(), ENTRY)
    calls = [part for part in request.turns[0].parts if isinstance(part, ToolCall)]
    assert [call.state for call in calls] == [State("gemini", "c2ln"), None, None, None]


def test_a_whole_answer() -> None:
    parts = (Thinking(text="t", state=SIGNED), Text(text="a"), Text(text="b"), ToolCall(call_id="c", name="f"))
    reply = Reply(reply_id="resp_1", model="x", choices=(Choice(parts=parts, finish="tool_calls"),), usage=Usage())
    response = whole(reply).client().responses.create(model="m", input="hi")
    assert (response.id, response.status, response.output_text) == ("resp_1", "completed", "ab")
    assert response.created_at == 1_760_000_000
    assert response.usage is not None
    assert response.usage.total_tokens == 0


class Place(BaseModel):
    city: str


def test_structured_output_is_parsed() -> None:
    reply = Reply(reply_id="", model="", choices=(Choice(parts=(Text(text='{"city":"Łódź"}'),), finish="stop"),))
    stub = whole(reply)
    parsed = stub.client().responses.parse(model="m", input="hi", text_format=Place)
    assert parsed.output_parsed == Place(city="Łódź")
    read = TONGUE.read_request(json.dumps(stub.requests[0]).encode(), ENTRY).output
    assert read is not None
    assert (read.name, read.strict) == ("Place", True)


def test_a_refusal_is_a_complete_answer() -> None:
    reply = Reply(reply_id="r", model="", choices=(Choice(parts=(Refusal(text="No."),), finish="refusal"),))
    _, final = streamed(events_of(reply))
    assert final.status == "completed"
    assert final.output[0].content[0].refusal == "No."


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("length", "max_output_tokens"), ("context_full", "max_output_tokens"), ("refusal", "content_filter")],
)
def test_an_answer_that_was_cut_off(finish, reason) -> None:
    reply = Reply(reply_id="r", model="", choices=(Choice(parts=(Text(text="Once"),), finish=finish),))
    response = whole(reply).client().responses.create(model="m", input="hi")
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == reason
    # The vendor's helper raises at its own incomplete streams as well.
    with pytest.raises(RuntimeError, match=r"response.completed"):
        streamed(events_of(reply))


def test_a_picture() -> None:
    picture = Media(kind="image", data="aGk=", media_type="image/webp")
    other = Media(kind="audio", url="https://example.com/a.wav")
    reply = Reply(reply_id="r", model="", choices=(Choice(parts=(picture, other), finish="stop"),))
    _, final = streamed(events_of(reply))
    assert (final.output[0].result, final.output[0].output_format) == ("aGk=", "webp")
    assert final.output_text == "[audio](https://example.com/a.wav)"


@pytest.mark.parametrize("begun", [0, 4, 9])
def test_a_stream_that_fails(begun) -> None:
    writer = TONGUE.stream_writer(asked())
    data = b"".join(map(writer.write, WOVEN[:begun])) + writer.fail(UpstreamRateLimited("Slow.", retry_after_s=7))
    with pytest.raises(openai.APIError) as caught:
        list(Stub(data).client().responses.create(model="m", input="hi", stream=True))
    assert caught.value.message == "Slow."
    assert caught.value.code == "upstream_rate_limited"


def test_a_passing_stream_that_fails() -> None:
    wire = OpenAIResponses()
    meter = wire.meter(wire.read_ask(b'{"model":"m","input":"hi","stream":true}', ENTRY), ENTRY)
    data = meter.feed(write_stream(WOVEN[:4])) + meter.write_error(UpstreamRejected("Too long."), REQUEST_ID)
    with pytest.raises(openai.APIError, match="Too long"):
        list(Stub(data).client().responses.create(model="m", input="hi", stream=True))


def test_an_error_body() -> None:
    status, body = OpenAIResponses().write_error(InsufficientCredits("Empty.", param="x"), "req_1")
    with pytest.raises(openai.APIStatusError) as caught:
        Stub(body, status=status, content_type="application/json").client().responses.create(model="m", input="hi")
    assert (caught.value.status_code, caught.value.type, caught.value.param) == (402, "insufficient_quota", "x")


def test_tools_in_groups_keep_the_names_of_the_client() -> None:
    tools = (
        Tool(name="crm__find", namespace="crm"),
        Tool(name="crm__write", namespace="crm", is_custom=True),
        Tool(name="tool_search", namespace="tool_search"),
    )
    request = Request(model="m", turns=(Turn("user", ()),), tools=tools)
    parts = (
        ToolCall(call_id="1", name="crm__find", arguments="{}"),
        ToolCall(call_id="2", name="crm__write", arguments="x", is_custom=True),
        ToolCall(call_id="3", name="tool_search", arguments='{ "query": "mail",\n "limit": 3}'),
        ToolCall(call_id="4", name="crm__unknown", arguments="{}"),
    )
    reply = Reply(reply_id="r", model="", choices=(Choice(parts=parts, finish="tool_calls"),))
    _, final = streamed(events_of(reply), request=request)
    named = [(item.type, getattr(item, "name", None), getattr(item, "namespace", None)) for item in final.output]
    assert named == [
        ("function_call", "find", "crm"),
        ("custom_tool_call", "write", "crm"),
        ("tool_search_call", None, None),
        ("function_call", "crm__unknown", None),
    ]
    assert (final.output[2].arguments, final.output[2].execution) == ({"query": "mail", "limit": 3}, "client")
