"""What is told of a whole answer, alike whether it passes as bytes or is translated."""

import json

import pytest

from tests.e2e import native
from trollproxy.chat import Ask, FormatName
from trollproxy.wire import FORMATS
from trollproxy.wire.format import Entry, Target, Whole
from trollproxy.wire.passage import Passage, Passthrough
from trollproxy.wire.thoughts import Memory
from trollproxy.wire.translation import Told, Translation

VENDORS: dict[FormatName, native.Vendor] = {
    "openai_chat": "openai",
    "openai_responses": "responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
BODY = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'


class Forgetful:
    def recall(self, call_id: str) -> Memory | None:
        return None

    def keep(self, call_id: str, memory: Memory) -> None: ...


def passthrough(name: FormatName) -> Passage:
    return Passthrough(FORMATS[name], Ask(model="m"), Entry())


def translated(name: FormatName) -> Passage:
    told = Told(request_id="req_1", now_s=1, model="m", entry=Entry())
    client = FORMATS["anthropic" if name == "openai_chat" else "openai_chat"]
    passage = Translation(client, FORMATS[name], told=told, recollection=Forgetful())
    passage.write_request(BODY, Target(model="m"))
    return passage


EVENTS: dict[FormatName, bytes] = {
    "openai_chat": b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"usage":null}\n\n',
    "openai_responses": b'event: x\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n',
    "anthropic": b'event: x\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n',
    "gemini": b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n',
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_event_passes_without_a_copy(name: FormatName) -> None:
    meter = passthrough(name).meter()
    assert meter.feed(EVENTS[name]) is EVENTS[name]
    assert (meter.text_bytes, meter.has_output) == (1, True)
    assert meter.feed(EVENTS[name][:20]) + meter.feed(EVENTS[name][20:]) == EVENTS[name]


def facts(whole: Whole) -> tuple[object, ...]:
    return whole.usage, whole.text_bytes, whole.text_crc


def said(passage: Passage, answer: native.Said) -> Whole:
    return passage.read_whole(native.answer(VENDORS[passage.upstream.name], answer).pieces[0])[0]


ANSWERS = (
    native.Said(text="It is ready."),
    native.Said(text="It is not so."),
    native.Said(calls=(native.Call("call_1", "look", '{"at": "here"}'),)),
    native.Said(calls=(native.Call("call_1", "look", '{"at": "home"}'),)),
    native.Said(text="It is ready.", calls=(native.Call("call_1", "look", '{"at": "here"}'),)),
)


@pytest.mark.parametrize("way", [passthrough, translated])
@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_is_known_again_and_told_from_any_other(way, name: FormatName) -> None:
    known = [said(way(name), answer) for answer in ANSWERS]
    assert list(map(facts, known)) == [facts(said(way(name), answer)) for answer in ANSWERS]
    assert len({whole.text_crc for whole in known}) == len(ANSWERS)


@pytest.mark.parametrize("name", FORMATS)
def test_what_stands_around_an_answer_does_not_make_it_another(name: FormatName) -> None:
    body = native.answer(VENDORS[name], ANSWERS[-1]).pieces[0]
    later = json.dumps(json.loads(body) | {"id": "another", "created": 7, "usage": None}).encode()
    first, second = (passthrough(name).read_whole(whole)[0] for whole in (body, later))
    assert (first.text_crc, first.text_bytes) == (second.text_crc, second.text_bytes)
