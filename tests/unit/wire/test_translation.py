"""A conversation crosses from one format to another whole, or is refused by the client's word for what is missing."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.e2e import native
from trollproxy.chat import FormatName, State, Usage
from trollproxy.errors import InvalidRequest, UpstreamBroken, UpstreamUnavailable
from trollproxy.wire import FORMATS
from trollproxy.wire.format import Entry, Target
from trollproxy.wire.thoughts import Memory
from trollproxy.wire.translation import Told, Translation

REQUEST_ID = "req_0123456789abcdef01234567"
TARGET = Target(model="real-model")
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
CALL = native.Call("toolu_1", "look", '{"at": "here"}')
SAID = native.Said(text="Let me look.", thinking="Hm.", signature="c2ln", calls=(CALL,))


class Kept(dict[str, Memory]):
    """What one tenant's answers left behind."""

    def recall(self, call_id: str) -> Memory | None:
        return self.get(call_id)

    def keep(self, call_id: str, memory: Memory) -> None:
        self[call_id] = memory


def ask(**members: Any) -> bytes:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}
    return json.dumps(body | members).encode()


def translation(upstream: FormatName, kept: Kept | None = None) -> Translation:
    told = Told(request_id=REQUEST_ID, now_s=1, model="m", entry=Entry())
    return Translation(
        FORMATS["anthropic"], FORMATS[upstream], told=told, recollection=kept if kept is not None else Kept()
    )


def opened(upstream: FormatName, kept: Kept | None = None, **members: Any) -> Translation:
    passage = translation(upstream, kept)
    passage.write_request(ask(**members), TARGET)
    return passage


def test_what_the_provider_cannot_be_told_is_refused_by_the_clients_name() -> None:
    document = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
    with pytest.raises(InvalidRequest) as caught:
        translation("gemini").write_request(ask(messages=[{"role": "user", "content": [document]}]), TARGET)
    assert (caught.value.code, caught.value.status) == ("not_translatable", 400)
    assert caught.value.param
    assert caught.value.param in caught.value.message


def test_a_value_that_has_no_place_is_refused_as_well() -> None:
    with pytest.raises(InvalidRequest) as caught:
        translation("gemini").write_request(ask(stop_sequences=list("abcdefg")), TARGET)
    assert (caught.value.code, caught.value.param) == ("not_translatable", "stop_sequences")


def test_a_member_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        translation("gemini").write_request(ask(frobnicate=1), TARGET)
    assert (caught.value.code, caught.value.param) == ("not_translatable", "frobnicate")


def test_a_whole_answer_crosses_with_its_facts() -> None:
    kept = Kept()
    whole, body = opened("gemini", kept).read_whole(native.answer("gemini", SAID).pieces[0])
    answer = json.loads(body)
    assert [block["type"] for block in answer["content"]] == ["thinking", "text", "tool_use"]
    assert (answer["model"], answer["stop_reason"]) == ("m", "tool_use")
    assert whole.usage == Usage(uncached=100, read=20, out_text=30)
    assert whole.text_bytes == len('Hm.Let me look.look{"at": "here"}')
    (memory,) = kept.values()
    assert memory.state == State("gemini", "c2ln")


def test_a_call_that_comes_back_has_its_signature_again() -> None:
    kept = Kept()
    _, body = opened("gemini", kept).read_whole(native.answer("gemini", SAID).pieces[0])
    blocks = json.loads(body)["content"]
    result = {"type": "tool_result", "tool_use_id": blocks[-1]["id"], "content": "a wall"}
    history = [{"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
    messages = [{"role": "user", "content": "hi"}, *history]
    sent = json.loads(translation("gemini", kept).write_request(ask(messages=messages), TARGET))
    call = next(part for part in sent["contents"][1]["parts"] if "functionCall" in part)
    assert call["thoughtSignature"] == "c2ln"
    assert sent["contents"][2]["parts"][0]["functionResponse"]["name"] == "look"


@settings(max_examples=30)
@given(st.data())
def test_any_chunking_gives_the_client_the_same_bytes(data: st.DataObject) -> None:
    stream = b"".join(native.events("gemini", SAID))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole, split = opened("gemini", stream=True).meter(), opened("gemini", stream=True).meter()
    expected = whole.feed(stream) + whole.finish()
    assert b"".join(map(split.feed, pieces)) + split.finish() == expected
    assert (split.usage, split.text_bytes, split.is_complete) == (whole.usage, whole.text_bytes, True)
    assert split.is_usage_final
    assert split.has_output


def test_a_stream_that_is_cut_off_is_not_complete() -> None:
    meter = opened("gemini", stream=True).meter()
    meter.feed(native.events("gemini", SAID)[0])
    meter.finish()
    assert (meter.is_complete, meter.may_end) == (False, False)
    assert b"message_stop" not in meter.write_error(UpstreamBroken("Cut."), REQUEST_ID)


def test_an_error_inside_a_stream_is_kept_back_and_told_in_the_clients_words() -> None:
    meter = opened("gemini", stream=True).meter()
    meter.feed(native.events("gemini", SAID)[0])
    assert meter.feed(native.error_event("gemini")) == b""
    assert isinstance(meter.error, UpstreamUnavailable)
    told = meter.write_error(meter.error, REQUEST_ID)
    assert told.startswith(b"event: error\ndata: ")
    assert told.endswith(b"\n\n")


def test_a_prompt_is_measured_without_asking_the_provider() -> None:
    long = translation("gemini").count_tokens(ask(messages=[{"role": "user", "content": "word " * 3000}]))
    assert 4_000 < json.loads(long)["input_tokens"] < 6_000


def test_what_this_server_does_not_take_is_refused_though_its_format_can_say_it() -> None:
    target = Target(model="real-model", cannot=frozenset({"tools"}))
    with pytest.raises(InvalidRequest) as caught:
        translation("gemini").write_request(ask(), target)
    assert (caught.value.code, caught.value.param) == ("not_translatable", "tools")
    assert "its provider does not take it" in caught.value.message
