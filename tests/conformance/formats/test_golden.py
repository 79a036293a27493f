"""The golden corpus: what vendors and their clients send, with the conversation that it stands for.

A case is `{source, date, kind, body, chat}`. `kind` is request, reply or stream; a stream's body is the list of its
events, and its chat the collected reply. Optional: `entry` (what the request line says), `model` (who is asked, where
the conversation is written again), `lossy` (why writing the conversation and reading it again gives another).
"""

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from trollproxy.chat import FormatName, Reply, Request, Text, Turn, collect, events_of, features_of
from trollproxy.wire import FORMATS
from trollproxy.wire.format import Asked, Entry, Target, Tongue
from trollproxy.wire.sse import EventSplitter

T = TypeVar("T", bound=msgspec.Struct)
HERE = Path(__file__).parent
BODIES = sorted(HERE.glob("*/*.body.json"))  # what agents really send, without an expectation beside it
CASES = sorted(set(HERE.glob("*/*.json")) - set(BODIES))
MODEL = "some-model"
RAW = ("parameters", "grammar", "schema", "logit_bias", "metadata")


def case_of(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = json.loads(path.read_text())
    assert {"source", "date", "kind", "body", "chat"} <= case.keys()
    return case


def tongue_of(path: Path) -> Tongue:
    return next(wire.tongue for name, wire in FORMATS.items() if name == path.parent.name)


def entry_of(case: dict[str, Any]) -> Entry:
    return Entry(**case.get("entry", {}))


def asked_for(case: dict[str, Any]) -> Asked:
    return Asked(
        request=Request(model=MODEL, turns=(Turn("user", (Text(text="hi"),)),), stream=case["kind"] == "stream"),
        entry=entry_of(case),
        model=MODEL,
        request_id="req_0123456789abcdef01234567",
        now_s=1_700_000_000,
        input_tokens=1,
    )


def plain(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


def read(tongue: Tongue, case: dict[str, Any]) -> Request | Reply:
    if case["kind"] == "request":
        return tongue.read_request(json.dumps(case["body"], ensure_ascii=False).encode(), entry_of(case))
    if case["kind"] == "reply":
        return tongue.read_reply(json.dumps(case["body"], ensure_ascii=False).encode(), asked_for(case))
    return read_stream(tongue, case, "".join(case["body"]).encode())


def read_stream(tongue: Tongue, case: dict[str, Any], data: bytes) -> Reply:
    reader = tongue.stream_reader(asked_for(case))
    events = [said for event in EventSplitter().feed(data) for said in reader.read(event)]
    return collect(events + reader.finish())


def written_and_read(tongue: Tongue, case: dict[str, Any]) -> Request | Reply:
    if case["kind"] == "request":
        body = tongue.write_request(_request(case), Target(model=case.get("model", MODEL)))
        return tongue.read_request(body, entry_of(case))
    reply = msgspec.json.decode(json.dumps(case["chat"]), type=Reply)
    if case["kind"] == "reply":
        return tongue.read_reply(tongue.write_reply(reply, asked_for(case)), asked_for(case))
    writer = tongue.stream_writer(asked_for(case))
    return read_stream(tongue, case, b"".join(map(writer.write, events_of(reply))))


def _request(case: dict[str, Any]) -> Request:
    """The request of a case. JSON inside (schemas, labels) is kept as bytes, which msgspec does not do by itself."""
    chat = case["chat"]
    tools = [{name: value for name, value in tool.items() if name not in RAW} for tool in chat.get("tools", ())]
    sampling = {name: value for name, value in chat.get("sampling", {}).items() if name not in RAW}
    output = {name: value for name, value in (chat.get("output") or {}).items() if name not in RAW}
    bare = {name: value for name, value in chat.items() if name not in RAW}
    bare |= {"tools": tools, "sampling": sampling} | ({"output": output} if chat.get("output") is not None else {})
    request = msgspec.json.decode(json.dumps(bare), type=Request)
    return msgspec.structs.replace(
        request,
        tools=tuple(with_raw(tool, given) for tool, given in zip(request.tools, chat.get("tools", ()), strict=True)),
        sampling=with_raw(request.sampling, chat.get("sampling", {})),
        output=with_raw(request.output, chat["output"]) if request.output is not None else None,
        **raw_members(chat),
    )


def with_raw(struct: T, given: dict[str, Any]) -> T:
    return msgspec.structs.replace(struct, **raw_members(given))


def raw_members(given: dict[str, Any]) -> dict[str, Any]:
    return {name: msgspec.Raw(json.dumps(given[name]).encode()) for name in RAW if given.get(name) is not None}


def is_carried(tongue: Tongue, case: dict[str, Any]) -> bool:
    return case["kind"] != "request" or features_of(_request(case)) <= tongue.carries.keys()


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_is_read(path):
    case = case_of(path)
    assert plain(read(tongue_of(path), case)) == case["chat"]


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_is_written_reads_the_same(path):
    case, tongue = case_of(path), tongue_of(path)
    if "lossy" in case or not is_carried(tongue, case):
        return
    again = plain(written_and_read(tongue, case))
    # A client sees the name of the model that it used, whatever the provider calls it.
    assert again | {"model": ""} == case["chat"] | {"model": ""}


@pytest.mark.parametrize("path", BODIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
@pytest.mark.parametrize("upstream", FORMATS)
def test_what_agents_send_can_be_said_to_every_provider(path: Path, upstream: FormatName) -> None:
    request = tongue_of(path).read_request(path.read_bytes(), Entry())
    assert features_of(request) <= FORMATS[upstream].tongue.carries.keys()
    assert FORMATS[upstream].tongue.write_request(request, Target(model=MODEL))
